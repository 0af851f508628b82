"""Handle users' files and folders: ignore system files, and decode text in several encodings."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from ..errors import InputError, reason

# Created by macOS (in archives), Windows, and network disks.
SYSTEM_FILES = {
    "__macosx", "thumbs.db", "desktop.ini", "@eadir", "lost+found", "$recycle.bin", "system volume information",
}  # fmt: skip
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def is_system_file(name: str) -> bool:
    """Whether a file or folder name belongs to an operating system, including all hidden ones."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def entries(folder: Path) -> list[Path]:
    """Contents of a folder except system files, sorted.

    Raises:
        InputError: it does not exist, is not a folder, or cannot be read; says which.
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
        raise InputError(f"the folder '{folder}' cannot be read: {reason(error)}. Check the path.") from None
    return sorted(folder / name for name in names if not is_system_file(name))


def is_folder(path: Path) -> bool:
    """Whether a folder exists; False if the name is impossible or access is denied."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether a file exists; False if the name is impossible or access is denied."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def decode(content: bytes) -> str:
    """Decode text by its byte order mark, else as UTF-8, else as cp1252 (Western European Windows); never fails."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
