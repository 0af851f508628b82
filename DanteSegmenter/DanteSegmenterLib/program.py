"""What every command of ours does around its work: one sentence for every error, an exit code, and a quiet end.

Exit codes: 0 done, 1 stopped by the user (what is finished stays), 2 refused or failed, with one line of reason.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO, Any

from .errors import Cancelled, sentence_of

DONE, STOPPED, REFUSED = 0, 1, 2
TRACEBACK_VARIABLE = "DANTE_TRACEBACK"  # set, it shows where an error came from


class StopRequest:
    """Ctrl-C or SIGTERM. Called, it says whether one has come.

    Until somebody calls it, the first one interrupts the main thread; from then on it only answers. The second one
    interrupts in any case.
    """

    def __init__(self, said: str) -> None:
        """
        Args:
            said: what is said when the command has ended so.
        """
        self.said = said
        self._asked = self._listening = False

    def __call__(self) -> bool:
        self._listening = True
        return self._asked

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals meanwhile; where this is not the main thread, nothing is done."""
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
            raise KeyboardInterrupt  # no handler of errors takes it for one


def run(action: Callable[[StopRequest], None]) -> int:
    """Do the work of a command, which is given what says whether it shall end; returns the exit code."""
    stop = StopRequest("Stopped; nothing was written.")

    def work() -> None:
        try:
            with stop.installed():
                action(stop)
        except (Cancelled, KeyboardInterrupt):
            raise Cancelled(stop.said) from None

    return conclude(work)


def conclude(work: Callable[[], object]) -> int:
    """Do the work of a command whose signals somebody else answers; returns the exit code."""
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


def say(text: str) -> None:
    """Print to standard output; a closed pipe, a full disk or letters it does not know are no reason to fail."""
    _print(text, sys.stdout)


def complain(text: str) -> None:
    """Print to standard error, as `say` does."""
    _print(text, sys.stderr)


def _print(text: str, stream: IO[str] | None) -> None:
    with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
        print(printable(text), file=stream, flush=True)


def printable(text: str) -> str:
    """The text without characters that move the cursor, colour the screen or hide what is written."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)


def prepare_streams() -> None:
    """Before anything is opened or printed, in a process of its own.

    Closed standard streams lead nowhere from now on (else the next file that is opened would get their number, and
    warnings of libraries would be written into it); letters that a stream does not know are replaced.
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
        setattr(sys, name, PatientStream(stream))


class PatientStream:
    """A text stream that does not fail: when nobody reads it any more, or its disk is full, the work goes on without.

    For what libraries print, progress bars above all.
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
    """End a program that has done its work.

    Not by Python's own way out: while it takes the interpreter apart, a thread of a library that wakes up ends the
    process with SIGABRT, and a signal with another exit code.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)
