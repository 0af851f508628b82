"""Replace a folder safely: the new one is built beside it, then swapped in; a failure or kill loses nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from .busy_files import move

PREFIX = ".dante-new-"
# Prefix of the process id in folder names, since machines share disks but not processes. `platform` would query WMI on
# Windows at Slicer's start, which takes ten seconds, or hangs where that does not answer (CPython's issue 112278).
MACHINE = f"{zlib.crc32(socket.gethostname().encode()):08x}"
# A folder that has been in the making for this long is abandoned, whatever its process id.
ABANDONED_S = 24 * 3600.0
# <fcntl.h>, <stdio.h>: paths are relative to the current folder; exchange two paths.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def unfinished_folder(beside: Path) -> Iterator[Path]:
    """A new empty folder in the folder `beside`; removed afterwards, unless `swap_in` has moved it.

    Abandoned folders of killed processes are removed first. An interruption (Ctrl-C, SIGTERM) at any moment leaves
    nothing behind.
    """
    for left in beside.glob(f"{PREFIX}*"):
        if _abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = beside / f"{PREFIX}{MACHINE}-{os.getpid()}-{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=_mode())  # its name is known before it exists
        yield folder
    finally:
        _remove(folder)


def _mode() -> int:
    """Private to its owner; on Windows as the parent folder, because a moved file keeps its permissions.

    There Python implements 0o700 (3.12.4, 3.13), and colleagues could not read what was moved to a shared disk.
    """
    return 0o777 if sys.platform == "win32" else 0o700


def _remove(folder: Path) -> None:
    """Remove completely, even if interrupted; the interruption is raised afterwards."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def to_disk(file: Path) -> None:
    """Flush a file's content to the disk before anything relies on it."""
    with open(file, "rb+") as content:
        os.fsync(content.fileno())


def swap_in(new: Path, target: Path) -> None:
    """Move a finished folder to `target` on the same disk; the previous one is removed once the new one is in place.

    A kill in between leaves the previous folder beside it, where `restore_previous` finds it.

    Raises:
        OSError: it cannot be moved, for example because a file of the previous folder is open; that one is kept.
    """
    before = _before(target)
    restore_previous(target)
    shutil.rmtree(before, ignore_errors=True)
    os.chmod(new, 0o755)  # it was accessible only to its owner
    if exchange(new, target):
        shutil.rmtree(new, ignore_errors=True)  # now the previous folder
        return
    replaces = target.exists()
    if replaces:
        move(target, before)
    try:
        move(new, target)
    except OSError:
        if replaces:
            move(before, target)
        raise
    shutil.rmtree(before, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; False if that is not possible.

    Supported by Linux on most file systems.
    """
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # another C library
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def restore_previous(target: Path) -> None:
    """Restore a previous folder that a killed `swap_in` has moved aside; otherwise does nothing."""
    before = _before(target)
    if before.is_dir() and not target.exists():
        move(before, target)


def _before(target: Path) -> Path:
    return target.with_name(f".{target.name}.before")


def _abandoned(folder: Path) -> bool:
    """Whether the process that was building a folder is gone."""
    machine, number, *_ = [*folder.name.removeprefix(PREFIX).split("-"), "", ""]
    if os.name == "posix" and machine == MACHINE and number.isascii() and number.isdigit():
        try:
            os.kill(int(number), 0)  # signal 0 only checks; on Windows it would end the process
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:
            pass  # it is running, but belongs to another user
    try:
        return time.time() - folder.stat().st_mtime > ABANDONED_S
    except OSError:
        return False
