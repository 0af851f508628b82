"""DANTE's transfer losses: masked reconstruction (Stage 1), alignment and compaction (Stage 2).

Each term is a pure function. Pyramids are lists of feature maps [B, C_i, K_i, J_i, I_i], finest first. By default,
values are averaged within a level and the levels are summed: with plain sums a 128^3 level would outweigh the
bottleneck several thousand times, and the segmentation gradient would be clipped away (see `Reduction`). All sums
are accumulated in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .masking import mask_at


def masked_reconstruction(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the masked voxels and all channels (DANTE, eq. 7-9).

    Args:
        prediction, target: [B, C, K, J, I].
        mask: 1 where visible, at block or voxel resolution; [B, 1, ...], or [B, C, ...] with one mask per modality.
    """
    hidden = (1 - mask_at(mask, target.shape[2:])).expand_as(target)
    squares = (prediction.float() - target.float()).square() * hidden
    return squares.sum() / hidden.sum()


@dataclass(frozen=True)
class Reduction:
    """How a pyramid of values is reduced to one: within each level, then over the levels; "mean" or "sum" each.

    A sum within a level is per sample, then averaged over samples; "sum" for both is eq. 3 and 4 literally.
    """

    inside: str = "mean"
    over_levels: str = "sum"

    def of(self, means: Sequence[Tensor], maps: Sequence[Tensor]) -> Tensor:
        """Reduce per-level means `means`, each taken over a map [B, ...] of `maps`."""
        if self.inside == "sum":
            means = [mean * x[0].numel() for mean, x in zip(means, maps)]
        levels = torch.stack(list(means))
        return levels.sum() if self.over_levels == "sum" else levels.mean()


SUM_OF_MEANS = Reduction()


def compaction(corrections: list[Tensor], reduction: Reduction = SUM_OF_MEANS) -> Tensor:
    """L_PIB = sum_i mean |proj_i(...)| (DANTE, eq. 3): penalises the size of the privileged correction."""
    return reduction.of([_MeanAbsolute.apply(correction) for correction in corrections], corrections)


def alignment_l1(anchor: list[Tensor], limited: list[Tensor], reduction: Reduction = SUM_OF_MEANS) -> Tensor:
    """L_Align = sum_i mean |Z^A_i - Z^L_i| (DANTE, eq. 4 with p = 1)."""
    return reduction.of([_MeanAbsolute.apply(a - z) for a, z in zip(anchor, limited)], anchor)


class _MeanAbsolute(torch.autograd.Function):
    """mean |x| accumulated in float32 without a float32 copy: half the time of `x.float().abs().mean()`.

    The backward is exact in any format: it needs only signs, and rounding a difference preserves its sign.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.abs().mean(dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x.sign() * (gradient / x.numel())


def alignment_l2(anchor: list[Tensor], limited: list[Tensor], reduction: Reduction = SUM_OF_MEANS) -> Tensor:
    """sum_i mean (Z^A_i - Z^L_i)^2 (eq. 4 with p = 2, squared because the plain norm has no gradient at 0)."""
    return reduction.of([(a.float() - z.float()).square().mean() for a, z in zip(anchor, limited)], anchor)


def alignment_infonce(
    anchor: list[Tensor],
    limited: list[Tensor],
    foreground: Tensor,
    generator: torch.Generator,
    anchors_per_level: int = 512,
    temperature: float = 0.1,
    both_ways: bool = False,
) -> Tensor:
    """Pixel InfoNCE (DANTE, eq. 5): each anchor z^a must identify its own z^l among those of other positions.

    Args:
        anchor, limited: pyramids Z^A, Z^L.
        foreground: 1 where the image is not background [B, 1, K, J, I]; background positions all look alike and would
            be false negatives.
        generator: draws the positions (on the CPU).
        anchors_per_level: maximum number of positions per level, over the whole batch.
        temperature: tau.
        both_ways: symmetric: each z^l must also identify its own z^a.

    Returns:
        mean cross-entropy over all anchors of all levels; 0 if no level has two foreground positions.
    """
    losses = []
    for a, z in zip(anchor, limited):
        inside = functional.adaptive_max_pool3d(foreground.float(), a.shape[2:]).flatten() > 0
        places = inside.nonzero()[:, 0]
        if len(places) < 2:  # no negatives
            continue
        chosen = places[torch.randperm(len(places), generator=generator)[:anchors_per_level].to(places.device)]
        queries, keys = (functional.normalize(_positions(x)[chosen].float(), dim=1) for x in (a, z))
        logits = queries @ keys.T / temperature
        own = torch.arange(len(chosen), device=a.device)
        for asked in (logits, logits.T) if both_ways else (logits,):
            losses.append(functional.cross_entropy(asked, own, reduction="none"))
    return torch.cat(losses).mean() if losses else anchor[0].sum() * 0.0


def _positions(features: Tensor) -> Tensor:
    """[B, C, K, J, I] -> [B*K*J*I, C]."""
    return features.movedim(1, -1).flatten(0, -2)


GRADIENT: dict[str, Callable[[list[Tensor], list[Tensor]], tuple[list[Tensor], list[Tensor]]]] = {
    "both": lambda anchor, limited: (anchor, limited),
    "to_L": lambda anchor, limited: ([a.detach() for a in anchor], limited),
    "to_A": lambda anchor, limited: (anchor, [z.detach() for z in limited]),
}
"""Which side receives gradients from alignment: both (the paper's mutual alignment), or one as an ablation."""


def channel_normalised(features: list[Tensor]) -> list[Tensor]:
    """Normalise each position's feature vector to length 1, to align directions only (`align_norm = "channel_l2"`)."""
    return [functional.normalize(x.float(), dim=1) for x in features]
