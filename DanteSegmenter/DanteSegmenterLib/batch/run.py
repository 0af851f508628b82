"""Segment many cases with one command: sequentially, here or on a remote host, or on a Dask cluster.

Each case results in NAME.seg.nrrd, whose header records how and from which images it was made: cases finished in the
same way from the same images are skipped when the command is run again. A failing case does not stop the others.
summary.csv and contact_sheet.png show all cases. For a DICOM study, NAME.dcm is written beside it if requested.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..cases.case import Case
from ..errors import InputError, ResourceError
from ..files.images import SEGMENTATION_ENDING
from ..model_folder.read_write import read_spec
from ..model_folder.spec import ModelSpec
from ..pictures.contact_sheet import CONTACT_SHEET_FILE, Sheet
from ..worker.whole_run import worker_client
from .case import (
    Answer,
    Options,
    Outcome,
    compute_on_host,
    dicom_file,
    dicom_source,
    images_of,
    pathway_of,
    segment_case,
)
from .fingerprint import is_made_from
from .finished import finished_report, free_name
from .summary import write_summary

MOST_BYTES = 255  # maximum length of a file name on common file systems
FINISHED = "finished already"
DEFAULT = Options()


def to_do(cases: Sequence[Case], spec: ModelSpec, out: Path, options: Options = DEFAULT) -> list[tuple[Case, str]]:
    """Each case with the reason why it will not run, or ""; shown as a table before the run.

    Raises:
        InputError: two cases have the same name.
    """
    looked_at = [(case, _not_to_run(case, spec, out, options)) for case in _with_own_names(cases)]
    return [(case, outcome.message if outcome else "") for case, outcome in looked_at]


def _not_to_run(case: Case, spec: ModelSpec, out: Path, options: Options) -> Outcome | None:
    """The outcome of a case that will not run; None if it will."""
    if case.problem:
        return Outcome(case.name, "failed", case.problem)
    try:
        pathway = pathway_of(case, spec, options.segment)
    except InputError as error:
        return Outcome(case.name, "failed", str(error))
    path = result_file(case.name, out)
    report = finished_report(path, spec, pathway, options.segment)
    if report is not None and not is_made_from(path, images_of(case, pathway)):
        report = None
    if dicom_source(case, spec, options) is not None and not dicom_file(path).is_file():
        report = None
    return None if report is None else Outcome(case.name, "skipped", FINISHED, report)


def _with_own_names(cases: Sequence[Case]) -> list[Case]:
    """The cases with unique names; those with a problem, which have no result, are numbered if their names are taken.

    Raises:
        InputError: two other cases have the same name.
    """
    taken: set[str] = set()
    for name in (case.name for case in cases if not case.problem):
        if name in taken:
            raise InputError(f"two cases are named '{name}'; their results would overwrite each other. Rename one.")
        taken.add(name)
    named = []
    for case in cases:
        if case.problem:
            names = itertools.chain([case.name], (f"{case.name} ({number})" for number in itertools.count(2)))
            case = replace(case, name=next(name for name in names if name not in taken))
            taken.add(case.name)
        named.append(case)
    return named


def result_file(name: str, out: Path) -> Path:
    """Path of a case's segmentation; a name that is too long is cut and made unique by a digest."""
    room = MOST_BYTES - len(SEGMENTATION_ENDING)
    written = os.fsencode(name)
    if len(written) > room:
        digest = hashlib.sha256(written).hexdigest()[:8]
        name = f"{written[: room - 9].decode(errors='ignore')}-{digest}"
    return out / f"{name}{SEGMENTATION_ENDING}"


def run_batch(
    model_folder: Path,
    cases: Sequence[Case],
    out: Path,
    options: Options = DEFAULT,
    cluster: str = "",
    progress: Callable[[Outcome], None] = lambda outcome: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Segment all cases that are possible and not finished yet; write summary.csv and contact_sheet.png.

    Args:
        out: created if missing.
        cluster: address of a Dask scheduler, e.g. "tcp://10.0.0.1:8786"; empty to compute here. Its machines must be
            able to access the cases, the model and `out` under the same paths.
        progress: called when a case ends.
        cancelled: called often; True ends the run, finished results are kept.

    Raises:
        Cancelled: `cancelled` returned True.
        ModelError: the model folder cannot be used.
        InputError: two cases have the same name.
        ResourceError: `out` cannot be written, the device is not available, or no cluster answers.
        HostFailed: the remote host is not reached, or cannot be used; finished results are kept.
    """
    spec = read_spec(model_folder)
    table = [(case, _not_to_run(case, spec, out, options)) for case in _with_own_names(cases)]
    todo = [case for case, outcome in table if outcome is None]
    if todo and options.host is None and not cluster:
        from ..inference.devices import resolve_device

        resolve_device(options.device)  # otherwise every case would be read and fail for the same reason
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"the folder '{out}' cannot be made: {error.strerror}.") from None
    outcomes = [outcome for _, outcome in table if outcome is not None]
    for outcome in outcomes:
        progress(outcome)
    sheet = Sheet(spec)
    write_summary(out, outcomes, spec)
    for answer in _answers(cluster, model_folder.resolve(), todo, out.resolve(), options, cancelled):
        outcomes.append(answer.outcome)
        progress(answer.outcome)
        if answer.tile is not None:
            sheet.add(answer.outcome.case, answer.tile.reference, None, answer.tile.masks)
        write_summary(out, outcomes, spec)  # after each case, so that it exists whatever happens
    if sheet.tiles:
        sheet.save(free_name(out / CONTACT_SHEET_FILE, ".png"))  # keep that of an earlier run
    return outcomes


def _answers(
    cluster: str, model: Path, cases: Sequence[Case], out: Path, options: Options, cancelled: Callable[[], bool]
) -> Iterator[Answer]:
    if options.host is not None:
        with worker_client() as client:
            compute = compute_on_host(client, options.host, str(model), options)
            for case in cases:
                yield segment_case(str(model), case, result_file(case.name, out), options, cancelled, compute)
    elif not cluster:
        for case in cases:
            yield segment_case(str(model), case, result_file(case.name, out), options, cancelled)
    elif cases:
        from .cluster import on_cluster

        pairs = [(case, result_file(case.name, out)) for case in cases]
        yield from on_cluster(cluster, str(model), pairs, options, cancelled)
