"""Segmentation losses of nnU-Net v2: soft Dice plus cross-entropy, with deep supervision; pure functions in float32.

Source: Isensee et al. 2021 (doi 10.1038/s41592-020-01008-z), with the published code's conventions: the Dice term is
negated (-1 at best, so a loss falls from about 1 towards -1), smoothing 1e-5, Dice per sample, and no background
channel for exclusive labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1e-5


def soft_dice(probabilities: Tensor, target: Tensor) -> Tensor:
    """Negative soft Dice, -mean over samples and channels of (2 sum(pg) + s) / (sum(p) + sum(g) + s); [B, R, ...]."""
    axes = (2, 3, 4)
    intersection = (probabilities * target).sum(axes)
    size = probabilities.sum(axes) + target.sum(axes)
    return -((2 * intersection + SMOOTH) / (size + SMOOTH).clamp_min(1e-8)).mean()


def region_loss(logits: Tensor, regions: Tensor) -> Tensor:
    """Dice + binary cross-entropy for overlapping regions; both [B, R, K, J, I]."""
    logits = logits.float()
    return soft_dice(logits.sigmoid(), regions) + functional.binary_cross_entropy_with_logits(logits, regions)


def label_loss(logits: Tensor, regions: Tensor) -> Tensor:
    """Dice + cross-entropy for mutually exclusive labels: logits [B, 1+R, K, J, I], regions [B, R, K, J, I]."""
    logits = logits.float()
    return soft_dice(logits.softmax(dim=1)[:, 1:], regions) + functional.cross_entropy(logits, labels_of(regions))


def labels_of(regions: Tensor) -> Tensor:
    """Mutually exclusive regions 0/1 [B, R, K, J, I] -> label indices [B, K, J, I], 0 is background."""
    background = 1 - regions.amax(dim=1, keepdim=True)
    return torch.cat((background, regions), dim=1).argmax(dim=1)


LOSSES = {"regions": region_loss, "labels": label_loss}


def deep_supervision_weights(levels: int) -> list[float]:
    """Weights 1, 1/2, 1/4, ..., 0 (coarsest), normalised to sum 1: 8/15, 4/15, 2/15, 1/15, 0 for five levels."""
    if levels == 1:
        return [1.0]
    weights = [0.5**n for n in range(levels - 1)]
    return [weight / sum(weights) for weight in weights] + [0.0]


def segmentation_loss(logits: list[Tensor], regions: Tensor, output: str) -> Tensor:
    """Segmentation loss with deep supervision.

    Args:
        logits: one tensor per decoder resolution, finest first.
        regions: 0/1 [B, R, K, J, I] at full resolution; resampled to coarser levels by nearest neighbour.
        output: "regions" or "labels".
    """
    total = logits[0].new_zeros((), dtype=torch.float32)
    with torch.autocast(logits[0].device.type, enabled=False):
        for weight, level in zip(deep_supervision_weights(len(logits)), logits):
            if weight:
                target = functional.interpolate(regions, size=level.shape[2:], mode="nearest-exact")
                total = total + weight * LOSSES[output](level, target)
    return total
