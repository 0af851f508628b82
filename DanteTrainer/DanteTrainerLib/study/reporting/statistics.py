"""Means, differences and gap shares with bootstrap intervals over seeds *and* cases, and corrected tests.

Scores are a table [seeds, cases], NaN where a case has no value. A mean is taken over seeds first, then over cases. The
bootstrap draws seeds and cases independently, each with replacement, and uses the same cases for every seed, i.e. it
resamples the rows and columns of the table. With one seed it is a bootstrap over cases alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

from ...evaluation.metrics.intervals import Interval

RESAMPLES = 5000


def by_seed_and_case(scores: pd.DataFrame, row: str, region: str, value: str) -> pd.DataFrame:
    """One row's values in one region as a table [seeds, cases], with labels."""
    own = scores[(scores.method == row) & (scores.region == region)]
    return own.pivot(index="seed", columns="case", values=value).astype(float)


def mean_of(table: pd.DataFrame) -> float:
    """Mean over cases of each case's mean over seeds; NaN if there are no values."""
    return float(table.mean(axis=0).mean())


def interval_of(table: pd.DataFrame) -> Interval:
    """Mean over seeds and cases with its 95 % percentile bootstrap interval; counts cases without a value."""
    kept = table.dropna(axis=1, how="all")
    excluded = table.shape[1] - kept.shape[1]
    if kept.empty:
        return Interval(float("nan"), float("nan"), float("nan"), 0, excluded)
    means = _resampled(kept, _case_draws(kept.shape[1]), _seed_draws(kept.shape[0]))
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return Interval(mean_of(kept), float(low), float(high), kept.shape[1], excluded)


@dataclass(frozen=True)
class Paired:
    """Paired difference, second minus first, on the same cases and seeds.

    Attributes:
        difference: mean and interval over seeds and cases.
        by_seed: seed -> mean difference.
        wilcoxon_p: signed-rank test over the cases' means over seeds; NaN if no case differs.
        table: the differences [seeds, cases].
    """

    difference: Interval
    by_seed: dict[int, float]
    wilcoxon_p: float
    table: pd.DataFrame


def compare(first: pd.DataFrame, second: pd.DataFrame) -> Paired | None:
    """Compare two rows' tables on their common seeds and cases; None if they have no common value."""
    seeds = first.index.intersection(second.index)
    cases = first.columns.intersection(second.columns)
    table = second.loc[seeds, cases] - first.loc[seeds, cases]
    if not table.notna().any(axis=None):
        return None
    cases_means = table.mean(axis=0).dropna()
    p = float(stats.wilcoxon(cases_means).pvalue) if (cases_means != 0).any() else float("nan")
    by_seed = {int(seed): float(mean) for seed, mean in table.mean(axis=1).items()}
    return Paired(interval_of(table), by_seed, p, table)


@dataclass(frozen=True)
class Share:
    """A difference as a share of a gap; `interval` is None if the gap's own interval includes zero."""

    value: float
    interval: tuple[float, float] | None


def share_of(difference: pd.DataFrame, gap: pd.DataFrame) -> Share | None:
    """Mean difference / mean gap, resampled jointly: the same cases, and the same seeds if both tables have the same.

    Args:
        difference, gap: [seeds, cases], each relative to the same baseline.

    Returns:
        None if the mean gap is not above zero.
    """
    cases = difference.columns.union(gap.columns)
    upper, lower = difference.reindex(columns=cases), gap.reindex(columns=cases)
    if not mean_of(lower) > 0:
        return None
    drawn = _case_draws(len(cases))
    same_seeds = list(upper.index) == list(lower.index)
    parts = _resampled(upper, drawn, _seed_draws(len(upper)))
    gaps = _resampled(lower, drawn, _seed_draws(len(lower), stream=1 if same_seeds else 2))
    interval = None
    if np.nanpercentile(gaps, 2.5) > 0:
        with np.errstate(divide="ignore"):
            low, high = np.nanpercentile(parts / gaps, [2.5, 97.5])
        interval = (float(low), float(high))
    return Share(mean_of(upper) / mean_of(lower), interval)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for multiple tests; NaN means no test and is kept.

    The smallest of m p-values is multiplied by m, the next by m - 1, etc.; results are monotonic and at most 1.
    """
    corrected = [float("nan")] * len(p_values)
    order = sorted((n for n, p in enumerate(p_values) if np.isfinite(p)), key=lambda n: p_values[n])
    before = 0.0
    for rank, n in enumerate(order):
        before = max(before, min(1.0, (len(order) - rank) * p_values[n]))
        corrected[n] = before
    return corrected


def _resampled(table: pd.DataFrame, cases: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Means of resampled tables, [R]; `cases` [R, C] and `seeds` [R, S] count how often each was drawn."""
    values = table.to_numpy()
    there = np.isfinite(values)
    weights = seeds @ there
    with np.errstate(invalid="ignore"):
        means = np.nan_to_num(seeds @ np.where(there, values, 0.0) / weights)
        counted = cases * (weights > 0)
        return np.asarray((counted * means).sum(axis=1) / counted.sum(axis=1))


@lru_cache(maxsize=8)
def _case_draws(count: int) -> np.ndarray:
    return _draws(count, stream=0)


@lru_cache(maxsize=8)
def _seed_draws(count: int, stream: int = 1) -> np.ndarray:
    return _draws(count, stream)


def _draws(count: int, stream: int) -> np.ndarray:
    """How often each of `count` items is drawn, float64 [R, count]; deterministic."""
    drawn = np.random.default_rng(stream).integers(0, count, (RESAMPLES, count))
    places = drawn + count * np.arange(RESAMPLES)[:, None]
    return np.bincount(places.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count).astype(float)
