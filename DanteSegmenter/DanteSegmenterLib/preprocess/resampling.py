"""Arrays brought to another number of voxels: by means and linear interpolation, or by nnU-Net's splines.

Both are separable and linear: along each axis a matrix, whose rows say of what an output voxel is made. To a grid that
is turned or shifted beside the array's own there is `onto_grid`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from scipy import ndimage

from ..model_folder.spec import SplineSteps

# A step that exceeds one voxel by no more is one voxel, rounded in a header.
ROUNDING_VOXELS = 0.01


def resample(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resize the last three axes so that the outer edges of both grids coincide; float32.

    Coarser voxels are means of what they cover, finer ones are interpolated linearly.
    """
    array = np.asarray(array, np.float32)
    return _applied([_axis_weights(n_in, n_out) for n_in, n_out in zip(array.shape[-3:], shape)], array)


def onto_grid(
    array: np.ndarray, mm: Sequence[float], matrix: np.ndarray, shape: Sequence[int], outside: float
) -> np.ndarray:
    """An array on another grid, turned and shifted in any way; float32.

    Coarser voxels are means of what they cover, as `resample` makes them; others are interpolated linearly.

    Args:
        array: [K, J, I].
        mm: size of its voxels along K, J, I.
        matrix: 4x4, from an index of the other grid (k, j, i, 1) to the array's.
        shape: voxels of the other grid along K, J, I.
        outside: value of voxels whose middle lies outside the array.
    """
    array = array.astype(np.float32, copy=False)
    if is_coarser(matrix, mm):
        return _means_on_grid(array, matrix, _samples(matrix, mm), shape, outside)
    return ndimage.affine_transform(array, matrix, output_shape=tuple(shape), order=1, mode="constant", cval=outside)


def is_coarser(matrix: np.ndarray, mm: Sequence[float]) -> bool:
    """Whether the voxels of the other grid, as in `onto_grid`, are longer along some axis than the array's."""
    return max(_samples(matrix, mm)) > 1


def _samples(matrix: np.ndarray, mm: Sequence[float]) -> list[int]:
    """How many voxels of the array one of the other grid covers along each of its axes.

    They are counted along the array's axis that lies nearest: where thick slices are only turned against other thick
    slices, a step goes over many small voxels within them, but neither is coarser.
    """
    steps = np.abs(matrix[:3, :3])
    nearest = (steps * np.array(mm)[:, None]).argmax(axis=0)
    return [max(1, math.ceil(step - ROUNDING_VOXELS)) for step in steps[nearest, range(3)]]


def _means_on_grid(
    array: np.ndarray, matrix: np.ndarray, samples: Sequence[int], shape: Sequence[int], outside: float
) -> np.ndarray:
    """`onto_grid` where it is coarser: the mean of samples spread evenly over each voxel, the array's edge going on."""
    means = _means_along_axes if _is_straight(matrix, shape) else _means_by_planes
    result = means(array, matrix, samples, shape)
    for k, plane in enumerate(result):  # by planes, so that a large grid is held once
        inside = _is_inside(_shifted(matrix, (k, 0, 0)), (1, *plane.shape), array.shape)
        plane[~inside[0]] = outside
    return result


def _places(n: int) -> np.ndarray:
    """Where n samples lie in a voxel, whose middle is 0 and whose length is 1."""
    return (np.arange(n) + 0.5) / n - 0.5


def _is_straight(matrix: np.ndarray, shape: Sequence[int]) -> bool:
    """Whether each axis of the other grid goes along one of the array's, but for rounding."""
    reach = np.abs(matrix[:3, :3]) * shape
    return bool((np.sort(reach, axis=0)[:2] <= ROUNDING_VOXELS).all())


def _means_along_axes(
    array: np.ndarray, matrix: np.ndarray, samples: Sequence[int], shape: Sequence[int]
) -> np.ndarray:
    """Means on a straight grid: an axis after the other, which takes a fraction of the time."""
    axes = np.abs(matrix[:3, :3]).argmax(axis=0)
    weights = []
    for axis, n_out, n, step in zip(axes, shape, samples, matrix[axes, range(3)]):
        n_in = array.shape[axis]
        places = np.arange(n_out)[:, None] + _places(n)
        at = np.clip(matrix[axis, 3] + step * places, 0, n_in - 1)[..., None]
        weights.append(np.clip(1 - np.abs(at - np.arange(n_in)), 0, 1).mean(axis=1).astype(np.float32))
    return _applied(weights, array.transpose(axes))


