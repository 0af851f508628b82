"""Diagnostics that Stage 2 logs: magnitudes of and distances between features, and relative gradient norms."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...loop.stage import Term

# As the training itself scales fp16 losses: a gradient of the finest level is below fp16's smallest number.
GRADIENT_SCALE = 65536.0


@dataclass(frozen=True)
class LevelMagnitudes:
    """Feature magnitudes of one level, and the distance between Z^A and Z^L.

    Instance norm after each fusion makes the decoders invariant to a common scale, so the L1 terms can fall by
    shrinking all features without aligning anything; `gap` and `cosine` are invariant to that.
    """

    anchor: float  # mean |Z^A|
    limited: float  # mean |Z^L|
    gap: float  # mean |Z^A - Z^L| / mean |Z^A|
    cosine: float  # mean over positions of cos(z^a, z^l)
    correction: float  # mean |proj| / mean |Z^A|


@torch.no_grad()
def magnitudes(anchor: list[Tensor], limited: list[Tensor], corrections: list[Tensor]) -> list[LevelMagnitudes]:
    """One `LevelMagnitudes` per level."""
    result = []
    for a, z, correction in zip(anchor, limited, corrections):
        a, z = a.float(), z.float()
        size = a.abs().mean().clamp_min(1e-12)
        result.append(
            LevelMagnitudes(
                anchor=size.item(),
                limited=z.abs().mean().item(),
                gap=((a - z).abs().mean() / size).item(),
                cosine=functional.cosine_similarity(a, z, dim=1).mean().item(),
                correction=(correction.float().abs().mean() / size).item(),
            )
        )
    return result


def by_level(anchor: list[Tensor], limited: list[Tensor], corrections: list[Tensor]) -> dict[str, float]:
    """All magnitudes of all levels as `gap_1` etc., finest level first."""
    levels = enumerate(magnitudes(anchor, limited, corrections), start=1)
    return {f"{name}_{n}": value for n, level in levels for name, value in asdict(level).items()}


def gradient_ratios(limited: list[Tensor], segmentation: Term, alignment: Term) -> dict[str, float]:
    """Gradient norm of alignment relative to segmentation at each Z^L_i, as `pull_1` etc., finest level first.

    Includes the terms' weights. Above 1, alignment dominates how these features change.
    """
    result = {}
    norms = [_gradient_norms(term, limited) for term in (segmentation, alignment)]
    for n, (by_segmentation, by_alignment) in enumerate(zip(*norms), start=1):
        result[f"pull_{n}"] = by_alignment / max(by_segmentation, 1e-12)
    return result


def _gradient_norms(term: Term, features: list[Tensor]) -> list[float]:
    """Norms of a term's gradients, all times `GRADIENT_SCALE`."""
    scaled = GRADIENT_SCALE * term.weight * term.value
    gradients = torch.autograd.grad(scaled, features, retain_graph=True, allow_unused=True)
    return [0.0 if g is None else g.float().norm().item() for g in gradients]
