"""The network under evaluation: load it for a dataset, choose its pathway, or replace it by a variant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.inference import Model, load_model
from DanteSegmenterLib.model_folder import ModelSpec, Pathway

from ..data.dataset import Dataset


def load_for(dataset: Dataset, model_folder: Path | str, device: str = "auto") -> Model:
    """Load a model to run it on the cases of a dataset.

    Raises:
        InputError: model and dataset have different tasks.
        ModelError: the model folder cannot be used.
        ResourceError: the device does not exist.
    """
    model = load_model(model_folder, device)
    if model.spec.task != dataset.task.id:
        raise InputError(f"the model is for '{model.spec.task}', '{dataset.folder}' holds '{dataset.task.id}' cases.")
    return model


def pathway_of(spec: ModelSpec, full: bool) -> Pathway:
    """The pathway of the deployed network f_L, or with `full` of f_F.

    Raises:
        InputError: the model has no f_F.
    """
    if not full:
        return spec.limited
    if spec.full is None:
        raise InputError(f"'{spec.name}' has no full-modality network to evaluate.")
    return spec.full


def with_one_network(model: Model, pathway: Pathway, network: nn.Module | None = None) -> Model:
    """A copy of the model with this pathway as its only one.

    Lets a modified network be evaluated through the same `segment` as in the application.

    Args:
        network: replaces the pathway's own, which is otherwise loaded when needed.
    """
    spec = replace(model.spec, limited=pathway, full=None)
    return Model(model.folder, spec, model.device, {} if network is None else {pathway.files: network})
