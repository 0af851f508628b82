"""Tables that say which names of BraTS cases mean one scan, as the data sets bring them and spreadsheets save them."""

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
# Of a column's values so many must differ: "train" and "test" in a column of BraTS's name no patients.
MOST_DIFFER = 0.5


def mapping_files(folders: Iterable[Path]) -> list[Path]:
    """The tables with "mapping" in their name in these folders and one above each."""
    found = set()
    for folder in folders:
        for place in (folder, folder.resolve().parent):
            try:
                paths = entries(place)
            except InputError:  # the folder above may be closed to us; the cases need not be
                continue
            found |= {path.resolve() for path in paths if _is_mapping(path.name.lower())}
    return sorted(found)


def _is_mapping(name: str) -> bool:
    return "mapping" in name and name.endswith(".csv")


def rows_of(path: Path) -> list[list[str]]:
    """The names of one scan in each row; none where the table names no cases, or cannot be read.

    The encoding is told by its mark or tried, the separator by the head: Excel writes semicolons and tabs, too.
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
