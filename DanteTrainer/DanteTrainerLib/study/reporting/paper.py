"""What is ours and what is the paper's: the conditions that differ, and the paper's figures beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from DanteSegmenterLib.strict_dataclass import dotted, to_plain

from ...evaluation.evaluate import mirroring_said
from ...run.run_folder import read_run
from ...settings.loading import load_experiment
from ...status import RUN_FILE
from ..plan import Planned
from ..study_file import Entry, Figure
from .statistics import mean_of
from .tables import Findings, gap_share, markdown

PAPER_EXPERIMENTS = {"brain": "brats-1mm", "chest": "chest-dp2e"}
# What a row is, and what says how a run is watched; the rest decides what is learned.
NOT_COMPARED = ("method", "seed", "data.workers", "run.checkpoint_every", "run.valid", "run.precision", "run.compile")
KINDS = {"dice": "Dice %", "hd95_mm": "HD95 mm", "gap_share": "share of the gap %"}


def conditions(found: Findings) -> str:
    """How it was scored, on how many cases, and every common setting that is not the paper's."""
    said = [f"Scored on the split '{found.split}', {mirroring_said(found.study.mirror)}."]
    if found.study.label:
        said.append(f"Size {found.study.label}.")
    said.append("Intervals are 95 % bootstraps over seeds and cases; where there is one seed, over cases alone.")
    rows = [[key, _short(ours), _short(papers)] for key, (ours, papers) in _differences(found.runs).items()]
    table = markdown(["setting of all rows", "here", "the paper"], rows)
    return "\n\n".join(filter(None, (" ".join([*said, *_cases(found.runs)]), table)))


def _cases(runs: Sequence[Planned]) -> Iterator[str]:
    """The split of the first run that has begun."""
    for run in runs:
        if (run.folder / RUN_FILE).is_file():
            split = read_run(run.folder).split
            train, val, test = (len(names) for names in (split.train, split.val, split.test))
            yield f"Cases: {train} to learn from, {val} for validation, {test} for test."
            return


def _differences(runs: Sequence[Planned]) -> dict[str, tuple[Any, Any]]:
    """Setting -> what all runs have, and what the paper has, where these are two."""
    paper = dict(dotted(to_plain(load_experiment(PAPER_EXPERIMENTS[runs[0].experiment.task]))))
    # The tables of methods that no row is of say nothing.
    idle = set(runs[0].experiment.method_settings) - {run.experiment.method for run in runs}
    first, *others = (dict(dotted(to_plain(run.experiment))) for run in runs)
    return {
        key: (value, paper.get(key))
        for key, value in first.items()
        # A table that another row has not (an optimiser of Stage 1's own) is not a setting of all.
        if all(key in other and other[key] == value for other in others)
        and value != paper.get(key)
        and not key.startswith(NOT_COMPARED)
        and key.partition(".")[0] not in idle
    }


def _short(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def beside_paper(found: Findings) -> str:
    """The paper's figures and ours of the same kind, one line a row, quoted rows too; "" where the study has none."""
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
    """(region, kind, dataset) of every figure of the paper that a row has, sorted so that like stands by like."""
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
    """What the study's author wants a reader to know."""
    return found.study.remarks.strip()
