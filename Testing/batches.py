"""Many cases with one command, and what it said of them."""

import csv
import os

from DanteSegmenterLib.__main__ import main


def batch(folder: os.PathLike[str], model: os.PathLike[str], out: os.PathLike[str], *options: str) -> int:
    """`batch` on the processor; its exit code."""
    return main(["batch", str(folder), "--model", str(model), "--out", str(out), "--device", "cpu", *options])


def summary(out):
    """Its summary.csv: rows by case."""
    with open(out / "summary.csv", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}
