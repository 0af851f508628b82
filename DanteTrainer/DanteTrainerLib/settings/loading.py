"""Load experiments: shipped ones by name, others by path, with overrides of single settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain

from .experiment import Experiment
from .method_settings import MethodSettings
from .overrides import full_key, override
from .toml_file import read_toml

CHANGEABLE = ("optimiser.", "pretrain_optimiser.", "run.", "data.workers")
"""Prefixes of the settings that may change when a run is resumed; `MethodSettings.CHANGEABLE` adds the method's own."""


def resources_folder(name: str) -> Path:
    """Folder of shipped files: beside the Slicer module, or inside an installed package."""
    here = Path(__file__).resolve().parent.parent
    for folder in (here.parent / "Resources" / name, here / name.lower()):
        if folder.is_dir():
            return folder
    raise ConfigError(f"the shipped {name.lower()} files are missing beside '{here}'. Install SlicerDANTE again.")


def list_experiments() -> dict[str, Path]:
    """Shipped experiment files by name."""
    return {path.stem: path for path in sorted(resources_folder("Experiments").glob("*.toml"))}


def list_studies() -> dict[str, Path]:
    """Shipped study files by name."""
    return {path.stem: path for path in sorted(resources_folder("Studies").glob("*.toml"))}


def study_path(name: str) -> Path:
    """Where a study is written down.

    Args:
        name: a shipped study's name or a TOML file's path.

    Raises:
        ConfigError: there is no such study.
    """
    return _shipped_or_own("study", list_studies(), name)


def _shipped_or_own(kind: str, shipped: dict[str, Path], name: str) -> Path:
    """A shipped file by its name, or the user's own by its path.

    Raises:
        ConfigError: there is no such file.
    """
    path = shipped.get(name, Path(name).expanduser())
    if not path.is_file():
        known = ", ".join(shipped)
        raise ConfigError(f"there is no {kind} '{name}': shipped are {known}; or give a TOML file's path.")
    return path


def load_experiment(name: str | None = None, overrides: Sequence[str] = (), **values: Any) -> Experiment:
    """Load an experiment. Later sources override earlier ones: defaults, file, `values`, `overrides`.

    Args:
        name: a shipped experiment's name or a TOML file's path; its key `base` names the experiment it extends.
        overrides: "key=value" with dotted keys, e.g. "run.steps=800"; a key's last part is enough where it is unique.
        values: top-level settings, e.g. method="lower".

    Raises:
        ConfigError: unknown file or key, or an invalid value; says which and what is expected.
    """
    plain: dict[str, Any] = {} if name is None else _read(name)
    plain.update(values)
    for text in overrides:
        key = full_key(text.partition("=")[0].strip())
        if key in values:
            raise ConfigError(f"--set {text}: the {key} is said elsewhere, '{values[key]}'. Say it there alone.")
        override(plain, text)
    return from_plain(Experiment, plain, name or "experiment", ConfigError)


def changed_experiment(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """A copy with overrides, restricted to settings that may change when a run is resumed.

    Raises:
        ConfigError: a setting is unknown, invalid, not read by the method, or fixed by the existing checkpoint.
    """
    method = experiment.method
    own = experiment.method_settings.get(method, MethodSettings())
    moving = tuple(f"{method}.{name}" for name in own.CHANGEABLE)
    plain = to_plain(experiment)
    ignored = own.IGNORED
    if experiment.pretrain_optimiser is None:  # the pre-training uses the method's own optimiser too, if it has one
        ignored += tuple(f"pretrain_{name}" for name in own.IGNORED)
    for text in overrides:
        key = full_key(text.partition("=")[0].strip())
        if not key.startswith(CHANGEABLE) and key not in moving:
            raise ConfigError(
                f"--set {key}: this cannot change within a run, for its checkpoint was made with it. What can: "
                f"{', '.join((*CHANGEABLE, *moving))}. Start a new run."
            )
        if ignored and key.startswith(ignored):
            raise ConfigError(f"--set {key}: '{method}' does not read it. Set its own: {', '.join(moving)}.")
        if key.startswith("pretrain_optimiser.") and plain["pretrain_optimiser"] is None:
            plain["pretrain_optimiser"] = to_plain(experiment.optimiser)  # which the pre-training has used so far
        override(plain, text)
    changed = from_plain(Experiment, plain, "run.json", ConfigError)
    if _kinds(changed) != _kinds(experiment):
        raise ConfigError(
            "optimiser.kind: this cannot change within a run, for neither sgd nor adamw knows the other's momentum. "
            "Start a new run; begin_with=MODEL lets it begin with weights that are there."
        )
    if bool(changed.run.pretrain_steps) != bool(experiment.run.pretrain_steps):
        raise ConfigError(
            "run.pretrain_steps: a run cannot gain or lose its pre-training stage, for its checkpoint stands in one of "
            "its stages. Start a new run."
        )
    return changed


def _kinds(experiment: Experiment) -> tuple[str, ...]:
    """Optimiser kinds of the pre-training stage and of the last stage."""
    last = experiment.optimiser
    return (experiment.pretrain_optimiser or last).kind, last.kind


def _read(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    if name in above:
        raise ConfigError(f"the experiment '{name}' is based on itself: {' -> '.join((*above, name))}.")
    plain = read_toml(_shipped_or_own("experiment", list_experiments(), name), "experiment")
    base = plain.pop("base", None)
    return plain if base is None else _merged(_read(str(base), (*above, name)), plain)


def _merged(base: dict[str, Any], differences: dict[str, Any]) -> dict[str, Any]:
    """`base` updated with `differences`, recursively."""
    result = dict(base)
    for key, value in differences.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(value, dict) and isinstance(known, dict) else value
    return result
