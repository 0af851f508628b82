"""What networks there are, by the name in `model.json`, and the numbers each has beside those of the backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar

from ..errors import ModelError
from ..strict_dataclass import from_plain

if TYPE_CHECKING:
    from .spec import Pathway

Options = TypeVar("Options", bound="ArchitectureOptions")


@dataclass(frozen=True)
class ArchitectureOptions:
    """Base of an architecture's own numbers, and the numbers of one that has none; whole numbers only.

    `LIMITS` has the highest of each, far below what would exhaust a machine; the lowest is 1.
    """

    LIMITS: ClassVar[Mapping[str, int]] = {}

    def check(self) -> None:
        """
        Raises:
            ModelError: a number is out of its range, or two contradict each other.
        """
        for field in fields(self):
            value, highest = getattr(self, field.name), self.LIMITS[field.name]
            if not 1 <= value <= highest:
                raise ModelError(f"{field.name} is {value}, wanted 1 to {highest}")


PLAIN = ArchitectureOptions()


@dataclass(frozen=True)
class UnetrOptions(ArchitectureOptions):
    """UNETR's numbers; the defaults are the published ones, for 128^3 patches at 1 mm.

    Attributes:
        token: edge of the blocks that become tokens, in voxels, a power of 2; the decoder doubles so often.
        hidden: numbers in a token; divisible by the heads, and by the 6 waves of its position.
        layers, heads, mlp: of the transformer; `mlp` is the width between a layer's two linear maps.
        features: of the decoder at full resolution; twice as many at half of it, and so on.
    """

    LIMITS: ClassVar = {"token": 64, "hidden": 4096, "layers": 64, "heads": 64, "mlp": 16384, "features": 256}

    token: int = 16
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    features: int = 16

    @property
    def doublings(self) -> int:
        """From tokens to voxels."""
        return self.token.bit_length() - 1

    def check(self) -> None:
        super().check()
        if self.token < 2 or self.token & (self.token - 1):
            raise ModelError(f"token is {self.token}, wanted a power of 2 from 2 on")
        for divisor in (self.heads, 6):
            if self.hidden % divisor:
                raise ModelError(f"hidden is {self.hidden}, wanted a multiple of {divisor}")


@dataclass(frozen=True)
class MmFormerOptions(ArchitectureOptions):
    """The published numbers of mmFormer's transformers, but for `narrowing`, which is 1 there.

    Attributes:
        token_width: numbers in a token, divisible by `heads`.
        heads: of attention.
        mlp_width: numbers in the hidden layer of a transformer's MLP.
        layers: of each transformer.
        narrowing: how many times fewer features than the decoder an encoder has.
    """

    LIMITS: ClassVar[Mapping[str, int]] = {
        "token_width": 2048,
        "heads": 64,
        "mlp_width": 8192,
        "layers": 24,
        "narrowing": 16,
    }
    token_width: int = 512
    heads: int = 8
    mlp_width: int = 4096
    layers: int = 1
    narrowing: int = 2

    def check(self) -> None:
        super().check()
        if self.token_width % self.heads:
            raise ModelError(f"token_width must be a multiple of heads, {self.heads}, got {self.token_width}")


FIRST_PRESENT, AVERAGE_PRESENT = 1, 2


@dataclass(frozen=True)
class ShaSpecOptions(ArchitectureOptions):
    """What ShaSpec puts in place of a missing modality.

    Attributes:
        substitute: 1, what the first present one shares; 2, the average of all.
    """

    LIMITS: ClassVar[Mapping[str, int]] = {"substitute": AVERAGE_PRESENT}
    substitute: int = FIRST_PRESENT


ARCHITECTURE_OPTIONS: dict[str, type[ArchitectureOptions]] = {
    "unet": ArchitectureOptions,
    "residual_unet": ArchitectureOptions,
    "dante_full": ArchitectureOptions,
    "gated": ArchitectureOptions,
    "unetr": UnetrOptions,
    "mmformer": MmFormerOptions,
    "shaspec": ShaSpecOptions,
}


ARCHITECTURE_TITLES = {
    "unet": "plain U-Net",
    "residual_unet": "a residual encoder, the decoder of a U-Net (nnU-Net)",
    "dante_full": "two encoders and their fusion, the decoder of a U-Net",
    "gated": "an encoder per modality, gated fusion, the decoder of a U-Net (RobustSeg)",
    "mmformer": "an encoder and a transformer per modality, a transformer over all (mmFormer)",
    "shaspec": "a shared encoder and one per modality (ShaSpec)",
    "unetr": "a vision transformer and a convolutional decoder (UNETR)",
}
"""For a model's card."""


def options_of(pathway: Pathway, kind: type[Options]) -> Options:
    """The pathway's options as what its architecture has.

    Raises:
        ModelError: a number is unknown, missing, no whole number, or out of its range.
    """
    where = f"options of the architecture '{pathway.architecture}'"
    options = from_plain(kind, pathway.options, where, ModelError)
    try:
        options.check()
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    return options


def check_options(pathway: Pathway) -> None:
    """Check those of an architecture that this version knows; `networks.build` refuses the others.

    Raises:
        ModelError: see `options_of`.
    """
    kind = ARCHITECTURE_OPTIONS.get(pathway.architecture)
    if kind is not None:
        options_of(pathway, kind)
