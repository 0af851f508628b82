"""Common frame of all commands: errors become one sentence and an exit code, and streams do not fail.

Exit codes: 0 done, 1 stopped by the user (finished results are kept), 2 error, with a one-line reason.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any

from .errors import Cancelled, sentence_of

DONE, STOPPED, REFUSED = 0, 1, 2
TRACEBACK_VARIABLE = "DANTE_TRACEBACK"  # if this environment variable is set, errors are printed with their traceback


class StopRequest:
    """Callable that tells whether Ctrl-C or SIGTERM was received.

    Until it is called for the first time, a signal interrupts the main thread; after that, the first signal only makes
    it return True. A second signal always interrupts.
    """

    def __init__(self, message: str) -> None:
        """Create a request; see `installed`.

        Args:
            message: printed if the command is stopped.
        """
        self.message = message
        self._asked = self._listening = False

    def __call__(self) -> bool:
        self._listening = True
        return self._asked

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals within the block; no effect outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self._asked = self._asked, True
        if again or not self._listening:
            raise KeyboardInterrupt  # not caught by `except Exception`


def run(action: Callable[[StopRequest], None]) -> int:
    """Run a command's `action`, which receives a `StopRequest`; returns the exit code."""
    stop = StopRequest("Stopped; nothing was written.")

    def work() -> None:
        try:
            with stop.installed():
                action(stop)
        except (Cancelled, KeyboardInterrupt):
            raise Cancelled(stop.message) from None

    return conclude(work)


def conclude(work: Callable[[], object]) -> int:
    """Run a command that handles signals itself; returns the exit code."""
    try:
        work()
        return DONE
    except (Cancelled, KeyboardInterrupt) as error:
        print_error(str(error) or "Stopped.")
        return STOPPED
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        print_error(f"error: {sentence_of(error)}")
        return REFUSED


def path(text: str) -> Path:
    """Type of path arguments; expands a tilde.

    Raises:
        ArgumentTypeError: the path is empty, like an unset shell variable, and would mean the current folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; '.' is the current folder.")
    return Path(text).expanduser()


def say(text: str) -> None:
    """Print to standard output; a closed pipe, a full disk or unknown characters do not raise."""
    _print(text, sys.stdout)


def print_error(text: str) -> None:
    """Print to standard error, like `say`."""
    _print(text, sys.stderr)


def _print(text: str, stream: IO[str] | None) -> None:
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
        print(printable(text), file=stream, flush=True)


def printable(text: str) -> str:
    """Replace control characters, which could move the cursor, colour the screen or hide text."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)


def prepare_streams() -> None:
    """Make the standard streams safe; call it first in a process of its own.

    Closed streams are opened on the null device (otherwise the next opened file would get their descriptor, and
    warnings of libraries would be written into it); characters that a stream cannot encode are replaced.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # uses the lowest free number
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="replace")
        setattr(sys, name, TolerantStream(stream))


class TolerantStream:
    """A text stream whose writes never fail, even if its reader is gone or the disk is full.

    For output of libraries, such as progress bars.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def leave(code: int) -> None:
    """Exit a finished program without Python's own shutdown.

    During shutdown, a library thread that wakes up would abort the process (SIGABRT), and a signal would change the
    exit code.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)
