"""Compute label map, nested masks, volumes and confidence from probabilities. numpy only, no torch."""

from __future__ import annotations

import math

import numpy as np

from ..model_folder.spec import ModelSpec, Pathway, Region, Scaling
from ..volume import Volume
from .report import Finding

THRESHOLD = 0.5
AS_IT_IS = Scaling()
# Smallest distance from 0 and 1 that float32 resolves.
NEARLY_0 = 1e-6
# Brains with fluid have 1.0 to 2.0 L; a whole head has 5 L and more non-zero voxels.
WHOLE_HEAD_ML = 2500.0
# Report overconfidence if mean probability exceeds precision by more than this.
TOO_SURE = 0.1
# Precision below which a prediction is more often wrong than right.
MOSTLY_WRONG = 0.5


def label_map_of(probabilities: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Probabilities [R, K, J, I] -> uint8 label map [K, J, I].

    Overlapping regions are written in the model's order, later ones over earlier ones (nnU-Net's
    `regions_class_order`), so they are nested. Exclusive labels: the most probable one, if it is more probable than
    background.
    """
    values = np.array([region.label_value for region in spec.regions], np.uint8)
    result = np.zeros(probabilities.shape[1:], np.uint8)
    if spec.output == "regions":
        for value, probability in zip(values, probabilities):
            result[probability > THRESHOLD] = value
        return result
    best = probabilities.argmax(axis=0)
    background = 1 - probabilities.sum(axis=0)
    found = probabilities.max(axis=0) > background
    result[found] = values[best[found]]
    return result


def mask_of(label_map: np.ndarray, region: Region, regions: tuple[Region, ...]) -> np.ndarray:
    """A region's mask: its own label value and those of the regions inside it."""
    inside = [other.label_value for other in regions if set(other.labels) <= set(region.labels)]
    mask = label_map == inside[0]
    for value in inside[1:]:
        mask |= label_map == value
    return mask


def nested_probability(probabilities: np.ndarray, region: Region, spec: ModelSpec) -> np.ndarray:
    """Probability [K, J, I] of a region including those inside it, matching `mask_of`.

    Overlapping regions have separate outputs, of which the maximum counts; exclusive labels add up. Values above
    `THRESHOLD` are the region's mask (for labels only if there are at most two).
    """
    inside = [n for n, other in enumerate(spec.regions) if set(other.labels) <= set(region.labels)]
    return probabilities[inside].max(axis=0) if spec.output == "regions" else probabilities[inside].sum(axis=0)


def findings_of(
    probabilities: np.ndarray, label_map: np.ndarray, spec: ModelSpec, pathway: Pathway, voxel_ml: float
) -> tuple[Finding, ...]:
    """One finding per region from a label map [K, J, I] and its raw probabilities [R, K, J, I]."""
    findings = []
    for region in spec.regions:
        mask, scaling = mask_of(label_map, region, spec.regions), pathway.scaling_of(region.id)
        probability = nested_probability(probabilities, region, spec)
        low, high = volume_range_ml(probability, voxel_ml, scaling.range_margin)
        volume = float(np.count_nonzero(mask)) * voxel_ml
        # Among many exclusive labels, the most probable one may be less probable than the lenient threshold.
        low, high = min(low, volume), max(high, volume)
        findings.append(Finding(region.id, volume, low, high, confidence_of(probability, mask, scaling)))
    return tuple(findings)


def confidence_of(probability: np.ndarray, mask: np.ndarray, scaling: Scaling = AS_IT_IS) -> float | None:
    """Mean scaled probability inside a mask, from raw ones; None if the mask is empty."""
    return float(shown(probability[mask], scaling).mean()) if mask.any() else None


def shown(probability: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Scale raw probabilities for display; 0 (not computed) stays 0."""
    if (scaling.temperature, scaling.offset) == (1.0, 0.0):
        return probability
    p = np.clip(probability, NEARLY_0, 1 - NEARLY_0)
    logit = (np.log(p) - np.log1p(-p)) / scaling.temperature + scaling.offset
    return np.where(probability > 0, 1 / (1 + np.exp(-logit)), 0).astype(probability.dtype)


def all_shown(probabilities: np.ndarray, spec: ModelSpec, pathway: Pathway) -> np.ndarray:
    """`shown` for each region of [R, K, J, I]."""
    return np.stack([shown(p, pathway.scaling_of(region.id)) for region, p in zip(spec.regions, probabilities)])


def volume_range_ml(
    probability: np.ndarray, voxel_ml: float, margin: float = AS_IT_IS.range_margin
) -> tuple[float, float]:
    """Volumes in mL of voxels with raw logits above `margin` (certain only) and above -`margin` (doubtful too)."""
    thresholds = (1 / (1 + math.exp(-margin)), 1 / (1 + math.exp(margin)))
    low, high = (float(np.count_nonzero(probability > threshold)) * voxel_ml for threshold in thresholds)
    return low, high


def cautions(spec: ModelSpec, pathway: Pathway) -> tuple[str, ...]:
    """Warnings about regions with mostly wrong predictions on test cases, and about overconfident ones."""
    known = [(region.name, pathway.calibration.get(region.id)) for region in spec.regions]
    measured = [(name, c) for name, c in known if c is not None]
    wrong = [
        f"{name} is unreliable: on {c.cases} test cases {c.precision:.0%} of what this model marked was right."
        for name, c in measured
        if c.precision < MOSTLY_WRONG
    ]
    sure = [(name, c) for name, c in measured if c.confidence - c.precision > TOO_SURE]
    if not sure:
        return tuple(wrong)
    parts = ", ".join(f"{name} {c.confidence:.0%} sure and {c.precision:.0%} right" for name, c in sure)
    return (
        *wrong,
        f"Take the probabilities with care: on {sure[0][1].cases} test cases this model was too sure ({parts}).",
    )


def shows_whole_head(volume: Volume) -> bool:
    """Whether a volume that should show a skull-stripped brain has far more non-zero voxels."""
    return float(np.count_nonzero(volume.array)) * volume.voxel_volume_ml > WHOLE_HEAD_ML
