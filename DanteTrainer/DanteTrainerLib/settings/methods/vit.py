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
    """Only read by method "vit"; the networks' defaults are the published ones, for 128^3 patches at 1 mm.

    It is trained with AdamW and the numbers here, not with `optimiser`, whose SGD suits convolutional networks.
    """

    LIMITS: ClassVar = {
        "mae_layers": (1, UnetrOptions.LIMITS["layers"]),
        "warm_up": (0, 0.99),
        "mae_warm_up": (0, 0.99),
    }
    POSITIVE: ClassVar = ("learning_rate", "tuning_rate", "mae_rate", "clip_norm")
    CHANGEABLE: ClassVar = (*POSITIVE, "weight_decay", "warm_up", "mae_warm_up")
    IGNORED: ClassVar = ("optimiser.",)

    token: int = UnetrOptions.token
    """Edge length of a token's block in voxels, a power of 2; the patch must be a whole number of blocks."""
    hidden: int = UnetrOptions.hidden
    """Token size; a multiple of `heads` and of 6."""
    layers: int = UnetrOptions.layers
    """Transformer layers."""
    heads: int = UnetrOptions.heads
    """Attention heads."""
    mlp: int = UnetrOptions.mlp
    """Hidden size of the layers' MLPs."""
    features: int = UnetrOptions.features
    """Features of UNETR's decoder at full resolution."""
    mask_ratio: float = 0.75
    """Share of tokens masked in pre-training; the published script has 0.125, its configuration 0.75."""
    mae_hidden: int = 384
    """Token size of the reconstruction decoder; a multiple of `mae_heads` and of 6."""
    mae_layers: int = 8
    """Layers of the reconstruction decoder."""
    mae_heads: int = 12
    """Attention heads of the reconstruction decoder."""
    learning_rate: float = 3e-4
    """Peak learning rate of UNETR without pre-training."""
    tuning_rate: float = 1e-4
    """Peak learning rate of UNETR after pre-training."""
    mae_rate: float = 1.5e-4
    """Peak learning rate of pre-training: the published 6.4e-3, multiplied by its batch size 6 and divided by 256."""
    weight_decay: float = 0.05
    """Weight decay of AdamW, on all parameters."""
    warm_up: float = 0.05
    """Share of the supervised steps over which the learning rate rises linearly."""
    mae_warm_up: float = 0.02
    """Share of the pre-training steps over which the learning rate rises linearly."""
    clip_norm: float = 1.0
    """Maximum gradient norm."""

    @property
    def options(self) -> UnetrOptions:
        """The network's options, as written to the model folder."""
        return UnetrOptions(self.token, self.hidden, self.layers, self.heads, self.mlp, self.features)

    @property
    def mae_options(self) -> UnetrOptions:
        """Options of the reconstruction decoder's transformer, in the same form."""
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
