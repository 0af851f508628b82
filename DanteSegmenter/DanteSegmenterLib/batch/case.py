"""One case of a batch: read, segmented, written. Whatever goes wrong with it is its own affair."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cases.case import Case, ImageSource
from ..dicom.case_list import SeriesSource
from ..dicom.write_seg import DICOM_ENDING, check_can_write_seg, write_seg
from ..errors import Cancelled, sentence_of
from ..files.images import SEGMENTATION_ENDING, write_segmentation
from ..host.address import Host
from ..model_folder.choosing import choose_pathway
from ..model_folder.read_write import read_spec
from ..model_folder.spec import ModelSpec, Pathway
from ..options import DEFAULTS, SegmentOptions
from ..result.regions import mask_of
from ..result.report import Report
from ..result.result import Result
from ..strict_dataclass import to_plain
from ..volume import Volume
from ..worker.client import WorkerClient
from ..worker.outcome import HostFailed
from ..worker.whole_run import segment_on_host
from .fingerprint import fingerprint, header_of
from .finished import REPORT_KEY, earlier_kept

if TYPE_CHECKING:  # torch is imported when it is needed
    from ..inference.segmenting import Model


@dataclass(frozen=True)
class Options:
    """Where and how each case is segmented.

    Attributes:
        host: another computer, reached by ssh.
        dicom_seg: of a DICOM study, write a DICOM segmentation beside the result.
    """

    device: str = "auto"
    segment: SegmentOptions = DEFAULTS
    host: Host | None = None
    dicom_seg: bool = False


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
    """The slice for the contact sheet: image [1, J, I] and label map uint8 [1, J, I]."""

    spec: ModelSpec
    reference: Volume
    label_map: np.ndarray

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """bool [1, J, I] by region id."""
        regions = self.spec.regions
        return {region.id: mask_of(self.label_map, region, regions) for region in regions}


@dataclass(frozen=True, eq=False)
class Answer:
    """A case's outcome, and a tile if there is a result."""

    outcome: Outcome
    tile: Tile | None = None


Compute = Callable[[dict[str, Volume], Callable[[], bool]], Result]


def segment_case(
    model_folder: str,
    case: Case,
    path: Path,
    options: Options,
    cancelled: Callable[[], bool] = lambda: False,
    compute: Compute | None = None,
) -> Answer:
    """Segment one case and write its file; on a cluster this runs on another machine.

    Args:
        compute: makes a result of the volumes and calls its second argument to see if it is cancelled; None to
            compute in this process.

    Raises:
        Cancelled: `cancelled` returned True; every other error becomes a failed outcome.
        HostFailed: the computer of `compute` can compute no case at all.
    """
    try:
        compute = compute or _compute_here(model_folder, options)
        spec = read_spec(model_folder)
        source = dicom_source(case, spec, options)
        if source is not None:
            check_can_write_seg(source.stack)
        images = images_of(case, pathway_of(case, spec, options.segment))
        made_of = fingerprint(images)
        result = compute({modality: image.read() for modality, image in images.items()}, cancelled)
        header = {REPORT_KEY: json.dumps(to_plain(result.report)), **header_of(made_of)}
        with earlier_kept(path) as kept, _dicom_beside(path, source, result):
            write_segmentation(path, result.masks, spec.regions, result.reference, header)
    except (Cancelled, HostFailed):
        raise
    except Exception as error:  # a defect or a device's fault costs this case, never those that follow
        return Answer(Outcome(case.name, "failed", sentence_of(error)))
    notes = list(result.notes)
    if kept is not None:
        notes.append(f"What was there before was made in another way, or of other images, and is kept as {kept.name}.")
    return Answer(Outcome(case.name, "done", " ".join(notes), result.report), tile_of(result))


def _compute_here(model_folder: str, options: Options) -> Compute:
    from ..inference import segment

    model = _loaded(model_folder, options.device)
    return lambda volumes, cancelled: segment(model, volumes, options.segment, cancelled=cancelled)


def compute_on_host(client: WorkerClient, host: Host, model_folder: str, options: Options) -> Compute:
    """A `Compute` on another computer, in the client's process, which stays from case to case."""
    return lambda volumes, cancelled: segment_on_host(
        client, host, model_folder, volumes, options.device, options.segment, cancelled=cancelled
    )


def dicom_file(path: Path) -> Path:
    """Where the DICOM segmentation of a case lies, beside its result."""
    return path.with_name(path.name.removesuffix(SEGMENTATION_ENDING) + DICOM_ENDING)


def dicom_source(case: Case, spec: ModelSpec, options: Options) -> SeriesSource | None:
    """The series that a DICOM segmentation will lie on; None if none is asked for."""
    source = case.images[pathway_of(case, spec, options.segment).modalities[0]]
    return source if options.dicom_seg and isinstance(source, SeriesSource) else None


@contextlib.contextmanager
def _dicom_beside(path: Path, source: SeriesSource | None, result: Result) -> Iterator[None]:
    """Before the result itself, by which a case counts as finished, its DICOM segmentation is there."""
    if source is None:
        yield
        return
    beside = dicom_file(path)
    with earlier_kept(beside, DICOM_ENDING):
        try:
            write_seg(beside, result.masks, result.spec.regions, result.report, source.stack)
            yield
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def pathway_of(case: Case, spec: ModelSpec, options: SegmentOptions) -> Pathway:
    """The pathway that a case's images allow; those that the model does not know are passed over.

    Raises:
        InputError: a modality is missing.
    """
    known = {modality.id for modality in spec.modalities}
    return choose_pathway(spec, [modality for modality in case.images if modality in known], options.limited)[0]


def images_of(case: Case, pathway: Pathway) -> dict[str, ImageSource]:
    """Those that the pathway reads, by modality; nothing else of the folder is opened."""
    return {modality: case.images[modality] for modality in pathway.modalities}


def tile_of(result: Result) -> Tile:
    """The slice with most of the first region."""
    area = np.count_nonzero(result.mask(result.spec.regions[0].id), axis=(1, 2))
    k = int(area.argmax()) if area.any() else result.reference.shape[0] // 2
    slab = slice(k, k + 1)
    image = Volume(result.reference.array[slab].copy(), result.reference.ijk_to_ras, result.reference.name)
    return Tile(result.spec, image, result.label_map[slab].copy())


_MODELS: dict[tuple[str, str], Model] = {}


def _loaded(folder: str, device: str) -> Model:
    """A model is loaded once a process."""
    from ..inference import load_model

    if (folder, device) not in _MODELS:
        _MODELS.clear()
        _MODELS[folder, device] = load_model(folder, device)
    return _MODELS[folder, device]
