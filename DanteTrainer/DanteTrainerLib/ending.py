"""How a training ends before its end: Ctrl-C, SIGTERM, the stop file, or the end of whoever started it. No torch.

In the loop, which asks after every step, each of them means a checkpoint first. While nobody asks yet (torch is
imported, cases are prepared) there is nothing to save, and the main thread is interrupted at once.
"""

from __future__ import annotations

import _thread
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
from DanteSegmenterLib.errors import Cancelled

# How often the stop file is looked for until the loop does it itself.
LOOK_SECONDS = 0.3
# A training whose parent is gone has so long for its last step and checkpoint; then it is ended from within, with the
# processes it started, and a resume goes on from the checkpoint before.
PATIENCE_SECONDS = 300.0
# The same while there is nothing to save: only code that takes no interruption needs any time at all.
IMPATIENCE_SECONDS = 10.0


class StopRequest:
    """Called, it says whether the run shall end; to be made in the main thread."""

    def __init__(self, with_parent: bool = False, message: str = "Stopped before the first step.") -> None:
        """
        Args:
            with_parent: the end of standard input, which the parent holds open, is a request too.
            message: of the `Cancelled` that interrupts the main thread.
        """
        self._message = message
        self._asked = self._listening = self._interrupted = False
        self._lock = threading.Lock()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if with_parent:
            when_parent_ends(self._parent_ended)

    def __call__(self) -> bool:
        self._listening = True
        return self._asked

    @contextlib.contextmanager
    def watching(self, file: Path) -> Iterator[None]:
        """A file that is touched meanwhile is a request too, until the loop listens, which looks at it itself."""
        over = threading.Event()
        self._start_thread(self._wait_for_file, file, _touched(file), over)
        try:
            yield
        finally:
            over.set()

    def _on_signal(self, number: int, frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        if not self._listening:
            raise Cancelled(self._message)
        print("\nStopping after this step (again: at once)...", file=sys.stderr)

    def _parent_ended(self) -> None:
        self._interrupt()
        start = time.monotonic()
        while time.monotonic() - start < (PATIENCE_SECONDS if self._listening else IMPATIENCE_SECONDS):
            time.sleep(LOOK_SECONDS)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(1)

    def _wait_for_file(self, file: Path, before: int, over: threading.Event) -> None:
        while not (self._listening or self._asked or over.wait(LOOK_SECONDS)):
            if _touched(file) not in (0, before):
                self._interrupt()
                return

    def _interrupt(self) -> None:
        """As the first Ctrl-C, from another thread; never the second."""
        with self._lock:
            if self._asked or self._interrupted:
                return
            self._interrupted = True
        if hasattr(signal, "pthread_kill"):  # wakes a main thread that waits
            main = threading.main_thread().ident
            assert main is not None  # it has started
            signal.pthread_kill(main, signal.SIGTERM)
        else:
            _thread.interrupt_main(signal.SIGTERM)

    @staticmethod
    def _start_thread(target: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()


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
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a process of a pool
    parent.join()
    os._exit(1)
