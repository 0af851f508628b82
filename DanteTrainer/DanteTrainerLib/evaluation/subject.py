"""The network that is looked at: loaded for a dataset, chosen, and changed where something is tried out on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.inference import Model, load_model
from DanteSegmenterLib.model_folder import ModelSpec, Pathway

from ..data.dataset import Dataset


def load_for(dataset: Dataset, model_folder: Path | str, device: str = "auto") -> Model:
    """The model in a folder, to be run on the cases of a dataset.

    Raises:
        InputError: the model and the dataset are of different tasks.
        ModelError: the model folder cannot be used.
        ResourceError: the device does not exist.
    """
    model = load_model(model_folder, device)
    if model.spec.task != dataset.task.id:
        raise InputError(f"the model is for '{model.spec.task}', '{dataset.folder}' holds '{dataset.task.id}' cases.")
    return model


def pathway_of(spec: ModelSpec, full: bool) -> Pathway:
    """That of the deployed network f_L; with `full` that of f_F.

    Raises:
        InputError: the model has no f_F.
    """
    if not full:
        return spec.limited
    if spec.full is None:
        raise InputError(f"'{spec.name}' has no full-modality network to evaluate.")
    return spec.full


def with_one_network(model: Model, pathway: Pathway, network: nn.Module | None = None) -> Model:
    """The model with this pathway as its only one; `model` stays as it is.

    What is tried out on a network is tried through the very `segment` of the button, which knows nothing of it.

    Args:
        network: in the place of the pathway's own, which else is loaded when it is needed.
    """
    spec = replace(model.spec, limited=pathway, full=None)
    return Model(model.folder, spec, model.device, {} if network is None else {pathway.files: network})
