"""mmFormer (Zhang et al., MICCAI 2022, doi 10.1007/978-3-031-16443-9_11): transformers within and across modalities.

Every modality has a convolutional encoder. Its map at 1/16 resolution becomes tokens, which are processed by a
transformer per modality (intra-modal) and then by one over the tokens of all modalities (inter-modal). Uses the
backbone's size: the encoders have its stages down to 1/16, with fewer features; the fused maps, the stages below and
the decoder are the backbone's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...model_folder.architectures import MmFormerOptions
from ...model_folder.spec import NetworkSpec
from ...volume import triple
from ..convolution import ONE, Conv3d
from ..part import Part
from ..unet import ConvBlock, Decoder, Encoder, narrowed

TOKEN_REDUCTION = 16


def reductions(spec: NetworkSpec) -> list[tuple[int, int, int]]:
    """Cumulative stride of each stage along K, J, I."""
    found, total = [], ONE
    for stride in spec.strides:
        total = triple(t * s for t, s in zip(total, stride))
        found.append(total)
    return found


def token_level(spec: NetworkSpec) -> int:
    """The first stage at 1/16 resolution along some axis, or the deepest if there is none."""
    return next((n for n, r in enumerate(reductions(spec)) if max(r) >= TOKEN_REDUCTION), len(spec.strides) - 1)


def encoder_spec(spec: NetworkSpec, options: MmFormerOptions) -> NetworkSpec:
    """A modality's encoder: the backbone's stages down to the tokens, with `narrowing` times fewer features."""
    return narrowed(_stages(spec, 0, token_level(spec) + 1), options.narrowing)


def _stages(spec: NetworkSpec, first: int, end: int | None) -> NetworkSpec:
    part = slice(first, end)
    return replace(
        spec,
        features=spec.features[part],
        strides=spec.strides[part],
        kernels=spec.kernels[part],
        encoder_convs=spec.encoder_convs[part],
    )


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer: self-attention and MLP with residual connections; [B, N, W] -> [B, N, W]."""

    def __init__(self, options: MmFormerOptions) -> None:
        super().__init__()
        width, self.heads = options.token_width, options.heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, options.mlp_width), nn.Linear(options.mlp_width, width)

    def forward(self, tokens: Tensor, dropout: float) -> Tensor:
        tokens = tokens + _dropped(self.mix(self._attend(self.attention_norm(tokens), dropout)), dropout)
        hidden = _dropped(functional.gelu(self.widen(self.mlp_norm(tokens))), dropout)
        return tokens + _dropped(self.narrow(hidden), dropout)

    def _attend(self, tokens: Tensor, dropout: float) -> Tensor:
        split = self.queries_keys_values(tokens).unflatten(2, (3, self.heads, -1))
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # each [B, heads, N, W / heads]
        attended = functional.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
        return attended.transpose(1, 2).flatten(2)


def _dropped(x: Tensor, dropout: float) -> Tensor:
    """Dropout controlled by an argument, not by the module's mode: validation and deployment never drop."""
    return functional.dropout(x, dropout) if dropout else x


def _transformed(layers: nn.ModuleList, tokens: Tensor, positions: Tensor, dropout: float) -> Tensor:
    """Apply all layers, adding the positions before each."""
    for layer in layers:
        tokens = layer(tokens + positions, dropout)
    return tokens


class IntraModal(Part):
    """A modality's map [B, channels, K, J, I] and positions [N, W] -> its tokens [B, N, W]; N = K J I."""

    def __init__(self, channels: int, options: MmFormerOptions) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, options.token_width)
        self.layers = nn.ModuleList(TransformerLayer(options) for _ in range(options.layers))

    def forward(self, features: Tensor, positions: Tensor, dropout: float = 0.0) -> Tensor:
        tokens = self.embed(features.flatten(2).transpose(1, 2))
        return _transformed(self.layers, tokens, positions, dropout)


class InterModal(Part):
    """Tokens [B, M, N, W] of all modalities and positions [M, N, W] -> [B, M x channels, N], per position."""

    def __init__(self, modalities: int, channels: int, options: MmFormerOptions) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(options) for _ in range(options.layers))
        self.back = nn.Linear(modalities * options.token_width, modalities * channels)

    def forward(self, tokens: Tensor, positions: Tensor, dropout: float = 0.0) -> Tensor:
        mixed = _transformed(self.layers, tokens.flatten(1, 2), positions.flatten(0, 1), dropout)
        places = mixed.unflatten(1, tokens.shape[1:3]).transpose(1, 2)  # [B, N, M, W]
        return self.back(places.flatten(2)).transpose(1, 2)


