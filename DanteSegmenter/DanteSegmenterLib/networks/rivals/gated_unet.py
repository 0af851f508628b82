"""One encoder a modality, fused by gates at every level (RobustSeg, Chen et al., MICCAI 2019).

Built over the backbone's numbers: the encoders have half its features, the fused maps and the decoder all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from ...model_folder.spec import NetworkSpec
from ..convolution import Conv3d
from ..part import Part
from ..unet import Decoder, Encoder


class GatedFusion(Part):
    """g = sigmoid(conv3(c_1 ... c_M)), one gate a modality; then a 1x1x1 convolution of (g_1 c_1 ... g_M c_M)."""

    def __init__(self, features: int, modalities: int, features_out: int) -> None:
        super().__init__()
        self.features = features
        self.gate = Conv3d(features * modalities, modalities, 3, padding=1)
        self.mix = Conv3d(features * modalities, features_out, 1)

    def forward(self, content: list[Tensor]) -> Tensor:
        """Content maps of all modalities, each [B, features, K, J, I] -> [B, features_out, K, J, I]."""
        gates = self.gate(torch.cat(content, dim=1)).sigmoid()
        return self.mix(torch.cat([c * gates[:, n : n + 1] for n, c in enumerate(content)], dim=1))

    def restricted_to(self, keep: Sequence[int]) -> GatedFusion:
        """The same function where all other modalities' content is zero, without computing with zeros."""
        inputs = [n * self.features + f for n in keep for f in range(self.features)]
        part = GatedFusion(self.features, len(keep), self.mix.out_channels)
        with torch.no_grad():
            part.gate.weight.copy_(self.gate.weight[list(keep)][:, inputs])
            part.gate.bias.copy_(self.gate.bias[list(keep)])
            part.mix.weight.copy_(self.mix.weight[:, inputs])
            part.mix.bias.copy_(self.mix.bias)
        return part


class GatedNetwork(nn.Module):
    """Image [B, M, K, J, I], one channel a modality -> logits at full resolution."""

    def __init__(self, modalities: int, channels_out: int, spec: NetworkSpec) -> None:
        super().__init__()
        half = replace(spec, features=tuple(max(1, f // 2) for f in spec.features))
        self.encoders = nn.ModuleList(Encoder(1, half) for _ in range(modalities))
        self.fusions = nn.ModuleList(GatedFusion(h, modalities, f) for h, f in zip(half.features, spec.features))
        self.decoder = Decoder(channels_out, spec)

    def encode(self, image: Tensor, present: Tensor | None = None) -> list[Tensor]:
        """Fused feature maps, finest first; `present` [B, M] is 0 where a modality is dropped."""
        content = [encoder(image[:, n : n + 1]) for n, encoder in enumerate(self.encoders)]
        if present is not None:
            content = [[c * present[:, n, None, None, None, None] for c in maps] for n, maps in enumerate(content)]
        return [fusion(list(level)) for fusion, level in zip(self.fusions, zip(*content))]

    def forward(self, image: Tensor) -> Tensor:
        return self.decoder(self.encode(image))

    def restricted_to(self, keep: Sequence[int]) -> GatedNetwork:
        """The network as it is when all other modalities are dropped; shares nothing with this one."""
        part, fusions = copy.deepcopy(self), cast("Iterable[GatedFusion]", self.fusions)
        part.encoders = nn.ModuleList(part.encoders[n] for n in keep)
        part.fusions = nn.ModuleList(fusion.restricted_to(keep) for fusion in fusions)
        return part
