"""Counts what was tried and how it ended."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

from DanteSegmenterLib.errors import DanteError

HANG_SECONDS = 30.0
KINDS = ("lost", "hung", "left_behind")

Case = tuple[str, Callable[[], object]]
"""A name, and a function that must raise a DanteError."""


class Refused(DanteError):
    """A command printed one line that begins with 'error:' and returned 2."""


class Hung(BaseException):
    """An action took too long and was interrupted; not an Exception, so that no handler catches it."""


class Tally:
    """Counts of bad inputs tried and refused and of kills, and the problems, each with a remark.

    "lost": accepted, or refused with a traceback or an unclear message; or the result differs from the one before.
    "hung": did not end in time. "left_behind": a file or process that is no longer needed.
    """

    def __init__(self) -> None:
        self.bad_inputs = self.refused = self.kills = 0
        self.remarks: list[tuple[str, str]] = []
        self._lock = threading.Lock()  # kills run two at a time

    def expect_refusal(self, name: str, action: Callable[[], object]) -> None:
        """Run an action that must be refused quickly, with a sentence."""
        self.bad_inputs += 1
        start = time.monotonic()
        try:
            with interrupted_after(2 * HANG_SECONDS):
                action()
            self.note("lost", name, "it was accepted")
        except DanteError as error:
            if is_sentence(str(error)):
                self.refused += 1
            else:
                self.note("lost", name, f"an unclear message: '{error}'")
        except Hung:
            pass  # reported by the elapsed seconds
        except Exception as error:  # a bug that a user would see as a traceback
            self.note("lost", name, f"{type(error).__name__}: {error}")
        seconds = time.monotonic() - start
        if seconds > HANG_SECONDS:
            self.note("hung", name, f"{seconds:.0f} s")

    def note(self, kind: str, name: str, text: str) -> None:
        """Record a problem of one of `KINDS`."""
        assert kind in KINDS, kind
        with self._lock:
            self.remarks.append((kind, f"{name}: {text}"))

    def killed(self) -> None:
        """Count a kill."""
        with self._lock:
            self.kills += 1

    def counts(self) -> dict[str, int]:
        kinds = [kind for kind, _ in self.remarks]
        tried = {"bad_inputs": self.bad_inputs, "refused": self.refused, "kills": self.kills}
        return {**tried, **{kind: kinds.count(kind) for kind in KINDS}}

    @property
    def good(self) -> bool:
        """Whether everything was refused and nothing went wrong."""
        return self.refused == self.bad_inputs and not self.remarks

    def report(self) -> dict[str, object]:
        """The content of faults.json."""
        return {**self.counts(), "remarks": [f"{kind}: {text}" for kind, text in self.remarks]}

    def sentence(self) -> str:
        """The last line of the command's output."""
        return ", ".join(f"{key} {count}" for key, count in self.counts().items())


def is_sentence(text: str) -> bool:
    """Whether a message is helpful: one complete line of some words, without traces of code."""
    return text.isprintable() and len(text.split()) >= 4 and text.endswith((".", "?")) and "Traceback" not in text


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise `Hung` in the main thread if the body takes longer than this."""

    def interrupt(*_: object) -> None:
        raise Hung

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
