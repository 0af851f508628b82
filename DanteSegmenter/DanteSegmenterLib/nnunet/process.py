"""Import in a separate process, for programs that do not load torch, such as a GUI that must not block."""

from __future__ import annotations

import time
from pathlib import Path

from ..child_process import Child
from ..errors import ModelError
from .names import as_id

MAX_NAME = 100
IMPORT_POLL_SECONDS = 0.05


class ImportProcess:
    """One run of `python -m DanteSegmenterLib import nnunet`; it ends with its parent.

    target: the model folder that it writes.
    """

    def __init__(self, folder: Path, into: Path) -> None:
        """Start importing nnU-Net's results as a model folder in `into`, with the dataset's own names.

        Raises:
            ResourceError: the process cannot be started.
        """
        folder = folder.resolve()
        self.target = into / as_id(f"{folder.parent.name}__{folder.name}").replace(" ", "_")[:MAX_NAME]
        self._folder = folder
        arguments = ["import", "nnunet", str(folder), "--to", str(self.target), "--with-parent"]
        self._process = Child.of_module("DanteSegmenterLib", arguments)

    @property
    def running(self) -> bool:
        return self._process.running

    def result(self) -> Path:
        """The model folder, once the process has ended; an earlier import of the same results was replaced.

        Raises:
            ModelError: the import failed; says why.
        """
        code = self._process.poll()
        if code:
            said = self._process.last_error_line()
            raise ModelError(said or f"'{self._folder}' was not imported: the process ended with code {code}.")
        return self.target

    def stop(self) -> None:
        """End it; a partly written model is lost, an earlier one is kept."""
        self._process.end(patience=1.0)  # it removes what is partly written


def import_in_process(folder: Path, into: Path) -> Path:
    """Import nnU-Net's results folder and wait for it; Ctrl-C stops it.

    Returns:
        the model folder; an earlier import of the same results is replaced.

    Raises:
        ModelError: it cannot be imported; says why.
        ResourceError: the process cannot be started.
    """
    process = ImportProcess(folder, into)
    try:
        while process.running:  # on Windows, Ctrl-C is handled between sleeps, but not while waiting for a process
            time.sleep(IMPORT_POLL_SECONDS)
        return process.result()
    finally:
        process.stop()
