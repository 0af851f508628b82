"""Build a network from its architecture's name in `model.json`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ..errors import ModelError
from ..model_folder.architectures import MmFormerOptions, ShaSpecOptions, UnetrOptions, options_of
from ..model_folder.spec import ModelSpec, Pathway
from .baselines.gated_unet import GatedNetwork
from .baselines.mmformer import MmFormer
from .baselines.shaspec import ShaSpec
from .baselines.unetr import Unetr
from .dante_full import FullNetwork
from .fusion import Fusion
from .nnunet.residual_encoder import ResidualUNet
from .unet import Decoder, Encoder, UNet


def _unet(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    return UNet(len(pathway.modalities), spec.out_channels, spec.network)


def _residual_unet(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    return ResidualUNet(len(pathway.modalities), spec.out_channels, spec.network)


def _dante_full(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    channels = len(pathway.modalities)
    anchor, privileged = (Encoder(channels, spec.network) for _ in range(2))
    return FullNetwork(anchor, privileged, Fusion(spec.network), Decoder(spec.out_channels, spec.network))


def _gated(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    return GatedNetwork(len(pathway.modalities), spec.out_channels, spec.network)


def _unetr(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    return Unetr(len(pathway.modalities), spec.out_channels, spec.patch, options_of(pathway, UnetrOptions))


def _mmformer(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    options, present = options_of(pathway, MmFormerOptions), _present(spec, pathway)
    return MmFormer(len(spec.modalities), present, spec.out_channels, spec.network, spec.patch, options)


def _shaspec(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    options, present = options_of(pathway, ShaSpecOptions), _present(spec, pathway)
    return ShaSpec(len(spec.modalities), present, spec.out_channels, spec.network, options)


def _present(spec: ModelSpec, pathway: Pathway) -> list[int]:
    """Indices of the model's modalities that the pathway reads."""
    known = [modality.id for modality in spec.modalities]
    return [known.index(modality) for modality in pathway.modalities]


ARCHITECTURES: dict[str, Callable[[ModelSpec, Pathway], nn.Module]] = {
    "unet": _unet,
    "residual_unet": _residual_unet,
    "dante_full": _dante_full,
    "gated": _gated,
    "unetr": _unetr,
    "mmformer": _mmformer,
    "shaspec": _shaspec,
}


def build(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    """The pathway's network, without trained weights.

    Raises:
        ModelError: its architecture is not known to this version, or does not fit the model's patch.
    """
    if pathway.architecture not in ARCHITECTURES:
        raise ModelError(
            f"'{spec.name}' uses the architecture '{pathway.architecture}'; this version knows "
            f"{', '.join(ARCHITECTURES)}. Update SlicerDANTE."
        )
    return ARCHITECTURES[pathway.architecture](spec, pathway)
