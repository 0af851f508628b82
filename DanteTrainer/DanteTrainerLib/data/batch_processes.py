"""Worker processes that prepare batches ahead: how many fit in shared memory, and errors when one dies."""

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

# Batches travel between processes through shared memory, which is small in a container (64 MB with Docker).
MEMORY_DISK = "/dev/shm"
AHEAD = 3
"""Batches that each process prepares ahead."""
# Others use the shared memory too.
USABLE_SHARE = 0.8
# Exit code of a process that could not hand over a batch.
NOT_HANDED_OVER = 75
_WITHOUT = "resume with --set data.workers=0"


def affordable_workers(workers: int, batch: int) -> int:
    """Limit the processes to what shared memory holds, at `batch` bytes per batch; prints a note if fewer."""
    free = _free_bytes()
    if not workers or free is None:
        return workers
    # Besides the batches prepared ahead: one being handed over, and one in use.
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
    """Free bytes of shared memory; None where there is none."""
    try:
        disk = os.statvfs(MEMORY_DISK)
    except (OSError, AttributeError):
        return None
    return disk.f_bavail * disk.f_frsize


@contextlib.contextmanager
def loaders_watched() -> Iterator[None]:
    """Context for using worker processes: on an early end, for whatever reason, they are killed at once.

    Raises:
        ResourceError: a worker process was killed, or could not hand over a batch.
    """
    others = multiprocessing.active_children()
    try:
        yield
    except BaseException as error:
        _end_all([child for child in multiprocessing.active_children() if child not in others])
        if isinstance(error, RuntimeError):
            _raise_worker_error(error)
        raise


def _end_all(processes: list[BaseProcess]) -> None:
    """Kill the workers, which have nothing to save, without torch's SIGCHLD handler reporting them as failures."""
    if not processes or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in processes:
        process.kill()
    for process in processes:
        process.join(1)
    signal.signal(signal.SIGCHLD, handler)


def _raise_worker_error(error: RuntimeError) -> None:
    """Translate a DataLoader error.

    Raises:
        ResourceError: the error is that of a worker process that died.
    """
    text = f"{error} {error.__cause__}"  # torch reports how a process ended in one of the two
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
    """Initialise a worker: one thread, tied to its parent, exit if a batch cannot be sent (or training would hang)."""
    torch.set_num_threads(1)
    end_with_parent()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[attr-defined]


def _end(error: BaseException, batch: object) -> None:
    """Exit the process; called in the thread that sends batches."""
    os._exit(NOT_HANDED_OVER)
