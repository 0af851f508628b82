"""Tables as CSV, written whole. Names are texts, also for a spreadsheet, whatever a case's folder is called."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.guard.plain_text import csv_cell

from ..whole_files import write_whole

NAMES = ("model", "method", "case", "region")
"""Columns that hold texts of others; they are compared as `csv_cell` shows them."""


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Six digits, no index.

    Raises:
        ResourceError: no space left or not writable; the table of before is kept.
    """
    texts = {name: table[name].map(csv_cell) for name in NAMES if name in table}
    write_whole(path, lambda file: table.assign(**texts).to_csv(file, index=False, float_format="%.6g"))


def read_table(path: Path) -> pd.DataFrame:
    """What `write_table` wrote; a case whose name is "NA" is one.

    Raises:
        InputError: it is no table of scores.
    """
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=[""])
        table[["case", "region", "dice"]]
    except (OSError, ValueError, KeyError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"'{path}' is no table of scores ({error}). Evaluate again.") from None
    return table
