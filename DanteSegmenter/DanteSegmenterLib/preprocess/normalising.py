"""Raw voxel values -> network input, and what background is in both.

Around a brain without skull ("zscore_nonzero") background is 0 before and after, and is no part of the patient. In a CT
("ct_window") it is the lower end of the window, where all air ends up: a density like any other. No number is a mark
there, least of all 0, which is the window's mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..model_folder.spec import Normalisation, Preprocessing


@dataclass(frozen=True)
class Background:
    """What network input holds where there is nothing, a value a channel; images are padded with it.

    Attributes:
        values: exact in float32.
        outside: whether a channel's background is no part of the patient (MR without skull), so that augmentation
            leaves it alone and nothing is found there; in a CT it is air, the lungs' too.
        like_nnunet: whether the image is gone over as nnU-Net does: windows of nothing but background are computed
            too, and the corners of a window count as little as the Gaussian says.
    """

    values: tuple[float, ...]
    outside: tuple[bool, ...]
    like_nnunet: bool = False

    def foreground(self, tensor: np.ndarray) -> np.ndarray:
        """Where some channel of network input, float32 [C, K, J, I], is not background; bool [K, J, I]."""
        return np.any(tensor != np.array(self.values, np.float32)[:, None, None, None], axis=0)


def background_of(preprocessing: Preprocessing, modalities: Sequence[str]) -> Background:
    """Background of these modalities' network input, in channel order."""
    normalisations = [preprocessing.normalisation[modality] for modality in modalities]
    return Background(
        tuple(float(_windowed(np.float32(n.low), n)) if n.hounsfield else 0.0 for n in normalisations),
        tuple(not n.hounsfield for n in normalisations),
    )


def raw_background(normalisation: Normalisation) -> float:
    """The raw value of what a volume does not cover."""
    return normalisation.low if normalisation.hounsfield else 0.0


def raw_foreground(raw: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    """Where raw values, of any shape, are not background."""
    return raw > normalisation.low if normalisation.hounsfield else raw != 0


def normalise(raw: np.ndarray, normalisation: Normalisation, name: str = "volume") -> np.ndarray:
    """Raw values [K, J, I] -> network input, float32.

    "zscore_nonzero" subtracts the mean of the non-zero voxels and divides by their standard deviation; 0 stays 0.
    "ct_window" clips to [low, high], then uses the training set's mean and deviation; a denser voxel is never lower.

    Raises:
        InputError: an MR volume has no contrast.
    """
    if normalisation.hounsfield:
        return _windowed(np.asarray(raw, np.float32), normalisation)
    foreground = raw_foreground(raw, normalisation)
    values = raw[foreground]
    deviation = values.std(dtype=np.float64) if values.size else 0.0
    if deviation == 0:
        raise InputError(
            f"'{name}' has no contrast: its non-zero voxels are all the same. Choose the volume of the image "
            "itself, not a mask."
        )
    return np.where(foreground, (raw - values.mean(dtype=np.float64)) / deviation, 0).astype(np.float32)


def _windowed(raw: np.ndarray | np.float32, window: Normalisation) -> np.ndarray:
    """Each step in float32, the window's own ends too: rounding never turns two values round."""
    low, high, mean, std = (np.float32(value) for value in (window.low, window.high, window.mean, window.std))
    return (np.clip(raw, low, high) - mean) / std
