"""Combine runs that differ only in their seed into one model that averages its members' logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.model_folder import Member, ModelSpec, Pathway, read_spec
from DanteSegmenterLib.model_folder.spec import weights_file
from DanteSegmenterLib.strict_dataclass import dotted, to_plain

from .provenance import MemberProvenance, read_provenance

# What members must share: of `model.json`, of its pathways, and of the experiment everything except FREE.
OF_MODEL = ("task", "preprocessing", "modalities", "privileged", "regions", "output", "patch", "network")
OF_PATHWAY = ("modalities", "architecture", "options")
FREE = {
    "seed",
    "begin_with",
    "weight_average",
    "distillation.teacher",
    "data.workers",
    "data.pretrain_folders",
    "run.checkpoint_every",
    "run.validate_every",
    "run.validation_batches",
    "run.compile",
}
SHOWN = 60  # maximum number of characters of a value in an error message


@dataclass(frozen=True)
class Trained:
    """A model folder, with the provenance of each member."""

    folder: Path
    spec: ModelSpec
    provenances: list[MemberProvenance]


@dataclass(frozen=True)
class Joined:
    """One model made of one or several.

    Attributes:
        spec: with the new names of the weights files, and their present digests.
        sources: new name -> present location of each weights file.
        provenances: one per member.
    """

    spec: ModelSpec
    sources: dict[str, tuple[Path, Member]]
    provenances: list[MemberProvenance]


def read_trained(folder: Path) -> Trained:
    """Read a model folder with its provenance.

    Raises:
        ModelError: the model cannot be used.
        InputError: its provenance is missing or incomplete.
    """
    spec, provenances = read_spec(folder), read_provenance(folder)
    members = len(spec.limited.members)
    if len(provenances) != members:
        raise InputError(
            f"'{folder}' has {members} members and tells of {len(provenances)} trainings; copy the model folder again."
        )
    return Trained(folder, spec, provenances)


def join(models: Sequence[Trained]) -> Joined:
    """Join members in the order of the models; a single model is unchanged.

    A calibration fitted to one model's probabilities is not valid for the mean of several and is dropped.

    Raises:
        InputError: two models differ in more than their seed.
    """
    first, *others = models
    for other in others:
        _check_fits(other, first)
    sources: dict[str, tuple[Path, Member]] = {}
    pathways: dict[str, Any] = {}
    for name, pathway in first.spec.pathways.items():
        found = [(model.folder, member) for model in models for member in model.spec.pathways[name].members]
        names = [weights_file(name, n) for n in range(1, len(found) + 1)] if others else pathway.files
        sources |= dict(zip(names, found))
        pathways[name] = pathway.with_members([Member(n, member.sha256) for n, (_, member) in zip(names, found)])
        if others:
            pathways[name] = replace(pathways[name], scaling={})
    return Joined(replace(first.spec, **pathways), sources, [one for model in models for one in model.provenances])


def _check_fits(model: Trained, first: Trained) -> None:
    here, there = dict(_facts(model)), dict(_facts(first))
    for key in (*there, *here):
        if here.get(key) != there.get(key):
            raise InputError(
                f"'{model.folder}' and '{first.folder}' cannot be members of one model: {key} is "
                f"{_shown(here.get(key))} and {_shown(there.get(key))}. Members differ in their seed alone."
            )


def _facts(model: Trained) -> Iterator[tuple[str, Any]]:
    """Properties that must be equal, by name."""
    spec, (plain, experiment) = model.spec, model.provenances[0]
    yield from dotted({key: to_plain(getattr(spec, key)) for key in OF_MODEL})
    yield from dotted({name: _of_pathway(pathway) for name, pathway in spec.pathways.items()})
    yield from (fact for fact in dotted(to_plain(experiment.own)) if fact[0] not in FREE)
    yield from dotted({"cases": plain["cases"], "pretraining": plain.get("pretraining", {})})


def _of_pathway(pathway: Pathway) -> dict[str, Any]:
    return {key: to_plain(getattr(pathway, key)) for key in OF_PATHWAY}


def _shown(value: Any) -> str:
    text = "not there" if value is None else str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
