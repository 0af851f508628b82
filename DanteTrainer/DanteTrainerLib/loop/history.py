"""The training log: rows of a CSV file, and its curves as a picture."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from ..whole_files import write_whole

HISTORY_FILE, CURVES_FILE = "log.csv", "curves.png"
MEMORY_COLUMN = "peak_memory_mb"
# For methods that drop the privileged modality: the share of samples without it.
WITHOUT_PRIVILEGED = "without_privileged_share"
DROPPED_COLUMN = f"log_{WITHOUT_PRIVILEGED}"

# Points of a curve: more than its panel has pixels. The training waits for the drawing: four seconds with all points of
# two stages of 125,000 steps, two with these.
MOST_POINTS = 1000

Row = dict[str, Any]


def write_history(folder: Path, rows: list[Row]) -> None:
    """Write all rows to `log.csv`; columns are the union of the rows' keys, in order of appearance.

    Raises:
        ResourceError: no space left or not writable; the existing log is untouched.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def write(path: Path) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)

    write_whole(folder / HISTORY_FILE, write, sync=False)


def sum_over_steps(rows: list[Row], column: str) -> float:
    """Sum over all logged steps of a quantity whose rows are means over steps; rows without it count as 0.

    For `log_without_privileged_share` it is the number of steps without the privileged modality.
    """
    total, before = 0.0, (None, 0)
    for row in rows:
        first = before[1] if before[0] == row["stage"] else 0
        total += row.get(column, 0.0) * (row["step"] - first)
        before = (row["stage"], row["step"])
    return total


def seconds_trained(rows: list[Row]) -> float:
    """Total duration of all logged steps in seconds, without pauses between them."""
    return sum_over_steps(rows, "seconds_per_step")


def draw_history(folder: Path, rows: list[Row]) -> None:
    """Plot losses, validation scores and logged quantities over the steps as `curves.png`, one column per stage."""
    from DanteSegmenterLib.pictures.figure import new_figure

    stages = list(dict.fromkeys(row["stage"] for row in rows))
    keys = dict.fromkeys(key for row in rows for key in row)
    quantities = dict.fromkeys(key.split("_")[1] for key in keys if key.startswith("log_"))
    others = dict.fromkeys(key.removeprefix("also_").rpartition("_")[0] for key in keys if key.startswith("also_"))
    groups = {"loss": "loss", "validation Dice": "dice_"}
    groups |= {f"validation Dice of {name}": f"also_{name}_" for name in others}
    groups |= {name: f"log_{name}_" for name in quantities}
    used = {title: p for title, p in groups.items() if any(key.startswith(p) for key in keys)}
    if not stages or not used:
        return
    figure = new_figure(figsize=(6.5 * len(stages), 3.2 * len(used)))
    axes = figure.subplots(len(used), len(stages), squeeze=False, gridspec_kw=_margins(len(used), len(stages)))
    for column, stage in enumerate(stages):
        of_stage = [row for row in rows if row["stage"] == stage]
        for panel, (title, prefix) in zip(axes[:, column], used.items()):
            for key in dict.fromkeys(key for row in of_stage for key in row if key.startswith(prefix)):
                points = curve(of_stage, key)
                marker = "o" if len(points) == 1 else ""  # one point makes no line
                panel.plot(*zip(*points), label=key.removeprefix("log_"), linewidth=1, marker=marker)
            panel.set(xlabel="step", ylabel=title, title=stage if title == "loss" else "")
            panel.grid(alpha=0.3)
            if panel.lines:
                panel.legend(fontsize="x-small", ncols=2)
            else:  # this stage does not log this quantity
                panel.set_visible(False)
    write_whole(folder / CURVES_FILE, lambda path: figure.savefig(path, dpi=90), sync=False)


def curve(rows: list[Row], key: str) -> list[tuple[int, float]]:
    """(step, value) of the rows that have a value, at most `MOST_POINTS` at equal intervals; the last one is kept."""
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return points[:: -math.ceil(len(points) / MOST_POINTS)][::-1] if points else []


def _margins(rows: int, columns: int) -> dict[str, float]:
    """Fixed margins with room for the labels; a layout that measures the text takes as long as the drawing."""
    left, right, below, above = 0.85, 0.15, 0.6, 0.3  # inches per panel
    width, height = 6.5, 3.2
    inner = width - left - right, height - below - above
    return {
        "left": left / (width * columns),
        "right": 1 - right / (width * columns),
        "bottom": below / (height * rows),
        "top": 1 - above / (height * rows),
        "wspace": (left + right) / inner[0],
        "hspace": (below + above) / inner[1],
    }
