"""Make untrusted texts safe to display: from model folders, and names of volumes and files.

Such a text may contain terminal commands, bidirectional control characters, line breaks or spreadsheet formulas. It is
reduced to one printable line of limited length before it is shown.
"""

from __future__ import annotations

import re

# In characters: a name, and a sentence or two.
SHORT, LONG = 200, 2000

_BREAKS = re.compile(r"[^\S ]+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# Beginnings of spreadsheet formulas; including full-width forms, which Japanese spreadsheets accept.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def one_line(text: object, longest: int = SHORT) -> str:
    """Reduce a text to one line for a label, a header or a terminal.

    Line breaks and tabs become a space. Control characters, bidirectional marks and other unprintable characters are
    removed. A byte of a file name that is not UTF-8 is shown as its number, such as "\\xfc"; an unpaired surrogate
    becomes U+FFFD.

    Args:
        text: anything that `str` accepts.
        longest: longer results are cut and end in "...".
    """
    whole = str(text)
    # Do not process megabytes of text for one line.
    parts = (_shown(character) for character in _BREAKS.sub(" ", whole[: 2 * longest]))
    line = "".join(parts).strip()
    cut = len(line) > longest or len(whole) > 2 * longest
    return line[: longest - 3].rstrip() + "..." if cut else line


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # Python's representation of an undecodable byte in a file name
        return f"\\x{ord(character) - 0xDC00:02x}"
    return "\ufffd" if "\ud800" <= character <= "\udfff" else ""


def csv_cell(text: object, longest: int = LONG) -> str:
    """Format a text as a CSV cell: one line that spreadsheets do not take for a formula. Numbers stay numbers."""
    line = one_line(text, longest)
    return f"'{line}" if line.startswith(_FORMULA) and not _NUMBER.fullmatch(line) else line
