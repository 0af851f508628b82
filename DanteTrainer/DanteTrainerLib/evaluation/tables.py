"""Tables as CSV, written whole, with any name that a case folder can have."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from DanteSegmenterLib.errors import InputError

from ..whole_files import write_whole


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Six digits, no index; names that are no UTF-8 byte by byte, as the system gave them.

    Raises:
        ResourceError: no space left or not writable; the table of before is kept.
    """

    def write(file: Path) -> None:
        table.to_csv(file, index=False, float_format="%.6g", encoding="utf-8", errors="surrogateescape")

    write_whole(path, write)


def read_table(path: Path) -> pd.DataFrame:
    """What `write_table` wrote; a case whose name is "NA" is one.

    Raises:
        InputError: it is no table.
    """
    try:
        return pd.read_csv(path, encoding_errors="surrogateescape", converters={"case": str, "region": str})
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"'{path}' is no table of scores ({error}). Evaluate again.") from None
