"""Process one case of a batch: read, segment, write. A failure affects only that case."""

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
from ..host.model_cache import digest_of
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

if TYPE_CHECKING:  # torch is imported when needed
    from ..inference.segmenting import Model


@dataclass(frozen=True)
class Options:
    """Options for all cases of a batch.

    Attributes:
        host: remote host to compute on, reached by ssh.
        dicom_seg: for DICOM studies, also write a DICOM segmentation.
    """

    device: str = "auto"
    segment: SegmentOptions = DEFAULTS
    host: Host | None = None
    dicom_seg: bool = False


@dataclass(frozen=True)
class Outcome:
    """Outcome of a case.

    Attributes:
        state: "done", "skipped" (finished earlier) or "failed".
        message: why it failed, or notes for the user.
        report: report of the result, if there is one.
    """

    case: str
    state: str
    message: str = ""
    report: Report | None = None


@dataclass(frozen=True, eq=False)
class Tile:
    """A slice for the contact sheet: image [1, J, I] and label map uint8 [1, J, I]."""

    spec: ModelSpec
    reference: Volume
    label_map: np.ndarray

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Masks bool [1, J, I] by region id."""
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
        compute: function that segments the volumes, and calls its second argument to check for cancellation; None to
            compute in this process.

    Raises:
        Cancelled: `cancelled` returned True; all other errors become a failed outcome.
        HostFailed: the host of `compute` cannot compute any case.
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
    except Exception as error:  # a bug or a device failure costs this case, never the following ones
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
    """A `Compute` on a remote host, in the client's process, which is kept between cases."""
    return lambda volumes, cancelled: segment_on_host(
        client, host, model_folder, volumes, options.device, options.segment, cancelled=cancelled
    )


def dicom_file(path: Path) -> Path:
    """Path of a case's DICOM segmentation, beside its result."""
    return path.with_name(path.name.removesuffix(SEGMENTATION_ENDING) + DICOM_ENDING)


def dicom_source(case: Case, spec: ModelSpec, options: Options) -> SeriesSource | None:
    """The series that a DICOM segmentation will refer to; None if none is requested."""
    source = case.images[pathway_of(case, spec, options.segment).modalities[0]]
    return source if options.dicom_seg and isinstance(source, SeriesSource) else None


@contextlib.contextmanager
def _dicom_beside(path: Path, source: SeriesSource | None, result: Result) -> Iterator[None]:
    """Write the DICOM segmentation before the result itself, whose existence marks a case as finished."""
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
    """The pathway for a case's images; images that the model does not know are ignored.

    Raises:
        InputError: a modality is missing.
    """
    known = {modality.id for modality in spec.modalities}
    return choose_pathway(spec, [modality for modality in case.images if modality in known], options.limited)[0]


def images_of(case: Case, pathway: Pathway) -> dict[str, ImageSource]:
    """The images that the pathway reads, by modality; no other files are opened."""
    return {modality: case.images[modality] for modality in pathway.modalities}


def tile_of(result: Result) -> Tile:
    """The slice with the largest area of the first region."""
    area = np.count_nonzero(result.mask(result.spec.regions[0].id), axis=(1, 2))
    k = int(area.argmax()) if area.any() else result.reference.shape[0] // 2
    slab = slice(k, k + 1)
    image = Volume(result.reference.array[slab].copy(), result.reference.ijk_to_ras, result.reference.name)
    return Tile(result.spec, image, result.label_map[slab].copy())


_MODELS: dict[tuple[str, str, str], Model] = {}


def _loaded(folder: str, device: str) -> Model:
    """Load a model, once per process; again if the folder holds another one, as a cluster's workers outlive a batch."""
    from ..inference import load_model

    key = (folder, device, digest_of(folder))
    if key not in _MODELS:
        _MODELS.clear()
        _MODELS[key] = load_model(folder, device)
    return _MODELS[key]
