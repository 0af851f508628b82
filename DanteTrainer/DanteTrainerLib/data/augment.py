"""nnU-Net's default augmentation (batchgeneratorsv2): parameters are drawn first, then applied by a pure function.

Intensity transforms are drawn jointly for the stack of all modalities, so that both pathways of a method see the same
spatial patch and the same limited channels.

As in nnU-Net, intensity transforms leave the background outside a skull-stripped brain unchanged, but transform a CT as
a whole, including air.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from DanteSegmenterLib.preprocess import Background
from DanteSegmenterLib.volume import triple

Per = tuple[float | None, ...]
"""One value per channel; None leaves the channel unchanged."""
Sigmas = tuple[tuple[float, float, float] | None, ...]
"""One value per axis K, J, I of each channel."""


@dataclass(frozen=True)
class Augmentation:
    """Drawn augmentation parameters of one patch.

    Attributes:
        angles: rotation about the K, J, I axes in radians, or None.
        scale: of the sampled region relative to the patch, or None; below 1 zooms in.
        noise: standard deviation, or None; `noise_seed` determines the noise itself.
        blur: sigmas in voxels along K, J, I per channel.
        brightness, contrast: factors per channel.
        resolution: zoom factor of the simulated low resolution per channel.
        gamma_inverted, gamma: exponents per channel.
        shift: added per channel.
        mirror: whether each axis K, J, I is mirrored.
    """

    angles: tuple[float, float, float] | None = None
    scale: float | None = None
    noise: float | None = None
    noise_seed: int = 0
    blur: Sigmas = ()
    brightness: Per = ()
    contrast: Per = ()
    resolution: Per = ()
    gamma_inverted: Per = ()
    gamma: Per = ()
    shift: Per = ()
    mirror: tuple[bool, bool, bool] = (False, False, False)


NONE = Augmentation()
MAX_ANGLE = math.radians(30)


@dataclass(frozen=True)
class Chance:
    """Probability of a transform, and the range of its values.

    Attributes:
        probability: of applying it to a patch.
        each: of then applying it to a given channel.
        low, high: range of its values.
    """

    probability: float
    each: float
    low: float
    high: float


@dataclass(frozen=True)
class Strength:
    """Probability and value range of each transform; the defaults are nnU-Net's.

    Attributes:
        p_rotation, p_scaling: probability that a patch is rotated or scaled.
        noise: standard deviations, one for all channels.
        blur: sigmas in voxels.
        brightness, contrast: factors.
        resolution: zoom factors of the simulated low resolution.
        gamma_inverted, gamma: exponents.
        shift: added; for z-scores the unit is one standard deviation of the brain.
    """

    p_rotation: float = 0.2
    p_scaling: float = 0.2
    noise: Chance = Chance(0.1, 1.0, 0.0, 0.1)
    blur: Chance = Chance(0.2, 0.5, 0.5, 1.0)
    brightness: Chance = Chance(0.15, 1.0, 0.75, 1.25)
    contrast: Chance = Chance(0.15, 1.0, 0.75, 1.25)
    resolution: Chance = Chance(0.25, 0.5, 0.5, 1.0)
    gamma_inverted: Chance = Chance(0.1, 1.0, 0.7, 1.5)
    gamma: Chance = Chance(0.3, 1.0, 0.7, 1.5)
    shift: Chance = Chance(0.0, 0.0, 0.0, 0.0)


# "strong" is more frequent with wider ranges; intensities vary per channel, as scanners differ in single sequences.
STRENGTHS = {
    "nnunet": Strength(),
    "strong": Strength(
        p_rotation=0.5,
        p_scaling=0.5,
        noise=Chance(0.2, 1.0, 0.0, 0.3),
        brightness=Chance(0.2, 0.7, 0.6, 1.6),
        contrast=Chance(0.2, 0.7, 0.5, 1.6),
        gamma_inverted=Chance(0.15, 0.7, 0.5, 2.0),
        gamma=Chance(0.3, 0.7, 0.5, 2.0),
        shift=Chance(0.25, 0.7, -0.5, 0.5),
    ),
}


def draw(generator: np.random.Generator, channels: int, kind: str = "full", strength: str = "nnunet") -> Augmentation:
    """Draw the augmentation parameters of one patch.

    Args:
        channels: number of image channels.
        kind: "full"; "calibrated", without brightness, contrast, gamma and shift, which change the meaning of values;
            "spatial", without intensity transforms (Stage 1).
        strength: a key of STRENGTHS.
    """
    g, s = generator, STRENGTHS[strength]
    angles = triple(g.uniform(-MAX_ANGLE, MAX_ANGLE, 3).tolist()) if g.random() < s.p_rotation else None
    scale = float(g.uniform(0.7, 1.4)) if g.random() < s.p_scaling else None
    mirror = triple(bool(g.random() < 0.5) for _ in range(3))
    if kind == "spatial":
        return Augmentation(angles=angles, scale=scale, mirror=mirror)

    def per(chance: Chance, value: Callable[[float, float], Any]) -> tuple[Any, ...]:
        if g.random() >= chance.probability:
            return ()
        return tuple(value(chance.low, chance.high) if g.random() < chance.each else None for _ in range(channels))

    def around_one(low: float, high: float) -> float:
        """Below or above 1 with equal probability (BGContrast)."""
        return float(g.uniform(low, 1) if g.random() < 0.5 else g.uniform(1, high))

    drawn = Augmentation(
        angles=angles,
        scale=scale,
        noise=float(g.uniform(s.noise.low, s.noise.high)) if g.random() < s.noise.probability else None,
        noise_seed=int(g.integers(1 << 31)),
        blur=per(s.blur, lambda low, high: tuple(g.uniform(low, high, 3).tolist())),
        brightness=per(s.brightness, around_one),
        contrast=per(s.contrast, around_one),
        resolution=per(s.resolution, g.uniform),
        gamma_inverted=per(s.gamma_inverted, around_one),
        gamma=per(s.gamma, around_one),
        shift=per(s.shift, g.uniform),
        mirror=mirror,
    )
    if kind == "full":
        return drawn
    # Drawn nevertheless, so that the remaining parameters are the same as with "full" and runs can be compared in
    # pairs.
    return replace(drawn, brightness=(), contrast=(), gamma_inverted=(), gamma=(), shift=())


def source_size(patch: Sequence[int], augmentation: Augmentation) -> tuple[int, int, int]:
    """Size of the source region that a rotated or scaled patch covers, K, J, I; at least the patch."""
    if augmentation.angles is None and augmentation.scale is None:
        return triple(patch)
    reach = np.abs(_matrix(augmentation)) @ np.array(patch, float)
    return triple(max(size, math.ceil(r) + 2) for size, r in zip(patch, reach))


def apply(
    images: Tensor, regions: Tensor, patch: Sequence[int], augmentation: Augmentation, background: Background
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply drawn parameters.

    Args:
        images: float32 [C, *source_size].
        regions: float32 0/1 [R, *source_size].
        patch: size of the result.
        background: of the images; fills the part of a rotated patch beyond the source.

    Returns:
        images [C, *patch], regions [R, *patch], and the foreground, bool [1, *patch]: voxels that are not background in
            every channel, determined before the intensity transforms.
    """
    empty = torch.tensor(background.values)[:, None, None, None]
    if augmentation.angles is not None or augmentation.scale is not None:
        images, regions = _spatial(images - empty, regions, patch, augmentation)
        images = images + empty
    nothing = images == empty
    kept = nothing & torch.tensor(background.outside)[:, None, None, None]
    results = (
        torch.where(kept, empty, _intensity(images, augmentation)),
        regions,
        ~nothing.all(dim=0, keepdim=True),
    )
    axes = [axis + 1 for axis, mirrored in enumerate(augmentation.mirror) if mirrored]
    images, regions, foreground = (result.flip(axes) if axes else result for result in results)
    return images, regions, foreground


