"""Synthetic chest CT with pulmonary embolism, without contrast (NCT) and with contrast (CTPA).

Organs are painted one over the other, each as a depth (see `shapes`) with its density without and with contrast in HU.
The pulmonary arteries are a random tree with emboli in its lumen. In the CTPA emboli are dark in bright blood; without
contrast only a clot's higher density remains, of the order of a single voxel's noise.

Coordinates are millimetres from the pulmonary artery's bifurcation: z up, y to the back, x to the patient's left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..volume import Volume, triple
from .shapes import (
    Coordinates,
    Grid,
    SyntheticPatient,
    Triple,
    ellipsoid_depth,
    interpolate,
    share,
    smooth_noise,
    tube_depth,
)

# Simulated region: K, J, I, centred on the bifurcation.
CHEST_EXTENT_MM: Triple = (200.0, 240.0, 336.0)
NOISE_HU = 20.0
EMBOLISM = 1

# Start, end and the radii there, in mm.
Tube = tuple[Triple, Triple, tuple[float, float]]
# HU without contrast, and with contrast in the phase of the pulmonary arteries.
Density = tuple[float, float]
AIR: Density = (-1000.0, -1000.0)
BLOOD_HU = 40.0
ARTERIES: Density = (BLOOD_HU, 380.0)
VEINS: Density = (BLOOD_HU, 240.0)
# Clotted blood is denser because of its lost water, drawn per patient: emboli visible without contrast reach 55 to 63
# HU and more (Yazici et al. 2024, Clin Exp Emerg Med 11(3)), others stay close to blood. They hardly take up contrast.
CLOT_OVER_BLOOD_HU = (10.0, 30.0)
CLOT_IN_CTPA_HU = 60.0


@dataclass(frozen=True)
class _Branch:
    """A straight vessel segment; mm, (z, y, x). Generation 0 is the trunk, 1 a main artery, 2 a lobar one."""

    start: Triple
    end: Triple
    radii: tuple[float, float]
    generation: int

    def between(self, first: float, last: float) -> tuple[Triple, Triple]:
        """Points at two fractions of the length."""
        ends = (np.array(self.start) + part * np.subtract(self.end, self.start) for part in (first, last))
        at_first, at_last = (triple(map(float, point)) for point in ends)
        return at_first, at_last


def chest_ct(
    seed: int = 0, spacing_mm: Triple = (2.0, 0.7, 0.7), shape: tuple[int, int, int] | None = None
) -> SyntheticPatient:
    """A chest with pulmonary embolism, without and with contrast on one grid.

    Args:
        seed: the patient; the same seed gives the same anatomy and emboli on every grid.
        spacing_mm: voxel size along K, J, I.
        shape: voxels along K, J, I, centred on the bifurcation of the pulmonary artery; the whole chest if None. A
            small shape with a fine spacing is a crop of the hila, with a coarse spacing a small whole chest.

    Returns:
        nct and ctpa (int16, HU) and labels 1 = embolism. A crop may contain no embolism.
    """
    if min(spacing_mm) <= 0 or (shape is not None and min(shape) < 2):
        raise ValueError(f"spacing_mm {spacing_mm} must be positive and shape {shape} at least 2 along each axis")
    for_shape, for_emboli, for_images = np.random.default_rng(seed).spawn(3)
    grid = _centred_grid(spacing_mm, shape)
    clot_hu = BLOOD_HU + for_emboli.uniform(*CLOT_OVER_BLOOD_HU)
    # Body size varies; branches bend a little with the same stretch.
    stretch = for_shape.uniform(0.93, 1.07, 3).astype(np.float32)
    at = triple(c / s for c, s in zip(grid.coordinates(), stretch))
    width_mm = float(np.mean(spacing_mm))

    images = np.full((2, *grid.shape), AIR[0], np.float32)
    for depth, density in _organs(at, _roughness(for_shape, grid)):
        _paint(images, depth, density, width_mm)
    tree = _arteries(for_shape)
    for branches, density in ((_veins(for_shape), VEINS), (tree, ARTERIES)):
        lumen = _tubes_depth(at, ((b.start, b.end, b.radii) for b in branches))
        _paint(images, lumen, density, width_mm)
    _paint(images, _line_depth(at, *_AIRWAY), AIR, width_mm)
    clots = _tubes_depth(at, _emboli(for_emboli, tree))
    # Blood flows around a clot: a rim of contrast remains between it and the wall.
    clots = np.minimum(clots, lumen - np.float32(0.8))
    _paint(images, clots, (clot_hu, CLOT_IN_CTPA_HU), width_mm)
    return _patient(f"SyntheticChest{seed}", grid, _add_noise(for_images, images), clots > 0)


def _patient(name: str, grid: Grid, images: np.ndarray, embolism: np.ndarray) -> SyntheticPatient:
    """Arrays -> volumes; I runs to the left and J to the back, as in an axial CT."""
    k, j, i = grid.spacing_mm
    ijk_to_ras = np.diag([-i, -j, k, 1.0])
    ijk_to_ras[:3, 3] = (-grid.origin_mm[2], -grid.origin_mm[1], grid.origin_mm[0])
    volumes = {id: Volume(image, ijk_to_ras, f"{name}_{id}") for id, image in zip(("nct", "ctpa"), images)}
    labels = Volume(embolism.astype(np.uint8) * np.uint8(EMBOLISM), ijk_to_ras, f"{name}_seg")
    return SyntheticPatient(name, volumes, labels)


def _centred_grid(spacing_mm: Triple, shape: tuple[int, int, int] | None) -> Grid:
    """The voxel grid, centred on the bifurcation."""
    shape = shape or triple(max(2, int(round(extent / s))) for extent, s in zip(CHEST_EXTENT_MM, spacing_mm))
    origin = triple(-0.5 * (n - 1) * s for n, s in zip(shape, spacing_mm))
    return Grid(origin, triple(map(float, spacing_mm)), triple(map(int, shape)))


def _roughness(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """Noise with unit standard deviation for uneven surfaces; drawn for the whole chest, whatever part is needed."""
    lattice = Grid(
        triple(-0.5 * extent for extent in CHEST_EXTENT_MM), (8.0,) * 3, triple(int(e / 8) + 1 for e in CHEST_EXTENT_MM)
    )
    return interpolate(smooth_noise(rng, lattice, 16.0), lattice, grid)


def _paint(images: np.ndarray, depth: np.ndarray, density: Density, width_mm: float) -> None:
    """Paint a shape of uniform density over the images, with partial volume at its surface."""
    depth = np.broadcast_to(depth, images.shape[1:])
    inside = np.flatnonzero(depth > -0.5 * width_mm)
    part = share(depth.ravel()[inside], width_mm)
    for image, hu in zip(images.reshape(len(images), -1), density):
        before = image[inside]
        image[inside] = before + part * (np.float32(hu) - before)


def _add_noise(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Add noise of NOISE_HU with in-plane correlation, as left by a reconstruction kernel; int16."""
    noise = rng.standard_normal((*images.shape[:2], *(n + 1 for n in images.shape[2:])), dtype=np.float32)
    noise = noise[..., 1:, :] + noise[..., :-1, :]
    noise = noise[..., 1:] + noise[..., :-1]
    return np.rint(np.clip(images + np.float32(0.5 * NOISE_HU) * noise, -1024, 3071)).astype(np.int16)


