"""Resample onto another volume's grid, with any rotation and shift: means where it is coarser, else linear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy import ndimage

from .resampling import apply_along_axes

# Tolerance for steps of one voxel that were rounded in a header.
ROUNDING_VOXELS = 0.01


def onto_grid(
    array: np.ndarray, mm: Sequence[float], matrix: np.ndarray, shape: Sequence[int], outside: float
) -> np.ndarray:
    """Resample an array onto another grid, with any rotation and shift; float32.

    Coarser voxels are means of the voxels they cover, as in `resampling.resample`; others are interpolated linearly.

    Args:
        array: [K, J, I].
        mm: its voxel size along K, J, I.
        matrix: 4x4, from an index of the other grid (k, j, i, 1) to the array's.
        shape: size of the other grid along K, J, I.
        outside: value of voxels whose centre is outside the array.
    """
    array = array.astype(np.float32, copy=False)
    if is_coarser(matrix, mm):
        return _means_on_grid(array, matrix, _samples(matrix, mm), shape, outside)
    return ndimage.affine_transform(array, matrix, output_shape=tuple(shape), order=1, mode="constant", cval=outside)


def is_coarser(matrix: np.ndarray, mm: Sequence[float]) -> bool:
    """Whether the other grid's voxels, as in `onto_grid`, are longer along some axis than the array's."""
    return max(_samples(matrix, mm)) > 1


def _samples(matrix: np.ndarray, mm: Sequence[float]) -> list[int]:
    """Number of array voxels that one voxel of the other grid covers along each of its axes.

    Counted along the nearest array axis: between two stacks of thick slices that are rotated against each other, one
    step crosses many small in-plane voxels, but neither grid is coarser.
    """
    steps = np.abs(matrix[:3, :3])
    nearest = (steps * np.array(mm)[:, None]).argmax(axis=0)
    return [max(1, math.ceil(step - ROUNDING_VOXELS)) for step in steps[nearest, range(3)]]


def _means_on_grid(
    array: np.ndarray, matrix: np.ndarray, samples: Sequence[int], shape: Sequence[int], outside: float
) -> np.ndarray:
    """`onto_grid` for a coarser grid: means of samples spread evenly over each voxel; the array's edge is extended."""
    means = _means_along_axes if _is_straight(matrix, shape) else _means_by_planes
    result = means(array, matrix, samples, shape)
    for k, plane in enumerate(result):  # by planes, so that a large grid is in memory only once
        inside = _is_inside(_shifted(matrix, (k, 0, 0)), (1, *plane.shape), array.shape)
        plane[~inside[0]] = outside
    return result


def _places(n: int) -> np.ndarray:
    """Positions of n samples in a voxel with centre 0 and length 1."""
    return (np.arange(n) + 0.5) / n - 0.5


def _is_straight(matrix: np.ndarray, shape: Sequence[int]) -> bool:
    """Whether each axis of the other grid is parallel to one of the array's, up to rounding."""
    reach = np.abs(matrix[:3, :3]) * shape
    return bool((np.sort(reach, axis=0)[:2] <= ROUNDING_VOXELS).all())


def _means_along_axes(
    array: np.ndarray, matrix: np.ndarray, samples: Sequence[int], shape: Sequence[int]
) -> np.ndarray:
    """Means on an axis-parallel grid: one axis after the other, in a fraction of the time."""
    axes = np.abs(matrix[:3, :3]).argmax(axis=0)
    weights = []
    for axis, n_out, n, step in zip(axes, shape, samples, matrix[axes, range(3)]):
        n_in = array.shape[axis]
        places = np.arange(n_out)[:, None] + _places(n)
        at = np.clip(matrix[axis, 3] + step * places, 0, n_in - 1)[..., None]
        weights.append(np.clip(1 - np.abs(at - np.arange(n_in)), 0, 1).mean(axis=1).astype(np.float32))
    return apply_along_axes(weights, array.transpose(axes))


def _means_by_planes(array: np.ndarray, matrix: np.ndarray, samples: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Means on a rotated grid."""
    places = list(product(*map(_places, samples)))
    result = np.empty(tuple(shape), np.float32)
    size = (1, *result.shape[1:])
    for k, plane in enumerate(result):
        total = np.zeros(size)
        for place in places:
            at = _shifted(matrix, np.add(place, (k, 0, 0)))
            total += ndimage.affine_transform(array, at, output_shape=size, output=np.float64, order=1, mode="nearest")
        plane[...] = total[0] / len(places)
    return result


def _shifted(matrix: np.ndarray, start: Sequence[float] | np.ndarray) -> np.ndarray:
    """Matrix of the same grid with its first voxel at `start` (k, j, i)."""
    result = matrix.copy()
    result[:3, 3] += matrix[:3, :3] @ start
    return result


def _is_inside(matrix: np.ndarray, shape: Sequence[int], array_shape: Sequence[int]) -> np.ndarray:
    """Whether each voxel centre of a grid is inside the array, up to the outer edges of its voxels; bool of `shape`."""
    k, j, i = np.ogrid[tuple(slice(n) for n in shape)]
    inside = np.ones(tuple(shape), bool)
    for (by_k, by_j, by_i, start), n in zip(matrix, array_shape):
        at = by_k * k + by_j * j + by_i * i + start
        inside &= (at >= -0.5) & (at <= n - 0.5)
    return inside
