"""nnU-Net's preprocessing (Isensee et al. 2021, version 2): crop to non-zero voxels, normalise, resample by splines.

Networks trained by nnU-Net require images prepared exactly like this.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..model_folder.spec import NnunetSteps, Normalisation, Preprocessing
from .geometry import Geometry, bounding_box, network_shape
from .normalising import Background, normalise
from .plausibility import check_network_grid, doubts_of_size, doubts_of_tensor
from .prepared import Oriented, Prepared
from .resampling import resample_by_splines

# A smaller standard deviation means no contrast; nnU-Net divides by this value instead.
LEAST_DEVIATION = 1e-8
# Normalised to a standard deviation of about 1, so that flat or duplicate images can be detected.
MEASURED_IN_DEVIATIONS = ("zscore", "zscore_nonzero", "ct_window")
LARGEST_RGB = 255


def prepare(given: Oriented, preprocessing: Preprocessing, steps: NnunetSteps) -> Prepared:
    """Oriented volumes -> network input.

    Raises:
        InputError: all voxels are 0, or a volume has no contrast or is not in colour range.
        ResourceError: the network's grid does not fit into memory.
    """
    mask = np.zeros(given.arrays[0].shape, bool)
    for array in given.arrays:
        mask |= array != 0
    if not mask.any():
        raise InputError(f"'{given.names[0]}': all voxels are 0. Is this the right volume?")
    box, mm, wanted = bounding_box(mask), given.spacing_mm, preprocessing.spacing_mm
    shape = network_shape([stop - start for start, stop in box], mm, wanted)
    doubts = doubts_of_size(box, mm)
    check_network_grid(shape, wanted, len(given.arrays))
    back = partial(resample_by_splines, steps=steps.to_image, mm_in=wanted, mm_out=mm)
    geometry = Geometry(given.reference, given.axes, given.flipped, box, shape, back)
    normalisations = [preprocessing.normalisation[modality] for modality in given.modalities]
    if any(normalisation.kind == "zscore_nonzero" for normalisation in normalisations):
        mask = ndimage.binary_fill_holes(geometry.crop(mask))
    tensor = np.empty((len(given.arrays), *shape), np.float32)
    for n, (array, normalisation, name) in enumerate(zip(given.arrays, normalisations, given.names)):
        values = normalise_as_nnunet(geometry.crop(array).astype(np.float32), normalisation, mask, name)
        tensor[n] = resample_by_splines(values, shape, steps.to_network, mm, wanted)
    background = Background((0.0,) * len(tensor), (False,) * len(tensor), like_nnunet=True)
    if all(normalisation.kind in MEASURED_IN_DEVIATIONS for normalisation in normalisations):
        doubts += doubts_of_tensor(tensor, given.names, background.values)
    return Prepared(tensor, geometry, background, (*given.notes, *doubts))


def normalise_as_nnunet(raw: np.ndarray, normalisation: Normalisation, mask: np.ndarray, name: str) -> np.ndarray:
    """Raw values [K, J, I] of the crop -> normalised float32 of the same shape.

    Args:
        mask: bool [K, J, I], voxels used for "zscore_nonzero"; the others are unchanged.

    Raises:
        InputError: there is no contrast, or values are outside the colour range where colours are expected.
    """
    if normalisation.kind == "ct_window":
        return normalise(raw, normalisation, name)
    if normalisation.kind == "zscore_nonzero":
        result = raw.copy()
        result[mask] = _standardised(raw[mask], name)
        return result
    if normalisation.kind == "zscore":
        return _standardised(raw, name)
    if normalisation.kind == "rescale_01":
        from_0 = raw - raw.min()
        return from_0 / np.float32(max(float(from_0.max()), LEAST_DEVIATION))
    if normalisation.kind == "rgb_01":
        return _colours(raw, name)
    return raw


def _standardised(values: np.ndarray, name: str) -> np.ndarray:
    mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    if deviation < LEAST_DEVIATION:
        raise InputError(
            f"'{name}' has no contrast: all voxels that count are the same. Choose the volume of the image itself, "
            "not a mask."
        )
    return (values - np.float32(mean)) / np.float32(deviation)


def _colours(raw: np.ndarray, name: str) -> np.ndarray:
    low, high = float(raw.min()), float(raw.max())
    if low < 0 or high > LARGEST_RGB:
        raise InputError(
            f"'{name}' has values from {low:g} to {high:g}; the model reads colours of 0 to {LARGEST_RGB}. Choose "
            "another volume."
        )
    return raw / np.float32(LARGEST_RGB)
