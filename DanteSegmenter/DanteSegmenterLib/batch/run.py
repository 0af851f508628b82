"""Many cases with one command: one after the other, here or on another computer, or on a Dask cluster.

Each case leaves NAME.seg.nrrd, which knows how and of which images it was made: what is finished in the same way, of
the images that are there, is skipped when the command is run again. A case that fails does not stop the others.
summary.csv and contact_sheet.png show all of them. A DICOM study leaves NAME.dcm beside it, where that is asked for.
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
from .fingerprint import made_of_these
from .finished import finished_report, free_name
from .summary import write_summary

MOST_BYTES = 255  # of a file's name, on every usual file system
FINISHED = "finished already"
DEFAULT = Options()


def to_do(cases: Sequence[Case], spec: ModelSpec, out: Path, options: Options = DEFAULT) -> list[tuple[Case, str]]:
    """Each case, and why it will not run: "" for it will; this is the table shown beforehand.

    Raises:
        InputError: two cases have one name.
    """
    looked_at = [(case, _not_to_run(case, spec, out, options)) for case in _with_own_names(cases)]
    return [(case, outcome.message if outcome else "") for case, outcome in looked_at]


def _not_to_run(case: Case, spec: ModelSpec, out: Path, options: Options) -> Outcome | None:
    """What is to be said of a case that will not run; None of one that will."""
    if case.problem:
        return Outcome(case.name, "failed", case.problem)
    try:
        pathway = pathway_of(case, spec, options.segment)
    except InputError as error:
        return Outcome(case.name, "failed", str(error))
    path = result_file(case.name, out)
    report = finished_report(path, spec, pathway, options.segment)
    if report is not None and not made_of_these(path, images_of(case, pathway)):
        report = None
    if dicom_source(case, spec, options) is not None and not dicom_file(path).is_file():
        report = None
    return None if report is None else Outcome(case.name, "skipped", FINISHED, report)


def _with_own_names(cases: Sequence[Case]) -> list[Case]:
    """The cases; those with a problem, which leave no result, are numbered where their names are taken.

    Raises:
        InputError: two others have one name.
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
    """Where a case's segmentation is; a name that would be too long is cut, and stays one of its own by a digest."""
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
    """Segment all cases that can be and are not yet; write summary.csv and contact_sheet.png.

    Args:
        out: made if missing.
        cluster: address of a Dask scheduler, e.g. "tcp://10.0.0.1:8786"; here if empty. Its machines must see the
            cases, the model and `out` under the same paths.
        progress: called as each case ends.
        cancelled: asked often; True ends the run, what is finished stays.

    Raises:
        Cancelled: it was asked to end.
        ModelError: the model folder cannot be used.
        InputError: two cases have one name.
        ResourceError: `out` cannot be written, the device is not there, or no cluster answers.
        HostFailed: the other computer is not reached, or what runs there is of no use; what is finished stays.
    """
    spec = read_spec(model_folder)
    table = [(case, _not_to_run(case, spec, out, options)) for case in _with_own_names(cases)]
    todo = [case for case, outcome in table if outcome is None]
    if todo and options.host is None and not cluster:
        from ..inference.devices import resolve_device

        resolve_device(options.device)  # else every case would be read and fail for one reason
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
        write_summary(out, outcomes, spec)  # after each: whatever happens, it is there
    if sheet.tiles:
        sheet.save(free_name(out / CONTACT_SHEET_FILE, ".png"))  # that of an earlier run stays
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
