"""Masked autoencoding of a vision transformer (He et al., CVPR 2022; in 3D Zhou et al., ISBI 2023, SelfMedMAE).

The encoder sees only the visible tokens. A smaller transformer, discarded after pre-training, receives its states plus
a learned token for each masked one and predicts their voxels, all channels jointly, normalised per block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.model_folder.architectures import UnetrOptions
from DanteSegmenterLib.networks.baselines.vision_transformer import Transformer, VisionTransformer, blocks_of, waves

from ...loop.stage import StepContext

# Added to a block's variance, so that constant background normalises to 0.
BLOCK_EPS = 1e-6


class Reconstruction(nn.Module):
    """Predict masked tokens' normalised voxels [B, hidden tokens, edge^3 C] from the visible tokens' states."""

    positions: Tensor

    def __init__(self, encoder: VisionTransformer, options: UnetrOptions) -> None:
        super().__init__()
        self.embedding = nn.Linear(encoder.embedding.out_features, options.hidden)
        self.token = nn.Parameter(torch.empty(1, 1, options.hidden))
        nn.init.normal_(self.token, std=0.02)
        self.register_buffer("positions", waves(encoder.grid, options.hidden))
        self.transformer = Transformer(options.hidden, options.layers, options.heads, options.mlp)
        self.head = nn.Linear(options.hidden, encoder.embedding.in_features)

    def forward(self, states: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """`visible` and `hidden` are token indices [B, n] that together cover all tokens."""
        known = self.embedding(states)
        shape = (len(known), visible.shape[1] + hidden.shape[1], known.shape[2])
        places = visible[:, :, None].expand_as(known)
        tokens = self.token.to(known.dtype).expand(shape).scatter(1, places, known)
        return self.head(rows_at(self.transformer(tokens + self.positions)[-1], hidden))


def reconstruction_error(
    encoder: VisionTransformer, decoder: Reconstruction, image: Tensor, order: Tensor, seen: int
) -> tuple[Tensor, Tensor]:
    """The reconstruction loss, and for reference the error of predicting each block's mean; both in float32.

    Args:
        image: [B, C, K, J, I].
        order: shuffled token indices [B, N].
        seen: number of visible tokens; the first `seen` of `order`.

    Returns:
        mean squared errors over the voxels and channels of masked tokens.
    """
    blocks, (visible, hidden) = blocks_of(image, encoder.token), order.tensor_split([seen], dim=1)
    # Positions are fixed during pre-training, learned afterwards.
    positions = encoder.positions.detach().expand(len(blocks), -1, -1)
    states = encoder.encode(rows_at(blocks, visible), rows_at(positions, visible))
    predicted = decoder(states[-1], visible, hidden)
    with torch.autocast(image.device.type, enabled=False):
        targets = normalised(rows_at(blocks, hidden).float())
        return (predicted.float() - targets).square().mean(), targets.square().mean()


def rows_at(rows: Tensor, numbers: Tensor) -> Tensor:
    """Select rows [B, N, R] by index [B, n], in that order: [B, n, R]."""
    return rows.gather(1, numbers[:, :, None].expand(-1, -1, rows.shape[2]))


def normalised(blocks: Tensor) -> Tensor:
    """Normalise each block to mean 0 and variance 1 over its voxels and channels; constant blocks become 0."""
    return functional.layer_norm(blocks, blocks.shape[-1:], eps=BLOCK_EPS)


def draw_order(samples: int, tokens: int, context: StepContext) -> Tensor:
    """A random permutation of token indices for each sample of this process, int64 [samples, tokens]."""
    return context.own(samples, lambda n: torch.rand(n, tokens, generator=context.generator).argsort(dim=1))


def visible_tokens(tokens: int, ratio: float) -> int:
    """Number of visible tokens.

    Raises:
        ConfigError: the ratio leaves all tokens visible, or none.
    """
    seen = tokens - round(ratio * tokens)
    if not 0 < seen < tokens:
        raise ConfigError(
            f"vit.mask_ratio {ratio:g} leaves {seen} of a patch's {tokens} tokens visible; choose another, or smaller "
            "tokens with vit.token."
        )
    return seen
