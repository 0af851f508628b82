"""The attributes of a DICOM data set: a value that is not what the standard asks for counts as not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...guard.plain_text import one_line

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def value_of(dataset: Dataset, name: str) -> Any:
    """An attribute's value; None where it is missing, empty, or not what the standard asks for."""
    try:
        return dataset.get(name)
    except Exception:  # values are parsed when they are asked for
        return None


def items(dataset: Dataset, name: str) -> list[Dataset]:
    """A sequence's items."""
    from pydicom.sequence import Sequence

    value = value_of(dataset, name)
    return list(value) if isinstance(value, Sequence) else []


def texts(dataset: Dataset, name: str) -> tuple[str, ...]:
    """All values as texts that print."""
    value = value_of(dataset, name)
    if value is None or isinstance(value, bytes):
        return ()
    several = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return tuple(one_line(part) for part in several)


def text(dataset: Dataset, name: str) -> str:
    """The value as one text that prints; empty where there is none."""
    return one_line(" ".join(texts(dataset, name)))


def numbers_of(dataset: Dataset, name: str) -> tuple[float, ...]:
    """All values as finite numbers; none of them where one is no number."""
    try:
        found = tuple(float(part) for part in texts(dataset, name))
    except ValueError:
        return ()
    return found if all(abs(number) < float("inf") for number in found) else ()


def number_of(dataset: Dataset, name: str) -> float | None:
    """The first number, or None."""
    return next(iter(numbers_of(dataset, name)), None)
