"""How a result was made, from its header: only results made in the same way count as finished."""

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

REPORT_KEY = "DanteReport"  # header field of .seg.nrrd
Kind = TypeVar("Kind")


def read_report(path: Path) -> Report | None:
    """The report in a result's header; None if there is none, or it is unreadable."""
    return from_header(path, REPORT_KEY, Report)


def from_header(path: Path, key: str, kind: type[Kind]) -> Kind | None:
    """A field of a result's header; None if there is none, or it is unreadable."""
    import nrrd

    try:
        return from_plain(kind, json.loads(nrrd.read_header(str(path))[key]), path.name, DanteError)
    except Exception:  # whatever is wrong with a file that others may have written
        return None


def finished_report(path: Path, spec: ModelSpec, pathway: Pathway, options: SegmentOptions) -> Report | None:
    """The report of a result made with exactly this model, pathway and options; None otherwise."""
    report = read_report(path) if path.is_file() else None
    if report is None:
        return None
    made = (report.model, report.version, report.options.mirror, report.options.prepare)
    wanted = (spec.name, spec.version, options.mirror, options.prepare)
    return report if made == wanted and pathway.digest.startswith(report.weights) else None


@contextlib.contextmanager
def earlier_kept(path: Path, ending: str = SEGMENTATION_ENDING) -> Iterator[Path | None]:
    """While a result is written, move aside an earlier one, which was made differently or edited by hand.

    Yields:
        the path where it is kept; None if there was none. Restored if writing fails.
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
    """The path, or NAME-2, NAME-3 etc. with the same ending, so that nothing is overwritten."""
    stem, number, free = path.name.removesuffix(ending), 2, path
    while free.exists():
        free, number = path.with_name(f"{stem}-{number}{ending}"), number + 1
    return free
