"""The score to be exceeded by a network that tells the parts of a tumour apart."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from DanteSegmenterLib.model_folder import Region


def dice_of_the_whole(rows: pd.DataFrame, regions: Sequence[Region]) -> dict[str, float]:
    """Mean Dice that the experts' mask of the outermost region has, where it is taken for a region that lies in it.

    So much has a network that knows where the tumour is, and nothing of which part of it enhances.

    Args:
        rows: columns case, region and truth_ml, as in `cases.csv`.
        regions: of the task, the outermost first.

    Returns:
        by id of each region within the first; {} where none lies in it.
    """
    outer = regions[0]
    truth = rows.drop_duplicates(["case", "region"]).pivot(index="case", columns="region", values="truth_ml")
    inner = [region.id for region in regions if set(region.labels) < set(outer.labels)]
    # Of masks that nest the overlap is the smaller one.
    return {name: float((2 * truth[name] / (truth[name] + truth[outer.id])).mean()) for name in inner}


def the_whole_said(dice: dict[str, float], outer: str) -> str:
    """A sentence; "" for {}."""
    if not dice:
        return ""
    named = ", ".join(f"{value:.3f} of {name}" for name, value in dice.items())
    return (
        f"The experts' own mask of {outer} has a Dice of {named}: so much can a network have that knows where {outer} "
        "is, and nothing of what lies in it."
    )
