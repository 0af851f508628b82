"""Early stop of a command by Ctrl-C, SIGTERM, the stop file, or the end of its parent process. Does not import torch.

A thread receives requests immediately, whatever the main thread is doing. The training loop checks for requests after
every step and saves a checkpoint before it ends. At any other time (importing torch, preparing or scoring cases) there
is nothing to save: child processes are killed, the registered cleanups run (half-written folders are removed, the
status becomes "stopped"), and the process exits.
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

# Interval for checking the stop file and the parent.
STOP_POLL_SECONDS = 0.3
# Time for the loop to finish its current step; after that, the state before the step is saved and the step is lost.
STEP_SECONDS = 1.0
# Time for a loop that cannot be saved from another thread to finish its step and write a checkpoint.
STEP_TIMEOUT_SECONDS = 300.0
# Maximum wait for a file or folder being moved into place; the disk may have stopped responding.
MOVE_SECONDS = 1.5

Cleanup = Callable[[str], object]
"""Called with the final message of the command."""

_CLEANUPS: list[Cleanup] = []
_LOOPS: list[Callable[[], str] | None] = []
_ENDING = threading.Lock()
_FILES_MOVING = threading.RLock()
_ENDING_THREAD: list[int] = []  # identity of the thread in `end_now`, which must not wait for `_FILES_MOVING` again


@contextlib.contextmanager
def on_stop(cleanup: Cleanup) -> Iterator[None]:
    """Call `cleanup` if the process is stopped within this block."""
    _CLEANUPS.append(cleanup)
    try:
        yield
    finally:
        _CLEANUPS.remove(cleanup)


@contextlib.contextmanager
def finish_before_stop() -> Iterator[None]:
    """Block in which a file or folder is completed and moved into place; `end_now` waits until it is over.

    Otherwise a cleanup in another thread could delete what is being moved.
    """
    if _ENDING_THREAD and _ENDING_THREAD[0] == threading.get_ident():
        yield
        return
    with _FILES_MOVING:
        yield


@contextlib.contextmanager
def stop_checked_by_loop(save: Callable[[], str] | None = None) -> Iterator[None]:
    """Block in which a loop checks for requests itself, after every step.

    Args:
        save: called from another thread when a step takes long; saves the state before that step and returns the final
            message.
    """
    _LOOPS.append(save)
    try:
        yield
    finally:
        _LOOPS.pop()


def end_now(message: str) -> None:
    """Exit with `message`, leaving no child processes or half-written folders. May be called from any thread."""
    with _ENDING:  # never released
        end_children()
        _FILES_MOVING.acquire(timeout=MOVE_SECONDS)  # never released either
        _ENDING_THREAD.append(threading.get_ident())
        for cleanup in reversed(_CLEANUPS):
            with contextlib.suppress(Exception):  # a failing cleanup must not prevent the others
                cleanup(message)
        with contextlib.suppress(OSError):
            os.write(2, f"{message}\n".encode("utf-8", "backslashreplace"))
        os._exit(STOPPED)


def wait_if_ending() -> None:
    """Wait while the process is being ended; call before reporting an error that the ending may have caused."""
    with _ENDING:
        pass


def end_children() -> None:
    """Kill all remaining child processes; none has anything to save."""
    with contextlib.suppress(AttributeError, ValueError):  # Windows; not the main thread
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for each
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    for child in children:
        child.join(1)


class EndRequest:
    """Callable that tells whether to stop; create it in the main thread, before anything else."""

    def __init__(self, message: str = "Stopped.") -> None:
        """Install the signal handlers.

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
            handler: Callable[..., None] = _ignore_signal
            self._start_thread(self._listen, source)
        else:
            handler = self._on_signal
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self._asked

    def end_with_standard_input(self) -> None:
        """Treat the end of standard input, which the parent holds open, as a request to stop."""
        when_parent_ends(self._ask)

    def end_with_parent(self) -> None:
        """Treat the end of the parent process as a request to stop."""
        self._start_thread(self._wait_for_parent, os.getppid())

    @contextlib.contextmanager
    def watching(self, file: Path) -> Iterator[None]:
        """Block in which touching `file` is a request to stop; in `stop_checked_by_loop`, the loop checks the file."""
        over = threading.Event()
        self._start_thread(self._wait_for_file, file, _modified_ns(file), over)
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

    def _ask(self, patience: float = STEP_TIMEOUT_SECONDS) -> None:
        """Handle a request: leave it to the loop if there is one, otherwise end the process."""
        if not _LOOPS:
            end_now(self.message)
        if self._asked:
            end_now("Stopped at once; resume the run to continue from its last checkpoint.")
        self._asked = True
        with contextlib.suppress(OSError):
            os.write(2, b"\nStopping after this step (again: at once)...\n")
        save = _LOOPS[-1]
        end = time.monotonic() + (STEP_SECONDS if save else patience)
        while time.monotonic() < end:
            time.sleep(0.02)
            if not _LOOPS:
                return  # the loop has ended
        end_now(save() if save else self.message)

    def _wait_for_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(STOP_POLL_SECONDS)
        self._ask()

    def _wait_for_file(self, file: Path, before: int, over: threading.Event) -> None:
        while not over.wait(STOP_POLL_SECONDS):
            if not _LOOPS and _modified_ns(file) not in (0, before):
                end_now(self.message)

    @staticmethod
    def _start_thread(target: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()


def _ignore_signal(number: int, frame: object) -> None:
    """The thread that reads the wake-up descriptor handles the signal."""


def _modified_ns(file: Path) -> int:
    """The file's modification time in nanoseconds; 0 if there is no file."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def end_with_parent() -> None:
    """Initialise a pool process: ignore Ctrl-C, which the parent handles, and end when the parent ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        _killed_by_the_system()
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _killed_by_the_system() -> None:
    """Have Linux kill this process with its parent; the waiting thread alone may be blocked by a computing library."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # called in a pool process
    parent.join()
    os._exit(STOPPED)
