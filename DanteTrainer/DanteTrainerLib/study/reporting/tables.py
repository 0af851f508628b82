"""Report tables of scores: per region, relative to the baseline, and by swept value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...evaluation.metrics.intervals import Interval
from ...evaluation.metrics.whole_tumour import describe_dice_of_the_whole, dice_of_the_whole
from ...settings.tasks import TASKS
from ..plan import Planned
from ..study_file import Study, Sweep
from .statistics import Share, by_seed_and_case, compare, holm, interval_of, share_of

FULL = " (all modalities)"
"""Suffix of the row of a method's full-modality network f_F."""
CHOSEN_ON = "val"
BRATS_COLUMNS = ("brats_dice", "brats_hd95_mm")
LESION_COLUMNS = ("lesion_dice", "lesion_hd95_mm")
"""Columns of `cases.csv` with scores that leave out no case (`evaluation.metrics`)."""


@dataclass(frozen=True)
class Findings:
    """Data that a report is made from.

    Attributes:
        runs: all planned runs, finished or not.
        split: evaluated part of the split.
        scores: one line per row (column "method"), seed, case and region.
    """

    study: Study
    runs: Sequence[Planned]
    split: str
    scores: pd.DataFrame

    @property
    def regions(self) -> list[str]:
        return list(dict.fromkeys(self.scores.region))

    @property
    def region(self) -> str:
        """Region in which the gap is measured: the study's, or the last one."""
        return self.study.region or self.regions[-1]

    @property
    def rows(self) -> list[str]:
        """Rows with scores, in order."""
        return list(dict.fromkeys(self.scores.method))

    def table(self, row: str, region: str, value: str = "dice") -> pd.DataFrame:
        """Values [seeds, cases] of one row."""
        return by_seed_and_case(self.scores, row, region, value)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; "" without rows."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def score_table(found: Findings) -> str:
    """Mean Dice and HD95 per region with intervals over seeds and cases."""
    return _score_table(found, "dice", "hd95_mm")


def of_the_whole(found: Findings) -> str:
    """Dice that a method exceeds only if it distinguishes nested regions; "" if no regions are nested."""
    task = TASKS[found.runs[0].experiment.task] if found.runs else None
    if task is None or "truth_ml" not in found.scores or found.scores.truth_ml.isna().any():
        return ""
    return describe_dice_of_the_whole(dice_of_the_whole(found.scores, task.regions), task.regions[0].id)


def brats_table(found: Findings) -> str:
    """Scores by the BraTS convention, which leaves out no case; "" if no mask is empty in any case."""
    dice, hd95 = BRATS_COLUMNS
    empty = found.scores.hd95_mm.isna()
    if not empty.any() or not set(BRATS_COLUMNS) <= set(found.scores) or found.scores.loc[empty, dice].isna().any():
        return ""
    said = (
        "No case is left out: Dice 1 and a distance of 0 where the experts' mask and the network's are both empty, 0 "
        "and the image's diagonal where one of them is."
    )
    return f"{said}\n\n{_score_table(found, dice, hd95)}"


def lesion_table(found: Findings) -> str:
    """The same by lesions; "" where older runs were scored without."""
    if not set(LESION_COLUMNS) <= set(found.scores) or found.scores[list(LESION_COLUMNS)].isna().any(axis=None):
        return ""
    said = (
        "As BraTS 2023 ranks: the mean over a case's lesions and the parts of the network's mask that meet none, which "
        "count 0 and the image's diagonal, as a lesion does of which nothing is found."
    )
    return f"{said}\n\n{_score_table(found, *LESION_COLUMNS)}"


def _score_table(found: Findings, dice: str, hd95: str) -> str:
    heads = [f"{region} {value}" for value in ("Dice", "HD95 mm") for region in found.regions]
    rows = []
    for row in found.rows:
        cells = []
        for value, digits in ((dice, 3), (hd95, 1)):
            for region in found.regions:
                i = interval_of(found.table(row, region, value))
                cells.append(
                    f"{i.mean:.{digits}f} ({i.low:.{digits}f}-{i.high:.{digits}f}; {i.count})" if i.count else "-"
                )
        rows.append([row, str(found.scores[found.scores.method == row].seed.nunique()), *cells])
    return markdown(["method", "seeds", *heads], rows)


