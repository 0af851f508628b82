"""Sort a series into one stack of slices with equal spacing, on a grid in RAS mm, or refuse it.

A missing, duplicate, rotated or differently sized slice would give a wrong image; the error names the series and the
reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..files.grid import LPS_TO_RAS, grid_of
from ..files.raw_data import HeaderError
from ..volume import HAIR_DEGREES
from .header.records import Frame
from .series import Series

# Tolerances for rounding in headers: deviation from equal steps, and distance below which two slices coincide.
UNEVEN_SHARE, UNEVEN_MM = 0.02, 0.02
SAME_PLACE_SHARE = 0.01
# Tolerances of direction cosines and in-plane spacings.
SAME_COSINE, SAME_SPACING = 1e-3, 1e-3


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one series in the order of array axis K, and their grid.

    Attributes:
        ijk_to_ras: 4x4; I along a row, J along a column, K along the slice normal (cross product).
    """

    series: Series
    frames: tuple[Frame, ...]
    ijk_to_ras: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along K, J, I."""
        return len(self.frames), self.frames[0].rows, self.frames[0].columns

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing along K, J, I."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(k), float(j), float(i)


def stack_of(series: Series) -> Stack:
    """Sort a series' slices and check that they form one volume.

    Raises:
        InputError: they do not; says why.
    """
    try:
        return _stack(series)
    except HeaderError as error:
        raise InputError(f"{series.label}: {error}.") from None


def _stack(series: Series) -> Stack:
    if series.problem:
        raise HeaderError(series.problem)
    frames = series.frames
    if len(frames) < 2:
        raise HeaderError(f"it holds {len(frames)} slices; a volume of at least two is needed")
    if not all(instance.grey for instance in series.instances):
        raise HeaderError("its images are in colour or inverted; plain grey values (MONOCHROME2) are needed")
    axes, spacing = _common(frames)
    row, column = axes[:3], axes[3:]
    normal = np.cross(row, column)
    positions = np.array([frame.position for frame in frames])
    order = np.argsort(positions @ normal, kind="stable")
    frames, positions = tuple(frames[n] for n in order), positions[order]
    _check_steps(frames, np.diff(positions @ normal))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([row * spacing[1], column * spacing[0], _step(positions, normal)], axis=1)
    matrix[:3, 3] = positions[0]
    straight, notes = grid_of(LPS_TO_RAS @ matrix, (len(frames), frames[0].rows, frames[0].columns))
    lossy = ["its images were compressed with loss."] if any(instance.lossy for instance in series.instances) else []
    return Stack(series, frames, straight, (*lossy, *notes))


def _common(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray]:
    """Direction cosines (six) and in-plane spacing (rows, columns) common to all slices.

    Raises:
        HeaderError: they differ between slices, or are missing.
    """
    for name, values in (
        ("Image Position (Patient)", [frame.position for frame in frames]),
        ("Image Orientation (Patient)", [frame.axes for frame in frames]),
        ("Pixel Spacing", [frame.spacing_mm for frame in frames]),
    ):
        missing = values.count(None)
        if missing:
            raise HeaderError(f"{missing} of its {len(frames)} slices have no {name}, so where they lie is not known")
    sizes = Counter((frame.columns, frame.rows) for frame in frames)
    if len(sizes) > 1:
        listed = ", ".join(f"{count} of {width} x {height}" for (width, height), count in sizes.most_common(3))
        raise HeaderError(f"its slices have different sizes ({listed} voxels); it is more than one volume")
    axes = np.array([frame.axes for frame in frames])
    if np.abs(axes - axes[0]).max() > SAME_COSINE:
        turned = int((np.abs(axes - axes[0]).max(axis=1) > SAME_COSINE).sum())
        raise HeaderError(f"its slices have mixed orientations ({turned} of {len(frames)} are turned)")
    row, column = axes[0, :3], axes[0, 3:]
    lengths = np.abs([row @ row - 1, column @ column - 1, row @ column])
    if lengths.max() > SAME_COSINE:
        raise HeaderError("its Image Orientation (Patient) gives no two perpendicular unit vectors")
    spacing = np.array([frame.spacing_mm for frame in frames])
    if not (spacing > 0).all() or np.abs(spacing / spacing[0] - 1).max() > SAME_SPACING:
        raise HeaderError("its slices have different or impossible voxel sizes (Pixel Spacing)")
    unit = np.concatenate([row / np.linalg.norm(row), column / np.linalg.norm(column)])
    return unit, spacing[0]


def _check_steps(frames: Sequence[Frame], steps: np.ndarray) -> None:
    """Check the distances between slices.

    Raises:
        HeaderError: there are duplicate slices, or unequal distances.
    """
    step = float(np.median(steps))
    near = steps < max(SAME_PLACE_SHARE * float(steps.max()), 1e-4)
    if near.any():
        n = int(near.argmax())
        apart = _difference(frames[n], frames[n + 1])
        raise HeaderError(f"{int(near.sum())} of its {len(frames)} slices lie where another one lies{apart}")
    away = np.abs(steps - step)
    if away.max() <= max(UNEVEN_SHARE * step, UNEVEN_MM):
        return
    n = int(away.argmax())
    missing = round(float(steps[n]) / step) - 1
    gap = f"; {missing} seem to be missing" if missing > 0 else ""
    raise HeaderError(
        f"its slices are not equally spaced: {steps[n]:.4g} mm between slices {n + 1} and {n + 2}, {step:.4g} mm "
        f"elsewhere{gap}. Export the whole series again, or resample it"
    )


def _difference(one: Frame, other: Frame) -> str:
    """What distinguishes two images at one position, for a sentence."""
    first, second = dict(one.marks), dict(other.marks)
    differing = [name for name in first | second if first.get(name) != second.get(name)]
    if not differing:
        return ", which nothing tells apart"
    name = differing[0]
    return f", told apart by {name} ({first.get(name, 'none')}, {second.get(name, 'none')}). Export one volume alone"


def _step(positions: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Step from one slice to the next, LPS mm.

    Raises:
        HeaderError: the slices are sheared (gantry tilt), or not on a straight line.
    """
    count = len(positions)
    step = (positions[-1] - positions[0]) / (count - 1)
    length = float(np.linalg.norm(step))
    tilt = math.degrees(math.acos(min(1.0, float(step @ normal) / length)))
    if tilt > HAIR_DEGREES:
        raise HeaderError(
            f"its slices are shifted against each other: gantry tilt of {tilt:.1f} degrees. Resample it onto a grid "
            "with perpendicular axes (3D Slicer corrects it while it loads the series)"
        )
    line = positions[0] + np.arange(count)[:, None] * step
    if np.linalg.norm(positions - line, axis=1).max() > max(UNEVEN_SHARE * length, UNEVEN_MM) * 2:
        raise HeaderError("its slices do not lie on one straight line")
    return np.asarray(step)
