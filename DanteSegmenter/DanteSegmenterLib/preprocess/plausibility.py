"""Check that volumes are plausible for a model before anything is computed.

Impossible input is refused; possible but probably wrong input gives a warning in the result. All checks except the
bounds look only at every few voxels, so that a click need not wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ..errors import InputError, ResourceError
from ..memory import available_bytes
from ..model_folder.spec import Normalisation
from ..volume import HAIR_DEGREES, Volume, shear_degrees

# A cube of 645 mm at 1 mm: larger than any field of view our networks are meant for.
MAX_NETWORK_VOXELS = 1 << 28
SAMPLES_PER_AXIS = 40
# Fewer values are not conclusive.
ENOUGH = 200
# This few distinct values are labels; an 8-bit image has more.
MASK_VALUES = 16
# Share of border voxels that are 0 around a skull-stripped brain, even if a slab cuts through it.
ZERO_BORDER = 0.1
# If one value makes up this share of the non-zero voxels, it is not tissue.
ONE_VALUE = 0.25
# A normalised image spans 4 to 5 standard deviations from the 1st to the 99th percentile; outliers flatten it.
FLAT = 0.25
# Two scans of one patient correlate less than this because of noise; a copy with fewer bits correlates more.
SAME_IMAGE = 0.9995
# Hounsfield units of air and lung, and of soft tissue.
AIR_HU, SOFT_HU = (-1100, -300), (-200, 400)
LEAST_AIR, LEAST_SOFT = 0.001, 0.01
# Along the longest axis of a brain or chest, in mm; a slab or crop also has few voxels.
SMALLEST_PART_MM, VOXELS_OF_A_PART = 90.0, 100


def check_network_grid(shape: Sequence[int], spacing_mm: Sequence[float], channels: int) -> None:
    """Check the size of the network's input before it is created.

    Raises:
        InputError: the field of view has more voxels than any plausible one.
        ResourceError: it does not fit into memory.
    """
    voxels = int(np.prod(shape, dtype=object))
    size = " x ".join(f"{n * mm:.0f}" for n, mm in zip(shape, spacing_mm))
    grid = f"{' x '.join(map(str, shape))} voxels of {' x '.join(f'{mm:g}' for mm in spacing_mm)} mm"
    if voxels > MAX_NETWORK_VOXELS:
        raise InputError(
            f"the volumes are {size} mm large (slices, rows, columns), for this model {grid}. Is the voxel size right? "
            "Else crop the volume to what is to be segmented."
        )
    # The input twice (it is padded), the sums of one output and their weights: a lower bound of what is needed.
    needed, free = 4 * voxels * (2 * channels + 2), available_bytes()
    if free is not None and needed > free:
        raise ResourceError(
            f"the volumes are {size} mm large, for this model {grid}: more than {needed / 1e6:.0f} MB of memory are "
            f"needed, {free / 1e6:.0f} MB are free. Close other programs, or crop the volume."
        )


def doubts_of_volume(volume: Volume, normalisation: Normalisation) -> list[str]:
    """Warnings about one volume as it was given."""
    return _sheared(volume) + _doubts_of_values(volume, normalisation)


def _sheared(volume: Volume) -> list[str]:
    degrees = shear_degrees(volume.ijk_to_ras)
    if degrees <= HAIR_DEGREES:
        return []
    return [
        f"WARNING: '{volume.name}' lies on a grid that is sheared by {degrees:.1f} degrees (a tilted gantry, or a "
        "transform above it). The model knows boxes only; resample the volume first."
    ]


def _doubts_of_values(volume: Volume, normalisation: Normalisation) -> list[str]:
    values = _sample(volume.array)
    if normalisation.hounsfield:
        return _not_hounsfield(volume.name, values)
    values = values[values != 0]
    if values.size < ENOUGH:
        return []
    found, counts = np.unique(values, return_counts=True)
    if found.size <= MASK_VALUES:
        return [
            f"WARNING: '{volume.name}' has only {found.size} different values beside 0, as a mask or a label map has. "
            "Choose the volume of the image itself."
        ]
    if not normalisation.without_skull:
        return []
    border = _border(volume.array)
    most, share = found[counts.argmax()], counts.max() / values.size
    if np.count_nonzero(border == 0) >= ZERO_BORDER * border.size and share < ONE_VALUE:
        return []
    outside = most if share >= ONE_VALUE else float(np.median(border))
    return [
        f"WARNING: '{volume.name}' is not 0 outside the brain (but about {outside:.3g}): all of it is taken for brain, "
        "and the result cannot be relied on. Set what is outside to 0, or prepare the study first."
    ]


def doubts_of_tensor(tensor: np.ndarray, names: Sequence[str], background: Sequence[float]) -> list[str]:
    """Warnings about one patient's normalised images, float32 [C, K, J, I], with a background value per channel."""
    samples = np.stack([_sample(channel).ravel() for channel in tensor])
    inside = samples != np.array(background, np.float32)[:, None]
    notes = []
    for sample, here, name in zip(samples, inside, names):
        values = sample[here]
        low, high = np.percentile(values, (1, 99)) if values.size >= ENOUGH else (0, 1)
        if high - low < FLAT:
            notes.append(
                f"WARNING: '{name}' has hardly any contrast: a few voxels have values far beyond all others, or "
                "nearly all have the same. Look at its values; the result cannot be relied on."
            )
    for (one, here, first), (other, there, second) in combinations(zip(samples, inside, names), 2):
        if _correlation(one, other, here | there) > SAME_IMAGE:
            notes.append(
                f"WARNING: '{first}' and '{second}' show the same image. The model needs two different scans; the "
                "result cannot be relied on."
            )
    return notes