# ----------------------------------------------------------------------------------------------------- organs

# Trachea, left main bronchus, and back at the carina the right one.
_AIRWAY = (
    [(150.0, 28.0, 0.0), (22.0, 26.0, 0.0), (4.0, 26.0, 30.0), (22.0, 26.0, 0.0), (2.0, 24.0, -28.0)],
    [9.0, 8.0, 5.0, 8.0, 5.5],
)
_AORTA = (
    [(-38.0, -8.0, -2.0), (20.0, -34.0, -22.0), (46.0, -6.0, 4.0), (34.0, 36.0, 26.0), (-150.0, 44.0, 16.0)],
    [13.0, 15.0, 13.0, 12.0, 10.5],
)
_VENA_CAVA = ([(110.0, -22.0, -32.0), (-25.0, -16.0, -34.0)], [8.0, 9.0])


def _organs(at: Coordinates, rough: np.ndarray) -> Iterator[tuple[np.ndarray, Density]]:
    """Depth (mm, of the grid's shape) and density of everything but the pulmonary vessels, in painting order."""
    z, y, x = at
    paired = (z, y, np.abs(x))
    flat = (0 * z, y, x)  # the same in every slice
    cage = ellipsoid_depth(at, (-20.0, 2.0, 0.0), (165.0, 88.0, 134.0)) + 1.5 * rough
    yield ellipsoid_depth(flat, (0.0, 4.0, 0.0), (1.0, 114.0, 160.0)) + 2.0 * rough, (-105.0, -105.0)  # skin and fat
    yield cage + 15.0, (50.0, 60.0)  # muscles
    # Ribs: rings in the wall, 26 mm apart, sloping down to the front.
    rings = 4.0 * np.cos((z - 0.45 * y) * np.float32(2 * np.pi / 26)) - 0.8
    yield np.minimum(np.minimum(cage + 9.0, -2.0 - cage), rings), (320.0, 320.0)
    yield cage, (-90.0, -85.0)  # fat between the lungs
    lungs = ellipsoid_depth(paired, (-20.0, 2.0, 74.0), (150.0, 84.0, 58.0)) + 1.5 * rough
    yield np.minimum(lungs, cage - 1.5), (-850.0, -840.0)
    yield ellipsoid_depth(at, (-175.0, 0.0, -10.0), (92.0, 95.0, 130.0)), (55.0, 85.0)  # liver, under the diaphragm
    yield from _heart_and_aorta(at, rough)
    yield from _spine(at, flat)


