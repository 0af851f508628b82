"""Initial weights of a stage's networks, from an earlier stage or a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from DanteSegmenterLib.errors import ConfigError, ResourceError
from DanteSegmenterLib.inference import load_model

from ..loop.checkpoint import read_state
from ..loop.stage import Origin, Stage
from .run_folder import Run


def carry(run: Run, folder: Path, stages: Sequence[Stage], index: int) -> None:
    """Load the initial weights that a stage takes from elsewhere.

    Raises:
        ResourceError: an earlier stage's weights are damaged or missing.
        ConfigError: a model folder's weights do not fit the network.
    """
    stage = stages[index]
    for name, origin in stage.carried.items():
        if origin.folder:
            _load_of_model(stage, name, origin)
        else:
            weights = _of_stage(run, folder, origin.stage or stages[index - 1].name, origin.network)
            stage.networks[name].load_state_dict(weights)


def check_models(stages: Sequence[Stage]) -> None:
    """Load the weights that stages take from model folders, so that what does not fit is found before the run exists.

    Raises:
        ConfigError: a model folder's weights do not fit the network.
    """
    for stage in stages:
        for name, origin in stage.carried.items():
            if origin.folder:
                _load_of_model(stage, name, origin)


def _load_of_model(stage: Stage, name: str, origin: Origin) -> None:
    try:
        stage.networks[name].load_state_dict(_of_model(origin))
    except RuntimeError as error:
        raise ConfigError(
            f"the model folder '{origin.folder}' cannot be begun with: its {origin.network} network is not of this "
            f"experiment's modalities and network numbers ({str(error).splitlines()[-1].strip()})."
        ) from None


def _of_stage(run: Run, folder: Path, stage: str, network: str) -> dict[str, Tensor]:
    state = read_state(folder / f"{stage}.pt", run.id)
    if state is None:
        raise ResourceError(f"'{folder / stage}.pt' is damaged or missing; start the run again.")
    return _part(state["networks"], network)


def _of_model(origin: Origin) -> dict[str, Tensor]:
    model = load_model(origin.folder, "cpu")
    which, _, part = origin.network.partition(".")
    pathway = model.spec.full if which == "full" else model.spec.limited
    if pathway is None:
        raise ConfigError(f"the model folder '{origin.folder}' has no full network to begin with.")
    if pathway.more:
        raise ConfigError(
            f"the model folder '{origin.folder}' averages {len(pathway.members)} networks, and a training begins with "
            "one; give the model folder of one seed's run."
        )
    weights = model.network(pathway).state_dict()
    return _part(weights, part) if part else weights


def _part(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