def doubts_of_size(box: Sequence[tuple[int, int]], spacing_mm: Sequence[float]) -> list[str]:
    """A warning if the foreground is too small for a body part; `box` and spacing along the same axes."""
    lengths = [stop - start for start, stop in box]
    extent = [length * mm for length, mm in zip(lengths, spacing_mm)]
    if max(extent) >= SMALLEST_PART_MM or max(lengths) < VOXELS_OF_A_PART:
        return []
    return [
        f"WARNING: what is not background measures {' x '.join(f'{mm:.0f}' for mm in extent)} mm, too little for "
        f"{' x '.join(map(str, lengths))} voxels. Is the voxel size in the header right?"
    ]


def _sample(array: np.ndarray) -> np.ndarray:
    """Every few voxels along each axis (a view)."""
    k, j, i = (max(1, n // SAMPLES_PER_AXIS) for n in array.shape)
    return array[k // 2 :: k, j // 2 :: j, i // 2 :: i]


def _border(array: np.ndarray) -> np.ndarray:
    """Every few of the outermost voxels."""
    faces = [array[0], array[-1], array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1]]
    return np.concatenate([face[:: max(1, len(face) // SAMPLES_PER_AXIS)].ravel() for face in faces])


def _not_hounsfield(name: str, values: np.ndarray) -> list[str]:
    air = np.mean((values > AIR_HU[0]) & (values < AIR_HU[1]))
    soft = np.mean((values > SOFT_HU[0]) & (values < SOFT_HU[1]))
    if air >= LEAST_AIR and soft >= LEAST_SOFT:
        return []
    what = "no voxel is air (about -1000)" if air < LEAST_AIR else "hardly any voxel is soft tissue (about 0 to 100)"
    return [
        f"WARNING: '{name}' does not seem to be a CT in Hounsfield units: {what}, the values go from about "
        f"{values.min():.4g} to {values.max():.4g}. Load the original series; the result cannot be relied on."
    ]


def _correlation(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Correlation of two images in the given voxels, or 0 if these are not conclusive."""
    if np.count_nonzero(where) < ENOUGH:
        return 0.0
    a, b = one[where].astype(np.float64), other[where].astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > 0 else 0.0