def _heart_and_aorta(at: Coordinates, rough: np.ndarray) -> Iterator[tuple[np.ndarray, Density]]:
    yield ellipsoid_depth(at, (-60.0, -24.0, 18.0), (44.0, 42.0, 58.0)) + rough, (45.0, 110.0)
    yield ellipsoid_depth(at, (-55.0, -44.0, 6.0), (28.0, 16.0, 28.0)) + rough, ARTERIES  # right ventricle
    yield ellipsoid_depth(at, (-62.0, -16.0, 42.0), (28.0, 20.0, 22.0)), VEINS  # left ventricle
    yield ellipsoid_depth(at, (-48.0, -16.0, -28.0), (26.0, 22.0, 16.0)), ARTERIES  # right atrium
    yield ellipsoid_depth(at, (-28.0, 18.0, 4.0), (15.0, 15.0, 28.0)), VEINS  # left atrium
    yield _line_depth(at, *_AORTA), (BLOOD_HU, 220.0)
    yield _line_depth(at, *_VENA_CAVA), (BLOOD_HU, 500.0)  # the injected arm drains here, not yet diluted


def _spine(at: Coordinates, flat: Coordinates) -> Iterator[tuple[np.ndarray, Density]]:
    z = at[0]
    # Vertebrae of 20 mm, discs of 5 mm.
    vertebrae = 7.0 * np.cos(z * np.float32(2 * np.pi / 25)) + 4.5
    yield ellipsoid_depth(flat, (0.0, 66.0, 0.0), (1.0, 15.0, 18.0)), (80.0, 80.0)
    yield np.minimum(ellipsoid_depth(flat, (0.0, 66.0, 0.0), (1.0, 14.0, 17.0)), vertebrae), (190.0, 195.0)
    yield ellipsoid_depth(flat, (0.0, 92.0, 0.0), (1.0, 14.0, 18.0)), (280.0, 280.0)  # arches and processes
    yield ellipsoid_depth(flat, (0.0, 88.0, 0.0), (1.0, 8.0, 9.0)), (30.0, 30.0)  # canal
    yield ellipsoid_depth(flat, (0.0, -92.0, 0.0), (1.0, 6.0, 18.0)), (170.0, 170.0)  # sternum


# ---------------------------------------------------------------------------------------------------- vessels


def _tubes_depth(at: Coordinates, tubes: Iterable[Tube]) -> np.ndarray:
    """Depth in mm in a set of straight tubes, float32 of the grid's shape; computed only near each of them."""
    depth = np.full(np.broadcast_shapes(*(c.shape for c in at)), -100.0, np.float32)
    for start, end, radii in tubes:
        near = []
        for axis, coordinate in enumerate(c.ravel() for c in at):
            low, high = sorted((start[axis], end[axis]))
            first, last = np.searchsorted(coordinate, (low - max(radii) - 3.0, high + max(radii) + 3.0))
            near.append(slice(int(first), int(last)))
        if any(part.start >= part.stop for part in near):
            continue
        local = triple(
            c[tuple(p if n == axis else slice(None) for n, p in enumerate(near))] for axis, c in enumerate(at)
        )
        depth[tuple(near)] = np.maximum(depth[tuple(near)], tube_depth(local, (start, end), radii))
    return depth