class ModalityFusion(Part):
    """Maps of P modalities, each [B, features, K, J, I] -> [B, features_out, K, J, I].

    Three convolutions with norm and activation: 1x1x1, the stage's kernel, 1x1x1.
    """

    def __init__(self, inputs: int, features_out: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.gather = ConvBlock(inputs, features_out, ONE, ONE)
        self.blocks = nn.Sequential(
            ConvBlock(features_out, features_out, kernel, ONE), ConvBlock(features_out, features_out, ONE, ONE)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.blocks(self.gather(torch.cat(maps, dim=1)))

    def restricted_to(self, keep: Sequence[int], features: int) -> ModalityFusion:
        """The same function with all other modalities' maps zero, without computing with zeros."""
        part = copy.deepcopy(self)
        whole, _, _ = self.gather.parts()
        fewer = Conv3d(len(keep) * features, whole.out_channels, 1)
        with torch.no_grad():
            fewer.weight.copy_(whole.weight[:, [n * features + f for n in keep for f in range(features)]])
            fewer.bias.copy_(whole.bias)
        part.gather[0] = fewer
        return part


class LevelFusions(Part):
    """Maps of P modalities at every level above the tokens, finest first -> one fused map per level."""

    def __init__(self, modalities: int, narrow: NetworkSpec, spec: NetworkSpec) -> None:
        super().__init__()
        self.features = narrow.features[:-1]
        self.levels = nn.ModuleList(
            ModalityFusion(modalities * h, f, kernel)
            for h, f, kernel in zip(self.features, spec.features, spec.kernels)
        )

    def forward(self, maps: list[list[Tensor]]) -> list[Tensor]:
        return [fusion(level) for fusion, level in zip(self.levels, maps)]

    def restricted_to(self, keep: Sequence[int]) -> LevelFusions:
        """The same function with all other modalities' maps zero."""
        part, levels = copy.deepcopy(self), cast("Iterable[ModalityFusion]", self.levels)
        part.levels = nn.ModuleList(fusion.restricted_to(keep, h) for fusion, h in zip(levels, self.features))
        return part


class MmFormer(nn.Module):
    """Image [B, P, *patch], one channel per modality -> logits at full resolution.

    Args:
        modalities: M, number of modalities in training.
        present: indices of the image's modalities, in channel order. The others' tokens are zero, as for a modality
            dropped in training; the learned positions added to them still take part.
        channels_out: number of logit channels.
        spec: size of the backbone.
        patch: size of every image in voxels along K, J, I; each token has a learned position.
        options: size of the transformers.
    """

    def __init__(
        self,
        modalities: int,
        present: Sequence[int],
        channels_out: int,
        spec: NetworkSpec,
        patch: tuple[int, int, int],
        options: MmFormerOptions,
    ) -> None:
        super().__init__()
        narrow, level = encoder_spec(spec, options), token_level(spec)
        deepest = narrow.features[level]
        self.modalities, self.present = modalities, tuple(present)
        self.size = triple(p // r for p, r in zip(patch, reductions(spec)[level]))
        self.positions = nn.Parameter(torch.zeros(modalities, math.prod(self.size), options.token_width))
        self.encoders = nn.ModuleList(Encoder(1, narrow) for _ in self.present)
        self.intra = nn.ModuleList(IntraModal(deepest, options) for _ in self.present)
        self.inter = InterModal(modalities, deepest, options)
        self.fusions = LevelFusions(len(self.present), narrow, spec)
        self.join = ModalityFusion(modalities * deepest, spec.features[level], spec.kernels[level])
        rest = _stages(spec, level + 1, None)
        # No encoder without stages: one that computes nothing would keep PyTorch from compiling any other encoder.
        self.below = Encoder(spec.features[level], rest) if rest.features else None
        self.decoder = Decoder(channels_out, spec)

    def pyramids(self, image: Tensor) -> list[list[Tensor]]:
        """Feature maps of every modality, finest first."""
        return [encoder(image[:, n : n + 1]) for n, encoder in enumerate(self.encoders)]

    def fuse(self, pyramids: list[list[Tensor]], present: Tensor | None = None, dropout: float = 0.0) -> list[Tensor]:
        """Fused feature maps of all stages, finest first; `present` [B, P] is 0 where a modality is dropped."""
        *levels, deepest = (list(maps) for maps in zip(*pyramids))
        tokens = [
            intra(features, self.positions[n], dropout) for n, intra, features in zip(self.present, self.intra, deepest)
        ]
        mixed = self.inter(self._of_all(_kept(tokens, present)), self.positions, dropout)
        fused = self.fusions([_kept(maps, present) for maps in levels])
        fused.append(self.join([mixed.unflatten(2, self.size)]))
        return fused if self.below is None else fused + self.below(fused[-1])

    def _of_all(self, tokens: list[Tensor]) -> Tensor:
        """Tokens of present modalities, each [B, N, W] -> of all modalities [B, M, N, W], zero for the others."""
        slots = [torch.zeros_like(tokens[0])] * self.modalities
        for n, own in zip(self.present, tokens):
            slots[n] = own
        return torch.stack(slots, dim=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.decoder(self.fuse(self.pyramids(image)))

    def restricted_to(self, keep: Sequence[int]) -> MmFormer:
        """The network with all other modalities dropped; shares no weights with this one."""
        part = copy.deepcopy(self)
        part.present = tuple(self.present[n] for n in keep)
        part.encoders = nn.ModuleList(part.encoders[n] for n in keep)
        part.intra = nn.ModuleList(part.intra[n] for n in keep)
        part.fusions = self.fusions.restricted_to(keep)
        return part


def _kept(values: list[Tensor], present: Tensor | None) -> list[Tensor]:
    """Set the values to zero in samples that lack the modality."""
    if present is None:
        return values
    return [v * present[:, n].to(v.dtype).reshape(-1, *[1] * (v.dim() - 1)) for n, v in enumerate(values)]
