"""A vision transformer over blocks of voxels (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929), in 3D.

Of PyTorch's own transformer layers. MONAI's compute the same, but have other tensors from version to version, which a
model folder must not, and need einops, which nothing else here does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import ModelError
from ...model_folder.architectures import UnetrOptions
from ..part import Part

NORM_EPS = 1e-6
# Of the sines and cosines, the longest wave is so many times as long as the shortest.
WAVELENGTHS = 10000.0
# 128^3 voxels in blocks of 8^3 are 4096 tokens; time grows with the square of their number.
MOST_TOKENS = 1 << 15


class Transformer(Part):
    """Layers of attention and MLP, normalised first (pre-norm), and a last norm."""

    def __init__(self, hidden: int, layers: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(hidden, heads, mlp) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden, eps=NORM_EPS)

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """Tokens [B, N, hidden] -> tokens after every layer, and those after the last once more, normalised."""
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
    """Image [B, C, K, J, I] of the size `patch` -> states of its tokens, see `Transformer`.

    Raises:
        ModelError: the patch is not made of whole tokens, or of too many.
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
        """States of some blocks [B, n, edge^3 C] alone, with their positions [B or 1, n, hidden]."""
        return self.transformer(self.embedding(blocks) + positions)


def grid_of(patch: tuple[int, int, int], token: int) -> tuple[int, int, int]:
    """Tokens along K, J, I.

    Raises:
        ModelError: the patch is not made of whole tokens, or of too many.
    """
    k, j, i = (size // token for size in patch)
    if any(size % token for size in patch) or k * j * i > MOST_TOKENS:
        raise ModelError(
            f"a patch of {'x'.join(map(str, patch))} voxels must be made of whole tokens of {token}^3, at most "
            f"{MOST_TOKENS}; choose another token."
        )
    return k, j, i


def blocks_of(image: Tensor, edge: int) -> Tensor:
    """Image [B, C, K, J, I] -> its blocks row by row [B, N, edge^3 C], the channels of a voxel side by side."""
    last = image.movedim(1, -1)  # the memory's own order where it is channels-last
    for axis in (1, 3, 5):
        last = last.unflatten(axis, (-1, edge))  # [B, k, edge, j, edge, i, edge, C] in the end
    return last.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4).flatten(1, 3)


def waves(grid: tuple[int, int, int], hidden: int) -> Tensor:
    """Fixed positions [1, N, hidden]: along each axis, sines and cosines of wavelengths that grow geometrically."""
    count = hidden // 6
    frequencies = torch.exp(torch.arange(count) * (-math.log(WAVELENGTHS) / count))
    places = torch.meshgrid(*(torch.arange(float(size)) for size in grid), indexing="ij")
    phases = [place.reshape(-1, 1) * frequencies for place in places]
    return torch.cat([wave(phase) for phase in phases for wave in (torch.sin, torch.cos)], dim=1)[None]


def initialise_transformers(module: nn.Module) -> None:
    """Glorot's uniform weights for every linear map, those of attention included, biases zero; positions are waves.

    The masked pre-training has these positions too; from there they are learned.
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
