"""Convert frozen dataclasses from and to plain JSON or TOML values, checking every value against its type hint.

Used for `model.json` and for experiment files. An unknown key is reported with the nearest known one, a value of the
wrong type with what was found and what is expected.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")

OMIT_DEFAULT = {"omit_default": True}
"""Field metadata: do not write the field while it has its default, so that files of earlier versions stay the same."""


def from_plain(kind: type[T], plain: Any, where: str, error: type[Exception]) -> T:
    """Create an instance of the dataclass `kind` from a dictionary.

    Args:
        kind: a dataclass whose fields are int, float, bool, str, tuple[...], dict[str, ...], optional or dataclasses.
        plain: as returned by json or tomllib.
        where: name of the source in messages, e.g. "model.json".
        error: exception class to raise.
    """
    return _convert(kind, plain, where, error)


def to_plain(value: Any, whole: bool = False) -> Any:
    """Convert a dataclass to nested dictionaries and lists, ready for json.dumps.

    Args:
        value: a dataclass, or a value of one of its fields.
        whole: include fields that are omitted while they have their defaults (`OMIT_DEFAULT`).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        written = [f.name for f in dataclasses.fields(value) if whole or _is_written(f, value)]
        return {name: to_plain(getattr(value, name), whole) for name in written}
    if isinstance(value, (tuple, list)):
        return [to_plain(item, whole) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item, whole) for key, item in value.items()}
    return value


def dotted(plain: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested tables with its dotted key: {"run": {"steps": 8}} -> ("run.steps", 8)."""
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_written(field: dataclasses.Field[Any], holder: Any) -> bool:
    return "omit_default" not in field.metadata or getattr(holder, field.name) != field.default


def unknown_key_message(key: str, known: list[str], where: str) -> str:
    """'<where>: unknown key ...', with the nearest known key."""
    near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else f" Known keys: {', '.join(known)}."
    return f"{where}: unknown key '{key}'.{hint}"


def _convert(kind: Any, plain: Any, where: str, error: type[Exception]) -> Any:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, plain, where, error)
    if origin in (typing.Union, types.UnionType):
        return _union(kind, plain, where, error)
    if origin is tuple:
        return _tuple(kind, plain, where, error)
    if origin is dict:
        return _dict(kind, plain, where, error)
    return _scalar(kind, plain, where, error)


def _dataclass(kind: Any, plain: Any, where: str, error: type[Exception]) -> Any:
    if not isinstance(plain, dict):
        raise error(f"{where}: a table of keys is needed, got {_show(plain)}.")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in plain:
        if key not in fields:
            raise error(unknown_key_message(key, list(fields), where))
    values = {key: _convert(hints[key], value, f"{where}: {key}", error) for key, value in plain.items()}
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise error(f"{where}: the key '{name}' is missing.")
    return kind(**values)


def _union(kind: Any, plain: Any, where: str, error: type[Exception]) -> Any:
    options = typing.get_args(kind)
    if plain is None and type(None) in options:
        return None
    rest = [option for option in options if option is not type(None)]
    if len(rest) != 1:
        raise TypeError(f"{where}: only optional types are supported, not {kind}")
    return _convert(rest[0], plain, where, error)


def _tuple(kind: Any, plain: Any, where: str, error: type[Exception]) -> tuple[Any, ...]:
    args = typing.get_args(kind)
    if not isinstance(plain, (list, tuple)):
        raise error(f"{where}: a list is needed, got {_show(plain)}.")
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(plain)
    if len(plain) != len(args):
        raise error(f"{where}: {len(args)} values are needed, got {len(plain)}.")
    return tuple(_convert(arg, item, f"{where}[{n}]", error) for n, (arg, item) in enumerate(zip(args, plain)))


def _dict(kind: Any, plain: Any, where: str, error: type[Exception]) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise error(f"{where}: a table of keys is needed, got {_show(plain)}.")
    item_kind = typing.get_args(kind)[1]
    return {str(key): _convert(item_kind, value, f"{where}: {key}", error) for key, value in plain.items()}


def _scalar(kind: Any, plain: Any, where: str, error: type[Exception]) -> Any:
    if kind is Any:
        return plain
    if kind is float and isinstance(plain, int) and not isinstance(plain, bool):
        try:
            plain = float(plain)
        except OverflowError:
            raise error(f"{where}: a number that a float can hold is needed, got {_show(plain)}.") from None
    # bool is a subclass of int, but `true` is not accepted as a number.
    if not isinstance(plain, kind) or (isinstance(plain, bool) and kind is not bool):
        raise error(f"{where}: {kind.__name__} is needed, got {_show(plain)}.")
    if kind is float and not math.isfinite(plain):
        raise error(f"{where}: a finite number is needed, got {plain}.")
    return plain


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
