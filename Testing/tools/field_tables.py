"""Writes tables of dataclass fields into the pages, from their docstrings: `make field-tables`.

    <!-- fields: DanteSegmenterLib.model_folder.spec Modality -->

Such a line in a page is followed by the table of a class, and `<!-- architectures -->` by that of the networks; a
table ends at the next empty line. The text of a field is that in the class's `Attributes:`, or below the field.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("docs/model-folder.md", "docs/settings.md")
PLACE = re.compile(r"<!-- fields: (\S+) (\w+) -->\n+(?:\|.*\n)*\n*")
NETWORKS_PLACE = re.compile(r"<!-- architectures -->\n+(?:\|.*\n)*\n*")
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
PLURALS = {str: "texts", int: "whole numbers", float: "numbers"}
NO_DEFAULT = "needed"


def with_tables(text: str) -> str:
    """A page with the tables requested by its lines `<!-- fields: MODULE CLASS -->`."""

    def written(place: re.Match[str]) -> str:
        table = table_of(getattr(importlib.import_module(place[1]), place[2]))
        return f"<!-- fields: {place[1]} {place[2]} -->\n\n{table}\n"

    text = NETWORKS_PLACE.sub(lambda _: f"<!-- architectures -->\n\n{table_of_architectures()}\n", text)
    return PLACE.sub(written, text).rstrip() + "\n"


def table_of_architectures() -> str:
    """The architectures that a pathway may have, with tables of their options."""
    from DanteSegmenterLib.model_folder.architectures import ARCHITECTURE_OPTIONS, ARCHITECTURE_TITLES

    rows = ["| `architecture` | what it is | `options` |", "|---|---|---|"]
    for name, title in ARCHITECTURE_TITLES.items():
        kind = ARCHITECTURE_OPTIONS[name]
        rows.append(f"| `{name}` | {title} | {words_for(kind) if dataclasses.fields(kind) else 'none'} |")
    return "\n".join(rows) + "\n"


def table_of(kind: type) -> str:
    """
    Raises:
        ValueError: a field is undocumented.
    """
    sentences, hints = sentences_of(kind), typing.get_type_hints(kind)
    rows = ["| field | what | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        sentence = sentences.get(field.name) or (_first_line(hint) if dataclasses.is_dataclass(hint) else "")
        if not sentence:
            raise ValueError(f"{kind.__name__}.{field.name} has no sentence in the docstring of its class.")
        cells = (f"`{field.name}`", words_for(hint), default_of(field), sentence)
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def sentences_of(kind: type) -> dict[str, str]:
    """Field -> its documentation, with a capital letter and a full stop."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    found = _attributes(inspect.getdoc(kind) or "")
    for field, below in zip(body, body[1:]):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[ast.unparse(field.target)] = inspect.cleandoc(str(below.value.value))
    return {name: _sentence(text) for name, text in found.items()}


def _first_line(kind: Any) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _attributes(docstring: str) -> dict[str, str]:
    block = docstring.partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w[\w, ]*): ((?:.*\n?(?:     .*\n?)*))", block, re.MULTILINE)
    return {name.strip(): text for names, text in entries for name in names.split(",")}


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    # A name, such as that of a symbol or program, keeps its lower-case letter.
    text = text[0].upper() + text[1:] if re.match(r"[a-z]+[ ,;:]", text) and " " in text else text
    return text if text.endswith(".") else text + "."


def words_for(hint: Any) -> str:
    """A type in JSON terms; a dataclass of the same page is a link to its heading."""
    if dataclasses.is_dataclass(hint):
        name = typing.cast(type, hint).__name__
        return f"[{name}](#{name.lower()})"
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else words_for(part) for part in parts)
    if origin is dict:
        return f"table of {_many(parts[1])}"
    if origin is tuple and parts[-1] is Ellipsis:
        return f"list of {_many(parts[0])}"
    if origin is tuple:
        return f"{len(parts)} {_many(parts[0])}"
    return WORDS[hint]


def _many(hint: Any) -> str:
    if typing.get_origin(hint) is dict:
        return f"tables of {_many(typing.get_args(hint)[1])}"
    return PLURALS.get(hint) or words_for(hint)


def default_of(field: dataclasses.Field[Any]) -> str:
    """The default in JSON; empty if it is a table of its own."""
    if field.default_factory is not dataclasses.MISSING:
        return "see there" if dataclasses.is_dataclass(field.default_factory()) else "empty"
    if field.default is dataclasses.MISSING:
        return NO_DEFAULT
    return _value(field.default)


def _value(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        usual = type(value)()
        names = [f.name for f in dataclasses.fields(value) if getattr(value, f.name) != getattr(usual, f.name)]
        return ", ".join(f"{name} {_value(getattr(value, name))}" for name in names) or "see there"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_value, value)) or "empty"
    return f"{value:.7g}" if isinstance(value, float) else str(value) or "empty"


def main() -> None:
    for name in PAGES:
        page = REPOSITORY / name
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
