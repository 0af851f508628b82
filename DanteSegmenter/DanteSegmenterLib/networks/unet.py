"""The backbone: nnU-Net's plain convolutional U-Net, with separate encoder and decoder.

The method works on encoder feature maps (DANTE, AAAI 2026, eq. 2-9), so `Encoder` returns one map per stage and
`Decoder` takes such a list. Training combines several encoders and decoders; deployed are E_L with D_L as a `UNet`, and
for some models the full pathway (`dante_full.FullNetwork`).

Shapes are [B, C, K, J, I]. Sizes come from `NetworkSpec`. After Isensee et al. 2021 (doi 10.1038/s41592-020-01008-z):
two 3x3x3 convolutions per stage, each followed by instance norm (eps 1e-5, affine) and LeakyReLU(0.01); downsampling by
the strided first convolution of a stage, upsampling by transposed convolution; concatenation in the order (up, skip).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from ..model_folder.spec import NetworkSpec
from ..volume import triple
from .convolution import Conv3d, ConvTranspose3d
from .instance_norm import InstanceNorm
from .part import Part

NEGATIVE_SLOPE = 0.01


class ConvBlock(nn.Sequential):
    """Convolution, instance norm, LeakyReLU: [B, C_in, ...] -> [B, C_out, ...] divided by `stride`."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]
    ) -> None:
        padding = triple(k // 2 for k in kernel)
        super().__init__(
            Conv3d(channels_in, channels_out, kernel, stride, padding),
            InstanceNorm(channels_out),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
        )

    def parts(self) -> tuple[Conv3d, InstanceNorm, nn.LeakyReLU]:
        """The convolution, the norm and the activation."""
        return cast("tuple[Conv3d, InstanceNorm, nn.LeakyReLU]", tuple(self))


def _stage(
    channels_in: int, channels_out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int], convs: int
) -> nn.Sequential:
    first = ConvBlock(channels_in, channels_out, kernel, stride)
    return nn.Sequential(first, *(ConvBlock(channels_out, channels_out, kernel, (1, 1, 1)) for _ in range(convs - 1)))


class Encoder(Part):
    """Image [B, C, K, J, I] -> feature maps Z_1 ... Z_N, finest first, each after its stage's last LeakyReLU."""

    def __init__(self, channels_in: int, spec: NetworkSpec) -> None:
        super().__init__()
        inputs = (channels_in, *spec.features[:-1])
        self.stages = nn.ModuleList(
            _stage(*numbers) for numbers in zip(inputs, spec.features, spec.kernels, spec.strides, spec.convs_down)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            image = stage(image)
            features.append(image)
        return features

    def blocks(self) -> list[list[ConvBlock]]:
        """The blocks of every stage, finest stage first."""
        return [list(stage) for stage in cast("Iterable[Iterable[ConvBlock]]", self.stages)]


class Decoder(nn.Module):
    """Feature maps Z_1 ... Z_N -> logits [B, channels_out, K, J, I].

    Each of the N-1 resolutions has a 1x1x1 segmentation layer; `forward` computes the finest, `all_logits` all of them
    for deep supervision.
    """

    def __init__(self, channels_out: int, spec: NetworkSpec) -> None:
        super().__init__()
        levels = range(len(spec.features) - 1)
        self.ups = nn.ModuleList(
            ConvTranspose3d(spec.features[n + 1], spec.features[n], spec.strides[n + 1]) for n in levels
        )
        self.stages = nn.ModuleList(
            _stage(2 * spec.features[n], spec.features[n], spec.kernels[n], (1, 1, 1), spec.convs_up[n]) for n in levels
        )
        self.heads = nn.ModuleList(Conv3d(spec.features[n], channels_out, 1) for n in levels)

    def decode(self, features: list[Tensor]) -> list[Tensor]:
        """The decoder's feature maps, finest first."""
        x = features[-1]
        decoded = []
        for n in reversed(range(len(self.stages))):
            x = self.stages[n](torch.cat((self.ups[n](x), features[n]), dim=1))
            decoded.append(x)
        return decoded[::-1]

    def all_logits(self, features: list[Tensor]) -> list[Tensor]:
        """Logits at every resolution, finest first."""
        return self.logits_of(self.decode(features))

    def logits_of(self, decoded: list[Tensor]) -> list[Tensor]:
        """Logits from the feature maps that `decode` returned."""
        return [head(x) for head, x in zip(self.heads, decoded)]

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.heads[0](self.decode(features)[0])


class EncoderDecoder(nn.Module):
    """An encoder followed by a decoder; `forward` returns logits at full resolution."""

    encoder: nn.Module
    decoder: Decoder

    def encode(self, image: Tensor) -> list[Tensor]:
        """The encoder's feature maps, finest first."""
        return self.encoder(image)

    def forward(self, image: Tensor) -> Tensor:
        return self.decoder(self.encoder(image))

    def all_logits(self, image: Tensor) -> list[Tensor]:
        """Logits at every decoder resolution, finest first."""
        return self.decoder.all_logits(self.encoder(image))


class UNet(EncoderDecoder):
    """The plain U-Net."""

    encoder: Encoder

    def __init__(self, channels_in: int, channels_out: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.encoder = Encoder(channels_in, spec)
        self.decoder = Decoder(channels_out, spec)

    @classmethod
    def of(cls, encoder: Encoder, decoder: Decoder) -> UNet:
        """Assemble a network from existing parts, which are shared, not copied."""
        network = cls.__new__(cls)
        nn.Module.__init__(network)
        network.encoder, network.decoder = encoder, decoder
        return network


def initialise(module: nn.Module) -> None:
    """He initialisation for LeakyReLU(0.01) with zero biases, as in nnU-Net; norms start as the identity."""
    for part in module.modules():
        if isinstance(part, (nn.Conv3d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(part.weight, a=NEGATIVE_SLOPE)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def narrowed(spec: NetworkSpec, times: int) -> NetworkSpec:
    """The same backbone with `times` times fewer features."""
    return replace(spec, features=tuple(max(1, features // times) for features in spec.features))


def _isotropic(features: tuple[int, ...]) -> NetworkSpec:
    stages = len(features)
    return NetworkSpec(features, ((1, 1, 1),) + ((2, 2, 2),) * (stages - 1), ((3, 3, 3),) * stages)


def brats_1mm() -> NetworkSpec:
    """The paper's network for 128^3 patches at 1 mm: 31.2 million parameters."""
    return _isotropic((32, 64, 128, 256, 320, 320))


def chest_ct() -> NetworkSpec:
    """The paper's network for 64x160x192 patches at 2.0x0.7x0.7 mm (DP2E)."""
    return NetworkSpec(
        features=(32, 64, 128, 256, 320, 320),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3),) + ((3, 3, 3),) * 5,
    )