def _line_depth(at: Coordinates, points: Sequence[Triple], radii: Sequence[float]) -> np.ndarray:
    """Depth in mm in a tube along a polyline."""
    return _tubes_depth(at, zip(points[:-1], points[1:], zip(radii[:-1], radii[1:])))


# Directions from a hilum: upper lobe (front, back), middle lobe, lower lobe (front, back).
_LOBES = ((0.9, -0.4, 0.5), (0.8, 0.5, 0.6), (-0.4, -0.7, 0.6), (-0.8, -0.1, 0.6), (-0.9, 0.5, 0.35))


def _arteries(rng: np.random.Generator) -> list[_Branch]:
    """Trunk, the two main arteries and their trees in the lungs."""
    fork, right, left = (0.0, -8.0, 14.0), (-4.0, 10.0, -40.0), (4.0, 14.0, 44.0)
    trunk = _Branch((-40.0, -40.0, 12.0), fork, (14.0, 13.0), 0)
    middle = (2.0, 6.0, -12.0)  # the right one passes behind the ascending aorta
    mains = [_Branch(fork, middle, (11.0, 10.0), 1), _Branch(middle, right, (10.0, 8.5), 1)]
    mains.append(_Branch(fork, left, (11.0, 8.5), 1))
    branches = [trunk, *mains]
    for hilum, side in ((right, -1.0), (left, 1.0)):
        for heading in _LOBES:
            direction = np.array(heading) * (1.0, 1.0, side)
            branches += _grow(rng, np.array(hilum), direction, rng.uniform(5.0, 6.5), generation=2)
    return branches


def _veins(rng: np.random.Generator) -> list[_Branch]:
    """Four veins from the lungs to the left atrium: bright in the CTPA too, without emboli."""
    branches = []
    for up in (0.7, -0.6):
        for side in (-1.0, 1.0):
            start = np.array((-26.0 + 6.0 * up, 18.0, side * 26.0 + 4.0))
            branches += _grow(rng, start, np.array((up, 0.2, side)), rng.uniform(5.0, 6.0), generation=2)
    return branches


def _grow(
    rng: np.random.Generator, start: np.ndarray, direction: np.ndarray, radius: float, generation: int
) -> list[_Branch]:
    """A branch and its descendants, down to vessels of 1 mm radius or the edge of the lung."""
    direction = direction / np.linalg.norm(direction)
    end = start + direction * (2.0 + radius) * rng.uniform(2.8, 4.2)
    z, y, x = end
    in_lung = ellipsoid_depth((z, y, abs(x)), (-20.0, 2.0, 70.0), (150.0, 84.0, 62.0)) > 4.0
    if radius < 0.8 or generation > 9 or not (in_lung or generation == 2):
        return []
    branches = [_Branch(triple(map(float, start)), triple(map(float, end)), (radius, 0.9 * radius), generation)]
    bend = np.cross(direction, rng.standard_normal(3))
    bend /= np.linalg.norm(bend)
    for sign, shrink in ((1.0, rng.uniform(0.72, 0.85)), (-1.0, rng.uniform(0.6, 0.78))):
        child = direction + sign * rng.uniform(0.35, 0.8) * bend
        branches += _grow(rng, end, child, radius * shrink, generation + 1)
    return branches


def _emboli(rng: np.random.Generator, tree: list[_Branch]) -> Iterator[Tube]:
    """Clots in the arteries, as tubes: the first in a main artery, others in lobar to segmental ones."""
    mains = [branch for branch in tree if branch.generation == 1]
    smaller = [branch for branch in tree if branch.generation in (2, 3, 4) and branch.radii[0] > 3.0]
    chosen = [mains[rng.integers(len(mains))]]
    chosen += [smaller[n] for n in rng.choice(len(smaller), rng.integers(3, 8), replace=False)]
    for branch in chosen:
        first, last = rng.uniform(0.0, 0.25), rng.uniform(0.7, 1.0)
        fill = rng.uniform(0.55, 0.85)
        start, end = branch.between(first, last)
        yield start, end, (fill * branch.radii[0], 0.8 * fill * branch.radii[1])
