"""Pipes to our processes, and the meaning of exit codes."""

from __future__ import annotations

import contextlib

PIPE_BYTES = 1 << 20
READ_BYTES = 1 << 20  # maximum per read


def widen(descriptor: int) -> None:
    """Enlarge a pipe's buffer from 64 kB to 1 MB where supported (Linux), for fewer system calls."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def reason_of(code: int) -> str:
    """Reason for a process's end by its exit code, for use in a sentence."""
    if code in (-9, 137):
        return "it was killed, as a system does that runs out of memory"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
