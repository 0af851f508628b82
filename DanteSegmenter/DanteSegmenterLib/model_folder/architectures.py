"""Known network architectures by their name in `model.json`, and their options besides the backbone's."""

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
    """Base class of architecture options, and the options of an architecture without any; integers only.

    `LIMITS` gives the highest value of each, far below what would exhaust a machine; the lowest is 1.
    """

    LIMITS: ClassVar[Mapping[str, int]] = {}

    def check(self) -> None:
        """Check the values.

        Raises:
            ModelError: a value is out of range, or two contradict each other.
        """
        for field in fields(self):
            value, highest = getattr(self, field.name), self.LIMITS[field.name]
            if not 1 <= value <= highest:
                raise ModelError(f"{field.name} is {value}, wanted 1 to {highest}")


PLAIN = ArchitectureOptions()


@dataclass(frozen=True)
class UnetrOptions(ArchitectureOptions):
    """Options of UNETR; the defaults are the published ones, for 128^3 patches at 1 mm.

    Attributes:
        token: edge length of a token's block in voxels, a power of 2; the decoder doubles log2(token) times.
        hidden: token size; divisible by the number of heads, and by 6 for the sinusoidal positions.
        layers, heads, mlp: layers, attention heads and MLP hidden size of the transformer.
        features: of the decoder at full resolution; doubled at each coarser resolution.
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
        """Number of doublings from tokens to voxels."""
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
    """Options of mmFormer's transformers; the defaults are the published ones, except `narrowing`, which is 1 there.

    Attributes:
        token_width: token size, divisible by `heads`.
        heads: attention heads.
        mlp_width: hidden size of the MLPs.
        layers: layers of each transformer.
        narrowing: factor by which an encoder has fewer features than the decoder.
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
    """How ShaSpec replaces a missing modality.

    Attributes:
        substitute: 1 for the shared features of the first present modality, 2 for the average of all present ones.
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
"""Descriptions for model cards."""


def options_of(pathway: Pathway, kind: type[Options]) -> Options:
    """The pathway's options as an instance of its architecture's class.

    Raises:
        ModelError: an option is unknown, missing, not an integer, or out of range.
    """
    where = f"options of the architecture '{pathway.architecture}'"
    options = from_plain(kind, pathway.options, where, ModelError)
    try:
        options.check()
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    return options


def check_options(pathway: Pathway) -> None:
    """Check the options of a known architecture; unknown ones are refused by `networks.build`.

    Raises:
        ModelError: see `options_of`.
    """
    kind = ARCHITECTURE_OPTIONS.get(pathway.architecture)
    if kind is not None:
        options_of(pathway, kind)
