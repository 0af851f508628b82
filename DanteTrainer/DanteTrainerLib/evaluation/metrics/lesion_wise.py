"""Lesion-wise Dice and HD95 of one region in one case, as in the BraTS 2023 ranking for gliomas.

Nearby lesions of the experts' mask are merged: the mask is dilated three times (18 neighbours), and its connected
components (26 neighbours) are the lesions. The components of the prediction that meet a dilated lesion together form
its finding. Each lesion larger than 50 mm^3 scores the Dice and HD95 of its finding, or 0 and a penalty without one; a
component of the prediction that meets no lesion, however small, counts as another one with 0 and the penalty. The
score is the mean of these; 1 and 0 mm if there is nothing to find and nothing is found.

The penalty is the image's diagonal, rounded up: 374 mm on the challenge's grid of 240x240x155 mm. HD95 is
`region.hd95_mm`; the challenge weights surfaces by their area.

Source: the challenge's evaluation code, github.com/rachitsaluja/BraTS-2023-Metrics; for grids other than 1 mm, which
it does not cover, the dilation is by the whole number of voxels closest to 3 mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .region import bounding_box, diagonal_mm, dice, hd95_mm

REACH_MM = 3.0
"""Distance by which a lesion is dilated."""
SMALLEST_MM3 = 50.0
"""Lesions up to this volume are ignored: neither missed nor false positives."""
_FACES_AND_EDGES, _ALL_26 = ndimage.generate_binary_structure(3, 2), ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True)
class LesionScore:
    """Means over the lesions of one region in one case, and the components of the prediction that meet none."""

    dice: float
    hd95_mm: float


def score_lesions(truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> LesionScore:
    """Compare two masks bool [K, J, I]; `spacing_mm` along K, J, I."""
    either = truth | prediction
    if not either.any():
        return LesionScore(1.0, 0.0)
    penalty = float(math.ceil(diagonal_mm(truth.shape, spacing_mm)))
    steps = max(1, round(REACH_MM / min(spacing_mm)))
    box = bounding_box(either, steps)
    truth, prediction = truth[box], prediction[box]
    reached = ndimage.label(ndimage.binary_dilation(truth, _FACES_AND_EDGES, steps), _ALL_26)[0]
    parts = ndimage.label(prediction, _ALL_26)[0]
    lesions, findings = np.where(truth, reached, 0), _findings(reached, parts)
    scores = []
    for lesion, own_parts in findings.items():
        own = lesions == lesion
        if own.sum() * math.prod(spacing_mm) <= SMALLEST_MM3:
            continue
        found = np.isin(parts, own_parts)
        scores.append((dice(own, found), hd95_mm(own, found, spacing_mm) if own_parts else penalty))
    met = {part for own_parts in findings.values() for part in own_parts}
    scores += [(0.0, penalty)] * (parts.max() - len(met))
    return LesionScore(*np.mean(scores, axis=0).tolist()) if scores else LesionScore(1.0, 0.0)


def _findings(reached: np.ndarray, parts: np.ndarray) -> dict[int, list[int]]:
    """The components of the prediction that meet each dilated lesion."""
    both = (reached > 0) & (parts > 0)
    findings: dict[int, list[int]] = {lesion: [] for lesion in range(1, reached.max() + 1)}
    for lesion, part in np.unique(np.stack([reached[both], parts[both]]), axis=1).T.tolist():
        findings[lesion].append(part)
    return findings
