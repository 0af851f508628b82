"""Mapping between the network's grid and the grid of the loaded volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from types import EllipsisType

import numpy as np

from ..errors import InputError
from ..model_folder.spec import AS_STORED
from ..volume import Volume, triple
from .resampling import resample

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Geometry:
    """Position of the network's grid within the reference volume's grid; maps in both directions.

    Attributes:
        reference: the volume whose grid results are on (its voxel values are not used).
        axes: network axis n (of K, J, I) is axis `axes[n]` of the reference array.
        flipped: whether network axis n runs opposite to the reference's axis.
        box: first and past-the-last voxel of the foreground along each network axis, before resampling.
        shape: of the network's grid, K, J, I.
        resized: resamples an array from the network's grid to the size of the box.
    """

    reference: Volume
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    box: Box
    shape: tuple[int, int, int]
    resized: Callable[[np.ndarray, Sequence[int]], np.ndarray] = resample

    def orient(self, array: np.ndarray) -> np.ndarray:
        """Reference array [..., K, J, I] -> the same voxels in the network's axis order (a view)."""
        return flip_axes(permute_axes(array, self.axes), self.flipped)

    def crop(self, oriented: np.ndarray) -> np.ndarray:
        """Foreground box of an oriented array (a view)."""
        where: tuple[EllipsisType | slice, ...] = (..., *(slice(start, stop) for start, stop in self.box))
        return oriented[where]

    def restore(
        self, array: np.ndarray, then: Callable[[np.ndarray], np.ndarray] = lambda resized: resized
    ) -> np.ndarray:
        """Map from the network's to the reference's grid: the inverse of orientation, crop and resampling.

        Args:
            array: float [R, K, J, I] on the network's grid, for example probabilities.
            then: applied after resampling, before the result is placed in the volume; may change the number of
                channels.

        Returns:
            float32 [R, K, J, I] on the reference's grid; 0 outside the foreground box.
        """
        if array.shape[-3:] != self.shape:
            raise ValueError(f"array of shape {array.shape} is not on the network's grid {self.shape}")
        box_shape = tuple(stop - start for start, stop in self.box)
        resized = then(self.resized(array, box_shape))
        result = np.zeros((*resized.shape[:-3], *self.reference.shape), np.float32)
        self.crop(self.orient(result))[...] = resized
        return result

    def labels_to_network(self, labels: Volume) -> np.ndarray:
        """Integer labels on the reference's grid -> uint8 [K, J, I] on the network's grid, by majority in each voxel.

        Raises:
            InputError: the labels are on another grid.
        """
        if not labels.same_grid(self.reference):
            raise InputError(
                f"the mask '{labels.name}' (shape {labels.shape}) is not on the grid of '{self.reference.name}' (shape "
                f"{self.reference.shape}). Resample the mask onto the image, or export it again from there."
            )
        cropped = self.crop(self.orient(labels.array))
        if cropped.shape == self.shape:
            return np.ascontiguousarray(cropped, dtype=np.uint8)
        # The highest share wins; 0 comes first, so that a tie is background.
        values = np.union1d([0], np.unique(cropped))
        shares = np.stack([resample((cropped == value).astype(np.float32), self.shape) for value in values])
        return values[shares.argmax(axis=0)].astype(np.uint8)

    @property
    def ijk_to_ras(self) -> np.ndarray:
        """Matrix of the network's grid, to display what the network sees."""
        to_reference = np.zeros((4, 4))  # network (k, j, i, 1) -> reference (k, j, i, 1)
        to_reference[3, 3] = 1
        for n, (axis, flip, (start, stop)) in enumerate(zip(self.axes, self.flipped, self.box)):
            step = (stop - start) / self.shape[n]
            offset = start + 0.5 * step - 0.5
            size = self.reference.shape[axis]
            to_reference[axis, n], to_reference[axis, 3] = (-step, size - 1 - offset) if flip else (step, offset)
        return self.reference.ijk_to_ras @ REVERSE @ to_reference @ REVERSE


# Swaps the order I, J, K <-> K, J, I of homogeneous indices.
REVERSE = np.eye(4)[[2, 1, 0, 3]]


def index_matrix(reference: Volume, volume: Volume) -> np.ndarray:
    """4x4 matrix from an index of the reference (k, j, i, 1) to the volume's index at the same position."""
    return REVERSE @ np.linalg.inv(volume.ijk_to_ras) @ reference.ijk_to_ras @ REVERSE


def axes_towards(ijk_to_ras: np.ndarray, orientation: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Axis order and flips that bring the voxel axes closest to `orientation` (letters for I, J, K, or `AS_STORED`)."""
    if orientation == AS_STORED:
        return (0, 1, 2), (False, False, False)
    direction = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    # Assign each world axis its own voxel axis; trying all six ways takes less time than importing scipy.optimize.
    index_of = max(permutations(range(3)), key=lambda order: np.abs(direction)[range(3), order].sum())
    axes, flipped = [], []
    for letter in reversed(orientation):  # K, J, I
        world = next(n for n, pair in enumerate(("LR", "AP", "IS")) if letter in pair)
        index = index_of[world]
        points_to_positive = direction[world, index] > 0
        axes.append(2 - index)  # voxel axis i is the array's last
        flipped.append(bool(points_to_positive != (letter in "RAS")))
    return triple(axes), triple(flipped)


def permute_axes(array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """The last three axes in another order (a view)."""
    lead = array.ndim - 3
    return array.transpose(*range(lead), *(lead + axis for axis in axes))


def flip_axes(array: np.ndarray, flipped: Sequence[bool]) -> np.ndarray:
    """Reverse those of the last three axes for which `flipped` is true (a view)."""
    where: tuple[EllipsisType | slice, ...] = (..., *(slice(None, None, -1 if flip else 1) for flip in flipped))
    return array[where]


def network_shape(
    lengths: Sequence[int], spacing_mm: Sequence[float], wanted_mm: Sequence[float]
) -> tuple[int, int, int]:
    """Size of a grid that spans the given voxels of another grid; at least 1 along each axis."""
    return triple(max(1, round(n * mm / wanted)) for n, mm, wanted in zip(lengths, spacing_mm, wanted_mm))


def bounding_box(mask: np.ndarray) -> Box:
    """First and past-the-last voxel along each axis; the mask must not be empty."""
    profiles = [np.flatnonzero(mask.any(axis=tuple(n for n in range(3) if n != axis))) for axis in range(3)]
    return triple((int(profile[0]), int(profile[-1]) + 1) for profile in profiles)
