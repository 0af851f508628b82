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
    """Only method "mmformer" reads these; the defaults are the published ones, but for `narrowing`."""

    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {
        **{name: (1, highest) for name, highest in MmFormerOptions.LIMITS.items()},
        "dropout": (0, 0.9),
        "separate_weight": (0, LARGEST_FLOAT32),
        "coarse_weight": (0, LARGEST_FLOAT32),
    }
    token_width: int = MmFormerOptions.token_width
    """Numbers in a token, a multiple of `heads`. It does not follow the backbone's width: over the 8 to 128 features
    of brats-2mm the five transformers would have 27 of 29 million parameters: it sets 128, and 1024 for `mlp_width`."""
    heads: int = MmFormerOptions.heads
    """Of attention."""
    mlp_width: int = MmFormerOptions.mlp_width
    """Numbers in the hidden layer of a transformer's MLP."""
    layers: int = MmFormerOptions.layers
    """Of each transformer: one per modality, and one for the tokens of all."""
    narrowing: int = MmFormerOptions.narrowing
    """How many times fewer features than the decoder a modality's encoder has; 1 as published."""
    dropout: float = 0.1
    """Of attention and MLP, in training."""
    separate_weight: float = 1.0
    """Of the segmentation of every modality alone, summed over them."""
    coarse_weight: float = 1.0
    """Of the segmentation at every coarser resolution, summed over them."""

    @property
    def options(self) -> MmFormerOptions:
        """What the model folder is told."""
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
