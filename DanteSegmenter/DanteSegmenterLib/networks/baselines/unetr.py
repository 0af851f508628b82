"""UNETR (Hatamizadeh et al., WACV 2022, arXiv 2103.10504): a vision transformer with a convolutional decoder.

With tokens of 16^3 voxels this is the published decoder, with 8^3 the one of SelfMedMAE. At full resolution the decoder
reads the image itself; at coarser resolutions, hidden states at equal steps, numbered from 0 as in the published code:
with 12 layers and tokens of 16^3, states 3, 6 and 9, i.e. outputs of the fourth, seventh and tenth layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...model_folder.architectures import UnetrOptions
from ..convolution import Conv3d, ConvTranspose3d
from ..instance_norm import InstanceNorm
from ..part import Part
from ..unet import NEGATIVE_SLOPE, ConvBlock
from .vision_transformer import VisionTransformer

KERNEL, TWICE = (3, 3, 3), (2, 2, 2)


class Residual(nn.Module):
    """Residual block of two convolutions with instance norm; a 1x1x1 shortcut convolution where channels change."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels_in, channels_out, KERNEL, (1, 1, 1))
        self.second = nn.Sequential(Conv3d(channels_out, channels_out, 3, padding=1), InstanceNorm(channels_out))
        self.around: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.around = nn.Sequential(Conv3d(channels_in, channels_out, 1), InstanceNorm(channels_out))
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.second(self.first(x)) + self.around(x))


class Rising(nn.Sequential):
    """A state's map [B, hidden, k, j, i] -> [B, features, ...], upsampled by 2 `doublings` times."""

    def __init__(self, hidden: int, features: int, doublings: int) -> None:
        further = (layer for _ in range(doublings - 1) for layer in self._doubled(features))
        super().__init__(ConvTranspose3d(hidden, features, TWICE), *further)

    @staticmethod
    def _doubled(features: int) -> tuple[nn.Module, nn.Module]:
        return ConvTranspose3d(features, features, TWICE), Residual(features, features)


class UnetrDecoder(Part):
    """Image and token states -> logits [B, channels_out, K, J, I], at full resolution only."""

    def __init__(self, channels_in: int, channels_out: int, options: UnetrOptions) -> None:
        super().__init__()
        doublings = options.doublings
        # Features at full resolution, half resolution etc.; finally those of the tokens.
        widths = [options.features << level for level in range(doublings)]
        inputs = [*widths[1:], options.hidden]
        self.taps = [options.layers * level // doublings for level in range(1, doublings)]
        self.image = Residual(channels_in, widths[0])
        self.rising = nn.ModuleList(
            Rising(options.hidden, widths[level], doublings - level) for level in range(1, doublings)
        )
        self.ups = nn.ModuleList(ConvTranspose3d(wide, width, TWICE) for wide, width in zip(inputs, widths))
        self.stages = nn.ModuleList(Residual(2 * width, width) for width in widths)
        self.head = Conv3d(widths[0], channels_out, 1)

    def forward(self, image: Tensor, states: list[Tensor], grid: tuple[int, int, int]) -> Tensor:
        skips = [self.image(image)]
        skips += [rising(as_map(states[tap], grid)) for rising, tap in zip(self.rising, self.taps)]
        x = as_map(states[-1], grid)
        for level in reversed(range(len(skips))):
            x = self.stages[level](torch.cat((self.ups[level](x), skips[level]), dim=1))
        return self.head(x)


def as_map(tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Tokens [B, N, hidden] as a feature map [B, hidden, k, j, i]: the same memory, which is channels-last."""
    return tokens.unflatten(1, grid).movedim(-1, 1)


class Unetr(nn.Module):
    """Image [B, C, K, J, I] of size `patch` -> logits at full resolution.

    Raises:
        ModelError: the patch is not a whole number of tokens, or has too many.
    """

    def __init__(self, channels_in: int, channels_out: int, patch: tuple[int, int, int], options: UnetrOptions) -> None:
        super().__init__()
        self.encoder = VisionTransformer(channels_in, patch, options)
        self.decoder = UnetrDecoder(channels_in, channels_out, options)

    def forward(self, image: Tensor) -> Tensor:
        return self.decoder(image, self.encoder(image), self.encoder.grid)
