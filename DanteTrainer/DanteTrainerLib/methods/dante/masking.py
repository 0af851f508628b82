"""Stage 1's masks, and sparse encoding that ignores masked voxels (Wald et al. 2025, arXiv 2410.23132; SparK).

A mask hides whole blocks. One mask is shared by a sample's inputs, all channels and all objectives (DANTE, eq. 7-9): a
channel visible where another is masked would let E_P copy instead of complement. Masks are 1 where visible.

Masked voxels are set to 0: the mean of a brain's own voxels, or of a CT's window. A dense encoder cannot distinguish
them from tissue of that value; a sparse one does not read them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.networks.convolution import Conv3d
from DanteSegmenterLib.networks.instance_norm import instance_norm
from DanteSegmenterLib.networks.unet import ConvBlock, Decoder, Encoder
from DanteSegmenterLib.volume import triple


def block_size(spec: NetworkSpec) -> tuple[int, int, int]:
    """Edge lengths of a mask block in voxels: the cumulative stride of the penultimate stage.

    At that stage one position is one block; only the bottleneck is coarser than the mask, and it is fully visible.
    """
    strides = spec.strides[:-1]
    return triple(math.prod(stride[axis] for stride in strides) for axis in range(3))


def draw_mask(
    batch: int, patch: Sequence[int], block: Sequence[int], ratio: float, generator: torch.Generator
) -> Tensor:
    """Random visible blocks, float32 [B, 1, K/bk, J/bj, I/bi]; exactly round(ratio * blocks) are 0 in every sample."""
    grid = [size // edge for size, edge in zip(patch, block)]
    if any(size % edge for size, edge in zip(patch, block)):
        raise ValueError(f"patch {tuple(patch)} is not made of whole blocks {tuple(block)}")
    blocks = math.prod(grid)
    order = torch.stack([torch.randperm(blocks, generator=generator) for _ in range(batch)])
    visible = (order >= round(ratio * blocks)).float()
    return visible.reshape(batch, 1, *grid)


def mask_at(mask: Tensor, size: Sequence[int]) -> Tensor:
    """A block mask at a feature map's size: repeated; all ones where the map is coarser than the mask."""
    grid = mask.shape[2:]
    if tuple(size) == tuple(grid):
        return mask
    if any(s < g for s, g in zip(size, grid)):
        return mask.new_ones((*mask.shape[:2], *size))
    return functional.interpolate(mask, size=tuple(size), mode="nearest")


def visible_norm(
    x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5, activation: nn.Module | None = None
) -> Tensor:
    """Instance norm of [B, C, K, J, I] with statistics over visible positions only, in float32; masked positions are 0.

    The mask [B, 1, K, J, I] must leave equally many positions visible in every sample, and at least one. Only those are
    gathered, normalised, activated if asked for, and put back: over all positions this was half of a Stage 1 step.
    """
    batch, channels = x.shape[:2]
    last = x.movedim(1, -1)  # the memory's own order where it is channels-last
    visible = visible_positions(mask)
    with torch.autocast(x.device.type, enabled=False):
        rows = _Gather.apply(last.reshape(-1, channels), visible).float()
        rows = rows.reshape(batch, -1, 1, 1, channels).movedim(-1, 1)
        rows = instance_norm(rows, weight, bias, eps)
        rows = rows if activation is None else activation(rows)
        return _Scatter.apply(rows.movedim(1, -1).reshape(-1, channels), visible, last.shape).movedim(-1, 1)


def visible_positions(mask: Tensor) -> Tensor:
    """Indices of the ones among all positions of all samples, int64."""
    return mask.reshape(-1).nonzero()[:, 0]


class _Gather(torch.autograd.Function):
    """Rows of [N, C] by indices that are all different; torch's own backward would have to allow for twins."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.count = len(x)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return gradient.new_zeros((ctx.count, gradient.shape[1])).index_copy_(0, rows, gradient), None


class _Scatter(torch.autograd.Function):
    """The reverse: rows put into zeros of a shape [..., C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(rows)
        return x.new_zeros((shape[:-1].numel(), shape[-1])).index_copy_(0, rows, x).reshape(shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        return gradient.reshape(-1, gradient.shape[-1]).index_select(0, rows), None, None


def encode_visible(encoder: Encoder, image: Tensor, mask: Tensor) -> list[Tensor]:
    """`encoder` applied to the visible voxels alone: what lies in masked blocks cannot change the result.

    Every convolution's output is masked and normalised over visible positions. The encoder's own modules do the work,
    so its weights are those of the dense encoder and pass to Stage 2 as they are.

    Args:
        image: [B, C, K, J, I].
        mask: from `draw_mask`.

    Returns:
        feature maps, finest first, 0 at masked positions.
    """
    x = image * mask_at(mask, image.shape[2:])
    features = []
    for blocks in encoder.blocks():
        for block in blocks:
            x = _visible_block(block, x, mask)
        features.append(x)
    return features


def _visible_block(block: ConvBlock, x: Tensor, mask: Tensor) -> Tensor:
    convolution, norm, activation = block.parts()
    x = convolution(x)
    return visible_norm(x, mask_at(mask, x.shape[2:]), norm.weight, norm.bias, norm.eps, activation)


class Densify(nn.Module):
    """Fills masked positions of one feature map with a learned token before a decoder reads it.

    Visible-only norm, token, then a 3x3x3 convolution (none at the finest level, where it would cost most).
    """

    def __init__(self, features: int, convolve: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.token = nn.Parameter(torch.zeros(1, features, 1, 1, 1))
        nn.init.trunc_normal_(self.token, std=0.02)
        self.convolution = Conv3d(features, features, 3, padding=1) if convolve else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = visible_norm(x, mask, self.weight, self.bias)
        return self.convolution(x + (1 - mask) * self.token)


class ReconstructionDecoder(nn.Module):
    """D^REC: a decoder from feature maps to images [B, channels_out, K, J, I], with its own densifying layers.

    Without a mask (`masking = "dense"`) features are decoded as they are.
    """

    def __init__(self, channels_out: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.densify = nn.ModuleList(Densify(f, convolve=level > 0) for level, f in enumerate(spec.features))
        self.decoder = Decoder(channels_out, spec)

    def forward(self, features: list[Tensor], mask: Tensor | None) -> Tensor:
        if mask is not None:
            features = [fill(x, mask_at(mask, x.shape[2:])) for fill, x in zip(self.densify, features)]
        return self.decoder(features)
