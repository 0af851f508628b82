"""Anatomy of a synthetic brain and a glioma, as depths on a coarse lattice (see `shapes`).

Sizes follow the average brain mask and the median volumes of BraTS 2021. Coordinates are millimetres from the brain's
centre: z up, y to the back, x to the patient's left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import ndimage

from ..volume import triple
from .shapes import (
    Coordinates,
    Grid,
    Triple,
    ellipsoid_depth,
    join,
    share,
    smooth_noise,
    threshold_of_volume,
    tube_depth,
)

# The brain's position in BraTS's world coordinates, and the lattice around it.
CENTRE_MM: Triple = (72.0, 126.0, 118.5)
LATTICE = Grid((0.0, 30.0, 44.0), (2.0, 2.0, 2.0), (72, 96, 76))
NODE_MM3 = 8.0

RIBBON_MM = 3.2  # thickness of the cortex
MENINGES_MM = 1.6  # what skull stripping leaves outside the brain


@dataclass(frozen=True)
class Anatomy:
    """Depths on the lattice in mm, positive inside; `fold`, `midline` and `sylvian` are signed distances from a sheet,
    `vessel` from a second family of sheets; `texture` is noise with unit standard deviation.

    A sheet of CSF exists only where its `*_inside` (distance beyond the sheet's end) is not positive.
    """

    hull: np.ndarray
    fold: np.ndarray
    fold_inside: np.ndarray
    midline: np.ndarray
    midline_inside: np.ndarray
    sylvian: np.ndarray
    sylvian_inside: np.ndarray
    cerebellum: np.ndarray
    stem: np.ndarray
    ventricles: np.ndarray
    nuclei: np.ndarray
    vessel: np.ndarray
    texture: np.ndarray


@dataclass(frozen=True)
class Tumour:
    """Depths on the lattice in mm, positive inside."""

    necrosis: np.ndarray
    core: np.ndarray
    whole: np.ndarray


def patient_shapes(shape_rng: np.random.Generator, tumour_rng: np.random.Generator) -> tuple[Anatomy, Tumour]:
    """One person's brain and the tumour in it, on LATTICE."""
    at = LATTICE.coordinates(CENTRE_MM)
    centre = _tumour_centre(tumour_rng)
    anatomy = _anatomy(shape_rng, at, centre)
    return anatomy, _tumour(tumour_rng, at, centre, anatomy)


# ---------------------------------------------------------------------------------------------------- anatomy


def _anatomy(rng: np.random.Generator, at: Coordinates, tumour_centre: Triple) -> Anatomy:
    """One person's brain, with its inner structures displaced by the tumour."""
    at = _individual(rng, at)
    hull, cerebellum, stem = _outer_shapes(at)
    hull = hull + 0.8 * smooth_noise(rng, LATTICE, 8.0)
    z, y, x = pushed = _pushed(at, tumour_centre)
    fold, fold_inside = _folding(rng, pushed, hull, cerebellum)
    # Corpus callosum, thalami and midbrain join the hemispheres: no fissure there.
    joined = ellipsoid_depth((z, y, 0 * x), (4.0, 2.0, 0.0), (26.0, 46.0, 1.0))
    sylvian = (z - 0.4 * y + 2.0) * 0.93 + 2.0 * smooth_noise(rng, LATTICE, 15.0)
    sylvian_inside = np.maximum(np.maximum(36.0 - np.abs(x), y - 28.0), -48.0 - y)
    return Anatomy(
        hull=hull,
        fold=fold,
        fold_inside=fold_inside,
        midline=x + 1.2 * smooth_noise(rng, LATTICE, 14.0),
        midline_inside=joined,
        sylvian=sylvian,
        sylvian_inside=sylvian_inside,
        cerebellum=cerebellum,
        stem=stem,
        ventricles=_ventricles(pushed, size=rng.uniform(0.85, 1.3)),
        nuclei=_deep_nuclei(pushed) + 0.7 * smooth_noise(rng, LATTICE, 8.0),
        vessel=_sheet_distance(smooth_noise(rng, LATTICE, 9.0)),
        texture=smooth_noise(rng, LATTICE, 5.0),
    )


def _individual(rng: np.random.Generator, at: Coordinates) -> Coordinates:
    """Coordinates deformed by a smooth displacement of some millimetres, to vary anatomy between patients."""
    return triple(c + np.float32(2.5) * smooth_noise(rng, LATTICE, 45.0) for c in at)


def _pushed(at: Coordinates, centre: Triple) -> Coordinates:
    """Position in the healthy brain of tissue seen at a place: the tumour displaced it outward by up to 7 mm."""
    squared = sum((c - m) ** 2 for c, m in zip(at, centre))
    push = np.float32(0.4) * np.exp(-squared / np.float32(35.0**2))
    return triple(c - (c - m) * push for c, m in zip(at, centre))


def _outer_shapes(at: Coordinates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depths below the outer surface, in the cerebellum and in the brain stem."""
    z, y, x = at
    paired = (z, y, np.abs(x))
    # Flat below: the frontal lobe ends at the orbital roof, the occipital lobe at the tentorium, a little lower.
    floor = 0.95 * (z + 20.0 + 0.08 * y)
    cerebrum = np.minimum(ellipsoid_depth(at, (4.0, -2.0, 0.0), (62.0, 84.0, 66.0)), floor)
    temporal = ellipsoid_depth(paired, (-25.0, -14.0, 44.0), (21.0, 42.0, 20.0))
    cerebellum = ellipsoid_depth(paired, (-42.0, 38.0, 20.0), (25.0, 31.0, 32.0))
    stem = tube_depth(at, [(-12.0, -2.0, 0.0), (-30.0, 4.0, 0.0), (-62.0, 15.0, 0.0)], [14.0, 14.0, 9.0])
    hull = join(join(cerebrum, temporal, 5.0), join(cerebellum, stem, 6.0), 3.0)
    return hull, cerebellum, stem


def _sheet_distance(noise: np.ndarray) -> np.ndarray:
    """Signed distance in mm from the zero surfaces of a noise field, up to 8 mm."""
    slope = np.sqrt(sum(g * g for g in np.gradient(noise, *LATTICE.spacing_mm)))
    return np.clip(noise / np.maximum(slope, 0.02), -8, 8)


def _folding(
    rng: np.random.Generator, at: Coordinates, hull: np.ndarray, cerebellum: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sulci: signed distance in mm, and how far a place is below their floor in mm.

    Zero surfaces of noise form a labyrinth like sulci. The noise is sampled closer to the outer surface than the place
    itself, so that the surfaces run inward instead of along the cortex.
    """
    noise = smooth_noise(rng, LATTICE, 5.6)
    radius = np.sqrt(sum((c / r) ** 2 for c, r in zip(at, (66.0, 84.0, 66.0))))
    stretch = np.clip(radius, 0.35, 1.2) ** -0.6
    nodes = [(c * stretch + m - o) / s for c, m, o, s in zip(at, CENTRE_MM, LATTICE.origin_mm, LATTICE.spacing_mm)]
    radial = ndimage.map_coordinates(noise, nodes, order=1, mode="nearest")
    fold = _sheet_distance(ndimage.gaussian_filter(radial, 0.7))
    depth_noise = smooth_noise(rng, LATTICE, 20.0)
    fold_inside = hull - (16.0 + 5.0 * depth_noise)
    # The cerebellum's folia are nested like shells, about 6 mm apart.
    z, y, x = at
    leaves = 1.9 * np.sin(np.sqrt(z**2 + (y - 5.0) ** 2 + 0.4 * x**2) * np.float32(np.pi / 6) + 0.8 * noise)
    in_cerebellum = cerebellum > 0
    leaves_inside = cerebellum - 12.0 + 2.5 * depth_noise
    return np.where(in_cerebellum, leaves, fold), np.where(in_cerebellum, leaves_inside, fold_inside)


def _ventricles(at: Coordinates, size: float) -> np.ndarray:
    """Depth in the lateral ventricles with their horns, and in the third and fourth ventricle."""
    z, y, x = at
    paired = (z, y, np.abs(x))
    body = [(8.0, -36.0, 7.0), (16.0, -16.0, 9.0), (20.0, 10.0, 13.0), (9.0, 34.0, 24.0)]
    lateral = tube_depth(paired, [*body, (2.0, 60.0, 25.0)], [3.5, 5.0, 5.0, 6.5, 2.0])
    temporal = tube_depth(paired, [body[-1], (-12.0, 18.0, 34.0), (-19.0, -6.0, 30.0)], [5.0, 2.5, 1.5])
    third = ellipsoid_depth(at, (-1.0, 2.0, 0.0), (10.0, 14.0, 2.5))
    fourth = ellipsoid_depth(at, (-40.0, 21.0, 0.0), (9.0, 4.5, 8.0))
    return np.maximum.reduce([lateral, temporal, third, fourth]) + np.float32(3.0 * (size - 1.0))


def _deep_nuclei(at: Coordinates) -> np.ndarray:
    """Depth in thalami, caudate and lentiform nuclei."""
    z, y, x = at
    paired = (z, y, np.abs(x))
    thalamus = ellipsoid_depth(paired, (3.0, 10.0, 10.0), (9.0, 15.0, 9.0))
    caudate = ellipsoid_depth(paired, (8.0, -20.0, 15.0), (10.0, 12.0, 5.0))
    lentiform = ellipsoid_depth(paired, (1.0, -6.0, 25.0), (10.0, 18.0, 6.5))
    return np.maximum.reduce([thalamus, caudate, lentiform])


def cortex_depth(a: Anatomy) -> np.ndarray:
    """Distance in mm from the nearest CSF outside or in a sulcus or fissure: negative in the meninges."""
    depth = a.hull - np.float32(MENINGES_MM)
    for sheet, end in ((a.fold, a.fold_inside), (a.midline, a.midline_inside), (a.sylvian, a.sylvian_inside)):
        depth = np.minimum(depth, np.maximum(np.abs(sheet), end))
    # The tentorium separates cerebrum and cerebellum; the brain stem connects to both.
    depth = np.minimum(depth, np.abs(a.cerebellum))
    return np.maximum(depth, np.minimum(a.stem, a.hull - np.float32(MENINGES_MM)))


# ----------------------------------------------------------------------------------------------------- tumour


def _tumour_centre(rng: np.random.Generator) -> Triple:
    """A place in the white matter of one hemisphere, about 28 mm below the surface, with space for the core."""
    side = -1.0 if rng.random() < 0.5 else 1.0
    while True:
        z, y, x = rng.uniform((4.0, -42.0, 28.0), (30.0, 44.0, 42.0))
        depth = ellipsoid_depth((z, y, x), (4.0, -2.0, 0.0), (62.0, 84.0, 66.0))
        if 24.0 <= depth <= 30.0:
            return float(z), float(y), float(side * x)


def _tumour(rng: np.random.Generator, at: Coordinates, centre: Triple, anatomy: Anatomy) -> Tumour:
    """Necrotic core, enhancing rim and oedema with typical volumes: BraTS's median core is a third of the whole."""
    whole_mm3 = 1000.0 * rng.uniform(65.0, 115.0)
    core_mm3 = whole_mm3 * rng.uniform(0.25, 0.38)
    stretch = rng.uniform(0.85, 1.15, 3)
    distance = np.sqrt(sum(((c - m) / np.float32(s)) ** 2 for c, m, s in zip(at, centre, stretch)))
    own_side = np.float32(np.sign(centre[2])) * anatomy.midline

    bumpy = distance * (1 + 0.16 * smooth_noise(rng, LATTICE, 13.0) + 0.07 * smooth_noise(rng, LATTICE, 6.0))
    core = _of_volume(bumpy, core_mm3, np.minimum(anatomy.hull - 2.5, own_side - 2.0))
    core = _connected(core, 6.0 - distance)
    # Necrosis roughly follows the core's outline: the rim varies in thickness, at least 2 mm.
    hollow = 0.15 * smooth_noise(rng, LATTICE, 9.0) + 0.07 * smooth_noise(rng, LATTICE, 5.0)
    cavity = 0.6 * bumpy + (0.4 + hollow) * distance
    necrosis = _of_volume(cavity, core_mm3 * rng.uniform(0.4, 0.55), core - 3.0)

    # Oedema spreads along white matter: cortex, deep nuclei and the other hemisphere count as further away.
    grey = 1 - share(cortex_depth(anatomy) - np.float32(RIBBON_MM), 3.0) + 2.0 * (anatomy.cerebellum > 0)
    nuclei, across = share(anatomy.nuclei, 3.0), share(-own_side - 1.0, 4.0)
    spread = distance + np.minimum(distance, 30.0) * 0.22 * smooth_noise(rng, LATTICE, 14.0)
    spread = np.minimum(spread + 9.0 * grey + 10.0 * nuclei + 20.0 * across, -core)  # the core itself comes first
    whole = _of_volume(spread, whole_mm3, np.minimum(anatomy.hull - 1.5, -anatomy.ventricles))
    whole = _connected(whole, core)
    whole = np.maximum(np.minimum(np.maximum(whole, core + 2.5), anatomy.hull - 1.0), core)
    return Tumour(necrosis, core, whole)


def _of_volume(distance: np.ndarray, volume_mm3: float, room: np.ndarray) -> np.ndarray:
    """Depth of the nearest places (by a distance-like field) that fill a volume within `room` (depth in mm)."""
    radius = threshold_of_volume(np.where(room > 0, distance, np.inf), volume_mm3, NODE_MM3)
    return np.minimum(radius - distance, room)


def _connected(depth: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Remove parts of a shape (depth in mm) that touch no place of the seed shape; thin bridges do not count."""
    parts, _ = cast("tuple[np.ndarray, int]", ndimage.label(depth > 0.7))
    kept = ndimage.binary_dilation(np.isin(parts, np.setdiff1d(parts[seed > 0], [0])))
    return np.where((depth > 0) & ~kept, np.float32(-1.0), depth)
