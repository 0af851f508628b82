"""Files and folders that are there whole or not at all: built beside, then moved into place. No torch.

Whatever happens meanwhile (a full disk, an error, Ctrl-C, SIGKILL), what was there before stays; and what a killed
process left beside is used again, or taken away by the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from DanteSegmenterLib.errors import ResourceError, reason
from DanteSegmenterLib.guard.replace_folder import bring_back, folder_in_the_making, swap_in, to_disk

from .ending import last_deed, placing

# What safetensors says in an exception of its own.
_FULL = "No space left on device"


def write_whole(path: Path, write: Callable[[Path], object], sync: bool = True) -> None:
    """Have `write` fill a file of the same ending, in a folder of its own beside `path`, that then takes its place.

    Of several processes that write one file at once, as those of a study do, the last one's stays.

    Args:
        sync: have it on the disk before, lest a power failure leave nothing.

    Raises:
        ResourceError: no space left or not writable; the file of before is untouched.
    """
    with (
        placing(),
        _said(path),
        folder_in_the_making(path.parent) as folder,
        last_deed(lambda _: _remove_tree(folder)),
    ):
        new = folder / f"new{path.suffix}"
        write(new)
        if sync:
            to_disk(new)
        os.replace(new, path)


@contextlib.contextmanager
def files_together(target: Path) -> Iterator[Path]:
    """An empty folder whose files all move to the folder `target` when the block ends well, and none before.

    Files of before that have the same names are replaced; others stay.

    Raises:
        ResourceError: no space left or not writable; the files of before are untouched.
    """
    with _said(target), folder_in_the_making(target) as folder, last_deed(lambda _: _remove_tree(folder)):
        yield folder
        with placing():
            files = sorted(folder.iterdir())
            for file in files:
                to_disk(file)
            for file in files:
                os.replace(file, target / file.name)


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
    with _said(target):
        bring_back(target)
        with folder_in_the_making(target.parent) as folder, last_deed(lambda _: _remove_tree(folder)):
            yield folder
            with placing():
                for file in folder.iterdir():
                    if file.is_file():
                        to_disk(file)
                swap_in(folder, target)


@contextlib.contextmanager
def _said(target: Path) -> Iterator[None]:
    """
    Raises:
        ResourceError: what is in the making could not be written; names the target, which people know.
    """
    try:
        yield
    except ResourceError as error:
        _, known, why = str(error).partition(" could not be written: ")
        if not known:
            raise
        raise ResourceError(f"'{target}' could not be written: {why}") from None
    except Exception as error:
        if isinstance(error, OSError) or _FULL in str(error):
            why = reason(error) if isinstance(error, OSError) else _FULL
            raise ResourceError(f"'{target}' could not be written: {why}. Nothing was changed.") from None
        raise


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
