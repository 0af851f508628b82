"""A trained model folder -> one to hand out: licence, citations, intended use and measured scores go into its card."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

from DanteSegmenterLib.errors import ConfigError, InputError, ResourceError
from DanteSegmenterLib.model_folder import Calibration, ModelSpec, check_weights_file, read_spec, sha256_of, write_spec
from DanteSegmenterLib.strict_dataclass import from_plain

from ..evaluation.evaluate import Summary, read_summary
from ..settings.experiment import Experiment
from .model_card import model_card

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Card:
    """What training cannot know about a model."""

    name: str
    version: str
    licence: str
    intended_use: str
    training_data: str
    citations: tuple[str, ...] = ()


def publish(
    model: Path, card_file: Path, evaluations: list[Path], target: Path, half: bool = False
) -> ModelSpec:  # fmt: skip
    """Copy a model folder to `target` with its card filled in; an existing model folder there is replaced.

    Args:
        model: folder that training wrote.
        card_file: TOML with the fields of `Card`.
        evaluations: folders that `evaluate` wrote for this model.
        target: new folder.
        half: store weights as float16, in half the space; they are computed with as before.

    Raises:
        ModelError, ConfigError, InputError: one of the inputs cannot be used.
        ResourceError: `target` exists and is something else than a model folder.
    """
    spec, card = read_spec(model), _read_card(card_file)
    summaries = [read_summary(folder) for folder in evaluations]
    spec = replace(spec, scores=dict(map(_scores, summaries)), **{f.name: getattr(card, f.name) for f in fields(card)})
    provenance = json.loads((model / "provenance.json").read_text(encoding="utf-8"))
    experiment = from_plain(Experiment, provenance["experiment"], "provenance.json", InputError)
    if target.exists():
        if not (target / "model.json").is_file():
            raise ResourceError(f"'{target}' exists and is no model folder; choose another.")
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for door in ("limited", "full"):
        pathway = getattr(spec, door)
        if pathway is not None:
            _copy_weights(check_weights_file(model, pathway), target / pathway.weights, half)
            pathway = replace(
                pathway, sha256=sha256_of(target / pathway.weights), calibration=_calibration(door, summaries)
            )
            spec = replace(spec, **{door: pathway})
    shutil.copyfile(model / "provenance.json", target / "provenance.json")
    write_spec(target, spec)
    (target / "README.md").write_text(model_card(spec, experiment), encoding="utf-8")
    return spec


def _copy_weights(source: Path, target: Path, half: bool) -> None:
    if not half:
        shutil.copyfile(source, target)
        return
    from safetensors.numpy import load_file, save_file

    save_file({name: array.astype("float16") for name, array in load_file(str(source)).items()}, str(target))
    target.chmod(0o644)  # safetensors makes files that their owner alone can read


def _read_card(path: Path) -> Card:
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the card '{path}' cannot be read: {error}.") from None
    return from_plain(Card, plain, path.name, ConfigError)


def _scores(summary: Summary) -> tuple[str, dict[str, float]]:
    """Title and figures of one evaluation."""
    figures = {}
    for region, values in summary.regions.items():
        for name, value, digits in (("Dice", values.dice, 4), ("HD95 mm", values.hd95_mm, 2)):
            if value is not None:
                figures[f"{region} {name}"] = round(value, digits)
    with_privileged = " with the privileged scan" if summary.pathway == "full" else ""
    mirrored = ", mirrored" if summary.mirror else ""
    return f"Scores ({summary.split} split, {summary.cases} cases{with_privileged}{mirrored})", figures


def _calibration(door: str, summaries: list[Summary]) -> dict[str, Calibration]:
    """By region, from the evaluation of this door; empty where there is none."""
    own = [summary for summary in summaries if summary.pathway == door]
    regions = own[-1].regions.items() if own else ()
    return {region: values.calibration for region, values in regions if values.calibration is not None}
