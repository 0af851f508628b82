"""Study files (TOML): rows, sweeps, sizes, and the paper's figures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.strict_dataclass import from_plain

from ..settings.toml_file import parse_toml, read_toml

NAME_SIGNS = " -+.=_"
# Limit of a file name, with room for the seed and a lock's suffix.
NAME_BYTES = 200


@dataclass(frozen=True)
class Figure:
    """The paper's figures for one region, in per cent and millimetres; None if not published.

    Attributes:
        gap_share: per cent of the gap between the bounds.
    """

    dice: float | None = None
    hd95_mm: float | None = None
    gap_share: float | None = None


@dataclass(frozen=True)
class Entry:
    """One row of the results table: a method with its differences from the study's common settings.

    Attributes:
        name: used in tables and folder names; letters, digits, spaces and -+.=_ only.
        method: a key of METHODS.
        set: "key=value" settings; {NAME} is replaced by the model folder of entry NAME with the same seed.
        scale: setting -> factor on its value, applied after all others are set.
        seeds: override the study's.
        paper: dataset -> region -> the paper's figures.
        quoted: show only the paper's figures without training, for methods that are not implemented here.
    """

    name: str
    method: str
    set: tuple[str, ...] = ()
    scale: dict[str, float] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    paper: dict[str, dict[str, Figure]] = field(default_factory=dict)
    quoted: bool = False


@dataclass(frozen=True)
class Sweep:
    """One setting at several values, or several settings multiplied by the same factors, all else being equal.

    Attributes:
        method: a key of METHODS.
        key, values: a setting and its values: numbers, words or lists.
        keys, factors: alternatively, settings that are all multiplied by each factor.
        name: prefix of row names, NAME KEY=VALUE or NAME xFACTOR; the method by default.
        set: "key=value" settings for all its rows.
        seeds: override the study's.
        paper_chose: value or factor chosen in the paper.
    """

    method: str
    key: str = ""
    values: tuple[Any, ...] = ()
    keys: tuple[str, ...] = ()
    factors: tuple[float, ...] = ()
    name: str = ""
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    paper_chose: Any = None

    @property
    def title(self) -> str:
        """Title in tables and plots."""
        return f"{self.name or self.method} {self.key.split('.')[-1] if self.key else 'times'}"

    def points(self) -> list[tuple[Any, Entry]]:
        """Each value or factor with its row."""
        if self.key:
            return [(value, self._set(value)) for value in self.values]
        return [(factor, self._scaled(factor)) for factor in self.factors]

    def _set(self, value: Any) -> Entry:
        name = f"{self.name or self.method} {self.key.split('.')[-1]}={_plain(value)}"
        return Entry(name, self.method, (*self.set, f"{self.key}={_toml(value)}"), seeds=self.seeds)

    def _scaled(self, factor: float) -> Entry:
        name = f"{self.name or self.method} x{factor:g}"
        return Entry(name, self.method, self.set, dict.fromkeys(self.keys, factor), self.seeds)


@dataclass(frozen=True)
class Size:
    """A size of the study: differences from its common settings.

    Attributes:
        experiment, region, seeds: override the study's.
        set: "key=value" settings, applied after the study's.
        label: its description in the report.
    """

    experiment: str = ""
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    region: str = ""
    label: str = ""


@dataclass(frozen=True)
class Study:
    """A comparison of methods or settings.

    Attributes:
        experiment: name or file of the common settings.
        set: "key=value" differences from it for all rows; {NAME} as in a row, skipped for row NAME itself.
        seeds: of every entry without its own.
        entry: the rows.
        sweep: each is expanded to one row per value.
        baseline, ceiling: rows that define the gap.
        region: region in which the gap is measured.
        mirror: evaluate with mirroring at test time.
        levels: also measure the contribution of each deployed network's deep levels.
        split: part to evaluate on: "test", or "val" for model selection.
        size: name -> size; the first is the default.
        remarks: notes for readers of the report.
        label: description of the chosen size.
    """

    experiment: str = ""
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1,)
    entry: tuple[Entry, ...] = ()
    sweep: tuple[Sweep, ...] = ()
    baseline: str = "lower"
    ceiling: str = "upper"
    region: str = ""
    mirror: bool = False
    levels: bool = False
    split: str = "test"
    size: dict[str, Size] = field(default_factory=dict)
    remarks: str = ""
    label: str = ""

    def entries(self) -> list[Entry]:
        """All trained rows, including those expanded from sweeps (METHOD KEY=VALUE or METHOD xFACTOR)."""
        swept = [entry for sweep in self.sweep for _, entry in sweep.points()]
        return [*(entry for entry in self.entry if not entry.quoted), *swept]

    def sized(self, name: str = "") -> Study:
        """The study at one of its sizes; unchanged if it has none.

        Raises:
            ConfigError: there is no such size.
        """
        if not self.size and not name:
            return self
        name = name or next(iter(self.size))
        if name not in self.size:
            has = f"its sizes are {', '.join(self.size)}" if self.size else "it has none; leave --size out"
            raise ConfigError(f"the study has no size '{name}': {has}.")
        size = self.size[name]
        return replace(
            self,
            experiment=size.experiment or self.experiment,
            set=(*self.set, *size.set),
            seeds=size.seeds or self.seeds,
            region=size.region or self.region,
            label=f"{name}: {size.label}" if size.label else name,
        )

    def changed(self, overrides: Sequence[str] = (), seeds: Sequence[int] = ()) -> Study:
        """The study with "key=value" settings for all rows, or with other seeds; noted in the report's label."""
        said = [*overrides, *([f"seeds {', '.join(map(str, seeds))}"] if seeds else [])]
        if not said:
            return self
        return replace(
            self,
            set=(*self.set, *overrides),
            seeds=tuple(seeds) or self.seeds,
            entry=tuple(replace(entry, seeds=() if seeds else entry.seeds) for entry in self.entry),
            sweep=tuple(replace(sweep, seeds=() if seeds else sweep.seeds) for sweep in self.sweep),
            label="; ".join(filter(None, (self.label, f"but for this: {', '.join(said)}"))),
        )


