"""Import nnU-Net's results folder as a model folder that GUI, command line and batch run like any other."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError, ResourceError, reason
from ..guard.plain_text import one_line
from ..guard.replace_folder import swap_in, unfinished_folder
from ..model_folder.checks import MAX_MEMBERS, check_spec
from ..model_folder.read_write import SPEC_FILE, sha256_of, write_spec
from ..model_folder.spec import AS_STORED, Member, ModelSpec, Pathway, weights_file
from .card import card
from .names import modalities_of, regions_of
from .plans import Planned, read_plans
from .results_folder import CHECKPOINTS, DATASET_FILE, PLANS_FILE, ResultsFolder, read_results_folder

if TYPE_CHECKING:  # torch is imported when needed
    from ..networks.nnunet.checkpoint import Checkpoint

MODEL_CARD_FILE = "README.md"
CITATION = "Isensee et al. 2021, nnU-Net, Nature Methods 18, 203-211, doi 10.1038/s41592-020-01008-z"
INTENDED_USE = "Imported from nnU-Net; research only."
# nnU-Net's own trainers start like this; variants with another network are detected by their weights.
USUAL_TRAINER = re.compile(r"nnUNetTrainer")
PLAIN_NAME, RESIDUAL_NAME = "unet", "residual_unet"


@dataclass(frozen=True)
class Choices:
    """The user's choices where dataset.json is not conclusive.

    Attributes:
        folds: folds of the cross-validation, e.g. "0"; empty for all.
        checkpoint: "final" or "best".
        modalities: ids by channel.
        labels: names by label, given as its number or name.
        name: name of the model; empty for the dataset's.
        orientation: directions of the axes I, J, K of its training images, e.g. "LPS"; empty to use images as they are
            stored, like nnU-Net.
    """

    folds: tuple[str, ...] = ()
    checkpoint: str = CHECKPOINTS[0]
    modalities: dict[int, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    name: str = ""
    orientation: str = ""


def import_model(
    folder: Path, target: Path, choices: Choices = Choices(), tell: Callable[[str], None] = lambda line: None
) -> ModelSpec:
    """Write a model folder; an existing one is replaced once the new one is complete.

    Args:
        folder: nnU-Net's TRAINER__PLANS__CONFIGURATION.
        target: the model folder to write.
        choices: the user's choices.
        tell: called with a line for each remark for the user.

    Raises:
        ModelError: the folder cannot be imported; nothing is written.
        InputError: a chosen channel or label does not exist.
        ResourceError: the model folder cannot be written, or something else exists there.
    """
    source = read_results_folder(folder, choices.folds, choices.checkpoint)
    _check_place(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(target.parent) as new:
            spec = _written(source, new, choices, tell)
            swap_in(new, target)
    except OSError as error:
        raise ResourceError(f"'{target}' cannot be written: {reason(error)}.") from None
    return spec


def _check_place(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ResourceError(f"'{target}' is in the way: it is no folder. Choose another.")
    if target.is_dir() and any(target.iterdir()) and not (target / SPEC_FILE).is_file():
        raise ResourceError(f"'{target}' holds something else than a model, and is not replaced. Choose another.")


def _written(source: ResultsFolder, new: Path, choices: Choices, tell: Callable[[str], None]) -> ModelSpec:
    from ..networks.nnunet.checkpoint import read_checkpoint
    from ..networks.nnunet.weight_names import write_weights

    if len(source.checkpoints) > MAX_MEMBERS:
        raise ModelError(f"{len(source.checkpoints)} folds are more than {MAX_MEMBERS}. Choose some of them.")
    first, *others = source.checkpoints
    checkpoint = read_checkpoint(source.checkpoints[first])
    spec, planned = _described(source, checkpoint, choices)
    for line in _remarks(spec, checkpoint):
        tell(line)
    members = []
    for number, fold in enumerate((first, *others), start=1):
        one = checkpoint if fold == first else read_checkpoint(source.checkpoints[fold])
        if (one.configuration, one.mirror) != (checkpoint.configuration, checkpoint.mirror):
            raise ModelError(f"folds {first} and {fold} of '{source.folder}' are not of one training. Choose one.")
        weights = new / weights_file("limited", number)
        write_weights(spec, spec.limited, one.weights, planned.defaults, weights)
        members.append(Member(weights.name, sha256_of(weights)))
    spec = replace(spec, limited=spec.limited.with_members(members))
    write_spec(new, spec)
    (new / MODEL_CARD_FILE).write_text(card(spec, source, checkpoint), encoding="utf-8")
    return spec


def _described(source: ResultsFolder, checkpoint: Checkpoint, choices: Choices) -> tuple[ModelSpec, Planned]:
    """Content of model.json, except the digests of the weights."""
    plans, dataset = str(source.folder / PLANS_FILE), str(source.folder / DATASET_FILE)
    modalities = modalities_of(source.dataset, choices.modalities, dataset)
    output, regions = regions_of(source.dataset, choices.labels, dataset)
    configuration = checkpoint.configuration or source.folder.name.rpartition("__")[2]
    planned = read_plans(source.plans, configuration, len(modalities), checkpoint.mirror, plans)
    ids = tuple(modality.id for modality in modalities)
    preprocessing = planned.preprocessing(ids)
    if choices.orientation:
        preprocessing = replace(preprocessing, orientation=choices.orientation)
    known_as = one_line(source.plans.get("dataset_name") or source.dataset.get("name") or source.folder.name)
    cases = source.dataset.get("numTraining")
    spec = ModelSpec(
        name=choices.name or known_as,
        version="1",
        task="nnU-Net",
        modalities=modalities,
        privileged=None,
        regions=regions,
        output=output,
        preprocessing=preprocessing,
        patch=planned.patch,
        network=planned.network,
        limited=Pathway(weights_file("limited"), "0" * 64, ids, RESIDUAL_NAME if planned.residual else PLAIN_NAME),
        citations=(CITATION,),
        intended_use=INTENDED_USE,
        training_data=f"nnU-Net's {known_as}" + (f", {cases} cases" if type(cases) is int else ""),
    )
    check_spec(spec)
    return spec, planned


def _remarks(spec: ModelSpec, checkpoint: Checkpoint) -> list[str]:
    """Remarks on relevant facts that cannot be determined from the files."""
    remarks = []
    if spec.preprocessing.orientation == AS_STORED:
        remarks.append(
            "images are read as they are stored, as nnU-Net does; give --orientation, e.g. LPS, if all that it was "
            "trained on were stored so, and yours may not be"
        )
    if not USUAL_TRAINER.match(checkpoint.trainer):
        remarks.append(
            f"the trainer '{checkpoint.trainer}' is not nnU-Net's own; where it changed more than the training, "
            "results differ from its"
        )
    return remarks
