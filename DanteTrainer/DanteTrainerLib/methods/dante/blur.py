"""A Gaussian-blur baseline that Stage 1's masked reconstruction must beat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .masking import mask_at

# Relative to the block's edge. At 8 voxels, sigma 5 was the best of several (masked error 0.51 of the variance).
SIGMA_OF_BLOCK = 0.6
LAST_PART = 0.25


@torch.no_grad()
def blurred(image: Tensor, mask: Tensor, block: Sequence[int]) -> Tensor:
    """Normalised Gaussian blur of the visible voxels: blur(x m) / blur(m), 0 where no visible voxel is near.

    Args:
        image: [B, C, K, J, I].
        mask: 1 where visible, at block or voxel resolution [B, 1 or C, ...].
        block: edge lengths of a block in voxels.
    """
    visible = mask_at(mask, image.shape[2:]).float()
    near = _gaussian(visible, block)
    return torch.where(near > 1e-6, _gaussian(image.float() * visible, block) / near.clamp_min(1e-6), 0.0)


def _gaussian(x: Tensor, block: Sequence[int]) -> Tensor:
    """Separable Gaussian with zero padding; [B, C, K, J, I]."""
    batch, channels, *size = x.shape
    x = x.reshape(batch * channels, 1, *size)
    for axis, edge in enumerate(block):
        sigma = SIGMA_OF_BLOCK * edge
        reach = math.ceil(3 * sigma)
        offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=torch.float32)
        shape = [1, 1, *(len(offsets) if n == axis else 1 for n in range(3))]
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2).reshape(shape)
        padding = [reach if n == axis else 0 for n in range(3)]
        x = functional.conv3d(x, kernel / kernel.sum(), padding=padding)
    return x.reshape(batch, channels, *size)


def blur_warning(rows: Sequence[Mapping[str, float]]) -> str | None:
    """A warning if a reconstruction ended no better than the blur; None if all did better, or nothing is known.

    The first comparison is made before anything is learned, so a single one, as in a smoke run, tells nothing.

    Args:
        rows: Stage 1's log rows, with `loss_NAME` and `log_blur_NAME` for each reconstruction.
    """
    worse = []
    names = [
        key.removeprefix("log_blur_") for key in dict.fromkeys(k for row in rows for k in row) if "log_blur_" in key
    ]
    for name in names:
        compared = [row for row in rows if f"log_blur_{name}" in row and f"loss_{name}" in row]
        if len(compared) < 2:
            continue
        last = compared[-max(1, round(LAST_PART * len(compared))) :]
        error, blur = (sum(row[f"{key}_{name}"] for row in last) / len(last) for key in ("loss", "log_blur"))
        if error >= blur:
            worse.append(f"{name} {error:.3f} (blur {blur:.3f})")
    if not worse:
        return None
    return (
        f"Stage 1 did not become better than a blur of the visible voxels: masked error {', '.join(worse)}. More "
        "run.pretrain_steps, or another pretrain_optimiser (adamw, 0.001, with a warm-up), may help."
    )
