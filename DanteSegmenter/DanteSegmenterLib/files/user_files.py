"""Files and folders as users leave them: what lies there that is nobody's file, and texts with a mark before them."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from ..errors import InputError

# Of macOS (archives hold a "._" twin of every file), of Windows, of network disks.
LEAVINGS = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "lost+found", "$recycle.bin", "system volume information"}
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def is_leaving(name: str) -> bool:
    """Whether a file or folder of this name was put there by a system, not by a person: hidden ones included."""
    return name.startswith(".") or name.lower() in LEAVINGS


def entries(folder: Path) -> list[Path]:
    """What a folder holds but for the leavings of systems, sorted.

    Raises:
        InputError: it does not exist, is no folder, or cannot be read; says which.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        raise InputError(f"the folder '{folder}' does not exist. Check the path.") from None
    except NotADirectoryError:
        raise InputError(f"'{folder}' is a file; a folder is needed.") from None
    except PermissionError:
        raise InputError(f"the folder '{folder}' cannot be read: permission denied. Ask for access to it.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"the folder '{folder}' cannot be read: {reason}. Check the path.") from None
    return sorted(folder / name for name in names if not is_leaving(name))


def is_folder(path: Path) -> bool:
    """Whether there is a folder; not an error where the name is impossible or nobody may look."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is a file; not an error where the name is impossible or nobody may look."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def decode(content: bytes) -> str:
    """A text by the mark before it, else as UTF-8, else as the Windows of Western Europe wrote it; never an error."""
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
