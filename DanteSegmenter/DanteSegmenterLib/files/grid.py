"""Validate the voxel grid from a file's header, in RAS mm: it must be finite and perpendicular."""

from __future__ import annotations

import numpy as np

from ..volume import HAIR_DEGREES, shear_degrees
from .raw_data import HeaderError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Smaller shear is float32 rounding.
ROUNDING_DEGREES = 0.001
# Units of length in headers, in millimetres.
MILLIMETRES = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001, "µm": 0.001, "micron": 0.001}


def grid_of(matrix: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
    """The 4x4 matrix of an image [K, J, I] with perpendicular axes, and notes about it.

    Raises:
        HeaderError: the axes span no volume, or are sheared by more than `HAIR_DEGREES`.
    """
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    sizes = " x ".join(f"{size:.4g}" for size in spacing)
    if not (spacing > 0).all():
        raise HeaderError(f"the header gives voxels of {sizes} mm")
    axes = matrix[:3, :3] / spacing
    if abs(np.linalg.det(axes)) < 1e-3:
        raise HeaderError("the axes of its matrix lie in one plane, or the matrix is zero")
    degrees = shear_degrees(matrix)
    if degrees <= ROUNDING_DEGREES:
        return matrix, []
    if degrees > HAIR_DEGREES:
        raise HeaderError(
            f"its grid is sheared by {degrees:.2f} degrees and cannot be used: its voxels are no boxes. Resample it "
            "onto a grid with perpendicular axes (3D Slicer: module Resample Scalar Volume)"
        )
    left, _, right = np.linalg.svd(axes)
    straight = matrix.copy()
    straight[:3, :3] = (left @ right) * spacing
    centre = np.array([(size - 1) / 2 for size in shape[::-1]])  # keeps the image centre in place
    straight[:3, 3] += (matrix[:3, :3] - straight[:3, :3]) @ centre
    return straight, [f"its grid was sheared by {degrees:.3f} degrees and was taken as perpendicular."]


def in_millimetres(matrix: np.ndarray, unit: str) -> tuple[np.ndarray, list[str]]:
    """Convert a matrix from `unit` to millimetres, with a note if it was not in millimetres.

    Raises:
        HeaderError: an unknown unit, or values that are not finite.
    """
    if not np.isfinite(matrix).all():
        raise HeaderError("its matrix holds values that are not finite")
    if unit not in MILLIMETRES:
        raise HeaderError(f"its lengths are in '{unit}'; {', '.join(MILLIMETRES)} are known")
    scale = MILLIMETRES[unit]
    if scale == 1.0:
        return matrix, []
    scaled = matrix.copy()
    scaled[:3] *= scale
    return scaled, [f"its header gives lengths in {unit}; they were brought to millimetres."]
