"""What a result file knows of how it was made: only what was made in the same way counts as finished."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from ..errors import DanteError
from ..files.images import SEGMENTATION_ENDING
from ..guard.busy_files import move
from ..model_folder.spec import ModelSpec, Pathway
from ..options import SegmentOptions
from ..result.report import Report
from ..strict_dataclass import from_plain

REPORT_KEY = "DanteReport"  # in the header of .seg.nrrd
Said = TypeVar("Said")


def read_report(path: Path) -> Report | None:
    """The report in a result's header; None where there is none that can be read."""
    return from_header(path, REPORT_KEY, Report)


def from_header(path: Path, key: str, kind: type[Said]) -> Said | None:
    """What a field of a result's header says; None where there is none that can be read."""
    import nrrd

    try:
        return from_plain(kind, json.loads(nrrd.read_header(str(path))[key]), path.name, DanteError)
    except Exception:  # whatever is wrong with a file that others may have written
        return None


def finished_report(path: Path, spec: ModelSpec, pathway: Pathway, options: SegmentOptions) -> Report | None:
    """The report of a result of just this model, pathway and options; None if `path` holds another, or nothing."""
    report = read_report(path) if path.is_file() else None
    if report is None:
        return None
    made = (report.model, report.version, report.options.mirror, report.options.prepare)
    wanted = (spec.name, spec.version, options.mirror, options.prepare)
    return report if made == wanted and pathway.digest.startswith(report.weights) else None


@contextlib.contextmanager
def earlier_kept(path: Path, ending: str = SEGMENTATION_ENDING) -> Iterator[Path | None]:
    """While a result is written: what lies at its place, made in another way or corrected by hand, is moved aside.

    Yields:
        where it is kept; None if there was nothing. If the writing fails it comes back.
    """
    kept = None
    if path.exists():
        stem = path.name.removesuffix(ending)
        kept = free_name(path.with_name(f"{stem}.earlier{ending}"), ending)
        move(path, kept)
    try:
        yield kept
    except BaseException:
        if kept is not None:
            move(kept, path)
        raise


def free_name(path: Path, ending: str) -> Path:
    """The path, or NAME-2, NAME-3 and so on before its ending: what lies there stays."""
    stem, number, free = path.name.removesuffix(ending), 2, path
    while free.exists():
        free, number = path.with_name(f"{stem}-{number}{ending}"), number + 1
    return free
