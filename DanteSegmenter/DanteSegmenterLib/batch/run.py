"""Many cases with one command: here, one after the other, or on a Dask cluster.

Each case leaves NAME.seg.nrrd; what is finished is skipped when the command is run again, and a case that fails does
not stop the others. At the end there are summary.csv and contact_sheet.png.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cases.case_folder import Case
from ..errors import DanteError, InputError, ResourceError
from ..files.images import SEGMENTATION_ENDING, write_atomically, write_segmentation
from ..model_folder.spec import ModelSpec, choose_pathway, read_spec
from ..pictures.contact_sheet import Sheet
from ..volume import Volume
from .process import SUMMARY_FILE

if TYPE_CHECKING:  # torch is imported when it is needed
    from ..inference.segmenting import Model

PICTURE_FILE = "contact_sheet.png"
# A case whose machine died is given to another so often.
CLUSTER_RETRIES = 3

Tile = tuple[str, Volume, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Options:
    """How each case is segmented."""

    device: str = "auto"
    mirror: bool = False
    use_privileged: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of a case: state is "done", "skipped" (there already) or "failed"."""

    case: str
    state: str
    message: str = ""
    seconds: float = 0.0
    volumes_ml: dict[str, float] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)


def to_do(cases: Sequence[Case], spec: ModelSpec, out: Path) -> list[tuple[Case, str]]:
    """Each case, and why it will not run: "" for it will; this is the table shown beforehand.

    Raises:
        InputError: two cases have one name.
    """
    names = [case.name for case in cases]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled:
        raise InputError(f"two cases are named '{doubled}'; their results would overwrite each other. Rename one.")
    return [(case, _obstacle(case, spec, out)) for case in cases]


def _obstacle(case: Case, spec: ModelSpec, out: Path) -> str:
    if result_file(case.name, out).is_file():
        return "finished already"
    try:
        choose_pathway(spec, [modality for modality in case.images if modality in _known(spec)])
    except InputError as error:
        return str(error)
    return ""


def _known(spec: ModelSpec) -> set[str]:
    return {modality.id for modality in spec.modalities}


def result_file(name: str, out: Path) -> Path:
    """Where a case's segmentation is."""
    return out / f"{name}{SEGMENTATION_ENDING}"


def segment_case(model_folder: str, case: Case, out: str, options: Options) -> tuple[Outcome, Tile | None]:
    """Segment one case and write its file; on a cluster this runs on another machine. Never raises a DanteError.

    Returns:
        the outcome, and for the contact sheet the reference volume's slice with most of the first region.
    """
    from ..inference.segmenting import load_model, segment

    try:
        model = _loaded(model_folder, options.device, load_model)
        wanted = _known(model.spec) if options.use_privileged else set(model.spec.limited.modalities)
        volumes = {modality: source.read() for modality, source in case.images.items() if modality in wanted}
        result = segment(model, volumes, mirror=options.mirror)
        write_segmentation(result_file(case.name, Path(out)), result.masks, model.spec.regions, result.reference)
    except DanteError as error:
        return Outcome(case.name, "failed", str(error)), None
    outcome = Outcome(
        case.name, "done", " ".join(result.notes), sum(result.seconds.values()), result.volumes_ml, result.confidence
    )
    return outcome, (case.name, result.reference, result.masks)


_MODELS: dict[tuple[str, str], Model] = {}


def _loaded(folder: str, device: str, load: Callable[[str, str], Model]) -> Model:
    """A model is loaded once a process."""
    if (folder, device) not in _MODELS:
        _MODELS.clear()
        _MODELS[folder, device] = load(folder, device)
    return _MODELS[folder, device]


def run_batch(
    model_folder: Path, cases: Sequence[Case], out: Path, options: Options = Options(), cluster: str = "",
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:  # fmt: skip
    """Segment all cases that can be and are not yet; write summary.csv and contact_sheet.png.

    Args:
        out: made if missing; on a cluster every machine must see it, and the cases, under the same path.
        cluster: address of a Dask scheduler, e.g. "tcp://10.0.0.1:8786"; here if empty.
        progress: called as each case ends.

    Raises:
        ModelError, InputError: nothing can run. ResourceError: `out` cannot be written, or no cluster answers.
    """
    spec = read_spec(model_folder)
    table = to_do(cases, spec, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"the folder '{out}' cannot be made: {error.strerror}.") from None
    outcomes = [_not_run(case, reason) for case, reason in table if reason]
    for outcome in outcomes:
        progress(outcome)
    todo = [case for case, reason in table if not reason]
    run = _on_cluster(cluster) if cluster else _here
    sheet = Sheet(spec)
    for outcome, tile in run(str(model_folder.resolve()), todo, str(out.resolve()), options):
        outcomes.append(outcome)
        progress(outcome)
        if tile is not None:
            name, reference, masks = tile
            sheet.add(name, reference, None, masks)
        _write_summary(out / SUMMARY_FILE, outcomes, spec)  # after each: whatever happens, it is there
    _write_summary(out / SUMMARY_FILE, outcomes, spec)
    if sheet.tiles:
        sheet.save(out / PICTURE_FILE)
    return outcomes


def _not_run(case: Case, reason: str) -> Outcome:
    return Outcome(case.name, "skipped" if reason == "finished already" else "failed", reason)


def _here(model: str, cases: list[Case], out: str, options: Options) -> Iterator[tuple[Outcome, Tile | None]]:
    for case in cases:
        yield segment_case(model, case, out, options)


def _on_cluster(address: str) -> Callable[..., Iterator[tuple[Outcome, Tile | None]]]:
    """The same function on Dask's workers, cases in the order in which they end."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ResourceError('a cluster needs the package distributed: pip install "slicer-dante[cluster]".') from None

    def run(model: str, cases: list[Case], out: str, options: Options) -> Iterator[tuple[Outcome, Tile | None]]:
        try:
            client = Client(address, timeout="10s")
        except (OSError, ValueError, TimeoutError) as error:
            raise ResourceError(f"no Dask scheduler answers at '{address}' ({error}).") from None
        with client:
            futures = {
                client.submit(segment_case, model, case, out, options, pure=False, retries=CLUSTER_RETRIES): case
                for case in cases
            }
            for future in as_completed(futures):
                if future.status == "finished":
                    yield future.result()
                else:
                    reason = f"{type(future.exception()).__name__}: {future.exception()}"
                    yield Outcome(futures[future].name, "failed", reason), None

    return run


def _write_summary(path: Path, outcomes: Sequence[Outcome], spec: ModelSpec) -> None:
    """One line a case: state, volumes, mean probabilities, seconds and message."""
    regions = [region.id for region in spec.regions]
    heads = ["case", "state", *(f"{r}_ml" for r in regions), *(f"{r}_mean_probability" for r in regions)]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*heads, "seconds", "model", "message"])
    for o in sorted(outcomes, key=lambda outcome: outcome.case):
        numbers = [o.volumes_ml.get(r) for r in regions] + [o.confidence.get(r) for r in regions]
        texts = ["" if n is None or n != n else f"{n:.4g}" for n in numbers]
        writer.writerow([o.case, o.state, *texts, f"{o.seconds:.1f}", f"{spec.name} {spec.version}", o.message])
    # Atomically: a window reads it meanwhile.
    write_atomically(path, lambda temporary: temporary.write_bytes(text.getvalue().encode()))
