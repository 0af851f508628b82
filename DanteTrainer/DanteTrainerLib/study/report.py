"""What a study found: one CSV of all scores, tables with intervals and paired tests, pictures of sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..evaluation.evaluate import mirroring_said
from ..evaluation.metrics import bootstrap_mean, compare_paired
from ..evaluation.tables import read_table, write_table
from ..loop.history import HISTORY_FILE
from ..whole_files import write_text_whole, write_whole
from .run import Planned, Study, scores_file, sweep_name

RESULTS_FILE, TABLE_FILE, SWEEP_FILE = "results.csv", "results.md", "sweep.png"
SCORE_COLUMNS = ["method", "seed", "case", "region", "dice", "hd95_mm"]
FULL = " (all modalities)"
"""Suffix of the row of a method's full-modality network f_F."""


def collect(runs: Sequence[Planned], split: str, mirror: bool = False) -> pd.DataFrame:
    """The scores of all runs that have some: one line a method, seed, case and region."""
    parts = []
    for run in runs:
        for full in (False, True):
            path = scores_file(run, split, full, mirror)
            if path.is_file():
                rows = read_table(path)
                parts.append(rows.assign(method=run.entry.name + FULL * full, seed=run.seed)[SCORE_COLUMNS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=SCORE_COLUMNS)


def case_means(scores: pd.DataFrame, method: str, region: str, value: str, seeds: Sequence[int] = ()) -> pd.Series:
    """A method's value per case, averaged over seeds; a seed without a value is left out."""
    rows = scores[(scores.method == method) & (scores.region == region)]
    rows = rows[rows.seed.isin(seeds)] if seeds else rows
    return rows.groupby("case")[value].mean()


def score_table(scores: pd.DataFrame) -> str:
    """Markdown: mean Dice and HD95 per region with 95 % bootstrap intervals over cases."""
    regions = list(dict.fromkeys(scores.region))
    heads = [f"{region} {value}" for value in ("Dice", "HD95 mm") for region in regions]
    lines = [f"| method | seeds | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for method in dict.fromkeys(scores.method):
        cells = []
        for value, digits in (("dice", 3), ("hd95_mm", 1)):
            for region in regions:
                i = bootstrap_mean(case_means(scores, method, region, value).tolist())
                cells.append(f"{i.mean:.{digits}f} ({i.low:.{digits}f}-{i.high:.{digits}f}; {i.count})")
        seeds = scores[scores.method == method].seed.nunique()
        lines.append(f"| {method} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gap_table(scores: pd.DataFrame, study: Study) -> str:
    """Markdown: each method against the baseline on the same cases and seeds, and the share of the gap it closes.

    Share = (method - baseline) / (ceiling - baseline) of the mean Dice of `study.region`.
    """
    region = study.region or list(dict.fromkeys(scores.region))[-1]
    lines = [
        f"| method | seeds | {region} Dice minus {study.baseline} (95 %) | Wilcoxon p | share of the gap |",
        "|---|---|---|---|---|",
    ]
    gap = _gap(scores, study, region)
    seeds_of = {str(method): set(rows.seed) for method, rows in scores.groupby("method", sort=False)}
    for method, own in seeds_of.items():
        seeds = sorted(own & seeds_of.get(study.baseline, set()))
        if method == study.baseline or not seeds:
            continue
        first, second = (case_means(scores, m, region, "dice", seeds) for m in (study.baseline, method))
        first, second = first.align(second)
        result = compare_paired(first.tolist(), second.tolist())
        d = result.difference
        lines.append(
            f"| {method} | {len(seeds)} | {d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f}) | {result.wilcoxon_p:.3f} "
            f"| {_share(d.mean, gap)} |"
        )
    return "\n".join(lines)


def _gap(scores: pd.DataFrame, study: Study, region: str) -> float | None:
    """Mean Dice of the ceiling minus that of the baseline over the seeds they share; None where there are none."""
    bounds = (study.baseline, study.ceiling)
    common = sorted(set.intersection(*(set(scores[scores.method == name].seed) for name in bounds)))
    if not common:
        return None
    low, high = (case_means(scores, name, region, "dice", common).mean() for name in bounds)
    return high - low


def _share(difference: float, gap: float | None) -> str:
    if gap is None:
        return ""
    return f"{difference / gap:.0%}" if gap > 0 else "no gap"


def cost_table(runs: Sequence[Planned]) -> str:
    """Markdown: what each run's steps cost, from its log."""
    lines = ["| run | stage | steps | s per step | minutes |", "|---|---|---|---|---|"]
    for run in runs:
        path = run.folder / HISTORY_FILE
        if not path.is_file():
            continue
        for stage, rows in pd.read_csv(path).groupby("stage", sort=False):
            steps = int(rows.step.max())
            seconds = (rows.seconds_per_step * rows.step.diff().fillna(rows.step)).sum()
            lines.append(f"| {run.folder.name} | {stage} | {steps} | {seconds / steps:.2f} | {seconds / 60:.1f} |")
    return "\n".join(lines)


def write_report(study: Study, runs: Sequence[Planned], split: str, folder: Path) -> str:
    """Write results.csv, results.md and, for sweeps, sweep.png; returns the markdown."""
    scores = collect(runs, split, study.mirror)
    if scores.empty:
        return "nothing is scored yet"
    write_table(scores, folder / RESULTS_FILE)
    said = f"Scored on the split '{split}', {mirroring_said(study.mirror)}."
    text = "\n\n".join((said, score_table(scores), gap_table(scores, study), cost_table(runs)))
    write_text_whole(folder / TABLE_FILE, text + "\n")
    if study.sweep:
        draw_sweeps(study, scores, folder / SWEEP_FILE)
    return text


def draw_sweeps(study: Study, scores: pd.DataFrame, path: Path) -> None:
    """Mean Dice over a setting's values, one panel a region and one line a setting (DANTE, Fig. 4)."""
    from DanteSegmenterLib.pictures.figure import new_figure

    regions = list(dict.fromkeys(scores.region))
    figure = new_figure(figsize=(4 * len(regions), 3.4), layout="constrained")
    for panel, region in zip(figure.subplots(1, len(regions), squeeze=False)[0], regions):
        for sweep in study.sweep:
            means = {v: case_means(scores, sweep_name(sweep, v), region, "dice") for v in sweep.values}
            points = [(value, mean.mean()) for value, mean in means.items() if len(mean)]
            if points:
                panel.plot(*zip(*points), marker="o", label=sweep.key.split(".")[-1])
        for name, style in ((study.baseline, ":"), (study.ceiling, "--")):
            bound = case_means(scores, name, region, "dice")
            if len(bound):
                panel.axhline(bound.mean(), linestyle=style, color="grey", label=name)
        panel.set(title=region, xlabel="weight", ylabel="Dice")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="x-small")
    write_whole(path, lambda file: figure.savefig(file, dpi=110))
