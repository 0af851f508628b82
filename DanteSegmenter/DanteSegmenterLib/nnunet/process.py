"""Importing in a process of its own, for a program that does not load torch: the window."""

from __future__ import annotations

from pathlib import Path

from ..child_process import Child
from ..errors import ModelError
from .names import as_id

MAX_NAME = 100


def import_in_process(folder: Path, into: Path) -> Path:
    """Import nnU-Net's results folder as a model folder in `into`, with the answers that the dataset gives.

    Returns:
        the model folder; one of the same results is replaced.

    Raises:
        ModelError: it cannot be imported; says why.
        ResourceError: the process cannot be started.
    """
    folder = folder.resolve()
    target = into / as_id(f"{folder.parent.name}__{folder.name}").replace(" ", "_")[:MAX_NAME]
    process = Child("DanteSegmenterLib", ["import", "nnunet", str(folder), "--to", str(target)])
    try:
        code = process.process.wait()
        if code:
            raise ModelError(process.complaint() or f"'{folder}' was not imported: the process ended with code {code}.")
    finally:
        process.end()
    return target
