"""How a command ends before its end: Ctrl-C, SIGTERM, the stop file, or the end of whoever started it. No torch.

A thread hears of it at once, whatever the main thread does meanwhile. While the loop trains, which asks after every
step, a request means a checkpoint first. At any other time (torch is imported, cases are prepared or scored) there is
nothing to wait for: the processes that were started are ended, the last deeds are done (half-written folders go, the
status says "stopped"), and the process is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from DanteSegmenterLib.child_process import when_parent_ends
from DanteSegmenterLib.program import STOPPED

# How often the stop file and the parent are looked for.
LOOK_SECONDS = 0.3
# So long the loop has for the step it is in; then the state before that step is saved, and the step given up.
STEP_SECONDS = 1.0
# A training whose parent is gone, and that cannot save from aside, has so long for its last step and checkpoint.
PATIENCE_SECONDS = 300.0

Deed = Callable[[str], object]
"""Called with the words that a command ends with."""

_LAST_DEEDS: list[Deed] = []
_ANSWERING: list[Callable[[], str] | None] = []
_ENDING = threading.Lock()
_PLACING = threading.RLock()
_ENDING_THREAD: list[int] = []  # its identity, once there is one: it does not wait for what it could not stop
# So long the end waits for a file or folder that is just being put into its place; a disk may be gone.
PLACING_SECONDS = 1.5


@contextlib.contextmanager
def last_deed(deed: Deed) -> Iterator[None]:
    """What is still to be done if the process has to end within this block."""
    _LAST_DEEDS.append(deed)
    try:
        yield
    finally:
        _LAST_DEEDS.remove(deed)


@contextlib.contextmanager
def placing() -> Iterator[None]:
    """While a file or folder is made whole and put into its place, which the end of the process waits for.

    Otherwise the last deeds, in another thread, would take away what is just being moved.
    """
    if _ENDING_THREAD and _ENDING_THREAD[0] == threading.get_ident():
        yield
        return
    with _PLACING:
        yield


@contextlib.contextmanager
def answering(save: Callable[[], str] | None = None) -> Iterator[None]:
    """A loop that asks for requests itself after every step.

    Args:
        save: called from another thread when a step takes long: saves the state before that step, and says so.
    """
    _ANSWERING.append(save)
    try:
        yield
    finally:
        _ANSWERING.pop()


def end_now(message: str) -> None:
    """Leave no process and no half-written folder, say why, and be gone. To be called from any thread."""
    with _ENDING:  # never given back
        end_children()
        _PLACING.acquire(timeout=PLACING_SECONDS)  # never given back either
        _ENDING_THREAD.append(threading.get_ident())
        for deed in reversed(_LAST_DEEDS):
            with contextlib.suppress(Exception):
                deed(message)
        with contextlib.suppress(OSError):
            os.write(2, f"{message}\n".encode("utf-8", "backslashreplace"))
        os._exit(STOPPED)


def let_end() -> None:
    """For the main thread, before it says what failed: where the process is being ended, that is the reason."""
    with _ENDING:
        pass


def end_children() -> None:
    """The processes of ours that are left; none of them has anything to save."""
    with contextlib.suppress(AttributeError, ValueError):  # Windows; another thread than the main one
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for each
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    for child in children:
        child.join(1)


class EndRequest:
    """Called, it says whether the work shall end; to be made in the main thread of a program, before all else."""

    def __init__(self, message: str = "Stopped.") -> None:
        """
        Args:
            message: what is said where there is nothing to save; commands set it as they begin.
        """
        self.message = message
        self._asked = False
        if hasattr(os, "register_at_fork"):  # a wake-up descriptor works for sockets alone on Windows
            source, target = os.pipe()
            os.set_blocking(target, False)
            os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
            signal.set_wakeup_fd(target, warn_on_full_buffer=False)
            handler: Callable[..., None] = _nothing
            self._start_thread(self._listen, source)
        else:
            handler = self._on_signal
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self._asked

    def end_with_standard_input(self) -> None:
        """The end of standard input, which the parent holds open, is a request too."""
        when_parent_ends(self._ask)

    def end_with_parent(self) -> None:
        """The end of the parent is a request too, for processes that are nothing without it."""
        self._start_thread(self._wait_for_parent, os.getppid())

    @contextlib.contextmanager
    def watching(self, file: Path) -> Iterator[None]:
        """A file that is touched meanwhile is a request too; while a loop answers it looks at the file itself."""
        over = threading.Event()
        self._start_thread(self._wait_for_file, file, _touched(file), over)
        try:
            yield
        finally:
            over.set()

    def _listen(self, source: int) -> None:
        while numbers := os.read(source, 1):
            if numbers[0] in (signal.SIGINT, signal.SIGTERM):
                threading.Thread(target=self._ask, daemon=True).start()

    def _on_signal(self, number: int, frame: object) -> None:
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self, patience: float = PATIENCE_SECONDS) -> None:
        """What a request means now: an answer from the loop, or the end."""
        if not _ANSWERING:
            end_now(self.message)
        if self._asked:
            end_now("Stopped at once; resume the run to go on from its last checkpoint.")
        self._asked = True
        with contextlib.suppress(OSError):
            os.write(2, b"\nStopping after this step (again: at once)...\n")
        save = _ANSWERING[-1]
        end = time.monotonic() + (STEP_SECONDS if save else patience)
        while time.monotonic() < end:
            time.sleep(0.02)
            if not _ANSWERING:
                return  # the loop has answered
        end_now(save() if save else self.message)

    def _wait_for_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        self._ask()

    def _wait_for_file(self, file: Path, before: int, over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            if not _ANSWERING and _touched(file) not in (0, before):
                end_now(self.message)

    @staticmethod
    def _start_thread(target: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()


def _nothing(number: int, frame: object) -> None:
    """The thread that reads the wake-up descriptor does it all."""


def _touched(file: Path) -> int:
    """When, in nanoseconds; 0 where there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def end_with_parent() -> None:
    """For a process of a pool: Ctrl-C is its parent's affair, and the parent's end, however it comes, is its own."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        _killed_by_the_system()
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _killed_by_the_system() -> None:
    """The thread below waits for its turn while a library computes; the system does not."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a process of a pool
    parent.join()
    os._exit(STOPPED)
