"""matplotlib figures for writing to files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(**options: Any) -> Figure:
    """A figure without a window, regardless of MPLBACKEND, which makes matplotlib's import fail if it is invalid."""
    wanted = os.environ.pop("MPLBACKEND", None)
    try:
        from matplotlib.figure import Figure
    finally:
        if wanted is not None:
            os.environ["MPLBACKEND"] = wanted
    return Figure(**options)
