"""How a command is stopped early: by Ctrl-C, SIGTERM, the stop file, or the end of its parent process. No torch.

A thread receives the request at once, whatever the main thread does meanwhile. The training loop asks for requests
after every step and saves a checkpoint before it ends. At any other time (while torch is imported, or cases are
prepared or scored) there is nothing to save: child processes are killed, the registered cleanups run (half-written
folders are removed, the status becomes "stopped"), and the process exits.
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

# How often the stop file and the parent are checked.
LOOK_SECONDS = 0.3
# How long the loop has to finish its current step; then the state before that step is saved, and the step is lost.
STEP_SECONDS = 1.0
# How long a loop that cannot be saved from another thread has to finish its step and write a checkpoint.
PATIENCE_SECONDS = 300.0
# How long the end waits for a file or folder that is just being moved into place; the disk may not answer any more.
PLACING_SECONDS = 1.5

Cleanup = Callable[[str], object]
"""Called with the message that the command ends with."""

_CLEANUPS: list[Cleanup] = []
_ANSWERING: list[Callable[[], str] | None] = []
_ENDING = threading.Lock()
_PLACING = threading.RLock()
_ENDING_THREAD: list[int] = []  # identity of the thread in `end_now`, which must not wait for `_PLACING` again


@contextlib.contextmanager
def at_end(cleanup: Cleanup) -> Iterator[None]:
    """Have `cleanup` called if the process is stopped within this block."""
    _CLEANUPS.append(cleanup)
    try:
        yield
    finally:
        _CLEANUPS.remove(cleanup)


@contextlib.contextmanager
def placing() -> Iterator[None]:
    """A block in which a file or folder is completed and moved into place; `end_now` waits until it is over.

    Otherwise a cleanup, in another thread, could delete what is just being moved.
    """
    if _ENDING_THREAD and _ENDING_THREAD[0] == threading.get_ident():
        yield
        return
    with _PLACING:
        yield


@contextlib.contextmanager
def answering(save: Callable[[], str] | None = None) -> Iterator[None]:
    """A block in which a loop asks for requests itself, after every step.

    Args:
        save: called from another thread when a step takes long; saves the state before that step and returns the
            message to end with.
    """
    _ANSWERING.append(save)
    try:
        yield
    finally:
        _ANSWERING.pop()


def end_now(message: str) -> None:
    """Exit with `message`, leaving no child process and no half-written folder. May be called from any thread."""
    with _ENDING:  # never released
        end_children()
        _PLACING.acquire(timeout=PLACING_SECONDS)  # never released either
        _ENDING_THREAD.append(threading.get_ident())
        for cleanup in reversed(_CLEANUPS):
            with contextlib.suppress(Exception):  # one that fails must not keep the others from running
                cleanup(message)
        with contextlib.suppress(OSError):
            os.write(2, f"{message}\n".encode("utf-8", "backslashreplace"))
        os._exit(STOPPED)


def wait_if_ending() -> None:
    """Called by the main thread before it reports an error: while the process is being ended, the end caused it."""
    with _ENDING:
        pass


def end_children() -> None:
    """Kill the child processes that are left; none of them has anything to save."""
    with contextlib.suppress(AttributeError, ValueError):  # Windows; another thread than the main one
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for each
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    for child in children:
        child.join(1)


class EndRequest:
    """Whether the work shall end (call it); create it in the main thread, before anything else."""

    def __init__(self, message: str = "Stopped.") -> None:
        """
        Args:
            message: printed at the end if there is nothing to save; each command sets its own.
        """
        self.message = message
        self._asked = False
        if hasattr(os, "register_at_fork"):  # not on Windows, where a wake-up descriptor must be a socket
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
        """Treat the end of standard input, which the parent holds open, as a request."""
        when_parent_ends(self._ask)

    def end_with_parent(self) -> None:
        """Treat the end of the parent as a request."""
        self._start_thread(self._wait_for_parent, os.getppid())

    @contextlib.contextmanager
    def watching(self, file: Path) -> Iterator[None]:
        """A block in which touching `file` is a request; an answering loop checks the file itself."""
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
        """Handle a request: leave it to the loop if one answers, else end the process."""
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
    """The thread that reads the wake-up descriptor handles the signal."""


def _touched(file: Path) -> int:
    """The file's modification time in nanoseconds; 0 if there is no file."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def end_with_parent() -> None:
    """Called in a process of a pool: it ignores Ctrl-C, which its parent handles, and ends when its parent ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        _killed_by_the_system()
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _killed_by_the_system() -> None:
    """Linux kills this process with its parent: the thread below may have to wait while a library computes."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a process of a pool
    parent.join()
    os._exit(STOPPED)
