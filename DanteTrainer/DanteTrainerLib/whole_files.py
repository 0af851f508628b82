"""Atomic writes of files and folders: built beside the target, then moved into place. Does not import torch.

Whatever happens in between (full disk, an error, Ctrl-C, SIGKILL), the earlier content is kept. Leftovers of a killed
process are restored or removed by the next one.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from DanteSegmenterLib.errors import ResourceError, reason
from DanteSegmenterLib.guard.atomic import write_atomically
from DanteSegmenterLib.guard.busy_files import move
from DanteSegmenterLib.guard.replace_folder import restore_previous, swap_in, to_disk, unfinished_folder

from .ending import finish_before_stop, on_stop

# safetensors reports a full disk with its own exception type and this text.
_FULL = "No space left on device"


def write_whole(path: Path, write: Callable[[Path], object], sync: bool = True) -> None:
    """`write_atomically`, which a stop of the command waits for, and after which it leaves nothing behind.

    Raises:
        ResourceError: no space left or not writable; the earlier file is untouched.
    """
    with finish_before_stop():
        write_atomically(path, write, sync, lambda folder: on_stop(lambda _: _remove_tree(folder)))


@contextlib.contextmanager
def files_together(target: Path) -> Iterator[Path]:
    """A temporary folder whose files are moved to the folder `target` if the block ends without an error.

    Earlier files with the same names are replaced; others are kept.

    Raises:
        ResourceError: no space left or not writable; the earlier files are untouched.
    """
    with _errors_name(target), unfinished_folder(target) as folder, on_stop(lambda _: _remove_tree(folder)):
        yield folder
        with finish_before_stop():
            files = sorted(folder.iterdir())
            for file in files:
                to_disk(file)
            for file in files:
                move(file, target / file.name)


def write_text_whole(path: Path, text: str, sync: bool = True) -> None:
    """`write_whole` for text in UTF-8; file names that are not valid UTF-8 keep their bytes."""
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8", errors="surrogateescape"), sync)


def make_writable(folder: Path) -> None:
    """Create a folder and check that it is writable, before hours of work whose results go there.

    Raises:
        ResourceError: it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ResourceError(f"nothing can be written to '{folder}': {reason(error)}. Choose another folder.") from None


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that replaces it if the block ends without an error.

    The previous contents of `target` are deleted: the caller must have checked that it is one of our folders.

    Raises:
        ResourceError: no space left or not writable; the earlier folder is untouched.
    """
    target = target.resolve()
    with _errors_name(target):
        restore_previous(target)
        with unfinished_folder(target.parent) as folder, on_stop(lambda _: _remove_tree(folder)):
            yield folder
            with finish_before_stop():
                for file in folder.iterdir():
                    if file.is_file():
                        to_disk(file)
                swap_in(folder, target)


@contextlib.contextmanager
def _errors_name(target: Path) -> Iterator[None]:
    """Report errors about the temporary folder with the name of the target.

    Raises:
        ResourceError: the temporary folder could not be written; names `target`, which the user knows.
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
