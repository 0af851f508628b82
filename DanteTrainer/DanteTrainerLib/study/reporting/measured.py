"""Report tables of measurements besides scores: training and inference cost, and contribution of deep levels."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from ...evaluation.cost import StageCost, training_cost
from ...evaluation.levels import LEVELS_FILE, mean_of_levels
from ...evaluation.tables import read_table
from ..measure import levels_folder, read_cost
from ..plan import Planned
from .tables import Findings, markdown


def training_costs(found: Findings) -> str:
    """Training cost per row and stage from the runs' logs: means over seeds, maximum memory."""
    rows = []
    for row, runs in _by_row(found):
        stages: dict[str, list[StageCost]] = {}
        for run in runs:
            for stage in training_cost(run.folder):
                stages.setdefault(stage.stage, []).append(stage)
        for stage_name, own in stages.items():
            seconds, steps = sum(s.seconds for s in own), sum(s.steps for s in own)
            memory = max((s.memory_mb for s in own if s.memory_mb is not None), default=None)
            dropped = [s.without_privileged for s in own if s.without_privileged is not None]
            counted = [
                str(len(own)),
                f"{steps / len(own):.0f}",
                f"{sum(dropped) / len(dropped):.0f}" if dropped else "-",
            ]
            took = [
                f"{seconds / steps:.2f}",
                f"{seconds / len(own) / 60:.1f}",
                "-" if memory is None else f"{memory:.0f}",
            ]
            rows.append([row, stage_name, *counted, *took])
    heads = ["steps", "of them with the privileged scan dropped", "s per step", "minutes a run", "peak MB"]
    return markdown(["method", "stage", "runs", *heads], rows)


def deployed_costs(found: Findings) -> str:
    """Inference cost of each row's deployed network, measured on this machine with one run per row."""
    rows = []
    for row, runs in _by_row(found):
        cost = next(filter(None, map(read_cost, runs)), None)
        if cost is None:
            continue
        seconds = "-" if cost.seconds is None else f"{cost.seconds:.2f}"
        memory = "-" if cost.memory_bytes is None else f"{cost.memory_bytes / 1e6:.0f}"
        size = f"{cost.parameters / 1e6:.2f}"
        rows.append([row, size, f"{cost.multiply_adds / 1e9:.1f}", memory, seconds, cost.device])
    heads = ["method", "parameters, millions", "multiply-adds a window, G", "peak MB", "s a case", "on"]
    return markdown(heads, rows)


def use_of_levels(found: Findings) -> str:
    """Mean Dice of the study's region with the deep levels of each deployed network replaced by their means."""
    means_of = {row: _levels(runs, found) for row, runs in _by_row(found)}
    tables = {row: means for row, means in means_of.items() if means is not None}
    deepest = max((int(means.index.max()) for means in tables.values()), default=0)
    rows = []
    for row, means in tables.items():
        cells = [f"{means.get(kept, math.nan):.3f}".replace("nan", "-") for kept in range(deepest, 0, -1)]
        rows.append([row, *cells])
    heads = [f"levels >= {kept + 1}" for kept in range(deepest - 1, 0, -1)]
    return markdown([f"{found.region} Dice with means in place of", "none", *heads], rows)


def _levels(runs: list[Planned], found: Findings) -> pd.Series | None:
    """Levels kept -> mean Dice over the cases of all seeds; None if not measured."""
    files = [levels_folder(run, found.split) / LEVELS_FILE for run in runs]
    parts = [table for table in map(read_table, filter(lambda file: file.is_file(), files)) if len(table)]
    return mean_of_levels(pd.concat(parts))[found.region] if parts else None


def _by_row(found: Findings) -> Iterator[tuple[str, list[Planned]]]:
    for name in dict.fromkeys(run.entry.name for run in found.runs):
        yield name, [run for run in found.runs if run.entry.name == name]
