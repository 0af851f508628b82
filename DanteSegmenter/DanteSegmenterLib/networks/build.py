"""What a model folder's weights are the weights of: networks by the name that `model.json` gives."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..errors import ModelError
from ..model_folder.spec import ModelSpec, Pathway
from .fusion import Fusion
from .gated_unet import GatedNetwork
from .unet import Decoder, Encoder, UNet


class FullNetwork(nn.Module):
    """f_F of DANTE (AAAI 2026, eq. 2): D_F on psi(E_A(X^F), E_P(X^F)); [B, C, K, J, I] -> logits at full resolution."""

    def __init__(self, anchor: Encoder, privileged: Encoder, fusion: Fusion, decoder: Decoder) -> None:
        super().__init__()
        self.anchor, self.privileged, self.fusion, self.decoder = anchor, privileged, fusion, decoder

    def forward(self, image: Tensor) -> Tensor:
        fused, _ = self.fusion(self.anchor(image), self.privileged(image))
        return self.decoder(fused)


def _unet(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    return UNet(len(pathway.modalities), spec.out_channels, spec.network)


def _dante_full(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    channels = len(pathway.modalities)
    anchor, privileged = (Encoder(channels, spec.network) for _ in range(2))
    return FullNetwork(anchor, privileged, Fusion(spec.network), Decoder(spec.out_channels, spec.network))


def _gated(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    return GatedNetwork(len(pathway.modalities), spec.out_channels, spec.network)


ARCHITECTURES: dict[str, Callable[[ModelSpec, Pathway], nn.Module]] = {
    "unet": _unet,
    "dante_full": _dante_full,
    "gated": _gated,
}


def build(spec: ModelSpec, pathway: Pathway) -> nn.Module:
    """The pathway's network, not yet filled with weights.

    Raises:
        ModelError: its architecture is not known to this version.
    """
    if pathway.architecture not in ARCHITECTURES:
        raise ModelError(
            f"'{spec.name}' uses the architecture '{pathway.architecture}'; this version knows "
            f"{', '.join(ARCHITECTURES)}. Update SlicerDANTE."
        )
    return ARCHITECTURES[pathway.architecture](spec, pathway)