def gap_table(found: Findings) -> str:
    """Each row compared with the baseline on the same cases and seeds, and the share of the gap that it closes.

    Share = (row - baseline) / (ceiling - baseline) of the mean Dice of the study's region.
    """
    region, baseline = found.region, found.study.baseline
    compared = {row: compare(found.table(baseline, region), found.table(row, region)) for row in found.rows}
    kept = {row: paired for row, paired in compared.items() if paired is not None and row != baseline}
    corrected = holm([paired.wilcoxon_p for paired in kept.values()])
    several = len(kept) > 1
    rows = []
    for (row, paired), p in zip(kept.items(), corrected):
        by_seed = ", ".join(f"{mean:+.3f}" for mean in paired.by_seed.values())
        cells = [row, str(len(paired.by_seed)), _difference(paired.difference), by_seed, p_value(paired.wilcoxon_p)]
        rows.append([*cells, *([p_value(p)] if several else []), share_cell(gap_share(found, row))])
    heads = ["method", "seeds", f"{region} Dice minus {baseline} (95 %)", "seed by seed", "Wilcoxon p"]
    return markdown([*heads, *(["Holm p"] if several else []), "share of the gap (95 %)"], rows)


def _difference(i: Interval) -> str:
    return f"{i.mean:+.3f} ({i.low:+.3f} to {i.high:+.3f})"


def p_value(p: float) -> str:
    """Three digits; "-" if no case differed."""
    if math.isnan(p):
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def gap_share(found: Findings, row: str) -> Share | None:
    """Share of the gap between baseline and ceiling that a row closes; None if the gap is not above zero."""
    low, own, high = (found.table(name, found.region) for name in (found.study.baseline, row, found.study.ceiling))
    paired, gap = compare(low, own), compare(low, high)
    return None if paired is None or gap is None else share_of(paired.table, gap.table)


def share_cell(share: Share | None) -> str:
    """Per cent of the gap, with an interval if the gap is significant."""
    if share is None:
        return "no gap"
    if share.interval is None:
        return f"{share.value:.0%} (the gap may be none)"
    return f"{share.value:.0%} ({share.interval[0]:.0%} to {share.interval[1]:.0%})"


def selection_tables(found: Findings) -> str:
    """For each sweep, each value's score on whole validation cases and the best value; "" on another split."""
    if found.split != CHOSEN_ON:
        return ""
    return "\n\n".join(filter(None, (_selection(found, sweep) for sweep in found.study.sweep)))


def _selection(found: Findings, sweep: Sweep) -> str:
    baseline = found.table(found.study.baseline, found.region)
    intervals, rows = {}, []
    for value, entry in sweep.points():
        scores = found.table(entry.name, found.region)
        if scores.empty:
            continue
        i, paired = interval_of(scores), compare(baseline, scores)
        intervals[shown(value)] = i.mean
        against = "-" if paired is None else _difference(paired.difference)
        rows.append([shown(value), str(len(scores)), f"{i.mean:.3f} ({i.low:.3f}-{i.high:.3f}; {i.count})", against])
    if not rows:
        return ""
    best = max(intervals, key=lambda value: (not math.isnan(intervals[value]), intervals[value]))
    of = len(sweep.values) or len(sweep.factors)
    verdict = f"Best of {len(rows)} of {of} values: **{best}**"
    verdict += f"; the paper chose {shown(sweep.paper_chose)}." if sweep.paper_chose is not None else "."
    heads = [sweep.title, "seeds", f"{found.region} Dice (95 %; cases)", f"minus {found.study.baseline} (95 %)"]
    return f"{markdown(heads, rows)}\n\n{verdict}"


def shown(value: Any) -> str:
    """Format a swept value for readers."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
