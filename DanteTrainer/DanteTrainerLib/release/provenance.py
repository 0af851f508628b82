"""`provenance.json`: how a model was trained, without paths, patients or machine names.

Model folders are shared, and folder names may contain users and hospitals, case names patients. It therefore stores
counts, and digests that show whether two models were trained on the same data.
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
from ..settings.experiment import Experiment, upgraded
from ..whole_files import write_text_whole

PROVENANCE_FILE = "provenance.json"
_KEPT = ("hours", "versions", "machine")
MemberProvenance = tuple[dict[str, Any], Experiment]
"""The publishable part of one training's provenance, and its experiment."""


def provenance(experiment: Experiment, split: Split, further: Sequence[str], seconds: float) -> dict[str, Any]:
    """Provenance of a training that took `seconds`; `further` are cases of other folders that Stage 1 read."""
    import torch

    said = {"pretraining": _counted({"cases": further})} if further else {}
    return {
        **_without_paths(experiment),
        **said,
        "cases": _counted({part: getattr(split, part) for part in SPLIT_NAMES}),
        "hours": round(seconds / 3600, 2),
        "versions": {"slicer-dante": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def write_provenance(folder: Path, plain: dict[str, Any], more: Sequence[dict[str, Any]] = ()) -> None:
    """Write the provenance of a training; that of a model's other members is stored under "more"."""
    content = {**plain, "more": list(more)} if more else plain
    write_text_whole(folder / PROVENANCE_FILE, json.dumps(content, indent=1) + "\n")


def read_provenance(folder: Path) -> list[MemberProvenance]:
    """Provenance of each member of a model folder, in the members' order.

    Only known fields are kept: case and folder names in older model folders are dropped.

    Raises:
        InputError: the file is missing or invalid.
    """
    path = folder / PROVENANCE_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return [_member_provenance(one) for one in (plain, *plain.get("more", ()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"'{path}' cannot be read ({type(error).__name__}: {error}). It is written by `train`; publish that folder."
        ) from None


def _member_provenance(plain: dict[str, Any]) -> MemberProvenance:
    experiment = from_plain(Experiment, upgraded(plain["experiment"]), PROVENANCE_FILE, InputError)
    cases = plain["cases"]
    # A digest means that the names have been replaced already.
    cases = cases if "sha256" in cases else _counted({part: cases[part] for part in SPLIT_NAMES})
    counted = {"cases": {key: cases[key] for key in (*SPLIT_NAMES, "sha256")}}
    known: dict[str, Any] = {key: plain[key] for key in ("teacher", "began_with", "pretraining") if key in plain}
    return {**_without_paths(experiment), **known, **counted, **{key: plain.get(key) for key in _KEPT}}, experiment


def _without_paths(experiment: Experiment) -> dict[str, Any]:
    """The settings, with digests of the models in place of their paths."""
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
    except (ModelError, OSError):  # only the training needed it, its result does not
        return "unknown"


def _counted(parts: dict[str, Sequence[str]]) -> dict[str, Any]:
    """Count the names of each part; and one digest of all names, from which no single name can be guessed."""
    names = json.dumps([sorted(names) for names in parts.values()])
    digest = hashlib.sha256(names.encode()).hexdigest()
    return {**{part: len(names) for part, names in parts.items()}, "sha256": digest}
