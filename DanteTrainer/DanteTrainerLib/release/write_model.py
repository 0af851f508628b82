"""The only thing that crosses from training to deployment: the model folder of a finished run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from DanteSegmenterLib import __version__
from DanteSegmenterLib.errors import ResourceError
from DanteSegmenterLib.model_folder import ModelSpec, Pathway, Preprocessing, sha256_of, write_spec
from DanteSegmenterLib.networks.weights import save_weights
from DanteSegmenterLib.strict_dataclass import to_plain

from ..data.dataset import Split
from ..loop.stage import Stage
from ..settings.experiment import Experiment
from ..settings.tasks import Task
from .model_card import model_card


def write_model(
    name: str, experiment: Experiment, split: Split, stage: Stage, task: Task, target: Path, seconds: float
) -> Path:
    """Write the model folder, all of it or nothing.

    Args:
        name: of the model.
        split: the cases it was trained, validated and not to be trained on.
        stage: the last one; its deployed networks are written.
        target: the model folder.
        seconds: that the training took.

    Raises:
        ResourceError: no space left or not writable; a folder of before is untouched.
    """
    temporary = Path(tempfile.mkdtemp(prefix=".model-", dir=target.parent))
    try:
        pathways = {}
        for door, deployed in stage.deployed.items():
            path = temporary / f"{door}.safetensors"
            save_weights(deployed.network(), path)
            pathways[door] = Pathway(path.name, sha256_of(path), deployed.modalities, deployed.architecture)
        spec = _spec(name, experiment, split, task, pathways)
        write_spec(temporary, spec)
        (temporary / "README.md").write_text(model_card(spec, experiment), encoding="utf-8")
        (temporary / "provenance.json").write_text(json.dumps(_provenance(experiment, split, seconds), indent=1) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        os.chmod(temporary, 0o755)
        os.replace(temporary, target)
    except OSError as error:
        raise ResourceError(f"the model could not be written to '{target}': {error.strerror or error}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _spec(name: str, experiment: Experiment, split: Split, task: Task, pathways: dict[str, Pathway]) -> ModelSpec:
    return ModelSpec(
        name=name,
        version="1",
        task=task.id,
        modalities=task.modalities,
        # A network that reads the privileged modality always has no privilege to speak of.
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


def _provenance(experiment: Experiment, split: Split, seconds: float) -> dict[str, Any]:
    """How the weights came about; no paths and no host names."""
    return {
        "experiment": to_plain(experiment),
        "cases": to_plain(split),
        "hours": round(seconds / 3600, 2),
        "versions": {"slicer-dante": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def preprocessing_of(experiment: Experiment, task: Task) -> Preprocessing:
    """What `prepare` does in this experiment."""
    return Preprocessing(task.orientation, experiment.data.spacing_mm, task.normalisation)
