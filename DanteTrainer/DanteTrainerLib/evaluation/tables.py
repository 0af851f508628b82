"""Tables as CSV, written whole, with any name that a case folder can have."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from DanteSegmenterLib.errors import InputError

from ..whole_files import Writer, write_whole


def table_writer(table: pd.DataFrame) -> Writer:
    """Six digits, no index; names that are no UTF-8 byte by byte, as the system gave them."""

    def write(file: Path) -> None:
        table.to_csv(file, index=False, float_format="%.6g", encoding="utf-8", errors="surrogateescape")

    return write


def write_table(table: pd.DataFrame, path: Path) -> None:
    """
    Raises:
        ResourceError: no space left or not writable; the table of before is kept.
    """
    write_whole(path, table_writer(table))


def read_table(path: Path) -> pd.DataFrame:
    """What `write_table` wrote; a case whose name is "NA" is one.

    Raises:
        InputError: it is no table.
    """
    try:
        # pandas' own reader of CSV in C takes no name that is not UTF-8; nothing but an empty cell is no value.
        table = pd.read_csv(
            path, dtype={"case": str, "region": str}, engine="python", encoding_errors="surrogateescape",
            keep_default_na=False, na_values=[""],
        )  # fmt: skip
        table[["case", "region"]]
    except (OSError, ValueError, KeyError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"'{path}' is no table of scores ({error}). Evaluate again.") from None
    return table