def _matrix(augmentation: Augmentation) -> np.ndarray:
    """Matrix from patch offsets (K, J, I) to source offsets."""
    matrix = np.eye(3) * (augmentation.scale or 1.0)
    for axis, angle in enumerate(augmentation.angles or ()):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return matrix


def _spatial(
    images: Tensor, regions: Tensor, patch: Sequence[int], augmentation: Augmentation
) -> tuple[Tensor, Tensor]:
    """Rotate and scale about the centre, with 0 beyond the source; linear interpolation, regions thresholded at 0.5."""
    source = images.shape[1:]
    offsets = torch.stack(
        torch.meshgrid(*(torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch), indexing="ij"), dim=-1
    )
    moved = offsets @ torch.from_numpy(_matrix(augmentation)).float().T
    # grid_sample expects I, J, K in -1..1 from voxel edge to voxel edge (align_corners=False).
    grid = (moved * (2 / torch.tensor(source, dtype=torch.float32))).flip(-1)
    both = torch.cat((images, regions))[None]
    sampled = functional.grid_sample(both, grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    return sampled[: len(images)], (sampled[len(images) :] > 0.5).float()


def _intensity(images: Tensor, augmentation: Augmentation) -> Tensor:
    a = augmentation
    images = images.clone()
    if a.noise is not None:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(a.noise_seed))
        images += noise * a.noise
    by_channel: tuple[tuple[Callable[..., Tensor], Sequence[object]], ...] = (
        (_blur, a.blur),
        (_brightness, a.brightness),
        (_contrast, a.contrast),
        (_low_resolution, a.resolution),
        (_gamma_inverted, a.gamma_inverted),
        (_gamma, a.gamma),
        (_shift, a.shift),
    )
    for transform, values in by_channel:
        for channel, value in enumerate(values):
            if value is not None:
                images[channel] = transform(images[channel], value)
    return images


def _blur(image: Tensor, sigma: tuple[float, float, float]) -> Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), sigma, truncate=3))


def _brightness(image: Tensor, factor: float) -> Tensor:
    return image * factor


def _contrast(image: Tensor, factor: float) -> Tensor:
    mean = image.mean()
    return ((image - mean) * factor + mean).clamp(image.min(), image.max())


def _low_resolution(image: Tensor, zoom: float) -> Tensor:
    small = [max(1, round(size * zoom)) for size in image.shape]
    down = functional.interpolate(image[None, None], size=small, mode="nearest-exact")
    return functional.interpolate(down, size=tuple(image.shape), mode="trilinear")[0, 0]


def _gamma(image: Tensor, exponent: float) -> Tensor:
    """Gamma correction on the range 0..1; mean and standard deviation are preserved."""
    low, span = image.min(), (image.max() - image.min()).clamp_min(1e-7)
    mean, deviation = image.mean(), image.std()
    curved = ((image - low) / span).clamp_min(1e-7) ** exponent * span + low
    return (curved - curved.mean()) / curved.std().clamp_min(1e-8) * deviation + mean


def _gamma_inverted(image: Tensor, exponent: float) -> Tensor:
    return -_gamma(-image, exponent)


def _shift(image: Tensor, amount: float) -> Tensor:
    return image + amount
