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

ARCHITECTURE_OPTIONS: dict[str, type[ArchitectureOptions]] = {
    "unet": ArchitectureOptions,
    "dante_full": ArchitectureOptions,
    "gated": ArchitectureOptions,
}


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
