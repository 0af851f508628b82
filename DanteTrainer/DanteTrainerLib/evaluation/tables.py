"""Read and write score tables as CSV; names are escaped so that spreadsheets treat them as text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.guard.plain_text import csv_cell

from ..whole_files import write_whole

NAMES = ("model", "method", "case", "region")
"""Columns with names from outside; they are compared in the form of `csv_cell`."""


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table atomically, with six significant digits and no index.

    Raises:
        ResourceError: no space left or not writable; an existing table is kept.
    """
    texts = {name: table[name].map(csv_cell) for name in NAMES if name in table}
    write_whole(path, lambda file: table.assign(**texts).to_csv(file, index=False, float_format="%.6g"))


def read_table(path: Path) -> pd.DataFrame:
    """Read a table written by `write_table`; a case named "NA" is kept as text.

    Raises:
        InputError: not a table of scores.
    """
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=[""])
        table[["case", "region", "dice"]]
    except (OSError, ValueError, KeyError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"'{path}' is no table of scores ({error}). Evaluate again.") from None
    return table
