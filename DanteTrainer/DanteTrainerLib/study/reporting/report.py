"""Write a study's results: a CSV of all scores, a report in sections, and plots of sweeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from ...evaluation.tables import read_table, write_table
from ...whole_files import write_text_whole
from ..plan import Planned
from ..run import scores_file
from ..study_file import Study
from .measured import deployed_costs, training_costs, use_of_levels
from .paper import beside_paper, conditions, remarks
from .pictures import SWEEP_FILE, draw_sweeps
from .tables import (
    BRATS_COLUMNS,
    FULL,
    LESION_COLUMNS,
    Findings,
    brats_table,
    gap_table,
    lesion_table,
    of_the_whole,
    score_table,
    selection_tables,
)

RESULTS_FILE, TABLE_FILE = "results.csv", "results.md"
SCORE_COLUMNS = ["method", "seed", "case", "region", "dice", "hd95_mm", *BRATS_COLUMNS, *LESION_COLUMNS, "truth_ml"]
SECTIONS: dict[str, Callable[[Findings], str]] = {
    "Conditions": conditions,
    "Scores": score_table,
    "What the whole tumour alone would have": of_the_whole,
    "Scores by the BraTS convention": brats_table,
    "Scores by lesion": lesion_table,
    "Against the baseline": gap_table,
    "Values chosen on validation cases": selection_tables,
    "Beside the paper": beside_paper,
    "What the deep levels do": use_of_levels,
    "Cost of training": training_costs,
    "Cost of use": deployed_costs,
    "Remarks": remarks,
}
"""Section title -> function that writes its markdown; "" omits the section."""


def collect(runs: Sequence[Planned], split: str, mirror: bool = False) -> pd.DataFrame:
    """Scores of all evaluated runs, one line per method, seed, case and region."""
    parts = []
    for run in runs:
        for full in (False, True):
            path = scores_file(run, split, full, mirror)
            if path.is_file():
                rows = read_table(path)
                named = rows.assign(method=run.entry.name + FULL * full, seed=run.seed)
                parts.append(named.reindex(columns=SCORE_COLUMNS))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=SCORE_COLUMNS)


def write_report(study: Study, runs: Sequence[Planned], split: str, folder: Path) -> str:
    """Write results.csv, results.md and, for sweeps, sweep.png; returns the markdown."""
    scores = collect(runs, split, study.mirror)
    if scores.empty:
        return "nothing is scored yet"
    found = Findings(study, runs, split, scores)
    write_table(scores, folder / RESULTS_FILE)
    sections = {title: section(found) for title, section in SECTIONS.items()}
    text = "\n\n".join(f"## {title}\n\n{section}" for title, section in sections.items() if section)
    write_text_whole(folder / TABLE_FILE, text + "\n")
    if study.sweep:
        draw_sweeps(found, folder / SWEEP_FILE)
    return text
