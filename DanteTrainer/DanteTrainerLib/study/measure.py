"""Measurements of a study's models besides scores: cost, and contribution of the deep encoder levels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain

from ..data.dataset import Dataset
from ..whole_files import make_writable, write_text_whole
from .plan import Planned

if TYPE_CHECKING:
    from ..evaluation.cost import Cost

COST_FILE = "cost.json"
# Cases that are timed: the median of three ignores a single delay.
MEASURED_CASES = 3


def cost_file(run: Planned) -> Path:
    """File with the cost of the deployed network."""
    return run.folder / COST_FILE


def levels_folder(run: Planned, part: str) -> Path:
    """Folder with the level scores of the deployed network, without mirroring."""
    return run.folder / f"levels-{part}"


def is_measured(run: Planned, part: str, levels: bool) -> bool:
    """Whether all requested measurements exist."""
    from ..evaluation.levels import LEVELS_FILE

    return cost_file(run).is_file() and (not levels or (levels_folder(run, part) / LEVELS_FILE).is_file())


def measure(run: Planned, dataset: Dataset, names: Sequence[str], part: str, levels: bool, device: str) -> None:
    """Make the measurements that are still missing.

    Args:
        names: cases of `part`.
        levels: whether to measure the deep levels too.
    """
    from ..evaluation.cost import cost_of
    from ..evaluation.evaluated_model import load_for
    from ..evaluation.levels import LEVELS_FILE, TABLE_COLUMNS, has_levels, score_levels
    from ..evaluation.tables import write_table

    if is_measured(run, part, levels):
        return
    model = load_for(dataset, run.model, device)
    if not cost_file(run).is_file():
        cost = cost_of(model, False, [dataset.cases[name] for name in names[:MEASURED_CASES]])
        write_text_whole(cost_file(run), json.dumps(to_plain(cost), indent=1) + "\n")
    if not is_measured(run, part, levels):
        pathway, folder = model.spec.limited, levels_folder(run, part)
        make_writable(folder)
        # An empty table records that the network was measured and that its architecture has no levels.
        found = has_levels(model.network(pathway))
        table = score_levels(model, pathway, dataset, names) if found else pd.DataFrame(columns=TABLE_COLUMNS)
        write_table(table, folder / LEVELS_FILE)


def read_cost(run: Planned) -> Cost | None:
    """Cost of a run's deployed network; None if it has not been measured, or the file is damaged."""
    from ..evaluation.cost import Cost

    try:
        return from_plain(Cost, json.loads(cost_file(run).read_text(encoding="utf-8")), COST_FILE, InputError)
    except (OSError, ValueError, InputError):
        return None
