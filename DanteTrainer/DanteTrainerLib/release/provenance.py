"""`provenance.json`: how a model's weights came about, without a path, a patient or the name of a machine.

A model folder is handed out. Folders are named after users and hospitals, cases after patients: what stands here
instead is how many there were, and digests that tell whether two models were trained alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from DanteSegmenterLib import __version__
from DanteSegmenterLib.errors import InputError, ModelError
from DanteSegmenterLib.model_folder import read_spec
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain

from ..data.dataset import SPLIT_NAMES, Split
from ..settings.experiment import Experiment, of_this_version
from ..whole_files import write_text_whole

PROVENANCE_FILE = "provenance.json"
_KEPT = ("hours", "versions", "machine")
Told = tuple[dict[str, Any], Experiment]
"""What may be handed out of one training's provenance, and the experiment."""


def provenance(experiment: Experiment, split: Split, further: Sequence[str], seconds: float) -> dict[str, Any]:
    """Of a training that took so many seconds; Stage 1 read the cases `further` of other folders too."""
    import torch

    said = {"pretraining": _counted({"cases": further})} if further else {}
    return {
        **_without_places(experiment),
        **said,
        "cases": _counted({part: getattr(split, part) for part in SPLIT_NAMES}),
        "hours": round(seconds / 3600, 2),
        "versions": {"slicer-dante": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def write_provenance(folder: Path, plain: dict[str, Any], more: Sequence[dict[str, Any]] = ()) -> None:
    """That of a training; those of a model's further members stand in it under "more"."""
    told = {**plain, "more": list(more)} if more else plain
    write_text_whole(folder / PROVENANCE_FILE, json.dumps(told, indent=1) + "\n")


def read_provenance(folder: Path) -> list[Told]:
    """What is known of the training of each member of a model folder, in the order of the members.

    Only what is known is taken over: of older model folders the names of cases and folders stay behind.

    Raises:
        InputError: there is none, or it is none.
    """
    path = folder / PROVENANCE_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return [_told(one) for one in (plain, *plain.get("more", ()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"'{path}' cannot be read ({type(error).__name__}: {error}). It is written by `train`; publish that folder."
        ) from None


def _told(plain: dict[str, Any]) -> Told:
    experiment = from_plain(Experiment, of_this_version(plain["experiment"]), PROVENANCE_FILE, InputError)
    cases = plain["cases"]
    # A digest says that names were replaced before.
    cases = cases if "sha256" in cases else _counted({part: cases[part] for part in SPLIT_NAMES})
    counted = {"cases": {key: cases[key] for key in (*SPLIT_NAMES, "sha256")}}
    known: dict[str, Any] = {key: plain[key] for key in ("teacher", "began_with", "pretraining") if key in plain}
    return {**_without_places(experiment), **known, **counted, **{key: plain.get(key) for key in _KEPT}}, experiment


def _without_places(experiment: Experiment) -> dict[str, Any]:
    """The settings, with digests of what folders held instead of where they lay."""
    models = {"teacher": experiment.distillation.teacher, "began_with": experiment.begin_with}
    said = {role: {"sha256": _weights_of(Path(folder))} for role, folder in models.items() if folder}
    plain = replace(
        experiment,
        begin_with="",
        data=replace(experiment.data, pretrain_folders=()),
        distillation=replace(experiment.distillation, teacher=""),
    )
    return {"experiment": to_plain(plain), **said}


def _weights_of(model: Path) -> str:
    try:
        return read_spec(model).limited.digest
    except (ModelError, OSError):  # it was needed for the training, not for its result
        return "unknown"


def _counted(parts: dict[str, Sequence[str]]) -> dict[str, Any]:
    """Of each part how many; and one digest of all names together, from which none of them can be guessed alone."""
    names = json.dumps([sorted(names) for names in parts.values()])
    digest = hashlib.sha256(names.encode()).hexdigest()
    return {**{part: len(names) for part, names in parts.items()}, "sha256": digest}
