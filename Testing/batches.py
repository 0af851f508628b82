"""Runs `batch` and reads its summary."""

import csv
import os

from DanteSegmenterLib.__main__ import main


def batch(folder: os.PathLike[str], model: os.PathLike[str], out: os.PathLike[str], *options: str) -> int:
    """Run `batch` on the CPU; returns its exit code."""
    return main(["batch", str(folder), "--model", str(model), "--out", str(out), "--device", "cpu", *options])


def summary(out):
    """The rows of summary.csv by case."""
    with open(out / "summary.csv", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}
