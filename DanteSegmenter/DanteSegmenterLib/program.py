"""What every command does around its work: errors become one sentence and an exit code, streams do not fail.

Exit codes: 0 done, 1 stopped by the user (finished results stay), 2 refused or failed, with a one-line reason.
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
TRACEBACK_VARIABLE = "DANTE_TRACEBACK"  # if this environment variable is set, errors come with their traceback


class StopRequest:
    """Whether Ctrl-C or SIGTERM has come (call it).

    Until it is called for the first time, a signal interrupts the main thread; from then on the first signal only
    makes it return True. The second signal always interrupts.
    """

    def __init__(self, message: str) -> None:
        """
        Args:
            message: printed when the command was stopped.
        """
        self.message = message
        self._asked = self._listening = False

    def __call__(self) -> bool:
        self._listening = True
        return self._asked

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals within the block; does nothing outside the main thread."""
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
            raise KeyboardInterrupt  # no `except Exception` catches it


def run(action: Callable[[StopRequest], None]) -> int:
    """Do the work of a command, which is given a `StopRequest`; returns the exit code."""
    stop = StopRequest("Stopped; nothing was written.")

    def work() -> None:
        try:
            with stop.installed():
                action(stop)
        except (Cancelled, KeyboardInterrupt):
            raise Cancelled(stop.message) from None

    return conclude(work)


def conclude(work: Callable[[], object]) -> int:
    """Do the work of a command that handles signals itself; returns the exit code."""
    try:
        work()
        return DONE
    except (Cancelled, KeyboardInterrupt) as error:
        complain(str(error) or "Stopped.")
        return STOPPED
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        complain(f"error: {sentence_of(error)}")
        return REFUSED


def path(text: str) -> Path:
    """The type of an argument that is a path: with the home folder in place of a tilde.

    Raises:
        ArgumentTypeError: it is empty, as a variable that a shell does not know: it would be the current folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; '.' is the current folder.")
    return Path(text).expanduser()


def say(text: str) -> None:
    """Print to standard output; a closed pipe, a full disk or unknown characters do not raise."""
    _print(text, sys.stdout)


def complain(text: str) -> None:
    """Print to standard error, as `say` does."""
    _print(text, sys.stderr)


def _print(text: str, stream: IO[str] | None) -> None:
    with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
        print(printable(text), file=stream, flush=True)


def printable(text: str) -> str:
    """The text without control characters, which could move the cursor, colour the screen or hide text."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)


def prepare_streams() -> None:
    """Make the standard streams safe; call it first of all, in a process of its own.

    Closed streams are opened on the null device (else the next file to be opened would get their descriptor, and
    libraries' warnings would be written into it); characters that a stream cannot encode are replaced.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="replace")
        setattr(sys, name, TolerantStream(stream))


class TolerantStream:
    """A text stream whose writes never fail, even when its reader is gone or its disk is full.

    For what libraries print, such as progress bars.
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
    """Exit a program that has done its work, without Python's own shutdown.

    During that shutdown a library's thread that wakes up aborts the process (SIGABRT), and a signal changes the exit
    code.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)
