"""Probabilities -> label map -> nested masks, their volumes and how sure they are. numpy alone, no torch."""

from __future__ import annotations

import numpy as np

from ..model_folder.spec import ModelSpec, Pathway, Region
from ..volume import Volume
from .report import Finding

THRESHOLD = 0.5
# A volume range is what the region would measure if only sure voxels counted, and if doubtful ones did too.
RANGE_THRESHOLDS = (0.75, 0.25)
# Brains with their fluid fill 1.0 to 2.0 L; a head as it comes from the scanner has 5 L and more that are not 0.
WHOLE_HEAD_ML = 2500.0
# Mean probability over the share of right voxels: more than this is worth a word.
TOO_SURE = 0.1


def label_map_of(probabilities: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Probabilities [R, K, J, I] -> uint8 label map [K, J, I].

    Overlapping regions are written in the model's order, later over earlier (nnU-Net's `regions_class_order`), which
    nests them. Labels that exclude each other go to the most probable, if it is more probable than background.
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
    """A region's mask: its own label value and those of the regions that lie within it."""
    inside = [other.label_value for other in regions if set(other.labels) <= set(region.labels)]
    mask = label_map == inside[0]
    for value in inside[1:]:
        mask |= label_map == value
    return mask


def nested_probability(probabilities: np.ndarray, region: Region, spec: ModelSpec) -> np.ndarray:
    """Probability [K, J, I] of a region with those that lie within it, as `mask_of` unites their masks.

    Overlapping regions have each an output of their own, and the surest of them decides; labels that exclude each
    other add up. Above `THRESHOLD` it is the region's mask (of labels: where there are no more than two).
    """
    inside = [n for n, other in enumerate(spec.regions) if set(other.labels) <= set(region.labels)]
    return probabilities[inside].max(axis=0) if spec.output == "regions" else probabilities[inside].sum(axis=0)


def findings_of(
    probabilities: np.ndarray, label_map: np.ndarray, spec: ModelSpec, voxel_ml: float
) -> tuple[Finding, ...]:
    """What is in a label map [K, J, I] that was made of probabilities [R, K, J, I]: one finding a region."""
    findings = []
    for region in spec.regions:
        mask = mask_of(label_map, region, spec.regions)
        probability = nested_probability(probabilities, region, spec)
        low, high = volume_range_ml(probability, voxel_ml)
        volume = float(np.count_nonzero(mask)) * voxel_ml
        findings.append(Finding(region.id, volume, low, high, confidence_of(probability, mask)))
    return tuple(findings)


def confidence_of(probability: np.ndarray, mask: np.ndarray) -> float | None:
    """Mean probability inside a mask; None if it is empty."""
    return float(probability[mask].mean()) if mask.any() else None


def volume_range_ml(probability: np.ndarray, voxel_ml: float) -> tuple[float, float]:
    """Volumes in mL at the strict and at the lenient threshold."""
    low, high = (float(np.count_nonzero(probability > threshold)) * voxel_ml for threshold in RANGE_THRESHOLDS)
    return low, high


def calibration_note(spec: ModelSpec, pathway: Pathway) -> str | None:
    """A sentence for the user where the network was surer on test cases than it was right; None where it was not."""
    known = [(region.name, pathway.calibration.get(region.id)) for region in spec.regions]
    wrong = [(name, c) for name, c in known if c is not None and c.confidence - c.precision > TOO_SURE]
    if not wrong:
        return None
    parts = ", ".join(f"{name} {c.confidence:.0%} sure and {c.precision:.0%} right" for name, c in wrong)
    return f"Take the probabilities with care: on {wrong[0][1].cases} test cases this model was too sure ({parts})."


def shows_whole_head(volume: Volume) -> bool:
    """Whether a volume that should show a brain without skull has far more voxels that are not 0."""
    return float(np.count_nonzero(volume.array)) * volume.voxel_volume_ml > WHOLE_HEAD_ML
