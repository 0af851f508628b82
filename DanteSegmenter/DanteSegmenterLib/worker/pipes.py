"""The pipes to a process of ours, and what its exit code tells."""

from __future__ import annotations

import contextlib

PIPE_BYTES = 1 << 20
READ_BYTES = 1 << 20  # at most at a time


def widen(descriptor: int) -> None:
    """Let a pipe hold a megabyte instead of 64 kB, where the system can (Linux): fewer turns for the same bytes."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def reason_of(code: int) -> str:
    """Why a process ended, by its exit code, for a sentence."""
    if code in (-9, 137):
        return "it was killed, as a system does that runs out of memory"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
