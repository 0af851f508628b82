"""`Volume`, which defines axis order and units for the whole project.

Arrays are indexed [K, J, I] (slice, row, column), as returned by `slicer.util.arrayFromVolume`. World coordinates are
RAS in millimetres. `ijk_to_ras` maps the homogeneous column vector (i, j, k, 1): its columns are in I, J, K order,
while everything about array axes (`shape`, `spacing_mm`) is in K, J, I order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .errors import InputError
from .guard.plain_text import one_line

# Two grids are the same if no corner differs by more than this.
SAME_GRID_TOLERANCE_MM = 0.01

# Plausible for a patient: a body is two metres long, a localiser has 10 mm slices with 10 mm gaps.
LARGEST_FIELD_MM, LARGEST_VOXEL_MM, SMALLEST_VOXEL_MM = 2000.0, 25.0, 0.02
# This much shear moves no voxel of a head by more than a quarter of a millimetre; with more, voxels are not boxes.
HAIR_DEGREES = 0.12
# Beyond this, squares are infinite in float32.
LARGEST_VALUE = 1e18

Item = TypeVar("Item")


def triple(values: Iterable[Item]) -> tuple[Item, Item, Item]:
    """One value per axis as a tuple.

    Raises:
        ValueError: there are not three values.
    """
    first, second, third = values
    return first, second, third


def shear_degrees(matrix: np.ndarray) -> float:
    """Largest deviation of any two axes of a 4x4 matrix from perpendicular, in degrees."""
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    return math.degrees(math.asin(min(1.0, cosine)))


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional scalar image in world space.

    Attributes:
        array: voxel values, shape [K, J, I], any real dtype.
        ijk_to_ras: 4x4 matrix from voxel indices (i, j, k, 1) to RAS millimetres. May be oblique, flipped, permuted or
            sheared; must be invertible.
        name: name of this volume in messages: that of a node or file, as one printable line.
        notes: findings during reading that the user should know; passed on to the result.

    Raises:
        InputError: the array is not three-dimensional and numeric, or the matrix is not an invertible affine one.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    name: str = "volume"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", one_line(self.name))
        array = np.asarray(self.array)
        matrix = np.asarray(self.ijk_to_ras, dtype=np.float64)
        if array.ndim != 3:
            raise InputError(
                f"'{self.name}' has {array.ndim} dimensions, shape {array.shape}; a single three-dimensional scalar "
                "volume is needed. Extract one volume of a 4-D series, or convert a colour image to grey values."
            )
        if array.dtype.kind not in "buif":
            raise InputError(f"'{self.name}' holds values of type {array.dtype}; real numbers are needed.")
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], [0, 0, 0, 1]):
            raise InputError(f"'{self.name}' has no valid 4x4 IJK-to-RAS matrix (got {matrix.tolist()}).")
        # Relative to the spacings, so that a micrometre grid is as good as a metre grid.
        spacing_ijk = np.linalg.norm(matrix[:3, :3], axis=0)
        if not (spacing_ijk > 0).all() or abs(np.linalg.det(matrix[:3, :3] / spacing_ijk)) < 1e-3:
            raise InputError(
                f"'{self.name}' has a degenerate geometry: its voxel axes span no volume (spacing "
                f"{spacing_ijk.tolist()} mm). Correct the header in the Volumes module."
            )
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "ijk_to_ras", matrix)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along K, J, I."""
        return triple(self.array.shape)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along K, J, I."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(k), float(j), float(i)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres; from the determinant, so it is correct for sheared grids too."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000.0

    def with_array(self, array: np.ndarray, name: str | None = None) -> Volume:
        """Another image on the same grid."""
        if array.shape != self.shape:
            raise ValueError(f"shape {array.shape} does not fit the grid of '{self.name}', {self.shape}")
        return Volume(array, self.ijk_to_ras, name or self.name)

    def same_grid(self, other: Volume, tolerance_mm: float = SAME_GRID_TOLERANCE_MM) -> bool:
        """Whether both volumes have their voxels at the same places in the world."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(corners_ras(self) - corners_ras(other)).max() <= tolerance_mm)


def corners_ras(volume: Volume) -> np.ndarray:
    """World positions of the centres of the eight corner voxels, [8, 3] in RAS mm."""
    last_k, last_j, last_i = (n - 1 for n in volume.shape)
    ijk = np.array([(i, j, k, 1) for k in (0, last_k) for j in (0, last_j) for i in (0, last_i)], dtype=np.float64)
    return (ijk @ volume.ijk_to_ras.T)[:, :3]


def check_image(volume: Volume) -> None:
    """Refuse volumes that cannot be segmented; names the volume and the remedy.

    Raises:
        InputError: fewer than two voxels along an axis, an implausible field of view, NaN, infinite or extreme values,
            or all voxels equal (empty).
    """
    if min(volume.shape) < 2:
        raise InputError(
            f"'{volume.name}' has shape {volume.shape} (slices, rows, columns); a volume of at least two voxels along "
            "each axis is needed. Load the whole series instead of a single slice."
        )
    _check_size(volume)
    array = volume.array
    low, high = array.min(), array.max()  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(array.size - np.isfinite(array).sum())
        raise InputError(
            f"'{volume.name}' holds {bad} voxels that are NaN or infinite; only finite values can be segmented. "
            "Replace them (for example by 0 outside the head) and try again."
        )
    if max(-float(low), float(high)) > LARGEST_VALUE:
        bad = int((np.abs(array.astype(np.float64)) > LARGEST_VALUE).sum())
        raise InputError(
            f"'{volume.name}' holds {bad} voxels beyond {LARGEST_VALUE:g} (from {low:g} to {high:g}), which no scanner "
            "measures; programs write them for 'no value'. Nothing finite can be computed from them; replace them by 0."
        )
    if low == high:
        raise InputError(
            f"'{volume.name}' is empty: every voxel is {low}. Choose the volume that holds the image itself."
        )


def _check_size(volume: Volume) -> None:
    """Refuse implausible fields of view and voxel sizes."""
    field = [n * mm for n, mm in zip(volume.shape, volume.spacing_mm)]
    if max(field) <= LARGEST_FIELD_MM and all(SMALLEST_VOXEL_MM <= mm <= LARGEST_VOXEL_MM for mm in volume.spacing_mm):
        return
    voxels, large = (" x ".join(f"{mm:.6g}" for mm in lengths) for lengths in (volume.spacing_mm, field))
    raise InputError(
        f"'{volume.name}' has voxels of {voxels} mm and is {large} mm large (slices, rows, columns), which is no image "
        "of a patient. Its header is probably in another unit (metres, micrometres); correct the voxel size (in 3D "
        "Slicer: module Volumes, Volume Information, Image Spacing)."
    )
