"""mmFormer's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from DanteSegmenterLib.model_folder.architectures import MmFormerOptions

from ..method_settings import LARGEST_FLOAT32, MethodSettings

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class MmformerSettings(MethodSettings):
    """Only read by method "mmformer"; the defaults are the published ones, except `narrowing`."""

    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {
        **{name: (1, highest) for name, highest in MmFormerOptions.LIMITS.items()},
        "dropout": (0, 0.9),
        "separate_weight": (0, LARGEST_FLOAT32),
        "coarse_weight": (0, LARGEST_FLOAT32),
    }
    token_width: int = MmFormerOptions.token_width
    """Token size, a multiple of `heads`. Independent of the backbone's width: with the 8 to 128 features of brats-2mm,
    the five transformers would have 27 of 29 million parameters, so that experiment sets 128, and `mlp_width` 1024."""
    heads: int = MmFormerOptions.heads
    """Attention heads."""
    mlp_width: int = MmFormerOptions.mlp_width
    """Hidden size of the transformers' MLPs."""
    layers: int = MmFormerOptions.layers
    """Layers of each transformer: one per modality, and one over the tokens of all."""
    narrowing: int = MmFormerOptions.narrowing
    """Factor by which a modality's encoder has fewer features than the decoder; 1 as published."""
    dropout: float = 0.1
    """Dropout of attention and MLP in training."""
    separate_weight: float = 1.0
    """Weight of the segmentation losses of single modalities, summed over them."""
    coarse_weight: float = 1.0
    """Weight of the segmentation losses at the coarser resolutions, summed over them."""

    @property
    def options(self) -> MmFormerOptions:
        """The network's options, as written to the model folder."""
        return MmFormerOptions(self.token_width, self.heads, self.mlp_width, self.layers, self.narrowing)

    @property
    def dropping_share(self) -> float:
        return 1.0

    def problems(self) -> Iterator[str]:
        found = list(super().problems())
        yield from found
        if not found:
            yield from self.refused(self.options)

    def smoke(self) -> Self:
        return replace(self, token_width=8, heads=2, mlp_width=16, layers=1)
