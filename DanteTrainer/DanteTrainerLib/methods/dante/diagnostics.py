"""What Stage 2 writes down beside its losses: how large and how far apart features are, and what pulls at them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...loop.stage import Term


@dataclass(frozen=True)
class LevelMagnitudes:
    """How large the features of one level are, and how far apart.

    Instance norm after each fusion makes the decoders blind to a common scale, so the L1 terms can fall by shrinking
    all features without aligning anything; `gap` and `cosine` do not fall for that.
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
    """`gap_1` and so on: each magnitude of each level, finest first."""
    levels = enumerate(magnitudes(anchor, limited, corrections), start=1)
    return {f"{name}_{n}": value for n, level in levels for name, value in asdict(level).items()}


def pulls(limited: list[Tensor], segmentation: Term, alignment: Term) -> dict[str, float]:
    """`pull_1` and so on: how much harder alignment pulls at Z^L_i than segmentation does, finest first.

    The ratio of the gradients' norms with the terms' weights; above 1, alignment decides where these features go.
    """
    result = {}
    norms = [_gradient_norms(term, limited) for term in (segmentation, alignment)]
    for n, (by_segmentation, by_alignment) in enumerate(zip(*norms), start=1):
        result[f"pull_{n}"] = by_alignment / max(by_segmentation, 1e-12)
    return result


def _gradient_norms(term: Term, features: list[Tensor]) -> list[float]:
    gradients = torch.autograd.grad(term.weight * term.value, features, retain_graph=True, allow_unused=True)
    return [0.0 if g is None else g.float().norm().item() for g in gradients]
