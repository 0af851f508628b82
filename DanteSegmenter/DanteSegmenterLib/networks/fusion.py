"""psi: privileged features as a correction added to anchor features (DANTE, AAAI 2026, eq. 2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from ..model_folder.spec import NetworkSpec
from .convolution import Conv3d, convolve
from .part import Part


class Fusion(Part):
    """Z^F_i = proj_i(Z^A_i (+) Z^P_i) + Z^A_i at every encoder stage i, where (+) is concatenation over channels.

    proj_i is a plain 1x1x1 convolution: a norm after it would fix the correction's magnitude and make the compaction
    term (eq. 3), which shrinks it, meaningless.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.projections = nn.ModuleList(Conv3d(2 * features, features, 1) for features in spec.features)

    def forward(self, anchor: list[Tensor], privileged: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Fuse two feature pyramids.

        Args:
            anchor, privileged: Z_i [B, C_i, K_i, J_i, I_i], finest first.

        Returns:
            fused Z^F_i and corrections proj_i(...), both shaped like `anchor`.
        """
        projections = cast("Iterable[Conv3d]", self.projections)
        corrections = [_project(projection, a, p) for projection, a, p in zip(projections, anchor, privileged)]
        return [correction + a for correction, a in zip(corrections, anchor)], corrections


def _project(projection: Conv3d, anchor: Tensor, privileged: Tensor) -> Tensor:
    """Project the concatenation without building it: a third less time, and one feature map less in memory."""
    of_anchor, of_privileged = projection.weight.split(anchor.shape[1], dim=1)
    return convolve(anchor, of_anchor, projection.bias) + convolve(privileged, of_privileged)
