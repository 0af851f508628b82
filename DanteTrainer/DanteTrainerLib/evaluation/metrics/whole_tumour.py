"""Baseline score for a network that distinguishes the parts of a tumour."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from DanteSegmenterLib.model_folder import Region


def dice_of_the_whole(rows: pd.DataFrame, regions: Sequence[Region]) -> dict[str, float]:
    """Mean Dice of the experts' outermost mask, used as the prediction for each nested region.

    This is what a network achieves that localises the tumour but cannot distinguish its parts.

    Args:
        rows: table with columns case, region and truth_ml, as in `cases.csv`.
        regions: of the task, the outermost first.

    Returns:
        Dice by id of each region inside the first; {} if there are none.
    """
    outer = regions[0]
    truth = rows.drop_duplicates(["case", "region"]).pivot(index="case", columns="region", values="truth_ml")
    inner = [region.id for region in regions if set(region.labels) < set(outer.labels)]
    # The intersection of nested masks is the smaller one.
    return {name: float((2 * truth[name] / (truth[name] + truth[outer.id])).mean()) for name in inner}


def describe_dice_of_the_whole(dice: dict[str, float], outer: str) -> str:
    """A sentence for reports; "" for {}."""
    if not dice:
        return ""
    named = ", ".join(f"{value:.3f} of {name}" for name, value in dice.items())
    return (
        f"The experts' own mask of {outer} has a Dice of {named}: so much can a network have that knows where {outer} "
        "is, and nothing of what lies in it."
    )
