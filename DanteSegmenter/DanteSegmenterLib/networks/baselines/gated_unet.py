"""One encoder per modality, fused by gates at every level (RobustSeg, Chen et al., MICCAI 2019).

Uses the backbone's size: the encoders have half its features, the fused maps and the decoder all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...model_folder.spec import NetworkSpec
from ..convolution import Conv3d
from ..instance_norm import InstanceNorm
from ..part import Part
from ..unet import ConvBlock, Decoder, Encoder, narrowed


class GatedFusion(Part):
    """g = sigmoid(norm(conv3(c_1 ... c_M))), one gate per modality; then a 1x1x1 block on (g_1 c_1 ... g_M c_M).

    Without the block's norm, the fused maps would shrink with every dropped modality.
    """

    def __init__(self, features: int, modalities: int, features_out: int) -> None:
        super().__init__()
        self.features = features
        self.gate = Conv3d(features * modalities, modalities, 3, padding=1)
        self.gate_norm = InstanceNorm(modalities)
        self.mix = ConvBlock(features * modalities, features_out, (1, 1, 1), (1, 1, 1))

    def forward(self, content: list[Tensor]) -> Tensor:
        """Content maps of all modalities, each [B, features, K, J, I] -> [B, features_out, K, J, I]."""
        gates = self.gate_norm(self.gate(torch.cat(content, dim=1))).sigmoid()
        return self.mix(torch.cat([c * gates[:, n : n + 1] for n, c in enumerate(content)], dim=1))

    def restricted_to(self, keep: Sequence[int]) -> GatedFusion:
        """The same function with all other modalities' content zero, without computing with zeros."""
        inputs = [n * self.features + f for n in keep for f in range(self.features)]
        mix, mix_norm, _ = self.mix.parts()
        part = GatedFusion(self.features, len(keep), mix.out_channels)
        smaller, norm, _ = part.mix.parts()
        with torch.no_grad():
            part.gate.weight.copy_(self.gate.weight[list(keep)][:, inputs])
            part.gate.bias.copy_(self.gate.bias[list(keep)])
            part.gate_norm.weight.copy_(self.gate_norm.weight[list(keep)])
            part.gate_norm.bias.copy_(self.gate_norm.bias[list(keep)])
            smaller.weight.copy_(mix.weight[:, inputs])
            smaller.bias.copy_(mix.bias)
            norm.load_state_dict(mix_norm.state_dict())
        return part


class GatedNetwork(nn.Module):
    """Image [B, M, K, J, I], one channel per modality -> logits at full resolution."""

    def __init__(self, modalities: int, channels_out: int, spec: NetworkSpec) -> None:
        super().__init__()
        half = narrowed(spec, 2)
        self.encoders = nn.ModuleList(Encoder(1, half) for _ in range(modalities))
        self.fusions = nn.ModuleList(GatedFusion(h, modalities, f) for h, f in zip(half.features, spec.features))
        self.decoder = Decoder(channels_out, spec)

    def encode(self, image: Tensor, present: Tensor | None = None) -> list[Tensor]:
        """Fused feature maps, finest first; `present` [B, M] is 0 where a modality is dropped."""
        content = [encoder(image[:, n : n + 1]) for n, encoder in enumerate(self.encoders)]
        if present is not None:
            kept = present.to(content[0][0].dtype)[..., None, None, None, None]  # float32 would promote the maps
            content = [[c * kept[:, n] for c in maps] for n, maps in enumerate(content)]
        return [fusion(list(level)) for fusion, level in zip(self.fusions, zip(*content))]

    def forward(self, image: Tensor) -> Tensor:
        return self.decoder(self.encode(image))

    def restricted_to(self, keep: Sequence[int]) -> GatedNetwork:
        """The network with all other modalities dropped; shares no weights with this one."""
        part, fusions = copy.deepcopy(self), cast("Iterable[GatedFusion]", self.fusions)
        part.encoders = nn.ModuleList(part.encoders[n] for n in keep)
        part.fusions = nn.ModuleList(fusion.restricted_to(keep) for fusion in fusions)
        return part
