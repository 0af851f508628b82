"""What preparing begins with and ends with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..volume import Volume
from .geometry import Geometry
from .normalising import Background


@dataclass(frozen=True)
class Oriented:
    """Volumes on one grid, their axes in the network's order; nothing else was done to them.

    Attributes:
        reference: the volume whose grid that is.
        axes, flipped: see `Geometry`.
        modalities: ids, in channel order.
        names: of the volumes.
        arrays: raw values [K, J, I] along the network's axes (views).
        notes: what a user should know.
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
        """Of the reference, along the network's axes."""
        first, second, third = (self.reference.spacing_mm[axis] for axis in self.axes)
        return first, second, third


@dataclass(frozen=True)
class Prepared:
    """Network input.

    Attributes:
        tensor: float32 [C, K, J, I], channels in the order asked for.
        geometry: the way back.
        background: what the tensor holds where there is nothing.
        notes: what a user should know, e.g. that a volume was brought onto another grid.
    """

    tensor: np.ndarray
    geometry: Geometry
    background: Background
    notes: tuple[str, ...] = ()
