"""Write summary.csv: one line per case, of this run and of earlier ones in the same folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ..guard.atomic import write_atomically
from ..guard.busy_files import move
from ..guard.plain_text import csv_cell
from ..model_folder.spec import ModelSpec
from .case import Outcome
from .finished import free_name

BATCH_SUMMARY_FILE = "summary.csv"
FIRST_COLUMNS, LAST_COLUMNS = ["case", "state"], ["seconds", "model", "message"]


def write_summary(out: Path, outcomes: Sequence[Outcome], spec: ModelSpec) -> None:
    """Write the lines of these outcomes; lines of other cases are kept.

    Raises:
        ResourceError: it cannot be written.
    """
    path = out / BATCH_SUMMARY_FILE
    lines = {line["case"]: line for line in read_summary(path)}
    for outcome in outcomes:
        line = {column: csv_cell(text) for column, text in line_of(outcome, spec).items()}
        lines[line["case"]] = line
    numbers = list(dict.fromkeys(key for line in lines.values() for key in line if key not in _COMMON))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*FIRST_COLUMNS, *numbers, *LAST_COLUMNS], restval="")
    writer.writeheader()
    writer.writerows(lines[case] for case in sorted(lines))
    content = text.getvalue().encode("utf-8", "backslashreplace")
    # Atomically, since a GUI reads it meanwhile.
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


_COMMON = {*FIRST_COLUMNS, *LAST_COLUMNS}


def line_of(outcome: Outcome, spec: ModelSpec) -> dict[str, str]:
    """An outcome as texts by column."""
    report = outcome.report
    line = {"case": outcome.case, "state": outcome.state, "message": outcome.message, "seconds": ""}
    line["model"] = f"{report.model} {report.version}" if report else f"{spec.name} {spec.version}"
    line |= {f"{region.id}_{what}": "" for region in spec.regions for what in ("ml", "low_ml", "high_ml", "confidence")}
    if report is None:
        return line
    line["seconds"] = f"{report.total_seconds:.1f}"
    for found in report.findings:
        line[f"{found.region}_ml"] = f"{found.volume_ml:.4g}"
        line[f"{found.region}_low_ml"], line[f"{found.region}_high_ml"] = f"{found.low_ml:.4g}", f"{found.high_ml:.4g}"
        line[f"{found.region}_confidence"] = "" if found.confidence is None else f"{found.confidence:.4g}"
    return line


def read_summary(path: Path) -> list[dict[str, str]]:
    """Lines of an earlier summary; an invalid file is moved aside.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
        if all(line.get("case") and None not in line and None not in line.values() for line in lines):
            return lines
    except (csv.Error, UnicodeDecodeError):
        pass
    move(path, free_name(path.with_suffix(".unreadable.csv"), ".csv"))
    return []
