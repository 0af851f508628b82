"""One case of a batch: read, segmented, written. Whatever goes wrong with it is its own affair."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cases.case import Case
from ..errors import Cancelled, sentence_of
from ..files.images import write_segmentation
from ..model_folder.spec import ModelSpec, choose_pathway
from ..options import DEFAULTS, SegmentOptions
from ..result.report import Report
from ..result.result import Result
from ..strict_dataclass import to_plain
from ..volume import Volume
from .finished import REPORT_KEY, earlier_kept

if TYPE_CHECKING:  # torch is imported when it is needed
    from ..inference.segmenting import Model


@dataclass(frozen=True)
class Options:
    """Where and how each case is segmented."""

    device: str = "auto"
    segment: SegmentOptions = DEFAULTS


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        state: "done", "skipped" (there already) or "failed".
        message: why it failed, or what the user should know.
        report: of the result, if there is one.
    """

    case: str
    state: str
    message: str = ""
    report: Report | None = None


@dataclass(frozen=True, eq=False)
class Tile:
    """The slice for the contact sheet: image [1, J, I] and masks [1, J, I] by region id."""

    reference: Volume
    masks: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Answer:
    """A case's outcome, and a tile if there is a result."""

    outcome: Outcome
    tile: Tile | None = None


def segment_case(
    model_folder: str,
    case: Case,
    path: Path,
    options: Options,
    cancelled: Callable[[], bool] = lambda: False,
) -> Answer:
    """Segment one case and write its file; on a cluster this runs on another machine.

    Raises:
        Cancelled: it was asked to end; every other error becomes a failed outcome.
    """
    from ..inference import segment

    try:
        model = loaded(model_folder, options.device)
        volumes = _volumes(case, model.spec, options.segment)
        result = segment(model, volumes, options.segment, cancelled=cancelled)
        report = json.dumps(to_plain(result.report))
        with earlier_kept(path) as kept:
            write_segmentation(path, result.masks, model.spec.regions, result.reference, {REPORT_KEY: report})
    except Cancelled:
        raise
    except Exception as error:  # a defect or a device's fault costs this case, never those that follow
        return Answer(Outcome(case.name, "failed", sentence_of(error)))
    notes = list(result.notes)
    if kept is not None:
        notes.append(f"What was there before was made in another way and is kept as {kept.name}.")
    return Answer(Outcome(case.name, "done", " ".join(notes), result.report), tile_of(result))


def _volumes(case: Case, spec: ModelSpec, options: SegmentOptions) -> dict[str, Volume]:
    """Those that the pathway reads; nothing else of the folder is opened."""
    known = {modality.id for modality in spec.modalities}
    pathway, _ = choose_pathway(spec, [m for m in case.images if m in known], options.limited)
    return {modality: case.images[modality].read() for modality in pathway.modalities}


def tile_of(result: Result) -> Tile:
    """The slice with most of the first region."""
    area = np.count_nonzero(result.mask(result.spec.regions[0].id), axis=(1, 2))
    k = int(area.argmax()) if area.any() else result.reference.shape[0] // 2
    slab = slice(k, k + 1)
    image = Volume(result.reference.array[slab].copy(), result.reference.ijk_to_ras, result.reference.name)
    return Tile(image, {region: mask[slab].copy() for region, mask in result.masks.items()})


_MODELS: dict[tuple[str, str], Model] = {}


def loaded(folder: str, device: str) -> Model:
    """A model is loaded once a process."""
    from ..inference import load_model

    if (folder, device) not in _MODELS:
        _MODELS.clear()
        _MODELS[folder, device] = load_model(folder, device)
    return _MODELS[folder, device]
