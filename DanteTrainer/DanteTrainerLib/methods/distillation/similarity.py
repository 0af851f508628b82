"""Similarities between the positions of a feature map, comparable between networks with different channels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from DanteSegmenterLib.volume import triple

POOLED = 8
"""Maximum size along each axis: 512 positions, whose similarities are cheap to compute."""

# Lower bound of the norm. Features of a constant patch are all zero; a smaller one would make their gradient explode.
SHORTEST = 1e-4


def pooled_size(features: Tensor) -> tuple[int, int, int]:
    """Size along K, J, I that a map [B, C, K, J, I] is pooled to."""
    return triple(min(POOLED, n) for n in features.shape[2:])


def pooled(features: Tensor) -> Tensor:
    """Average-pool a map [B, C, K, J, I] -> [B, places, C] in float32, at most 512 places."""
    return functional.adaptive_avg_pool3d(features.float(), pooled_size(features)).flatten(2).transpose(1, 2)


def self_similarity(places: Tensor) -> Tensor:
    """G = F F^T of places [B, P, C] -> [B, P, P], each row normalised to length 1."""
    return _unit(places @ places.transpose(1, 2))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity along the last axis; 0 where a vector is zero."""
    return (_unit(a) * _unit(b)).sum(dim=-1)


def _unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=-1, eps=SHORTEST)
