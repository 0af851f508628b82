"""Resize arrays: by means and linear interpolation, or by nnU-Net's splines.

Both are separable and linear: one matrix per axis, whose rows are the weights of the input voxels in an output voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import ndimage

from ..model_folder.spec import SplineSteps


def resample(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resize the last three axes so that the outer edges of both grids coincide; float32.

    Coarser voxels are means of the voxels they cover, finer ones are interpolated linearly.
    """
    array = np.asarray(array, np.float32)
    return apply_along_axes([_axis_weights(n_in, n_out) for n_in, n_out in zip(array.shape[-3:], shape)], array)


def resample_by_splines(
    array: np.ndarray, shape: Sequence[int], steps: SplineSteps, mm_in: Sequence[float], mm_out: Sequence[float]
) -> np.ndarray:
    """Resize like nnU-Net: outer edges coincide, edge voxels are extended, nothing is averaged.

    Splines of order above 1 are clipped to the input's range. With thick slices, each slice is resampled separately,
    then between slices.

    Args:
        array: [..., K, J, I].
        shape: output size along K, J, I.
        steps: orders, and when to resample slices separately.
        mm_in, mm_out: voxel sizes of both grids along K, J, I.

    Returns:
        float32 [..., *shape].
    """
    array = np.asarray(array, np.float32)
    if array.shape[-3:] == tuple(shape):
        return array
    across = _slice_axis(steps, mm_in, mm_out)
    pairs = list(zip(array.shape[-3:], shape))
    matrices = [None if axis == across else _spline_weights(*pair, steps.order) for axis, pair in enumerate(pairs)]
    result = apply_along_axes(matrices, array)
    if steps.order > 1:
        own = tuple(axis - 3 for axis in range(3) if axis != across)
        low, high = array.min(axis=own, keepdims=True), array.max(axis=own, keepdims=True)
        np.clip(result, low, high, out=result)
    if across is None:
        return result
    between = _spline_weights(*pairs[across], steps.order_between)
    return apply_along_axes([between if axis == across else None for axis in range(3)], result)


def _slice_axis(steps: SplineSteps, mm_in: Sequence[float], mm_out: Sequence[float]) -> int | None:
    """The axis across slices that are resampled separately; None if all axes are treated alike."""
    grids = [mm for mm in (mm_in, mm_out) if max(mm) / min(mm) > steps.thick]
    if steps.by_slices is False or not (grids or steps.by_slices):
        return None
    mm = mm_in if steps.by_slices else grids[0]
    longest = [axis for axis in range(3) if mm[axis] == max(mm)]
    return longest[0] if len(longest) == 1 else None


def apply_along_axes(matrices: Sequence[np.ndarray | None], array: np.ndarray) -> np.ndarray:
    """Multiply each of the last three axes by its matrix [n_out, n_in]; None leaves an axis unchanged."""
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
    """Interpolation matrix [n_out, n_in] at the centres of the new voxels; None means identity.

    SciPy's spline interpolation applied to unit vectors.
    """
    if n_in == n_out:
        return None
    if order == 0:  # rounds halves like nnU-Net
        nearest = np.floor(n_in / n_out * (np.arange(n_out) + 0.5) - 0.5 + 0.5).astype(int)
        return np.eye(n_in, dtype=np.float32)[np.clip(nearest, 0, n_in - 1)]
    ratios = (n_out / n_in, 1.0)
    weights: np.ndarray = ndimage.zoom(  # type: ignore[call-overload]  # an order is 1 to 5
        np.eye(n_in), ratios, order=order, mode="nearest", grid_mode=True
    )
    return weights.astype(np.float32)


def _axis_weights(n_in: int, n_out: int) -> np.ndarray | None:
    """Matrix [n_out, n_in] with rows that sum to one: covered means or linear interpolation; None means identity."""
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
        centre = ((np.arange(n_out) + 0.5) * scale - 0.5)[:, None]
        weights = np.clip(1 - np.abs(centre - np.arange(n_in)[None, :]), 0, 1)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
