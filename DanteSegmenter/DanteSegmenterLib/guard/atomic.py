"""Write a file atomically: to a temporary file beside it, which is then moved into place."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from ..errors import DanteError, ResourceError, reason
from .busy_files import move
from .replace_folder import to_disk, unfinished_folder


def write_atomically(
    path: Path,
    write: Callable[[Path], object],
    sync: bool = True,
    meanwhile: Callable[[Path], AbstractContextManager[object]] = contextlib.nullcontext,
) -> None:
    """Call `write` with a temporary path beside `path`, and move the result into place: all or nothing.

    If several processes write the same file, the last one wins.

    Args:
        write: called with a short file name with the extension of `path`, by which writers choose the format.
        sync: flush the file to disk before the move, so that a power failure cannot leave an empty one.
        meanwhile: called with the temporary folder; the context is left once the file is in place.

    Raises:
        ResourceError: the folder does not exist, is not writable, or the disk is full.
    """
    path = Path(path)
    if not os.path.isdir(path.parent):
        raise ResourceError(f"the folder '{path.parent}' does not exist. Create it or choose another.")
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(unfinished_folder(path.parent))
        except (OSError, ValueError) as error:
            raise ResourceError(f"cannot write to '{path.parent}': {reason(error)}.") from None
        temporary = folder / f"new{_ending(path.name)}"
        try:
            with meanwhile(folder):
                write(temporary)
                if sync:
                    to_disk(temporary)
                move(temporary, path)
        except DanteError:
            raise
        except Exception as error:
            why = "no space left on the disk" if _is_full(error, path.parent) else reason(error)
            raise ResourceError(f"'{path}' could not be written: {why}. Nothing was changed.") from error


def _ending(name: str) -> str:
    return ".nii.gz" if name.lower().endswith(".nii.gz") else Path(name).suffix[:20].lower()


def _is_full(error: Exception, folder: Path) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    disk = os.statvfs(folder) if hasattr(os, "statvfs") else None  # ITK reports a full disk as a plain failure
    return disk is not None and disk.f_bavail * disk.f_frsize < 1 << 16
