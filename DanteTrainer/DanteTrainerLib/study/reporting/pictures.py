"""Plots of sweeps (the paper's Fig. 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...whole_files import write_whole
from ..study_file import Sweep
from .statistics import mean_of
from .tables import Findings, shown

SWEEP_FILE = "sweep.png"


def draw_sweeps(found: Findings, path: Path) -> None:
    """Plot mean Dice over each sweep's values, one panel per region, with the bounds as horizontal lines.

    Non-numeric values are shown as categories, in their order.
    """
    from DanteSegmenterLib.pictures.figure import new_figure

    figure = new_figure(figsize=(4 * len(found.regions), 3.4), layout="constrained")
    panels = figure.subplots(1, len(found.regions), squeeze=False)[0]
    for panel, region in zip(panels, found.regions):
        for sweep in found.study.sweep:
            points = _points(found, sweep, region)
            if points:
                panel.plot(*zip(*points), marker="o", label=sweep.title)
        for name, style in ((found.study.baseline, ":"), (found.study.ceiling, "--")):
            bound = found.table(name, region)
            if not bound.empty:
                panel.axhline(mean_of(bound), linestyle=style, color="grey", label=name)
        panel.set(title=region, xlabel="value", ylabel="Dice")
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize="x-small")
    write_whole(path, lambda file: figure.savefig(file, dpi=110))


def _points(found: Findings, sweep: Sweep, region: str) -> list[tuple[Any, float]]:
    """(value, mean Dice) of the rows that have scores."""
    tables = [(value, found.table(entry.name, region)) for value, entry in sweep.points()]
    numbers = all(isinstance(value, float | int) and not isinstance(value, bool) for value, _ in tables)
    return [(value if numbers else shown(value), mean_of(table)) for value, table in tables if not table.empty]
