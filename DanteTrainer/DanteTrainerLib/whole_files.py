"""Files and folders that are there whole or not at all: built beside, then moved into place. No torch.

Whatever happens meanwhile (a full disk, an error, Ctrl-C, SIGKILL), what was there before stays. The names beside are
always the same, so that what a killed process left is used again and does not pile up.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from DanteSegmenterLib.errors import ResourceError, reason

from .ending import last_deed

# What safetensors says in an exception of its own.
_FULL = "No space left on device"
# <fcntl.h>, <stdio.h>: paths are relative to the current folder; two paths change places.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


Writer = Callable[[Path], object]
"""Fills the file of this name."""


def write_whole(path: Path, write: Writer, sync: bool = True) -> None:
    """Have `write` fill a file beside `path`, of the same ending, that then takes its place.

    Args:
        sync: have it on the disk before, lest a power failure leave nothing.

    Raises:
        ResourceError: no space left or not writable; the file of before is untouched.
    """
    write_together({path: write}, sync)


def write_together(writers: Mapping[Path, Writer], sync: bool = True) -> None:
    """`write_whole` of files that belong together: none takes its place before all are there; in this order.

    Raises:
        ResourceError: no space left or not writable; the files of before are untouched.
    """
    path, temporary = None, [beside(path) for path in writers]
    with last_deed(lambda _: _remove(temporary)):
        try:
            for path, write in writers.items():
                write(beside(path))
                if sync:
                    _flush(beside(path))
            for path in writers:
                os.replace(beside(path), path)
        except OSError as error:
            raise ResourceError(f"'{path}' could not be written: {reason(error)}. Nothing was changed.") from None
        finally:
            _remove(temporary)


def beside(path: Path) -> Path:
    """Where a file is until it takes its place."""
    return path.with_name(f".{path.stem}.writing{path.suffix}")


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def write_text_whole(path: Path, text: str, sync: bool = True) -> None:
    """`write_whole` of a text in UTF-8; names of files that are none are kept byte by byte."""
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8", errors="surrogateescape"), sync)


def make_writable(folder: Path) -> None:
    """Make a folder that files can be written to, before the work whose result they are.

    Raises:
        ResourceError: it cannot be made, or nothing can be written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ResourceError(f"nothing can be written to '{folder}': {reason(error)}. Choose another folder.") from None


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, which takes its place when the block ends without an error.

    What `target` held before is deleted then: the caller has made sure that it is ours.

    Raises:
        ResourceError: no space left or not writable; the folder of before is untouched.
    """
    target = target.resolve()
    temporary = _folder_beside(target, "writing")
    with last_deed(lambda _: shutil.rmtree(temporary, ignore_errors=True)):
        try:
            restore(target)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            for file in temporary.iterdir():
                _flush(file)
            _take_its_place(temporary, target)
        except Exception as error:
            if isinstance(error, OSError) or _FULL in str(error):
                raise ResourceError(f"'{target}' could not be written: {_why(error)}. Nothing was changed.") from None
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _why(error: Exception) -> str:
    return reason(error) if isinstance(error, OSError) else _FULL


def restore(target: Path) -> None:
    """Put back what a process had moved aside that was killed before it moved the new folder into place."""
    before = _folder_beside(target, "before")
    if before.is_dir() and not target.exists():
        os.rename(before, target)
    shutil.rmtree(before, ignore_errors=True)


def _folder_beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}")


def _take_its_place(new: Path, target: Path) -> None:
    if not target.exists():
        os.rename(new, target)
    elif not _exchanged(new, target):
        before = _folder_beside(target, "before")
        os.rename(target, before)
        os.rename(new, target)
        shutil.rmtree(before, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change places in one move, where the system can: Linux, on most file systems."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # an old C library
        return False
    return rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
