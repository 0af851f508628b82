"""Check output files before the computation instead of after it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, ResourceError
from ..guard.atomic import write_atomically
from ..guard.replace_folder import unfinished_folder

# A label map that compresses badly, plus a margin.
NEEDED_BYTES = 16 << 20


def check_outputs(outputs: Iterable[tuple[Path, Sequence[str]]], inputs: Iterable[Path]) -> None:
    """Refuse outputs that could not be written, or would replace an input.

    Args:
        outputs: each file with its allowed extensions.

    Raises:
        InputError: an unknown extension, an input, or a repeated file.
        ResourceError: a folder is missing, not writable or full.
    """
    taken = list(inputs)
    for path, endings in outputs:
        _check_name(path, endings)
        twin = next((other for other in taken if same_file(path, other)), None)
        if twin is not None:
            raise InputError(
                f"'{path}' would replace '{twin}', which this command reads or writes too. Choose another."
            )
        _check_folder(path)
        taken.append(path)


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, also through links and on case-insensitive file systems."""
    with contextlib.suppress(OSError, ValueError):  # one of them does not exist yet, or is invalid
        return os.path.samefile(one, other)
    with contextlib.suppress(OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)
    return False


def write_json(path: Path, plain: dict[str, Any]) -> None:
    """Write JSON for programs, atomically.

    Raises:
        ResourceError: it cannot be written.
    """
    text = json.dumps(plain, indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _check_name(path: Path, endings: Sequence[str]) -> None:
    if os.path.isdir(path):
        raise ResourceError(f"'{path}' is a folder; give the name of a file to write.")
    if path.name.endswith(tuple(endings)) and path.name not in endings:
        return
    raise InputError(f"'{path.name}': unknown ending; a name that ends in {', '.join(endings)} is needed.")


def _check_folder(path: Path) -> None:
    if not os.path.isdir(path.parent):
        raise ResourceError(f"the folder '{path.parent}' does not exist. Create it or choose another.")
    try:
        with unfinished_folder(path.parent) as folder:
            (folder / path.name).touch()  # the name must be valid there, too
        free = shutil.disk_usage(path.parent).free
    except (OSError, ValueError) as error:  # ValueError: an invalid file name
        reason = error.strerror if isinstance(error, OSError) else error
        raise ResourceError(f"'{path}' cannot be written: {reason}.") from None
    if free < NEEDED_BYTES:
        raise ResourceError(f"'{path.parent}' has {free >> 20} MB left, {NEEDED_BYTES >> 20} MB are needed. Make room.")
