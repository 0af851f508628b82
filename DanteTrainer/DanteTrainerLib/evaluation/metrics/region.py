"""Dice and HD95 of one region in one case, including empty masks.

| truth | prediction | Dice | HD95 | BraTS Dice | BraTS HD95 |
|-------|------------|------|------|------------|------------|
| some  | some       | 2|A and B| / (|A|+|B|) | mm | the same | the same |
| some  | empty      | 0    | NaN  | 0          | image diagonal |
| empty | some       | 0    | NaN  | 0          | image diagonal |
| empty | empty      | NaN  | NaN  | 1          | 0          |

NaN is excluded from means (nnU-Net's convention) and counted. The BraTS convention (until 2022) excludes nothing; on
its grid of 240x240x155 mm the diagonal is its penalty of 373.13 mm.

HD95 is the larger of the two directed 95th percentiles of the distances between surface voxels, in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class RegionScore:
    """Scores of one region in one case; see the module's table."""

    dice: float
    hd95_mm: float
    brats_dice: float
    brats_hd95_mm: float


def score_region(truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> RegionScore:
    """Compare two masks, bool [K, J, I]; `spacing_mm` along K, J, I."""
    overlap, empty = dice(truth, prediction), (not truth.any(), not prediction.any())
    if all(empty):
        return RegionScore(overlap, float("nan"), 1.0, 0.0)
    if any(empty):
        return RegionScore(overlap, float("nan"), 0.0, diagonal_mm(truth.shape, spacing_mm))
    distance = hd95_mm(truth, prediction, spacing_mm)
    return RegionScore(overlap, distance, overlap, distance)


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """2|A and B| / (|A|+|B|); NaN if both are empty."""
    size = int(truth.sum()) + int(prediction.sum())
    return 2 * int((truth & prediction).sum()) / size if size else float("nan")


def hd95_mm(truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Larger of the directed 95th percentiles of surface distances; both masks bool [K, J, I], not empty."""
    box = bounding_box(truth | prediction)  # cropping does not change the distances
    surfaces = [_surface(mask[box]) for mask in (truth, prediction)]
    directed = []
    for one, other in (surfaces, surfaces[::-1]):
        to_other = ndimage.distance_transform_edt(~other, sampling=spacing_mm)
        directed.append(np.percentile(to_other[one], 95))
    return float(max(directed))


def diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Length of an image's diagonal, the penalty of the BraTS conventions."""
    return float(np.linalg.norm(np.array(shape) * spacing_mm))


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty, plus `margin` voxels within the image."""
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(0, side.start - margin), side.stop + margin) for side in found)


def _surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of the mask with a face on the outside, which includes the array's border."""
    return mask & ~ndimage.binary_erosion(mask)