def _means_by_planes(array: np.ndarray, matrix: np.ndarray, samples: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Means on a grid that is turned."""
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
    """The matrix of a grid that begins at this place (k, j, i) of the former."""
    result = matrix.copy()
    result[:3, 3] += matrix[:3, :3] @ start
    return result


def _is_inside(matrix: np.ndarray, shape: Sequence[int], array_shape: Sequence[int]) -> np.ndarray:
    """Whose middle lies inside the array, its voxels taken whole; bool of this shape."""
    k, j, i = np.ogrid[tuple(slice(n) for n in shape)]
    inside = np.ones(tuple(shape), bool)
    for (by_k, by_j, by_i, start), n in zip(matrix, array_shape):
        at = by_k * k + by_j * j + by_i * i + start
        inside &= (at >= -0.5) & (at <= n - 0.5)
    return inside


def resample_by_splines(
    array: np.ndarray, shape: Sequence[int], steps: SplineSteps, mm_in: Sequence[float], mm_out: Sequence[float]
) -> np.ndarray:
    """Resize as nnU-Net does: outer edges coincide, beyond them the outermost voxel goes on, nothing is averaged.

    Splines of more than first order are clipped to the values there were. Where voxels are thick, slices are resampled
    each by itself, and then between them.

    Args:
        array: [..., K, J, I].
        shape: voxels wanted along K, J, I.
        steps: orders, and when slices are taken one by one.
        mm_in, mm_out: voxel sizes of both grids along K, J, I.

    Returns:
        float32.
    """
    array = np.asarray(array, np.float32)
    if array.shape[-3:] == tuple(shape):
        return array
    across = _slice_axis(steps, mm_in, mm_out)
    pairs = list(zip(array.shape[-3:], shape))
    matrices = [None if axis == across else _spline_weights(*pair, steps.order) for axis, pair in enumerate(pairs)]
    result = _applied(matrices, array)
    if steps.order > 1:
        own = tuple(axis - 3 for axis in range(3) if axis != across)
        low, high = array.min(axis=own, keepdims=True), array.max(axis=own, keepdims=True)
        np.clip(result, low, high, out=result)
    if across is None:
        return result
    between = _spline_weights(*pairs[across], steps.order_between)
    return _applied([between if axis == across else None for axis in range(3)], result)


def _slice_axis(steps: SplineSteps, mm_in: Sequence[float], mm_out: Sequence[float]) -> int | None:
    """The axis across the slices that are resampled each by itself; None where all axes are alike."""
    grids = [mm for mm in (mm_in, mm_out) if max(mm) / min(mm) > steps.thick]
    if steps.by_slices is False or not (grids or steps.by_slices):
        return None
    mm = mm_in if steps.by_slices else grids[0]
    longest = [axis for axis in range(3) if mm[axis] == max(mm)]
    return longest[0] if len(longest) == 1 else None


def _applied(matrices: Sequence[np.ndarray | None], array: np.ndarray) -> np.ndarray:
    """A matrix [n_out, n_in] along each of the last three axes; None leaves an axis as it is."""
    k, j, i = matrices
    if k is not None:
        *lead, size_k, size_j, size_i = array.shape
        array = (k @ array.reshape(*lead, size_k, -1)).reshape(*lead, k.shape[0], size_j, size_i)
    if j is not None:
        array = j @ array
    if i is not None:
        array = array @ i.T
    return np.ascontiguousarray(array)


@lru_cache(maxsize=32)
def _spline_weights(n_in: int, n_out: int, order: int) -> np.ndarray | None:
    """Matrix [n_out, n_in] of interpolation at the centres of the new voxels; None: identity.

    What splines make of every single voxel, by SciPy's own hand.
    """
    if n_in == n_out:
        return None
    if order == 0:  # the rounding at halves is nnU-Net's
        nearest = np.floor(n_in / n_out * (np.arange(n_out) + 0.5) - 0.5 + 0.5).astype(int)
        return np.eye(n_in, dtype=np.float32)[np.clip(nearest, 0, n_in - 1)]
    ratios = (n_out / n_in, 1.0)
    weights: np.ndarray = ndimage.zoom(  # type: ignore[call-overload]  # an order is 1 to 5
        np.eye(n_in), ratios, order=order, mode="nearest", grid_mode=True
    )
    return weights.astype(np.float32)


def _axis_weights(n_in: int, n_out: int) -> np.ndarray | None:
    """Matrix [n_out, n_in] whose rows sum to one: means of what is covered, or linear interpolation; None: identity."""
    if n_in == n_out:
        return None
    scale = n_in / n_out
    if scale > 1:
        edges = np.arange(n_out + 1) * scale
        first, last = edges[:-1, None], edges[1:, None]
        voxel = np.arange(n_in)[None, :]
        covered = np.minimum(last, voxel + 1) - np.maximum(first, voxel)
        weights = np.clip(covered, 0, 1)
    else:
        centre = np.clip((np.arange(n_out) + 0.5) * scale - 0.5, 0, n_in - 1)[:, None]
        weights = np.clip(1 - np.abs(centre - np.arange(n_in)[None, :]), 0, 1)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
