"""Building blocks of the synthetic patients: smooth noise, depths below surfaces, and tissue fractions.

Shapes are *depths*: fields in millimetres, positive inside and about as large as the distance to the surface. They are
smooth, so they can be computed on a coarse lattice and interpolated to any voxel grid: the same seed gives the same
patient at every spacing, and a fine grid costs little more than a coarse one.

Axis order is K, J, I everywhere; positions are millimetres from the centre of the first 1 mm voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..volume import Volume, triple

# Coordinates (k, j, i) of every node: arrays that broadcast to the lattice's shape.
Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class SyntheticPatient:
    """Co-registered volumes and their ground truth.

    Attributes:
        name: name of the patient.
        volumes: by modality id; all on one grid.
        labels: integer mask on that grid, uint8.
    """

    name: str
    volumes: dict[str, Volume]
    labels: Volume


@dataclass(frozen=True)
class Grid:
    """A regular grid of nodes: the coarse lattice or (a box of) the voxels.

    Attributes:
        origin_mm: position of node (0, 0, 0), K, J, I.
        spacing_mm: distance between nodes, K, J, I.
        shape: number of nodes, K, J, I.
    """

    origin_mm: Triple
    spacing_mm: Triple
    shape: tuple[int, int, int]

    def axis_mm(self, axis: int) -> np.ndarray:
        """Positions of the nodes along one axis, float32 [n]."""
        steps = np.arange(self.shape[axis], dtype=np.float32)
        return np.float32(self.origin_mm[axis]) + np.float32(self.spacing_mm[axis]) * steps

    def coordinates(self, centre_mm: Triple = (0.0, 0.0, 0.0)) -> Coordinates:
        """Positions relative to a point, float32, shapes [K,1,1], [1,J,1], [1,1,I]."""
        k, j, i = (self.axis_mm(axis) - np.float32(centre_mm[axis]) for axis in range(3))
        return k[:, None, None], j[None, :, None], i[None, None, :]

    def box(self, first_mm: Triple, last_mm: Triple) -> tuple[Grid, tuple[slice, slice, slice]]:
        """The part of the grid between two corners, and its position in an array on the whole grid."""
        slices, origin = [], []
        for axis in range(3):
            positions = self.axis_mm(axis)
            inside = np.flatnonzero((positions >= first_mm[axis]) & (positions <= last_mm[axis]))
            slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
            origin.append(float(positions[inside[0]]))
        shape = triple(part.stop - part.start for part in slices)
        return Grid(triple(origin), self.spacing_mm, shape), triple(slices)


def bspline_matrix(count: int, positions: np.ndarray) -> np.ndarray:
    """Cubic B-spline weights of `count` unit-spaced nodes at fractional positions, float32 [len(positions), count].

    The spline is approximating: it preserves linear fields, such as depths, and smooths corners. Ends are repeated.
    """
    base = np.floor(positions).astype(np.int64)
    t = (positions - base).astype(np.float32)
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    matrix = np.zeros((len(positions), count), np.float32)
    rows = np.arange(len(positions))
    for offset, weight in zip((-1, 0, 1, 2), weights):
        np.add.at(matrix, (rows, np.clip(base + offset, 0, count - 1)), weight / np.float32(6))
    return matrix


def interpolate(field: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Interpolate a field from one grid to the nodes of another, float32; one matrix product per axis."""
    for axis in range(3):
        nodes = (target.axis_mm(axis) - source.origin_mm[axis]) / source.spacing_mm[axis]
        matrix = bspline_matrix(source.shape[axis], nodes)
        field = np.moveaxis(np.tensordot(matrix, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def smooth_noise(rng: np.random.Generator, grid: Grid, scale_mm: float | Triple) -> np.ndarray:
    """Random field of mean 0 and standard deviation 1, float32 of the grid's shape.

    Args:
        rng: source of randomness; the numbers drawn depend on the grid's extent, not on its spacing.
        grid: grid to evaluate on.
        scale_mm: size of bumps (about half a wavelength), one number or one per axis.
    """
    scales = (scale_mm,) * 3 if isinstance(scale_mm, (int, float)) else scale_mm
    extent = [n * spacing for n, spacing in zip(grid.shape, grid.spacing_mm)]
    counts = triple(int(np.ceil(length / scale)) + 4 for length, scale in zip(extent, scales))
    origin = triple(start - 1.5 * scale for start, scale in zip(grid.origin_mm, scales))
    coarse = Grid(origin, triple(map(float, scales)), counts)
    field = interpolate(rng.standard_normal(counts, dtype=np.float32), coarse, grid)
    return (field - field.mean()) / field.std()


def ellipsoid_depth(at: Coordinates, centre: Triple, semi_axes: Triple) -> np.ndarray:
    """Approximate depth in mm below an ellipsoid's surface; exact at the surface, negative outside."""
    scaled = [(c - m) / r for c, m, r in zip(at, centre, semi_axes)]
    radius = np.sqrt(sum(s * s for s in scaled))
    slope = np.sqrt(sum((s / r) ** 2 for s, r in zip(scaled, semi_axes)))
    tiny = 1e-4  # avoids 0 / 0 at the centre, where the depth is the smallest semi-axis
    return (radius + tiny) * (1 - radius) / (slope + tiny / min(semi_axes))


def tube_depth(at: Coordinates, points: Sequence[Triple], radii: Sequence[float]) -> np.ndarray:
    """Depth in mm inside a tube along a polyline, its radius interpolated between the points; negative outside."""
    depth: np.ndarray = np.array(-np.inf, np.float32)
    for start, end, r_start, r_end in zip(points[:-1], points[1:], radii[:-1], radii[1:]):
        direction = [b - a for a, b in zip(start, end)]
        length_squared = sum(d * d for d in direction)
        along = sum((c - a) * d for c, a, d in zip(at, start, direction)) / np.float32(length_squared)
        along = np.clip(along, 0, 1)
        distance = np.sqrt(sum((c - a - along * d) ** 2 for c, a, d in zip(at, start, direction)))
        depth = np.maximum(depth, r_start + along * (r_end - r_start) - distance)
    return depth


def join(first: np.ndarray, second: np.ndarray, blend_mm: float) -> np.ndarray:
    """Union of two shapes with a fillet of about `blend_mm` where they meet."""
    overlap = np.maximum(blend_mm - np.abs(first - second), 0) / np.float32(blend_mm)
    return np.maximum(first, second) + overlap * overlap * np.float32(blend_mm / 4)


def share(depth: np.ndarray, width_mm: float) -> np.ndarray:
    """Fraction of a voxel inside a shape, 0 to 1, for a plane edge and a voxel of `width_mm`."""
    return np.clip(depth * np.float32(1 / width_mm) + np.float32(0.5), 0, 1)


def threshold_of_volume(field: np.ndarray, volume_mm3: float, node_mm3: float) -> float:
    """The value below which `field` covers the given volume."""
    count = int(round(volume_mm3 / node_mm3))
    return float(np.partition(field, count, axis=None)[count])
