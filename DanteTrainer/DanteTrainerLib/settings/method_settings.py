"""Base class of the method-specific settings: range checks, and a tiny variant for smoke tests."""

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
    """Base class of method-specific settings.

    Every number must be finite and at least 0. `LIMITS` sets tighter (lowest, highest) bounds, `POSITIVE` excludes 0,
    and `CHOICES` lists the allowed texts. `CHANGEABLE` names optimiser-like settings, which may change when a run is
    resumed; `IGNORED` names prefixes of shared settings that the method ignores because it has its own.
    """

    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {}
    POSITIVE: ClassVar[tuple[str, ...]] = ()
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    CHANGEABLE: ClassVar[tuple[str, ...]] = ()
    IGNORED: ClassVar[tuple[str, ...]] = ()

    def problems(self) -> Iterator[str]:
        """Yield one message per invalid value, starting with the setting's name and without a final full stop."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                yield from self._problems_of_number(field.name, value)
            elif field.name in self.CHOICES and value not in self.CHOICES[field.name]:
                yield f"{field.name} must be one of {', '.join(self.CHOICES[field.name])}, got '{value}'"

    def _problems_of_number(self, name: str, value: float) -> Iterator[str]:
        low, high = self.LIMITS.get(name, (0, LARGEST_FLOAT32))
        if name in self.POSITIVE and not 0 < value < LARGEST_FLOAT32:
            yield f"{name} must be positive and below {LARGEST_FLOAT32:g}, got {value:g}"
        elif not low <= value <= high:
            bound = f"at least {low:g}" if value < low else f"at most {high:g}"
            yield f"{name} must be {bound}, got {value:g}"

    @staticmethod
    def refused(options: ArchitectureOptions) -> Iterator[str]:
        """Yield the problems of the network's own options; for use in `problems`."""
        try:
            options.check()
        except ModelError as error:
            yield str(error)

    @property
    def dropping_share(self) -> float:
        """Share of the supervised stage in which the privileged modality may be dropped; 0 if it never is."""
        return 0.0

    def smoke(self) -> Self:
        """A copy at a tiny size, for methods whose settings include network sizes."""
        return self
