"""Files and folders that are there whole or not at all: built beside, then moved into place. No torch.

Whatever happens meanwhile (a full disk, an error, Ctrl-C, SIGKILL), what was there before stays; and what a killed
process left beside is used again, or taken away by the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from DanteSegmenterLib.errors import ResourceError, reason
from DanteSegmenterLib.guard.replace_folder import bring_back, folder_in_the_making, swap_in

from .ending import last_deed

# What safetensors says in an exception of its own.
_FULL = "No space left on device"


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
    try:
        bring_back(target)
        with folder_in_the_making(target.parent) as folder, last_deed(lambda _: _remove_tree(folder)):
            yield folder
            for file in folder.iterdir():
                if file.is_file():
                    _flush(file)
            swap_in(folder, target)
    except Exception as error:
        if isinstance(error, OSError) or _FULL in str(error):
            why = reason(error) if isinstance(error, OSError) else _FULL
            raise ResourceError(f"'{target}' could not be written: {why}. Nothing was changed.") from None
        raise


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
