"""Stand-in for slicer.i18n: texts stay English unless a test translates them."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

TRANSLATIONS: dict[tuple[str, str], str] = {}  # by context and text


def translate(context: str, text: str) -> str:
    return TRANSLATIONS.get((context, text), text)


def tr(text: str) -> str:
    """The context is the calling file."""
    return translate(_context(sys._getframe(1).f_code.co_filename), text)


@cache
def _context(name: str) -> str:
    """The file's name, prefixed by its folder in a package."""
    file = Path(name)
    package = f"{file.parent.name}." if (file.parent / "__init__.py").is_file() else ""
    return package + file.stem
