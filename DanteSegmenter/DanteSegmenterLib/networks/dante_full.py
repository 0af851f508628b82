"""DANTE's full-modality network: the teacher in training, and the full pathway of a model."""

from __future__ import annotations

from torch import Tensor, nn

from .fusion import Fusion
from .unet import Decoder, Encoder


class FullNetwork(nn.Module):
    """f_F of DANTE (AAAI 2026, eq. 2): D_F on psi(E_A(X^F), E_P(X^F)); [B, C, K, J, I] -> logits at full resolution."""

    def __init__(self, anchor: Encoder, privileged: Encoder, fusion: Fusion, decoder: Decoder) -> None:
        super().__init__()
        self.anchor, self.privileged, self.fusion, self.decoder = anchor, privileged, fusion, decoder

    def forward(self, image: Tensor) -> Tensor:
        return self.decoder(self.encode(image))

    def encode(self, image: Tensor) -> list[Tensor]:
        """The fused feature maps Z^F, finest first."""
        return self.fusion(self.anchor(image), self.privileged(image))[0]
