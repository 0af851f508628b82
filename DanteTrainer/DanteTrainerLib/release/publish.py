"""Publish a trained model folder: licence, citations, intended use and measured scores are added to its card.

It is built in a temporary folder and checked before it replaces an earlier published folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from DanteSegmenterLib.errors import ConfigError, InputError, ResourceError, reason
from DanteSegmenterLib.inference import load_model
from DanteSegmenterLib.model_folder import Calibration, Member, ModelSpec, check_weights_file, sha256_of, write_spec
from DanteSegmenterLib.model_folder.read_write import SPEC_FILE
from DanteSegmenterLib.strict_dataclass import from_plain

from ..evaluation.evaluate import Summary, read_summary
from ..settings.toml_file import parse_toml
from ..whole_files import whole_folder
from .members import join, read_trained
from .model_card import CARD_FILE, model_card
from .provenance import write_provenance
from .write_model import foreign_files


@dataclass(frozen=True)
class Card:
    """Facts about a model that training cannot know."""

    name: str
    version: str
    licence: str
    intended_use: str
    training_data: str
    citations: tuple[str, ...] = ()


def publish(
    model: Path,
    card_file: Path,
    evaluations: list[Path],
    target: Path,
    half: bool = False,
    more: Sequence[Path] = (),
) -> ModelSpec:
    """Copy a model folder to `target` with its card completed; an existing model folder there is replaced.

    Args:
        model: folder written by training.
        card_file: TOML with the fields of `Card`.
        evaluations: folders that `evaluate` wrote for this model.
        target: new folder.
        half: store weights as float16, in half the space; inference is unaffected otherwise.
        more: folders of the same training with other seeds, whose networks become members of the model.

    Raises:
        ModelError: the model cannot be used.
        ConfigError: the card cannot be used.
        InputError: an evaluation cannot be used, or is for another model; the models differ in more than their seed.
        ResourceError: `target` exists and is not a model folder; no space left. Existing files are kept.
    """
    joined, card = join([read_trained(folder) for folder in (model, *more)]), _read_card(card_file)
    spec = joined.spec
    summaries = [_of_this_model(folder, spec) for folder in evaluations]
    spec = replace(spec, scores=dict(map(_scores, summaries)), **{f.name: getattr(card, f.name) for f in fields(card)})
    _check_target(target)
    with whole_folder(target) as folder:
        for name, (source, member) in joined.sources.items():
            _copy_weights(check_weights_file(source, member), folder / name, half)
        pathways: dict[str, Any] = {}
        for name, pathway in spec.pathways.items():
            copied = pathway.with_members([Member(file, sha256_of(folder / file)) for file in pathway.files])
            pathways[name] = replace(copied, calibration=_calibration(name, summaries))
        spec = replace(spec, **pathways)
        plains, experiments = zip(*joined.provenances)
        write_provenance(folder, plains[0], plains[1:])
        write_spec(folder, spec)
        (folder / CARD_FILE).write_text(model_card(spec, *experiments), encoding="utf-8")
        _check_whole(folder)
    return spec


def _of_this_model(folder: Path, spec: ModelSpec) -> Summary:
    """Read an evaluation and check that it belongs to this model.

    Raises:
        InputError: it was made with other weights, or with a scan dropped.
    """
    summary = read_summary(folder)
    pathway = spec.full if summary.pathway == "full" else spec.limited
    if summary.weights and (pathway is None or summary.weights != pathway.digest):
        raise InputError(f"the scores in '{folder}' are those of other weights. Evaluate this model first.")
    if summary.dropped:
        raise InputError(
            f"the scores in '{folder}' were made without {', '.join(summary.dropped)}: they are not the model's. Give "
            "those of an evaluation without --drop."
        )
    return summary


def _is_model(folder: Path) -> bool:
    """Whether the folder holds a model, possibly in a format that this version no longer reads."""
    try:
        plain = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(plain, dict) and {"format_version", "preprocessing", "limited"} <= set(plain)


def _check_target(target: Path) -> None:
    """Check that the target can be replaced.

    Raises:
        ResourceError: it contains something that is not ours.
    """
    if not target.parent.is_dir():
        raise ResourceError(f"the folder '{target.parent}' does not exist. Create it or choose another.")
    if target.exists() and not _is_model(target):
        raise ResourceError(f"'{target}' exists and is no model folder; choose another.")
    others = foreign_files(target)
    if others:
        raise ResourceError(f"'{target}' holds more than a model, for example '{others[0].name}'; choose another.")


def _check_whole(folder: Path) -> None:
    """Load the published folder as a user would, to check all files and weights.

    Raises:
        ModelError: a file or weight is invalid.
    """
    model = load_model(folder, "cpu")
    for pathway in (model.spec.limited, model.spec.full):
        if pathway is not None:
            model.network(pathway)


def _copy_weights(source: Path, target: Path, half: bool) -> None:
    if not half:
        shutil.copyfile(source, target)
        return
    from safetensors.numpy import load_file, save_file

    with np.errstate(over="ignore"):  # values beyond float16 become infinite and are refused when checked
        save_file({name: array.astype("float16") for name, array in load_file(str(source)).items()}, str(target))
    target.chmod(0o644)  # safetensors creates files that only their owner can read


def _read_card(path: Path) -> Card:
    try:
        plain = parse_toml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"the card '{path}' cannot be read: {reason(error)}.") from None
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        raise ConfigError(f"the card '{path}' is not valid TOML in UTF-8: {error}.") from None
    return from_plain(Card, plain, path.name, ConfigError)


def _scores(summary: Summary) -> tuple[str, dict[str, float]]:
    """Title and scores of one evaluation."""
    figures = {}
    for region, values in summary.regions.items():
        for name, value, digits in (("Dice", values.dice, 4), ("HD95 mm", values.hd95_mm, 2)):
            if value is not None:
                figures[f"{region} {name}"] = round(value, digits)
    with_privileged = " with the privileged scan" if summary.pathway == "full" else ""
    mirrored = ", mirrored" if summary.mirror else ""
    return f"Scores ({summary.split} split, {summary.cases} cases{with_privileged}{mirrored})", figures


def _calibration(pathway: str, summaries: list[Summary]) -> dict[str, Calibration]:
    """Calibration by region from the last evaluation of this pathway; empty if there is none."""
    own = [summary for summary in summaries if summary.pathway == pathway]
    regions = own[-1].regions.items() if own else ()
    return {region: values.calibration for region, values in regions if values.calibration is not None}
