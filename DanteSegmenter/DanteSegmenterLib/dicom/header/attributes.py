"""Read attributes of a DICOM dataset; values that violate the standard count as missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...guard.plain_text import one_line

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def value_of(dataset: Dataset, name: str) -> Any:
    """An attribute's value; None if it is missing, empty, or violates the standard."""
    try:
        return dataset.get(name)
    except Exception:  # values are parsed on access
        return None


def items(dataset: Dataset, name: str) -> list[Dataset]:
    """The items of a sequence."""
    from pydicom.sequence import Sequence

    value = value_of(dataset, name)
    return list(value) if isinstance(value, Sequence) else []


def texts(dataset: Dataset, name: str) -> tuple[str, ...]:
    """All values as printable texts."""
    value = value_of(dataset, name)
    if value is None or isinstance(value, bytes):
        return ()
    several = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return tuple(one_line(part) for part in several)


def text(dataset: Dataset, name: str) -> str:
    """The value as one printable text; empty if there is none."""
    return one_line(" ".join(texts(dataset, name)))


def numbers_of(dataset: Dataset, name: str) -> tuple[float, ...]:
    """All values as finite numbers; empty if any is not a number."""
    try:
        found = tuple(float(part) for part in texts(dataset, name))
    except ValueError:
        return ()
    return found if all(abs(number) < float("inf") for number in found) else ()


def number_of(dataset: Dataset, name: str) -> float | None:
    """The first number, or None."""
    return next(iter(numbers_of(dataset, name)), None)
