"""Run a batch in a separate process, for a GUI that must not block: start, poll, stop. No torch, no Qt.

Progress is read from summary.csv, which the process writes after each case (`batch`). It ends with its parent, whose
end closes its standard input.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ..child_process import Child
from ..errors import DanteError
from ..options import DEFAULTS, SegmentOptions
from ..program import REFUSED
from .summary import BATCH_SUMMARY_FILE


@dataclass(frozen=True)
class CaseRow:
    """A line of summary.csv: state is "done", "skipped" or "failed"."""

    case: str
    state: str
    message: str


class BatchProcess:
    """One run of `python -m DanteSegmenterLib batch`."""

    def __init__(
        self,
        folder: Path,
        model: Path,
        out: Path,
        device: str = "auto",
        options: SegmentOptions = DEFAULTS,
        host: str = "",
        host_python: str = "",
    ) -> None:
        """Start the process.

        Args:
            host, host_python: as for the command, see `host.address`; empty for this computer.

        Raises:
            ResourceError: the process cannot be started.
        """
        self._summary = out / BATCH_SUMMARY_FILE
        self._before = _changed(self._summary)
        arguments = ["batch", str(folder), "--model", str(model), "--out", str(out), "--device", device]
        arguments.append("--with-parent")
        arguments += ["--mirror"] * options.mirror + ["--prepare"] * options.prepare + ["--limited"] * options.limited
        if host:
            arguments += [f"--host={host}", *([f"--host-python={host_python}"] if host_python else [])]
        self._process = Child.of_module("DanteSegmenterLib", arguments)

    @property
    def running(self) -> bool:
        return self._process.running

    def rows(self) -> list[CaseRow]:
        """Lines of the summary written by this run; empty until the first case has ended."""
        if _changed(self._summary) == self._before:
            return []
        try:
            with open(self._summary, newline="", encoding="utf-8") as file:
                return [CaseRow(line["case"], line["state"], line["message"]) for line in csv.DictReader(file)]
        except (OSError, KeyError):  # being written
            return []

    def error(self) -> DanteError | None:
        """Why it ended without doing its work; None if it did, or still runs. Failed cases are reported by `rows`."""
        code = self._process.poll()
        if code in (None, 0) or (code == REFUSED and self.rows()):
            return None
        return DanteError(self._process.last_error_line() or f"The process ended with code {code}.")

    def stop(self) -> None:
        """End it; the current case is lost, files that have been written are complete."""
        self._process.end(patience=1.0)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
