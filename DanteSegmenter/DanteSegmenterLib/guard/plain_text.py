"""Texts that others wrote, as they may be shown: a model folder's, a volume's name, a file's name.

Such a text may hold what commands a terminal, turns the direction of writing, breaks a line of a table or is a formula
for a spreadsheet. What is shown passes through here first: one line, printable, of bounded length.
"""

from __future__ import annotations

import re

# Characters: a name, and a sentence or two.
SHORT, LONG = 200, 2000

_BREAKS = re.compile(r"[^\S ]+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# What a cell begins with that a spreadsheet computes; the wide forms too, as Japanese spreadsheets do.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def one_line(text: object, longest: int = SHORT) -> str:
    """A text as a label, a header or a terminal may show it.

    Line breaks and tabs become a space. Control characters, marks that change the direction of writing and others that
    do not print are left out. A byte of a file's name that is not UTF-8 is shown by its number, as "\\xfc"; half of a
    pair, which is no character either, becomes U+FFFD.

    Args:
        text: anything; what `str` makes of it is shown.
        longest: more characters than this are cut off, and "..." says so.
    """
    whole = str(text)
    # A text of megabytes is not walked through for a line.
    parts = (_shown(character) for character in _BREAKS.sub(" ", whole[: 2 * longest]))
    line = "".join(parts).strip()
    cut = len(line) > longest or len(whole) > 2 * longest
    return line[: longest - 3].rstrip() + "..." if cut else line


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte of a file's name
        return f"\\x{ord(character) - 0xDC00:02x}"
    return "\ufffd" if "\ud800" <= character <= "\udfff" else ""


def csv_cell(text: object, longest: int = LONG) -> str:
    """A text as a cell of a CSV file: one line that no spreadsheet takes for a formula. Numbers stay numbers."""
    line = one_line(text, longest)
    return f"'{line}" if line.startswith(_FORMULA) and not _NUMBER.fullmatch(line) else line
