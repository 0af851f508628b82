"""Means over cases with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean, its 95 % bootstrap interval, and the number of values."""

    mean: float
    low: float
    high: float
    count: int
    excluded: int


def bootstrap_mean(values: Sequence[float], resamples: int = 5000) -> Interval:
    """Mean of the values that are not NaN, with a seeded percentile bootstrap over cases."""
    finite = np.array([value for value in values if np.isfinite(value)])
    excluded = len(values) - len(finite)
    if not len(finite):
        return Interval(float("nan"), float("nan"), float("nan"), 0, excluded)
    low, high = _percentiles(finite, resamples)
    return Interval(float(finite.mean()), low, high, len(finite), excluded)


def _percentiles(values: np.ndarray, resamples: int) -> tuple[float, float]:
    draw: Callable[..., np.ndarray] = np.random.default_rng(0).choice
    means = draw(values, (resamples, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
