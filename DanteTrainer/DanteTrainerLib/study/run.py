"""A study: several methods and settings trained and scored under equal conditions, from one TOML file.

Runs are taken in order. One that is finished is skipped, one that was cut short is resumed, one that another process
works on is left to it: the same command started twice, or on two machines over one folder, shares the work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from DanteSegmenterLib.errors import ConfigError, ModelError
from DanteSegmenterLib.strict_dataclass import from_plain

from ..data.dataset import Dataset, read_dataset
from ..methods import method_named
from ..run.run_folder import MODEL_FOLDER, read_run
from ..run.start import start_run
from ..run.train import continue_run
from ..settings.experiment import Experiment, load_experiment
from ..status import RUN_FILE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WAIT_SECONDS = 10


@dataclass(frozen=True)
class Entry:
    """One row of the table: a method with its differences from the study's common settings.

    Attributes:
        name: in tables; letters, digits, spaces and -+.=_ only, for folders are named after it.
        method: one of METHODS.
        set: "key=value" settings; {NAME} stands for the model folder of entry NAME with the same seed.
        seeds: instead of the study's.
    """

    name: str
    method: str
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """One setting at several values, all else as it is."""

    method: str
    key: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        experiment: name or file of the common settings.
        set: "key=value" differences from it, for all.
        seeds: of every entry that names none.
        entry: the rows.
        sweep: expanded to a row a value.
        baseline, ceiling: entries between which the gap is measured.
        region: whose gap.
        mirror: score with mirroring at test time.
    """

    experiment: str
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1,)
    entry: tuple[Entry, ...] = ()
    sweep: tuple[Sweep, ...] = ()
    baseline: str = "lower"
    ceiling: str = "upper"
    region: str = ""
    mirror: bool = False

    def entries(self) -> list[Entry]:
        """All rows; those of a sweep are named METHOD KEY=VALUE."""
        swept = [
            Entry(sweep_name(sweep, value), sweep.method, (f"{sweep.key}={value:g}",))
            for sweep in self.sweep
            for value in sweep.values
        ]
        return [*self.entry, *swept]


def sweep_name(sweep: Sweep, value: float) -> str:
    """The row of one value."""
    return f"{sweep.method} {sweep.key.split('.')[-1]}={value:g}"


@dataclass(frozen=True)
class Planned:
    """One training of the study.

    Attributes:
        entry, seed: what.
        folder: of its run.
        needs: model folders of other runs that must be there first.
    """

    entry: Entry
    seed: int
    folder: Path
    experiment: Experiment
    needs: tuple[Path, ...] = ()

    @property
    def model(self) -> Path:
        return self.folder / MODEL_FOLDER


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        ConfigError: not TOML, an unknown key, two rows of one name, or a name that cannot be a folder's.
    """
    try:
        plain: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        study = from_plain(Study, plain, path.name, ConfigError)
    except OSError as error:
        raise ConfigError(f"the study '{path}' cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is not valid TOML: {error}.") from None
    except ModelError as error:
        raise ConfigError(str(error)) from None
    names = [entry.name for entry in study.entries()]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path.name}: two rows are named '{name}'.")
        if not name or not all(letter.isalnum() or letter in " -+.=_" for letter in name) or name.startswith("."):
            raise ConfigError(f"{path.name}: '{name}' cannot name a row; use letters, digits, spaces and -+.=_")
    if not names:
        raise ConfigError(f"{path.name}: nothing to train; add [[entry]] or [[sweep]] tables.")
    return study


def plan(study: Study, folder: Path) -> list[Planned]:
    """All trainings in order, seeds innermost, with every setting checked.

    Raises:
        ConfigError: an unknown setting, method or {NAME}.
    """
    entries = {entry.name: entry for entry in study.entries()}

    def run_folder(name: str, seed: int) -> Path:
        return folder / "runs" / f"{name.replace(' ', '_')}-seed{seed}"

    runs = []
    for entry in entries.values():
        method_named(entry.method)
        for seed in entry.seeds or study.seeds:
            settings, needs = [*study.set, *entry.set, f"seed={seed}"], []
            for name in entries:
                if any(f"{{{name}}}" in text for text in entry.set):
                    needs.append(run_folder(name, seed) / MODEL_FOLDER)
                    settings = [text.replace(f"{{{name}}}", str(needs[-1].resolve())) for text in settings]
            unknown = [text for text in settings if "={" in text]
            if unknown:
                raise ConfigError(f"'{entry.name}': '{unknown[0]}' names no row of the study.")
            experiment = load_experiment(study.experiment, settings, method=entry.method)
            runs.append(Planned(entry, seed, run_folder(entry.name, seed), experiment, tuple(needs)))
    return runs


def run_study(
    study: Study, data: Path, folder: Path, split: str, device: str = "auto", quiet: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> None:  # fmt: skip
    """Train and score all runs that are not done yet, and wait for those that other processes work on.

    Raises:
        DanteError: of the first run that fails; the others keep what they have.
        Cancelled: `stop` said so.
    """
    dataset = read_dataset(data)
    planned = plan(study, folder)
    missing = {need for run in planned for need in run.needs} - {run.model for run in planned}
    if missing:
        raise ConfigError(f"no row of the study trains '{min(missing)}' (the same seed is needed).")
    left = planned
    while left:
        waiting = []
        for run in left:
            if _done(run, split, study.mirror):
                continue
            if not all(need.is_dir() for need in run.needs):
                waiting.append(run)
                continue
            try:
                with _claimed(run):
                    _train(run, data, folder, device, quiet, stop)
                    score(run, dataset, split, device, quiet, study.mirror)
            except Timeout:
                waiting.append(run)
        if waiting and len(waiting) == len(left):
            time.sleep(WAIT_SECONDS)
        left = waiting


def _claimed(run: Planned) -> FileLock:
    """Held while a process works on a run; filelock.Timeout at once where another holds it."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(run.folder.with_name(f".{run.folder.name}.lock"), timeout=0)


def _train(run: Planned, data: Path, folder: Path, device: str, quiet: bool, stop: Callable[[], bool]) -> None:
    print(f"{run.entry.name}, seed {run.seed}", flush=True)
    if not (run.folder / RUN_FILE).is_file():
        start_run(run.experiment, data, run.folder, run.entry.name, folder / "cache")
    elif read_run(run.folder).experiment != run.experiment:
        raise ConfigError(
            f"'{run.folder}' was trained with other settings than the study now asks for; use another folder."
        )
    if not run.model.is_dir():
        continue_run(run.folder, device, quiet, stop)


def score(run: Planned, dataset: Dataset, part: str, device: str, quiet: bool, mirror: bool = False) -> None:
    """Evaluate f_L, and f_F where the method has one."""
    from DanteSegmenterLib.model_folder import read_spec

    from ..evaluation.evaluate import evaluate

    doors = [False] + [True] * (read_spec(run.model).full is not None)
    for full in doors:
        file = scores_file(run, part, full, mirror)
        if not file.is_file():
            split = read_run(run.folder).split
            evaluate(run.model, dataset, split, part, file.parent, device, quiet, full, mirror)


def scores_file(run: Planned, part: str, full: bool = False, mirror: bool = False) -> Path:
    """Where a run's scores are."""
    return run.folder / f"evaluation-{part}{'-full' * full}{'-mirror' * mirror}" / "cases.csv"


def _done(run: Planned, part: str, mirror: bool) -> bool:
    return run.model.is_dir() and scores_file(run, part, mirror=mirror).is_file()
