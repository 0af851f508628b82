"""Input and output of the preparation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..volume import Volume
from .geometry import Geometry
from .normalising import Background


@dataclass(frozen=True)
class Oriented:
    """Volumes on one grid with axes in the network's order, otherwise unprocessed.

    Attributes:
        reference: the volume that defines the grid.
        axes, flipped: see `Geometry`.
        modalities: ids, in channel order.
        names: of the volumes.
        arrays: raw values [K, J, I] along the network's axes (views).
        notes: messages for the user.
    """

    reference: Volume
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    modalities: tuple[str, ...]
    names: tuple[str, ...]
    arrays: tuple[np.ndarray, ...]
    notes: tuple[str, ...]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing of the reference along the network's axes."""
        first, second, third = (self.reference.spacing_mm[axis] for axis in self.axes)
        return first, second, third


@dataclass(frozen=True)
class Prepared:
    """Network input.

    Attributes:
        tensor: float32 [C, K, J, I], channels in the requested order.
        geometry: mapping back to the reference's grid.
        background: values of empty space in the tensor.
        notes: messages for the user, e.g. that a volume was resampled to another grid.
    """

    tensor: np.ndarray
    geometry: Geometry
    background: Background
    notes: tuple[str, ...] = ()
