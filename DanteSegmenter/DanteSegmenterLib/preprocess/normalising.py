"""Intensity normalisation, and the background value before and after it.

Around a skull-stripped brain ("zscore_nonzero") background is 0 before and after, and not part of the patient. In a CT
("ct_window") it is the lower end of the window, which includes all air: a density like any other. There is no value
that marks background in CT, least of all 0, which is the window's mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..model_folder.spec import Normalisation, Preprocessing


@dataclass(frozen=True)
class Background:
    """Values of empty space in network input, per channel; also used for padding.

    Attributes:
        values: exactly representable in float32.
        outside: whether a channel's background is outside the patient (skull-stripped MR), so that augmentation leaves
            it unchanged and nothing is segmented there; in a CT it is air, including the lungs.
        like_nnunet: follow nnU-Net's sliding window: windows of pure background are computed too, and a window's
            corners have only their Gaussian weight.
    """

    values: tuple[float, ...]
    outside: tuple[bool, ...]
    like_nnunet: bool = False

    def foreground(self, tensor: np.ndarray) -> np.ndarray:
        """Where any channel of network input, float32 [C, K, J, I], is not background; bool [K, J, I]."""
        return np.any(tensor != np.array(self.values, np.float32)[:, None, None, None], axis=0)


def background_of(preprocessing: Preprocessing, modalities: Sequence[str]) -> Background:
    """Background of network input with these modalities, in channel order."""
    normalisations = [preprocessing.normalisation[modality] for modality in modalities]
    return Background(
        tuple(float(_windowed(np.float32(n.low), n)) if n.hounsfield else 0.0 for n in normalisations),
        tuple(not n.hounsfield for n in normalisations),
    )


def raw_background(normalisation: Normalisation) -> float:
    """Raw value for voxels that a volume does not cover."""
    return normalisation.low if normalisation.hounsfield else 0.0


def raw_foreground(raw: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    """Where raw values, of any shape, are not background."""
    return raw > normalisation.low if normalisation.hounsfield else raw != 0


def normalise(raw: np.ndarray, normalisation: Normalisation, name: str = "volume") -> np.ndarray:
    """Raw values [K, J, I] -> network input, float32.

    "zscore_nonzero" subtracts the mean of the non-zero voxels and divides by their standard deviation; 0 stays 0.
    "ct_window" clips to [low, high], then applies the training set's mean and standard deviation; it is monotonic.

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
    """Compute every step in float32, including the window's ends, so that rounding preserves the order of values."""
    low, high, mean, std = (np.float32(value) for value in (window.low, window.high, window.mean, window.std))
    return (np.clip(raw, low, high) - mean) / std
