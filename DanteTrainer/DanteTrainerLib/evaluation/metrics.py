"""Dice and HD95 of one region in one case, with the empty cases tabled.

| truth | prediction | Dice | HD95 | BraTS Dice | BraTS HD95 |
|-------|------------|------|------|------------|------------|
| some  | some       | 2|A and B| / (|A|+|B|) | mm | the same | the same |
| some  | empty      | 0    | NaN  | 0          | image diagonal |
| empty | some       | 0    | NaN  | 0          | image diagonal |
| empty | empty      | NaN  | NaN  | 1          | 0          |

NaN is left out of means (nnU-Net's convention) and counted. The BraTS convention (until 2022) never leaves out; on its
grid of 240x240x155 mm the diagonal is its penalty of 373.13 mm.

HD95 is the larger of the two directed 95th percentiles of the distances between surface voxels, in mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from DanteSegmenterLib.model_folder import Region


@dataclass(frozen=True)
class RegionScore:
    """Scores of one region in one case; see the module's table."""

    dice: float
    hd95_mm: float
    brats_dice: float
    brats_hd95_mm: float


def score_region(truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> RegionScore:
    """Compare two masks bool [K, J, I]; `spacing_mm` along K, J, I."""
    overlap, empty = dice(truth, prediction), (not truth.any(), not prediction.any())
    if all(empty):
        return RegionScore(overlap, float("nan"), 1.0, 0.0)
    if any(empty):
        diagonal = float(np.linalg.norm(np.array(truth.shape) * spacing_mm))
        return RegionScore(overlap, float("nan"), 0.0, diagonal)
    distance = hd95_mm(truth, prediction, spacing_mm)
    return RegionScore(overlap, distance, overlap, distance)


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """2|A and B| / (|A|+|B|); NaN if both are empty."""
    size = int(truth.sum()) + int(prediction.sum())
    return 2 * int((truth & prediction).sum()) / size if size else float("nan")


def hd95_mm(truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Larger of the directed 95th percentiles of surface distances; both masks bool [K, J, I] and not empty."""
    box = _box(truth | prediction)  # distances do not depend on what lies around
    surfaces = [_surface(mask[box]) for mask in (truth, prediction)]
    directed = []
    for one, other in (surfaces, surfaces[::-1]):
        to_other = ndimage.distance_transform_edt(~other, sampling=spacing_mm)
        directed.append(np.percentile(to_other[one], 95))
    return float(max(directed))


def dice_of_the_whole(rows: pd.DataFrame, regions: Sequence[Region]) -> dict[str, float]:
    """Mean Dice that the experts' mask of the outermost region has, where it is taken for a region that lies in it.

    So much has a network that knows where the tumour is, and nothing of which part of it enhances.

    Args:
        rows: columns case, region and truth_ml, as in `cases.csv`.
        regions: of the task, the outermost first.

    Returns:
        by id of each region within the first; {} where none lies in it.
    """
    outer = regions[0]
    truth = rows.drop_duplicates(["case", "region"]).pivot(index="case", columns="region", values="truth_ml")
    inner = [region.id for region in regions if set(region.labels) < set(outer.labels)]
    # Of masks that nest the overlap is the smaller one.
    return {name: float((2 * truth[name] / (truth[name] + truth[outer.id])).mean()) for name in inner}


def the_whole_said(dice: dict[str, float], outer: str) -> str:
    """A sentence; "" for {}."""
    if not dice:
        return ""
    named = ", ".join(f"{value:.3f} of {name}" for name, value in dice.items())
    return (
        f"The experts' own mask of {outer} has a Dice of {named}: so much can a network have that knows where {outer} "
        "is, and nothing of what lies in it."
    )


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def _surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of the mask with a face towards outside, which all around the array is."""
    return mask & ~ndimage.binary_erosion(mask)


@dataclass(frozen=True)
class Interval:
    """A mean, its 95 % bootstrap interval, and how many values it is of."""

    mean: float
    low: float
    high: float
    count: int
    excluded: int


def bootstrap_mean(values: Sequence[float], resamples: int = 5000) -> Interval:
    """Mean over the values that are not NaN; percentile bootstrap over cases, seeded."""
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
