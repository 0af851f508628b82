"""Masked autoencoding of a vision transformer (He et al., CVPR 2022; in 3D Zhou et al., ISBI 2023, SelfMedMAE).

The encoder reads the visible tokens and no others. A smaller transformer, which is thrown away, reads its states with a
learned token for each hidden one, and predicts their voxels: of all channels together, normalised block by block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.model_folder.architectures import UnetrOptions
from DanteSegmenterLib.networks.baselines.vision_transformer import Transformer, VisionTransformer, blocks_of, waves

from ...loop.stage import StepContext

# Added to a block's variance: of background, which is constant, the normalised voxels are 0.
BLOCK_EPS = 1e-6


class Reconstruction(nn.Module):
    """States of the visible tokens -> voxels of the hidden ones [B, hidden tokens, edge^3 C], normalised."""

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
        """`visible` and `hidden` are the tokens' numbers [B, n], together all of them."""
        known = self.embedding(states)
        shape = (len(known), visible.shape[1] + hidden.shape[1], known.shape[2])
        places = visible[:, :, None].expand_as(known)
        tokens = self.token.to(known.dtype).expand(shape).scatter(1, places, known)
        return self.head(rows_at(self.transformer(tokens + self.positions)[-1], hidden))


def reconstruction_error(
    encoder: VisionTransformer, decoder: Reconstruction, image: Tensor, order: Tensor, seen: int
) -> tuple[Tensor, Tensor]:
    """The loss, and the same of who knows every block's mean and nothing else; both in float32.

    Args:
        image: [B, C, K, J, I].
        order: the tokens' numbers shuffled [B, N].
        seen: how many of these, from the first on, are visible.

    Returns:
        mean of squared errors over the voxels and channels of hidden tokens.
    """
    blocks, (visible, hidden) = blocks_of(image, encoder.token), order.tensor_split([seen], dim=1)
    # Positions are fixed here, and learned afterwards.
    positions = encoder.positions.detach().expand(len(blocks), -1, -1)
    states = encoder.encode(rows_at(blocks, visible), rows_at(positions, visible))
    predicted = decoder(states[-1], visible, hidden)
    with torch.autocast(image.device.type, enabled=False):
        targets = normalised(rows_at(blocks, hidden).float())
        return (predicted.float() - targets).square().mean(), targets.square().mean()


def rows_at(rows: Tensor, numbers: Tensor) -> Tensor:
    """Of rows [B, N, R], those of these numbers [B, n], in this order: [B, n, R]."""
    return rows.gather(1, numbers[:, :, None].expand(-1, -1, rows.shape[2]))


def normalised(blocks: Tensor) -> Tensor:
    """Every block with mean 0 and variance 1 over its voxels and channels; constant ones become 0."""
    return functional.layer_norm(blocks, blocks.shape[-1:], eps=BLOCK_EPS)


def draw_order(samples: int, tokens: int, context: StepContext) -> Tensor:
    """Numbers 0 to tokens - 1 in an order of chance, one a sample of this process, int64 [samples, tokens]."""
    return context.own(samples, lambda n: torch.rand(n, tokens, generator=context.generator).argsort(dim=1))


def visible_tokens(tokens: int, ratio: float) -> int:
    """How many tokens stay visible.

    Raises:
        ConfigError: all of them, or none.
    """
    seen = tokens - round(ratio * tokens)
    if not 0 < seen < tokens:
        raise ConfigError(
            f"vit.mask_ratio {ratio:g} leaves {seen} of a patch's {tokens} tokens visible; choose another, or smaller "
            "tokens with vit.token."
        )
    return seen
