"""The vision transformer's settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from DanteSegmenterLib.model_folder.architectures import UnetrOptions

from ..method_settings import MethodSettings

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class VitSettings(MethodSettings):
    """Only method "vit" reads these; the networks' defaults are the published ones, for 128^3 patches at 1 mm.

    Its optimiser is AdamW with the numbers here, not the run's, whose SGD is for convolutional networks.
    """

    LIMITS: ClassVar = {
        "mae_layers": (1, UnetrOptions.LIMITS["layers"]),
        "warm_up": (0, 0.99),
        "mae_warm_up": (0, 0.99),
    }
    POSITIVE: ClassVar = ("learning_rate", "tuning_rate", "mae_rate", "clip_norm")
    MOVING: ClassVar = (*POSITIVE, "weight_decay", "warm_up", "mae_warm_up")
    UNREAD: ClassVar = ("optimiser.",)

    token: int = UnetrOptions.token
    """Edge in voxels of the blocks that become tokens, a power of 2; patches are made of whole tokens."""
    hidden: int = UnetrOptions.hidden
    """Numbers in a token; a multiple of `heads` and of 6."""
    layers: int = UnetrOptions.layers
    """Of the transformer."""
    heads: int = UnetrOptions.heads
    """Of its attention."""
    mlp: int = UnetrOptions.mlp
    """Width between the two linear maps of a layer."""
    features: int = UnetrOptions.features
    """Of UNETR's decoder at full resolution."""
    mask_ratio: float = 0.75
    """Share of the tokens that pre-training hides; the published script has 0.125 where its configuration has 0.75."""
    mae_hidden: int = 384
    """Numbers in a token of the reconstructing decoder; a multiple of `mae_heads` and of 6."""
    mae_layers: int = 8
    """Of the reconstructing decoder."""
    mae_heads: int = 12
    """Of the reconstructing decoder."""
    learning_rate: float = 3e-4
    """The highest, of UNETR without pre-training."""
    tuning_rate: float = 1e-4
    """The same after pre-training."""
    mae_rate: float = 1.5e-4
    """The same of pre-training: the published 6.4e-3 is multiplied there by the batch size 6 and divided by 256."""
    weight_decay: float = 0.05
    """AdamW's, on all parameters."""
    warm_up: float = 0.05
    """Share of the supervised steps over which the learning rate rises."""
    mae_warm_up: float = 0.02
    """Share of the pre-training steps over which the learning rate rises."""
    clip_norm: float = 1.0
    """Largest gradient norm."""

    @property
    def options(self) -> UnetrOptions:
        """The network's own numbers, as they stand in a model folder."""
        return UnetrOptions(self.token, self.hidden, self.layers, self.heads, self.mlp, self.features)

    @property
    def mae_options(self) -> UnetrOptions:
        """The reconstructing decoder's transformer in the same terms."""
        hidden = self.mae_hidden
        return replace(self.options, hidden=hidden, layers=self.mae_layers, heads=self.mae_heads, mlp=4 * hidden)

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if not 0 < self.mask_ratio < 1:
            yield f"mask_ratio must lie between 0 and 1, got {self.mask_ratio:g}"
        yield from self.refused(self.options)
        yield from (f"mae_{problem}" for problem in self.refused(self.mae_options))

    def smoke(self) -> Self:
        return replace(
            self, token=8, hidden=24, layers=3, heads=2, mlp=48, features=4, mae_hidden=12, mae_layers=1, mae_heads=2
        )
