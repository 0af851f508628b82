"""What the settings of every method have in common: limits that are checked, and a tiny size to try a dataset with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder.architectures import ArchitectureOptions

if TYPE_CHECKING:
    from typing_extensions import Self

LARGEST_FLOAT32 = 3.4e38


@dataclass(frozen=True)
class MethodSettings:
    """Base of a method's own settings.

    Every number is at least 0 and finite; `LIMITS` narrows that to lowest and highest, `POSITIVE` excludes 0, `WORDS`
    lists what a text may be. `MOVING` are those of how the networks move, which may change within a run; `UNREAD` are
    beginnings of those settings of the run that the method does not read, having its own.
    """

    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {}
    POSITIVE: ClassVar[tuple[str, ...]] = ()
    WORDS: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    MOVING: ClassVar[tuple[str, ...]] = ()
    UNREAD: ClassVar[tuple[str, ...]] = ()

    def problems(self) -> Iterator[str]:
        """What is wrong with the values, a sentence without its full stop each, beginning with the setting's name."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                yield from self._problems_of_number(field.name, value)
            elif field.name in self.WORDS and value not in self.WORDS[field.name]:
                yield f"{field.name} must be one of {', '.join(self.WORDS[field.name])}, got '{value}'"

    def _problems_of_number(self, name: str, value: float) -> Iterator[str]:
        low, high = self.LIMITS.get(name, (0, LARGEST_FLOAT32))
        if name in self.POSITIVE and not 0 < value < LARGEST_FLOAT32:
            yield f"{name} must be positive and below {LARGEST_FLOAT32:g}, got {value:g}"
        elif not low <= value <= high:
            bound = f"at least {low:g}" if value < low else f"at most {high:g}"
            yield f"{name} must be {bound}, got {value:g}"

    @staticmethod
    def refused(options: ArchitectureOptions) -> Iterator[str]:
        """For `problems`: what the network's own numbers say is wrong with them."""
        try:
            options.check()
        except ModelError as error:
            yield str(error)

    @property
    def dropping_share(self) -> float:
        """Share of the supervised stage in which the privileged modality is dropped at times; 0 where it never is."""
        return 0.0

    def smoke(self) -> Self:
        """The same at a tiny size, where size is a setting of the method."""
        return self
