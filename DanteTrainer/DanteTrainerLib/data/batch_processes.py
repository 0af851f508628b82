"""The processes that prepare batches ahead: how many there is room for, and what is said when one ends too early."""

from __future__ import annotations

import contextlib
import multiprocessing.queues
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

import torch

from DanteSegmenterLib.errors import ResourceError

from ..ending import end_with_parent

# Batches travel from process to process through a memory disk; in a container it is small (64 MB with Docker).
MEMORY_DISK = "/dev/shm"
AHEAD = 3
"""Batches that each process prepares ahead."""
# Others use the memory disk too.
USABLE_SHARE = 0.8
# Exit code of a process that could not hand a batch over.
NOT_HANDED_OVER = 75
_WITHOUT = "resume with --set data.workers=0"


def affordable_workers(workers: int, batch: int) -> int:
    """As many processes as the memory disk holds batches, of so many bytes, for; says so where they are fewer."""
    free = _free_bytes()
    if not workers or free is None:
        return workers
    # Besides those ahead: one that is being handed over and one that is computed with.
    possible = max(0, int((USABLE_SHARE * free / batch - 2) // AHEAD))
    if possible < workers:
        print(
            f"note: {MEMORY_DISK} has {free / 1e6:.0f} MB left, a batch takes {batch / 1e6:.0f} MB: {possible} instead "
            f"of {workers} processes prepare batches. More of it (Docker: --shm-size=2g) makes the training faster.",
            file=sys.stderr,
            flush=True,
        )
    return min(workers, possible)


def _free_bytes() -> int | None:
    """None where there is no memory disk."""
    try:
        disk = os.statvfs(MEMORY_DISK)
    except (OSError, AttributeError):
        return None
    return disk.f_bavail * disk.f_frsize


@contextlib.contextmanager
def loaders_watched() -> Iterator[None]:
    """While batches come from processes: if that ends early, for whatever reason, they end at once.

    Raises:
        ResourceError: a process that prepares batches was killed, or could not hand one over.
    """
    others = multiprocessing.active_children()
    try:
        yield
    except BaseException as error:
        _end_all([child for child in multiprocessing.active_children() if child not in others])
        if isinstance(error, RuntimeError):
            _say_why(error)
        raise


def _end_all(processes: list[BaseProcess]) -> None:
    """They have nothing to save. Torch's handler would take each of these ends for an accident."""
    if not processes or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in processes:
        process.kill()
    for process in processes:
        process.join(1)
    signal.signal(signal.SIGCHLD, handler)


def _say_why(error: RuntimeError) -> None:
    """
    Raises:
        ResourceError: the error is that of a process that ended.
    """
    text = f"{error} {error.__cause__}"  # torch says how a process ended in one of the two
    if "DataLoader worker" not in text or "Caught" in text:
        return
    if "Bus error" in text or f"exit code {NOT_HANDED_OVER}" in text:
        raise ResourceError(
            f"{MEMORY_DISK} is full, through which batches go from process to process. Give it more room (Docker: "
            f"--shm-size=2g) and resume, or {_WITHOUT}."
        ) from None
    raise ResourceError(
        "a process that prepares batches was killed, as the system does when memory runs out. Resume the run; if it "
        f"happens again: {_WITHOUT}, or use a smaller data.batch_size or data.patch in a new run."
    ) from None


def set_up_worker(_: int) -> None:
    """One thread; signals are the training's affair; and no batch is lost in silence, for it would be waited for."""
    torch.set_num_threads(1)
    end_with_parent()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[attr-defined]


def _end(error: BaseException, batch: object) -> None:
    """Called in the thread that hands batches over."""
    os._exit(NOT_HANDED_OVER)
