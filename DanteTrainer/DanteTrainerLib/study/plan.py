"""Plan a study: its trainings in order, with all settings checked and dependencies between models resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.strict_dataclass import to_plain

from ..methods import method_named
from ..run.run_folder import MODEL_FOLDER
from ..settings.experiment import Experiment
from ..settings.loading import load_experiment
from .study_file import Entry, Study, folder_name

RUNS_FOLDER = "runs"
REFERENCE = re.compile(r"\{([^{}]*)\}")
# Settings that define a run within a study, and how to specify them instead.
OF_A_RUN = {"seed": "seeds = [1, 2], or --seeds 1 2", "method": "method = ..., of each row"}


@dataclass(frozen=True)
class Planned:
    """One training of a study.

    Attributes:
        entry, seed: the row and the seed.
        folder: run folder.
        needs: model folders of other runs that must exist first.
    """

    entry: Entry
    seed: int
    folder: Path
    experiment: Experiment
    needs: tuple[Path, ...] = ()

    @property
    def model(self) -> Path:
        return self.folder / MODEL_FOLDER


def plan(study: Study, folder: Path) -> list[Planned]:
    """All trainings in order, seeds innermost, with all settings checked.

    Raises:
        ConfigError: an unknown setting, method or {NAME}; a duplicate seed; a setting that rows may not change; or rows
            that need each other's models.
    """
    entries = {entry.name: entry for entry in study.entries()}
    settings = {name: _settings_of(entry, study) for name, entry in entries.items()}
    references = {name: _rows_named(name, settings[name], entries) for name in entries}
    for name in entries:
        _check_no_cycle(name, references, ())

    runs = []
    for name, entry in entries.items():
        method_named(entry.method)
        _check_no_setting_of_a_run(entry, settings[name])
        seeds = entry.seeds or study.seeds
        if len(set(seeds)) < len(seeds):
            raise ConfigError(f"'{name}': each seed is trained once, got {', '.join(map(str, seeds))}.")
        for seed in seeds:
            models = {other: _run_folder(folder, other, seed) / MODEL_FOLDER for other in references[name]}
            texts = [_fill_references(text, models) for text in settings[name]]
            experiment = _experiment(study, entry, [*texts, f"seed={seed}"])
            runs.append(Planned(entry, seed, _run_folder(folder, name, seed), experiment, tuple(models.values())))
    return runs


def _run_folder(folder: Path, name: str, seed: int) -> Path:
    return folder / RUNS_FOLDER / f"{folder_name(name)}-seed{seed}"


def _fill_references(text: str, models: Mapping[str, Path]) -> str:
    """Replace references to rows in a setting by their model folders."""
    return REFERENCE.sub(lambda match: models[match[1]].resolve().as_posix(), text)


def _settings_of(entry: Entry, study: Study) -> list[str]:
    """Settings that apply to a row, later ones override; a common setting that references a row skips that row."""
    common = [text for text in study.set if f"{{{entry.name}}}" not in text]
    return [*common, *entry.set]


def _check_no_setting_of_a_run(entry: Entry, settings: Sequence[str]) -> None:
    """Check that no setting changes what identifies a run.

    Raises:
        ConfigError: a setting would have no effect, or contradict the row's name.
    """
    for key in (*(text.partition("=")[0].strip() for text in settings), *entry.scale):
        if key in OF_A_RUN:
            raise ConfigError(f"'{entry.name}': '{key}' is no setting of a study's rows; give it as {OF_A_RUN[key]}.")


def _rows_named(name: str, settings: Sequence[str], entries: Mapping[str, Entry]) -> list[str]:
    """Rows whose models the settings of row `name` reference.

    Raises:
        ConfigError: a reference is not a trained row.
    """
    named = dict.fromkeys(match for text in settings for match in REFERENCE.findall(text))
    for other in named:
        if other not in entries:
            raise ConfigError(f"'{name}': '{{{other}}}' names no row of the study; trained are {', '.join(entries)}.")
    return list(named)


def _check_no_cycle(name: str, references: Mapping[str, Sequence[str]], above: tuple[str, ...]) -> None:
    """Check for circular references.

    Raises:
        ConfigError: a row depends on its own model.
    """
    if name in above:
        circle = " -> ".join((*above[above.index(name) :], name))
        raise ConfigError(f"these rows need each other's models, none could be trained first: {circle}.")
    for other in references[name]:
        _check_no_cycle(other, references, (*above, name))


def _experiment(study: Study, entry: Entry, settings: Sequence[str]) -> Experiment:
    """A row's experiment, with `entry.scale` applied last.

    Raises:
        ConfigError: an unknown or invalid setting.
    """
    experiment = load_experiment(study.experiment, settings, method=entry.method)
    if not entry.scale:
        return experiment
    scaled = [f"{key}={_value(experiment, key) * factor:.12g}" for key, factor in entry.scale.items()]
    return load_experiment(study.experiment, [*settings, *scaled], method=entry.method)


def _value(experiment: Experiment, key: str) -> float:
    """Look up a numeric setting by its full name.

    Raises:
        ConfigError: there is no such number.
    """
    value: Any = to_plain(experiment)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, float | int) or isinstance(value, bool):
        raise ConfigError(f"'{key}' is no setting that is a number, so it cannot be multiplied; give its whole name.")
    return value
