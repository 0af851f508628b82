"""Files and folders that are written completely or not at all: built beside their place, then moved there. No torch.

Whatever happens meanwhile (a full disk, an error, Ctrl-C, SIGKILL), the earlier content stays. What a killed process
left beside it is restored or removed by the next one.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from DanteSegmenterLib.errors import ResourceError, reason
from DanteSegmenterLib.guard.busy_files import move
from DanteSegmenterLib.guard.replace_folder import bring_back, folder_in_the_making, swap_in, to_disk

from .ending import at_end, placing

# safetensors reports a full disk in an exception type of its own, with this text.
_FULL = "No space left on device"


def write_whole(path: Path, write: Callable[[Path], object], sync: bool = True) -> None:
    """Have `write` fill a file of the same ending, in a folder of its own beside `path`, then move it to `path`.

    Where several processes write one file at once, as those of a study do, the last one's stays.

    Args:
        sync: flush it to the disk before it is moved, so that a power failure cannot leave an empty file.

    Raises:
        ResourceError: no space left or not writable; the earlier file is untouched.
    """
    with (
        placing(),
        _errors_name(path),
        folder_in_the_making(path.parent) as folder,
        at_end(lambda _: _remove_tree(folder)),
    ):
        new = folder / f"new{path.suffix}"
        write(new)
        if sync:
            to_disk(new)
        move(new, path)


@contextlib.contextmanager
def files_together(target: Path) -> Iterator[Path]:
    """A temporary folder whose files move to the folder `target` when the block ends without an error.

    Earlier files with the same names are replaced; others stay.

    Raises:
        ResourceError: no space left or not writable; the earlier files are untouched.
    """
    with _errors_name(target), folder_in_the_making(target) as folder, at_end(lambda _: _remove_tree(folder)):
        yield folder
        with placing():
            files = sorted(folder.iterdir())
            for file in files:
                to_disk(file)
            for file in files:
                move(file, target / file.name)


def write_text_whole(path: Path, text: str, sync: bool = True) -> None:
    """`write_whole` of a text in UTF-8; file names in it that are not valid UTF-8 keep their bytes."""
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8", errors="surrogateescape"), sync)


def make_writable(folder: Path) -> None:
    """Make a folder and check that files can be written to it, before hours of work for them begin.

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
    """A temporary folder beside `target` that replaces it when the block ends without an error.

    What `target` held before is deleted then: the caller must have checked that it is one of this program's folders.

    Raises:
        ResourceError: no space left or not writable; the earlier folder is untouched.
    """
    target = target.resolve()
    with _errors_name(target):
        bring_back(target)
        with folder_in_the_making(target.parent) as folder, at_end(lambda _: _remove_tree(folder)):
            yield folder
            with placing():
                for file in folder.iterdir():
                    if file.is_file():
                        to_disk(file)
                swap_in(folder, target)


@contextlib.contextmanager
def _errors_name(target: Path) -> Iterator[None]:
    """
    Raises:
        ResourceError: the temporary folder could not be written; names the target instead, which the user knows.
    """
    try:
        yield
    except ResourceError as error:
        _, found, why = str(error).partition(" could not be written: ")
        if not found:
            raise
        raise ResourceError(f"'{target}' could not be written: {why}") from None
    except Exception as error:
        if isinstance(error, OSError) or _FULL in str(error):
            why = reason(error) if isinstance(error, OSError) else _FULL
            raise ResourceError(f"'{target}' could not be written: {why}. Nothing was changed.") from None
        raise


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
