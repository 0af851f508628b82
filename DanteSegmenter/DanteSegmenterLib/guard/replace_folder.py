"""A folder in the place of another: built beside it, checked, then swapped in. A failure or a kill loses nothing."""

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
# Stands before the number of the process that builds a folder: machines share disks, not processes. `platform` would
# ask WMI on Windows, while Slicer starts: ten seconds, or for ever where that does not answer (CPython's issue 112278).
MACHINE = f"{zlib.crc32(socket.gethostname().encode()):08x}"
# A folder that was being built so long ago is of a process that was killed, whatever its number says.
ABANDONED_S = 24 * 3600.0
# <fcntl.h>, <stdio.h>: paths are relative to the current folder; two paths change places.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def folder_in_the_making(beside: Path) -> Iterator[Path]:
    """A new empty folder in the folder `beside`; gone afterwards, unless `swap_in` has moved it to its place.

    What a killed process left there of this kind is taken away first. An interruption (Ctrl-C, SIGTERM) at any moment
    leaves nothing.
    """
    for left in beside.glob(f"{PREFIX}*"):
        if _abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = beside / f"{PREFIX}{MACHINE}-{os.getpid()}-{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=_mode())  # its name is known before it is there
        yield folder
    finally:
        _remove(folder)


def _mode() -> int:
    """For its owner alone; on Windows as the folder around it is, because a file takes its rights along when it moves.

    There Python gives 0o700 a meaning (3.12.4, 3.13), and colleagues could not read what was moved to a shared disk.
    """
    return 0o777 if sys.platform == "win32" else 0o700


def _remove(folder: Path) -> None:
    """To the end: an interruption meanwhile is answered afterwards."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def to_disk(file: Path) -> None:
    """Have the system put a file's content on the disk before anything relies on it."""
    with open(file, "rb+") as content:
        os.fsync(content.fileno())


def swap_in(new: Path, target: Path) -> None:
    """Move a finished folder to `target`, on the same disk; what was there before goes when the new one is in place.

    A kill in between leaves the earlier folder beside it, and `bring_back` finds it.

    Raises:
        OSError: it cannot be moved, for example because a file of the earlier folder is open; that one stays.
    """
    before = _before(target)
    bring_back(target)
    shutil.rmtree(before, ignore_errors=True)
    os.chmod(new, 0o755)  # until now it was for its owner alone
    if exchange(new, target):
        shutil.rmtree(new, ignore_errors=True)  # which is the earlier one now
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
    """Let two folders change places in one move, so that there is no moment without; False where it cannot be done.

    Linux has this, on most file systems.
    """
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # another C library
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def bring_back(target: Path) -> None:
    """Put an earlier folder back to `target` that a killed `swap_in` has moved aside; else nothing happens."""
    before = _before(target)
    if before.is_dir() and not target.exists():
        move(before, target)


def _before(target: Path) -> Path:
    return target.with_name(f".{target.name}.before")


def _abandoned(folder: Path) -> bool:
    """Whether the process that builds a folder is gone."""
    machine, number, *_ = [*folder.name.removeprefix(PREFIX).split("-"), "", ""]
    if os.name == "posix" and machine == MACHINE and number.isascii() and number.isdigit():
        try:
            os.kill(int(number), 0)  # only asks; on Windows it would end the process
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:
            pass  # it lives, and is somebody else's
    try:
        return time.time() - folder.stat().st_mtime > ABANDONED_S
    except OSError:
        return False
