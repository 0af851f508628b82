"""Comparison with the paper: differing conditions, and the paper's figures beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from DanteSegmenterLib.strict_dataclass import dotted, to_plain

from ...evaluation.evaluate import describe_mirroring
from ...run.run_folder import read_run
from ...settings.loading import load_experiment
from ...status import RUN_FILE
from ..plan import Planned
from ..study_file import Entry, Figure
from .statistics import mean_of
from .tables import Findings, gap_share, markdown

PAPER_EXPERIMENTS = {"brain": "brats-1mm", "chest": "chest-dp2e"}
# Settings that define the row, or only affect monitoring and speed; the others affect what is learned.
NOT_COMPARED = ("method", "seed", "data.workers", "run.checkpoint_every", "run.valid", "run.precision", "run.compile")
KINDS = {"dice": "Dice %", "hd95_mm": "HD95 mm", "gap_share": "share of the gap %"}


def conditions(found: Findings) -> str:
    """How and on how many cases the study was scored, and every common setting that differs from the paper's."""
    said = [f"Scored on the split '{found.split}', {describe_mirroring(found.study.mirror)}."]
    if found.study.label:
        said.append(f"Size {found.study.label}.")
    said.append("Intervals are 95 % bootstraps over seeds and cases; where there is one seed, over cases alone.")
    rows = [[key, _short(ours), _short(papers)] for key, (ours, papers) in _differences(found.runs).items()]
    table = markdown(["setting of all rows", "here", "the paper"], rows)
    return "\n\n".join(filter(None, (" ".join([*said, *_cases(found.runs)]), table)))


def _cases(runs: Sequence[Planned]) -> Iterator[str]:
    """Sizes of the split, from the first run that has started."""
    for run in runs:
        if (run.folder / RUN_FILE).is_file():
            split = read_run(run.folder).split
            train, val, test = (len(names) for names in (split.train, split.val, split.test))
            yield f"Cases: {train} to learn from, {val} for validation, {test} for test."
            return


def _differences(runs: Sequence[Planned]) -> dict[str, tuple[Any, Any]]:
    """Setting -> (common value of all runs, the paper's value), where they differ."""
    paper = dict(dotted(to_plain(load_experiment(PAPER_EXPERIMENTS[runs[0].experiment.task]))))
    # Ignore the tables of methods that no row uses.
    idle = set(runs[0].experiment.method_settings) - {run.experiment.method for run in runs}
    first, *others = (dict(dotted(to_plain(run.experiment))) for run in runs)
    return {
        key: (value, paper.get(key))
        for key, value in first.items()
        # A table that another row lacks (a separate optimiser of Stage 1) is not a common setting.
        if all(key in other and other[key] == value for other in others)
        and value != paper.get(key)
        and not key.startswith(NOT_COMPARED)
        and key.partition(".")[0] not in idle
    }


def _short(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def beside_paper(found: Findings) -> str:
    """The paper's figures beside ours, one line per row, including quoted rows; "" if the study has none."""
    columns = _columns(found)
    if not columns:
        return ""
    heads, before = ["method"], None
    for region, kind, dataset in columns:
        if (region, kind) != before:
            heads.append(f"{region} {KINDS[kind]} here")
            before = (region, kind)
        heads.append(f"paper, {dataset}")
    rows = [_line(found, entry, columns) for entry in found.study.entry]
    return markdown(heads, rows)


def _columns(found: Findings) -> list[tuple[str, str, str]]:
    """(region, kind, dataset) of all published figures in the study, sorted so that comparable ones are adjacent."""
    columns: dict[tuple[str, str, str], None] = {}
    for entry in found.study.entry:
        for dataset, figures in entry.paper.items():
            for region, figure in figures.items():
                for kind in KINDS:
                    if getattr(figure, kind) is not None:
                        columns[region, kind, dataset] = None
    order = list(KINDS)
    return sorted(columns, key=lambda column: (column[0], order.index(column[1]), column[2]))


def _line(found: Findings, entry: Entry, columns: Sequence[tuple[str, str, str]]) -> list[str]:
    cells, before = [entry.name], None
    for region, kind, dataset in columns:
        if (region, kind) != before:
            cells.append(_ours(found, entry.name, region, kind))
            before = (region, kind)
        printed = getattr(entry.paper.get(dataset, {}).get(region, Figure()), kind)
        cells.append("-" if printed is None else f"{printed:.{0 if kind == 'gap_share' else 2}f}")
    return cells


def _ours(found: Findings, row: str, region: str, kind: str) -> str:
    own = found.table(row, region, "hd95_mm" if kind == "hd95_mm" else "dice")
    if not own.notna().any(axis=None):
        return "-"
    if kind != "gap_share":
        return f"{mean_of(own):.1f}" if kind == "hd95_mm" else f"{100 * mean_of(own):.1f}"
    share = gap_share(found, row) if region == found.region else None
    return "-" if share is None else f"{100 * share.value:.0f}"


def remarks(found: Findings) -> str:
    """Notes of the study's author for readers."""
    return found.study.remarks.strip()
