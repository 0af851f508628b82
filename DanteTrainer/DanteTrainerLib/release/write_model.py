"""Write the model folder of a finished run, the only interface between training and deployment."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder import ModelSpec, Pathway, Preprocessing, read_spec, sha256_of, write_spec
from DanteSegmenterLib.model_folder.checks import MAX_MEMBERS
from DanteSegmenterLib.model_folder.read_write import SPEC_FILE
from DanteSegmenterLib.model_folder.spec import weights_file
from DanteSegmenterLib.networks.weights import save_weights
from DanteSegmenterLib.strict_dataclass import to_plain

from ..data.dataset import Split
from ..loop.stage import Stage
from ..settings.experiment import Experiment
from ..settings.tasks import Task
from ..whole_files import whole_folder
from .model_card import CARD_FILE, model_card
from .provenance import PROVENANCE_FILE, provenance, write_provenance

PATHWAYS = ("limited", "full")


def write_model(
    name: str,
    experiment: Experiment,
    split: Split,
    stage: Stage,
    task: Task,
    target: Path,
    seconds: float,
    further: Sequence[str] = (),
) -> Path:
    """Write the model folder atomically; keeps files that others added, and the calibration if the weights are
    unchanged.

    Args:
        name: name of the model.
        split: the run's training, validation and test cases.
        stage: the last stage; its deployed networks are written.
        target: the model folder.
        seconds: duration of the training.
        further: cases of other folders that Stage 1 read.

    Raises:
        ResourceError: no space left or not writable; an existing folder is untouched.
    """
    with whole_folder(target) as folder:
        pathways = {}
        for pathway, deployed in stage.deployed.items():
            path = folder / weights_file(pathway)
            save_weights(deployed.network(), path)
            pathways[pathway] = Pathway(
                path.name, sha256_of(path), deployed.modalities, deployed.architecture, to_plain(deployed.options)
            )
        spec = _spec(name, experiment, split, task, _with_scaling_of_before(pathways, target))
        write_spec(folder, spec)
        (folder / CARD_FILE).write_text(model_card(spec, experiment), encoding="utf-8")
        write_provenance(folder, provenance(experiment, split, further, seconds))
        for other in foreign_files(target):
            copy = shutil.copytree if other.is_dir() else shutil.copy2
            copy(other, folder / other.name)
    return target


def _with_scaling_of_before(pathways: dict[str, Pathway], target: Path) -> dict[str, Pathway]:
    try:
        before = read_spec(target).pathways
    except ModelError:  # no earlier model
        return pathways
    scaling = {(name, pathway.digest): pathway.scaling for name, pathway in before.items()}
    return {name: replace(own, scaling=scaling.get((name, own.digest), {})) for name, own in pathways.items()}


def foreign_files(folder: Path) -> list[Path]:
    """Files in a model folder that belong neither to the model nor to macOS."""
    if not folder.is_dir():
        return []
    weights = (weights_file(pathway, n) for pathway in PATHWAYS for n in range(1, MAX_MEMBERS + 1))
    ours = {SPEC_FILE, CARD_FILE, PROVENANCE_FILE, *weights, ".DS_Store"}
    return [path for path in sorted(folder.iterdir()) if path.name not in ours and not path.name.startswith("._")]


def _spec(name: str, experiment: Experiment, split: Split, task: Task, pathways: dict[str, Pathway]) -> ModelSpec:
    return ModelSpec(
        name=name,
        version="1",
        task=task.id,
        modalities=task.modalities,
        # A network that always reads the privileged modality has none.
        privileged=task.privileged if task.privileged not in pathways["limited"].modalities else None,
        regions=task.regions,
        output=task.output,
        preprocessing=preprocessing_of(experiment, task),
        patch=experiment.data.patch,
        network=experiment.network,
        limited=pathways["limited"],
        full=pathways.get("full"),
        intended_use="Research use only. Not a medical device, not for diagnosis.",
        training_data=f"{len(split.train)} cases of a local dataset",
    )


def preprocessing_of(experiment: Experiment, task: Task) -> Preprocessing:
    """The experiment's preprocessing, as `prepare` applies it."""
    return Preprocessing(task.orientation, experiment.data.spacing_mm, task.normalisation)
