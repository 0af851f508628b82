"""A vision transformer over blocks of voxels (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929), in 3D.

Made of PyTorch's transformer layers. MONAI's are equivalent, but their tensor names change between versions, which
would break model folders, and they need einops, an otherwise unused dependency.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import ModelError
from ...model_folder.architectures import UnetrOptions
from ..part import Part

NORM_EPS = 1e-6
# Ratio of the longest to the shortest wavelength of the sinusoidal positions.
WAVELENGTHS = 10000.0
# 128^3 voxels in blocks of 8^3 are 4096 tokens; time grows quadratically with their number.
MOST_TOKENS = 1 << 15


class Transformer(Part):
    """Pre-norm layers of attention and MLP, and a final norm."""

    def __init__(self, hidden: int, layers: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(hidden, heads, mlp) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden, eps=NORM_EPS)

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """Tokens [B, N, hidden] -> states after every layer, plus the normalised last state."""
        states = []
        for layer in self.layers:
            tokens = layer(tokens)
            states.append(tokens)
        return [*states, self.norm(tokens)]


def _layer(hidden: int, heads: int, mlp: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        hidden, heads, mlp, dropout=0.0, activation="gelu", layer_norm_eps=NORM_EPS, batch_first=True, norm_first=True
    )


class VisionTransformer(nn.Module):
    """Image [B, C, K, J, I] of size `patch` -> states of its tokens, see `Transformer`.

    Raises:
        ModelError: the patch is not a whole number of tokens, or has too many.
    """

    def __init__(self, channels_in: int, patch: tuple[int, int, int], options: UnetrOptions) -> None:
        super().__init__()
        self.token = options.token
        self.grid = grid_of(patch, options.token)
        self.embedding = nn.Linear(channels_in * options.token**3, options.hidden)
        self.positions = nn.Parameter(torch.empty(1, math.prod(self.grid), options.hidden))
        self.transformer = Transformer(options.hidden, options.layers, options.heads, options.mlp)

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.encode(blocks_of(image, self.token), self.positions)

    def encode(self, blocks: Tensor, positions: Tensor) -> list[Tensor]:
        """States of a subset of blocks [B, n, edge^3 C], with their positions [B or 1, n, hidden]."""
        return self.transformer(self.embedding(blocks) + positions)


def grid_of(patch: tuple[int, int, int], token: int) -> tuple[int, int, int]:
    """Number of tokens along K, J, I.

    Raises:
        ModelError: the patch is not a whole number of tokens, or has too many.
    """
    k, j, i = (size // token for size in patch)
    if any(size % token for size in patch) or k * j * i > MOST_TOKENS:
        raise ModelError(
            f"a patch of {'x'.join(map(str, patch))} voxels must be made of whole tokens of {token}^3, at most "
            f"{MOST_TOKENS}; choose another token."
        )
    return k, j, i


def blocks_of(image: Tensor, edge: int) -> Tensor:
    """Image [B, C, K, J, I] -> its blocks in row-major order [B, N, edge^3 C], a voxel's channels adjacent."""
    last = image.movedim(1, -1)  # memory order if channels-last
    for axis in (1, 3, 5):
        last = last.unflatten(axis, (-1, edge))  # finally [B, k, edge, j, edge, i, edge, C]
    return last.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4).flatten(1, 3)


def waves(grid: tuple[int, int, int], hidden: int) -> Tensor:
    """Fixed sinusoidal positions [1, N, hidden]: sines and cosines along each axis, with geometric wavelengths."""
    count = hidden // 6
    frequencies = torch.exp(torch.arange(count) * (-math.log(WAVELENGTHS) / count))
    places = torch.meshgrid(*(torch.arange(float(size)) for size in grid), indexing="ij")
    phases = [place.reshape(-1, 1) * frequencies for place in places]
    return torch.cat([wave(phase) for phase in phases for wave in (torch.sin, torch.cos)], dim=1)[None]


def initialise_transformers(module: nn.Module) -> None:
    """Glorot-uniform weights for all linear maps, including attention; zero biases; sinusoidal positions.

    Masked pre-training keeps these positions fixed; afterwards they are learned.
    """
    for part in module.modules():
        if isinstance(part, VisionTransformer):
            with torch.no_grad():
                part.positions.copy_(waves(part.grid, part.positions.shape[2]))
        elif isinstance(part, nn.MultiheadAttention):
            nn.init.xavier_uniform_(part.in_proj_weight)
            nn.init.zeros_(part.in_proj_bias)
        elif isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
