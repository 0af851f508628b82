"""Synthetic brain MR with a glioma: T1, T1ce, T2, FLAIR, and a ground-truth mask.

Shapes (see `brain_anatomy`) are interpolated to voxels and converted to tissue fractions; a table of signals per tissue
and sequence turns them into images. The table follows median signals in 24 cases of BraTS 2021, each sequence z-scored
over the brain.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

import numpy as np
from scipy import ndimage

from ..volume import Volume, triple
from .brain_anatomy import LATTICE, MENINGES_MM, RIBBON_MM, Anatomy, Tumour, cortex_depth, patient_shapes
from .shapes import Grid, SyntheticPatient, Triple, interpolate, share, smooth_noise

HEAD_EXTENT_MM: Triple = (155.0, 240.0, 240.0)  # BraTS's world

NECROSIS, OEDEMA, ENHANCING = 1, 2, 4

TISSUES = ("white", "grey", "csf", "rim", "vessel", "oedema", "necrosis", "enhancing")
TUMOUR = slice(5, 8)
# By tissue, in arbitrary units as in scanners. "rim" is the part of the meninges left by skull stripping, dark in all.
# The tumour enhances only in T1ce; without contrast its enhancing part looks like its surroundings.
SIGNALS: dict[str, tuple[float, ...]] = {
    "t1": (740, 590, 110, 30, 400, 630, 560, 620),
    "t1ce": (710, 600, 110, 140, 1500, 620, 560, 1060),
    "t2": (310, 420, 1200, 80, 200, 640, 770, 580),
    "flair": (475, 575, 130, 30, 300, 740, 790, 760),
}
# Blur of the acquisition, K, J, I in mm: T2 and FLAIR are mostly acquired in thick slices.
BLUR_MM: dict[str, Triple] = {
    "t1": (0.6, 0.6, 0.6),
    "t1ce": (0.6, 0.6, 0.6),
    "t2": (1.2, 0.6, 0.6),
    "flair": (1.2, 0.7, 0.7),
}
NOISE = 0.03  # relative to the mean signal, in a 1 mm voxel
UNEVENNESS = ((0.035, 70.0), (0.02, 14.0), (0.02, 5.0))  # relative standard deviation, and scale in mm
SULCUS_MM = 0.8  # half the width of a sulcus at its opening; its walls touch further down

Shapes = TypeVar("Shapes", Anatomy, Tumour)


def brain_mr(seed: int = 0, spacing_mm: float = 1.0) -> SyntheticPatient:
    """A brain with a glioma, skull-stripped and co-registered as in BraTS.

    Args:
        seed: the patient; the same seed gives the same anatomy and tumour at every spacing.
        spacing_mm: of the isotropic grid, which covers BraTS's 240x240x155 mm.

    Returns:
        t1, t1ce, t2, flair (int16, background exactly 0) and labels 1 = necrotic and non-enhancing core, 2 = oedema,
        4 = enhancing tumour; shape [155, 240, 240] / spacing_mm.
    """
    if not 0.5 <= spacing_mm <= 8:
        raise ValueError(f"spacing_mm is {spacing_mm}; between 0.5 and 8 is needed")
    for_shape, for_tumour, for_images = np.random.default_rng(seed).spawn(3)
    anatomy, tumour = patient_shapes(for_shape, for_tumour)
    grid, whole_shape, ijk_to_ras = _voxels(spacing_mm)
    box, where = grid.box(LATTICE.origin_mm, tuple(LATTICE.axis_mm(axis)[-1] for axis in range(3)))
    inside = interpolate(anatomy.hull, LATTICE, box) > 0
    shares, labels = _tissues(anatomy, tumour, box, inside, spacing_mm)

    def volume(values: np.ndarray, name: str) -> Volume:
        """Place values of the voxels inside the brain on the whole grid."""
        array = np.zeros(whole_shape, values.dtype)
        array[where][inside] = values
        return Volume(array, ijk_to_ras, name)

    name = f"SyntheticBrain{seed}"
    volumes = {
        id: volume(_image(rng, id, shares, box, inside), f"{name}_{id}")
        for id, rng in zip(SIGNALS, for_images.spawn(len(SIGNALS)))
    }
    return SyntheticPatient(name, volumes, volume(labels, f"{name}_seg"))


def _voxels(spacing_mm: float) -> tuple[Grid, tuple[int, int, int], np.ndarray]:
    """BraTS's grid at a spacing: voxels are blocks of the 1 mm grid, so their centres shift by half the difference."""
    shape = triple(int(extent / spacing_mm + 1e-6) for extent in HEAD_EXTENT_MM)
    half = 0.5 * (spacing_mm - 1.0)
    ijk_to_ras = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    ijk_to_ras[:3, 3] = (-half, 239.0 - half, half)
    return Grid((half,) * 3, (spacing_mm,) * 3, shape), shape, ijk_to_ras