def _plain(value: Any) -> str:
    """A value as part of a row name, restricted to allowed characters."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:g}"
    text = "-".join(map(_plain, value)) if isinstance(value, tuple | list) else str(value)
    text = text.lower() if isinstance(value, bool) else text
    return "".join(sign if sign.isalnum() or sign in NAME_SIGNS else "_" for sign in text)


def _toml(value: Any) -> str:
    """A value in "key=value" form; words stay unquoted, unless they would be parsed as something else."""
    if isinstance(value, str):
        try:
            parse_toml(f"x = {value}")
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        ConfigError: not TOML, an unknown key, an incomplete sweep or size, duplicate row names, or a name that cannot
            be used for a folder.
    """
    study = from_plain(Study, read_toml(path, "study"), path.name, ConfigError)
    if not (study.experiment or (study.size and all(size.experiment for size in study.size.values()))):
        raise ConfigError(f"{path.name}: the key 'experiment' is missing, of the study or of each of its sizes.")
    for sweep in study.sweep:
        _check_sweep(sweep, path.name)
    _check_names([*study.entries(), *(entry for entry in study.entry if entry.quoted)], path.name)
    return study


def _check_sweep(sweep: Sweep, where: str) -> None:
    """Check a sweep's form.

    Raises:
        ConfigError: it defines neither values nor factors, or both, or has a value of an unsupported type.
    """
    forms = (bool(sweep.key), bool(sweep.values), bool(sweep.keys), bool(sweep.factors))
    if forms not in ((True, True, False, False), (False, False, True, True)):
        raise ConfigError(f"{where}: a sweep of {sweep.method} needs key and values, or keys and factors.")
    for value in sweep.values:
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, float | int | str | list):
                raise ConfigError(f"{where}: {sweep.key} is swept over numbers, words or lists, got {value!r}.")


def _check_names(entries: list[Entry], where: str) -> None:
    """Check the rows' names.

    Raises:
        ConfigError: no row is trained, two rows share a name or folder, or a name cannot be used for a folder.
    """
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}: two rows are named '{name}'.")
        if not name or not all(sign.isalnum() or sign in NAME_SIGNS for sign in name) or name.startswith("."):
            raise ConfigError(f"{where}: '{name}' cannot name a row; use letters, digits, spaces and -+.=_")
        if len(os.fsencode(folder_name(name))) > NAME_BYTES:
            raise ConfigError(f"{where}: '{name[:30]}...' is too long to name a row, for folders are named after it.")
    folders = [folder_name(name).casefold() for name in names]
    for name, folder in zip(names, folders):
        if folders.count(folder) > 1:
            raise ConfigError(f"{where}: '{name}' and another row would be trained in one folder; rename one.")
    if all(entry.quoted for entry in entries):
        raise ConfigError(f"{where}: nothing to train; add [[entry]] or [[sweep]] tables.")


def folder_name(name: str) -> str:
    """Folder name for a row's runs."""
    return name.replace(" ", "_")
