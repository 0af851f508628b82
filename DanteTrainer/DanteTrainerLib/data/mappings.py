"""Read mapping tables of BraTS case names that denote the same scan, as published or as saved by spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.files.user_files import decode, entries

# Columns that hold case names in the published files: BraTS2021, BraTS_2019_subject_ID, TCGA_TCIA_subject_ID.
NAME_COLUMN_WORDS = ("brats", "subject_id", "subject id")
NO_NAME = ("", "na", "n/a", "nan", "none", "-")
# Minimum share of distinct values: a column of "train" and "test" with BraTS in its title does not name cases.
MOST_DIFFER = 0.5


def mapping_files(folders: Iterable[Path]) -> list[Path]:
    """CSV tables with "mapping" in their name, in these folders and their parents."""
    found = set()
    for folder in folders:
        for place in (folder, folder.resolve().parent):
            try:
                paths = entries(place)
            except InputError:  # the parent may be unreadable; the cases need not be
                continue
            found |= {path.resolve() for path in paths if _is_mapping(path.name.lower())}
    return sorted(found)


def _is_mapping(name: str) -> bool:
    return "mapping" in name and name.endswith(".csv")


def rows_of(path: Path) -> list[list[str]]:
    """The names of one scan in each row; empty if the table names no cases, or cannot be read.

    The separator is detected from the header: Excel also writes semicolons and tabs.
    """
    try:
        text = decode(path.read_bytes())
        separator = max(",;\t", key=text.partition("\n")[0].count)
        lines = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
    except (OSError, csv.Error):
        return []
    heads = [head for head in (lines[0] if lines else {}) if head and _names_cases(head, lines)]
    rows = [[(line[head] or "").strip() for head in heads] for line in lines]
    return [[name for name in row if name.lower() not in NO_NAME] for row in rows] if len(heads) > 1 else []


def _names_cases(head: str, lines: list[dict[str, str]]) -> bool:
    if not any(word in head.lower() for word in NAME_COLUMN_WORDS):
        return False
    values = [value for line in lines if (value := (line[head] or "").strip().lower()) not in NO_NAME]
    return not values or len(set(values)) > MOST_DIFFER * len(values)
