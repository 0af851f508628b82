"""How alike the places of a feature map are among each other: what two networks can share without sharing channels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from DanteSegmenterLib.volume import triple

POOLED = 8
"""Along each axis: 512 places at most, whose similarities are quick to compute."""

# Features of a constant patch are all zero: with a smaller divisor their gradient would exceed all others.
SHORTEST = 1e-4


def pooled_size(features: Tensor) -> tuple[int, int, int]:
    """Places along K, J, I that a map [B, C, K, J, I] is pooled to."""
    return triple(min(POOLED, n) for n in features.shape[2:])


def pooled(features: Tensor) -> Tensor:
    """Means over the cells of a map [B, C, K, J, I] -> [B, places, C] in float32, 512 places at most."""
    return functional.adaptive_avg_pool3d(features.float(), pooled_size(features)).flatten(2).transpose(1, 2)


def self_similarity(places: Tensor) -> Tensor:
    """G = F F^T of places [B, P, C] -> [B, P, P], each row at length 1."""
    return _unit(places @ places.transpose(1, 2))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of vectors along the last axis; 0 where one is zero."""
    return (_unit(a) * _unit(b)).sum(dim=-1)


def _unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=-1, eps=SHORTEST)
