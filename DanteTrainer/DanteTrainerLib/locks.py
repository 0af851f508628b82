"""Locks that show who works in a folder; released when their process ends, probed without side effects. No torch."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from DanteSegmenterLib.errors import ResourceError, reason

from .ending import on_stop

if sys.platform != "win32":
    import fcntl

LOCK_FILE, HELD_FILE = ".lock", ".held.lock"
# Probing processes hold the file that shows the owner for microseconds.
PROBE_SECONDS = 5.0


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold the exclusive right to work on a run.

    Raises:
        ResourceError: another process holds it; the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # comes with torch; Slicer reads this file before either is installed

    refuse_links(folder, (LOCK_FILE, HELD_FILE))
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ResourceError(f"another process works on the run '{folder}'. Wait for it, or stop it first.") from None
    except OSError as error:
        raise ResourceError(f"the run folder '{folder}' cannot be written: {reason(error)}.") from None
    with contextlib.ExitStack() as stack:
        stack.callback(lock.release)
        stack.enter_context(_visible_lock(folder / HELD_FILE))
        yield


def refuse_links(folder: Path, names: tuple[str, ...]) -> None:
    """Refuse symbolic links in place of our files, which would make us overwrite their targets.

    Raises:
        ResourceError: one of the files is a link.
    """
    for name in names:
        if (folder / name).is_symlink():
            raise ResourceError(f"'{folder / name}' is a link; a file of this run is expected there. Delete the link.")


@contextlib.contextmanager
def _visible_lock(path: Path) -> Iterator[None]:
    """Held by the owner of a run. Probes share this lock briefly, so they never block the run's own lock."""
    if sys.platform == "win32":
        from filelock import FileLock

        with FileLock(path, timeout=PROBE_SECONDS):
            yield
        return
    with open(path, "ab") as file:
        _wait_for(file.fileno(), fcntl.LOCK_EX)
        yield


def in_use(folder: Path) -> bool:
    """Whether a process is working on this run; probing creates no file and blocks nobody."""
    path = Path(folder) / HELD_FILE
    if not path.is_file():
        return False
    if sys.platform == "win32":
        from filelock import FileLock, Timeout

        try:
            with FileLock(path, timeout=0.05):
                return False
        except Timeout:
            return True
    with open(path, "rb") as file:
        return not _try(file.fileno(), fcntl.LOCK_SH)


@contextlib.contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder that is removed after the block; a lock beside it, taken first, shows that it is in use."""
    from filelock import FileLock

    folder = parent / f"{prefix}{uuid4().hex[:12]}"
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    with lock, on_stop(lambda _: _remove(folder)):
        try:
            folder.mkdir()
            yield folder
        finally:
            _remove(folder)


def remove_left_over(parent: Path, prefix: str) -> bool:
    """Remove scratch folders of killed processes; returns whether another one is still in use."""
    from filelock import FileLock, Timeout

    in_work = False
    for name in {path.name.removesuffix(".lock") for path in parent.glob(f"{prefix}*")}:
        lock = FileLock(parent / f"{name}.lock")
        try:
            with lock.acquire(blocking=False):
                _remove(parent / name)
        except Timeout:
            in_work = True
    return in_work


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # file system without locks
        return True
    return True


def _wait_for(descriptor: int, kind: int) -> None:
    end = time.monotonic() + PROBE_SECONDS
    while not _try(descriptor, kind) and time.monotonic() < end:
        time.sleep(0.002)