def _on_voxels(shapes: Shapes, box: Grid, inside: np.ndarray) -> Shapes:
    """The same fields at the voxels of the brain, each [N]."""
    return type(shapes)(**{f.name: interpolate(getattr(shapes, f.name), LATTICE, box)[inside] for f in fields(shapes)})


def _tissues(
    anatomy: Anatomy, tumour: Tumour, box: Grid, inside: np.ndarray, spacing_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of the TISSUES in each voxel of the brain, float32 [tissue, N], and its label, uint8 [N]."""
    a, t = _on_voxels(anatomy, box, inside), _on_voxels(tumour, box, inside)
    width = max(spacing_mm, 1.0)
    # Swelling closes the sulci.
    cortex = cortex_depth(a) + np.float32(0.8) * share(t.core + 14.0, 20.0)
    csf = 1 - share(cortex - np.float32(SULCUS_MM) * np.clip(1.2 - a.hull / 8, 0.1, 1.0), width)
    white = share(cortex - np.float32(RIBBON_MM), 1.5 * width)
    nuclei = share(a.nuclei, 1.5 * width)
    ventricle = share(a.ventricles, width)
    csf = np.maximum(csf, ventricle)
    white = (white + nuclei * (0.6 - white)) * (1 - csf)
    rim = 1 - share(a.hull - np.float32(MENINGES_MM) * (1 + np.float32(0.5) * a.texture), 1.5)
    # Vessels are lines where a second family of sheets intersects the sulci.
    vessel = share(1.0 - np.abs(a.vessel), width) * csf * (1 - ventricle)

    core, necrosis = share(t.core, width), share(t.necrosis + 1.1 * a.texture, 4.0)
    # Oedematous tissue keeps some of its own signal, more so towards the border.
    severity = np.clip(0.75 + 0.25 * share(t.whole - 6.0, 12.0) + 0.1 * a.texture, 0, 1)
    swollen = severity * share(t.whole + a.texture, 3.0)
    outside, tissue = (1 - core) * (1 - rim), 1 - csf
    around = outside * (1 - vessel)
    shares = [
        around * (1 - swollen) * white,
        around * (1 - swollen) * (tissue - white),
        around * csf,
        (1 - core) * rim,
        outside * vessel,
        around * swollen * tissue,
        core * necrosis,
        core * (1 - necrosis),
    ]

    labels = np.select([t.necrosis > 0, t.core > 0, t.whole > 0], [NECROSIS, ENHANCING, OEDEMA], 0)
    return np.stack(shares).astype(np.float32), labels.astype(np.uint8)


def _image(rng: np.random.Generator, modality: str, shares: np.ndarray, box: Grid, inside: np.ndarray) -> np.ndarray:
    """Simulate the scanner: signal, blur, coil shading and noise; int16 [N], never 0."""
    signals = np.array(SIGNALS[modality], np.float32) * rng.normal(1.0, 0.015, len(TISSUES)).astype(np.float32)
    image = np.zeros(box.shape, np.float32)
    image[inside] = signals @ shares
    ndimage.gaussian_filter(image, [blur / s for blur, s in zip(BLUR_MM[modality], box.spacing_mm)], output=image)
    # Coil shading, and inhomogeneous tissue.
    shading, blotches, texture = (amount * smooth_noise(rng, LATTICE, scale_mm) for amount, scale_mm in UNEVENNESS)
    shading, uneven = (interpolate(field, LATTICE, box)[inside] for field in (shading, blotches + texture))
    signal = image[inside] * (1 + shading + uneven * (1 + 2 * shares[TUMOUR].sum(axis=0)))
    # A voxel with twice the edge length averages eight, but their noise is correlated by the co-registration.
    deviation = np.float32(NOISE * signal.mean() / np.sqrt(box.spacing_mm[0]))
    real, imaginary = deviation * rng.standard_normal((2, signal.size), dtype=np.float32)
    return np.maximum(np.rint(np.hypot(signal + real, imaginary)), 1).astype(np.int16)
