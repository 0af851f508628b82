"""nnU-Net's residual encoder (Isensee et al. 2024, arXiv 2404.09556): the U-Net's stages with ResNet-D blocks.

A block has two convolutions with norms and a shortcut. If a block halves the resolution, its shortcut average-pools; if
the number of features changes, a 1x1x1 convolution without bias and a norm follow. A single convolution precedes the
first stage. The decoder is the U-Net's.
"""

from __future__ import annotations

from itertools import product

from torch import Tensor, nn
from torch.nn import functional

from ...model_folder.spec import NetworkSpec
from ...volume import triple
from ..convolution import Conv3d
from ..instance_norm import InstanceNorm
from ..part import Part
from ..unet import NEGATIVE_SLOPE, ConvBlock, Decoder, EncoderDecoder

ONE_VOXEL = (1, 1, 1)


class BlockMeans(nn.Module):
    """Average pooling, [B, C, K, J, I] -> the same divided by `stride`.

    On CPUs, PyTorch's own leaves the channels-last layout, is ten times slower, and does not support bfloat16.
    """

    def __init__(self, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return functional.avg_pool3d(x, self.stride)
        k, j, i = self.stride
        parts = [x[:, :, a::k, b::j, c::i] for a, b, c in product(range(k), range(j), range(i))]
        total = parts[0].float()
        for part in parts[1:]:
            total = total + part
        return (total / len(parts)).to(x.dtype)


class ResidualBlock(nn.Module):
    """[B, C_in, ...] -> [B, C_out, ...] divided by `stride`."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]
    ) -> None:
        super().__init__()
        padding = triple(k // 2 for k in kernel)
        self.first = ConvBlock(channels_in, channels_out, kernel, stride)
        self.second = nn.Sequential(Conv3d(channels_out, channels_out, kernel, 1, padding), InstanceNorm(channels_out))
        self.shortcut = nn.Sequential(*_shortcut(channels_in, channels_out, stride))
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.second(self.first(x)) + self.shortcut(x))


def _shortcut(channels_in: int, channels_out: int, stride: tuple[int, int, int]) -> list[nn.Module]:
    parts: list[nn.Module] = [] if stride == ONE_VOXEL else [BlockMeans(stride)]
    if channels_in != channels_out:
        parts += [Conv3d(channels_in, channels_out, 1, bias=False), InstanceNorm(channels_out)]
    return parts


class ResidualEncoder(Part):
    """Image [B, C, K, J, I] -> feature maps Z_1 ... Z_N, finest first, each after its stage's last block."""

    def __init__(self, channels_in: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.stem = ConvBlock(channels_in, spec.features[0], spec.kernels[0], ONE_VOXEL)
        inputs = (spec.features[0], *spec.features[:-1])
        self.stages = nn.ModuleList(
            _stage(*numbers) for numbers in zip(inputs, spec.features, spec.kernels, spec.strides, spec.convs_down)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _stage(
    channels_in: int, channels_out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int], blocks: int
) -> nn.Sequential:
    first = ResidualBlock(channels_in, channels_out, kernel, stride)
    more = (ResidualBlock(channels_out, channels_out, kernel, ONE_VOXEL) for _ in range(blocks - 1))
    return nn.Sequential(first, *more)


class ResidualUNet(EncoderDecoder):
    """A residual encoder and the U-Net's decoder."""

    def __init__(self, channels_in: int, channels_out: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.encoder = ResidualEncoder(channels_in, spec)
        self.decoder = Decoder(channels_out, spec)
