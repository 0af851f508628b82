"""Allowed values of an experiment's settings, checked before anything is created."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from DanteSegmenterLib.errors import ConfigError, ModelError
from DanteSegmenterLib.model_folder.checks import MAX_STAGES, check_network

from .method_settings import LARGEST_FLOAT32

if TYPE_CHECKING:
    from .experiment import Experiment

# More than any training needs, but small enough not to exhaust a machine or overflow a number format.
LARGEST_SEED = 2**63 - 1
MOST_STEPS, MOST_BATCH, MOST_WORKERS = 10**9, 1024, 256
# Lowest, highest.
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, LARGEST_SEED),
    "weight_average": (0, 0.999999),
    "data.batch_size": (1, MOST_BATCH),
    "data.foreground_share": (0, 1),
    "data.workers": (-1, MOST_WORKERS),
    "data.split_seed": (0, LARGEST_SEED),
    "dropping.probability": (0.01, 1),
    "optimiser.momentum": (0, 0.9999),
    "optimiser.weight_decay": (0, LARGEST_FLOAT32),
    "optimiser.exponent": (0, 100),
    "optimiser.warm_up": (0, 0.99),
    "run.steps": (1, MOST_STEPS),
    "run.pretrain_steps": (0, MOST_STEPS),
    "run.checkpoint_every": (1, MOST_STEPS),
    "run.validate_every": (0, MOST_STEPS),
    "run.validation_batches": (1, 10**6),
}
POSITIVE = ("optimiser.learning_rate", "optimiser.clip_norm")
CHOICES: dict[str, tuple[str, ...]] = {
    "data.augment_strength": ("nnunet", "strong"),
    "optimiser.kind": ("sgd", "adamw"),
    "optimiser.schedule": ("poly", "cosine"),
    "run.precision": ("auto", "fp32", "bf16", "fp16"),
}


def check(experiment: Experiment) -> None:
    """Check ranges and consistency.

    Raises:
        ConfigError: a value is out of range, or two values contradict each other; says which and what is expected.
    """
    _check_values(experiment)
    if experiment.pretrain_optimiser is not None:
        try:
            _check_values(replace(experiment, optimiser=experiment.pretrain_optimiser, pretrain_optimiser=None))
        except ConfigError as error:
            raise ConfigError(f"pretrain_{error}" if str(error).startswith("optimiser.") else str(error)) from None
    _check_data(experiment)
    _check_methods(experiment)


def _check_values(experiment: Experiment) -> None:
    for key, (low, high) in RANGES.items():
        value = _value(experiment, key)
        if not low <= value <= high:
            bound = f"at least {low:g}" if value < low else f"at most {high:g}"
            raise ConfigError(f"{key} must be {bound}, got {value:g}.")
    for key in POSITIVE:
        value = _value(experiment, key)
        if not 0 < value < LARGEST_FLOAT32:
            raise ConfigError(f"{key} must be positive and below {LARGEST_FLOAT32:g}, got {value:g}.")
    for key, known in CHOICES.items():
        value = _value(experiment, key)
        if value not in known:
            raise ConfigError(f"{key} must be one of {', '.join(known)}, got '{value}'.")
    if not all(0 <= beta < 1 for beta in experiment.optimiser.betas):
        raise ConfigError(f"optimiser.betas must lie between 0 and 1, got {list(experiment.optimiser.betas)}.")


def _value(experiment: Experiment, key: str) -> Any:
    value: Any = experiment
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _check_data(experiment: Experiment) -> None:
    if not all(0.01 <= spacing <= 100 for spacing in experiment.data.spacing_mm):
        raise ConfigError(f"data.spacing_mm must be 0.01 to 100 mm, got {list(experiment.data.spacing_mm)}.")
    paths = (*experiment.data.pretrain_folders, experiment.distillation.teacher, experiment.begin_with)
    if any("\0" in path for path in paths):
        raise ConfigError("data.pretrain_folders, distillation.teacher and begin_with are paths without zero bytes.")
    if not 2 <= len(experiment.network.features) <= MAX_STAGES:
        raise ConfigError(f"network.features needs 2 to {MAX_STAGES} stages, got {len(experiment.network.features)}.")
    try:
        check_network(experiment.network, experiment.data.patch)
    except ModelError as error:
        raise ConfigError(f"network and data.patch do not fit: {error}.") from None


def _check_methods(experiment: Experiment) -> None:
    for name, table in experiment.method_settings.items():
        for problem in table.problems():
            raise ConfigError(f"{name}.{problem}.")
