"""A batch in a process of its own, for a window that must not wait: start it, ask how it goes, end it. No torch, no Qt.

The process writes summary.csv after each case (`batch`), and that is where news comes from: the same file that stays.
It ends with its parent, whose end closes its standard input.
"""

from __future__ import annotations

import contextlib
import csv
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..child_process import child_environment, interpreter, window_options
from ..errors import DanteError, ResourceError
from ..priority import standing_back

SUMMARY_FILE = "summary.csv"
REFUSED = 2  # exit code of the command line; its last line says why


@dataclass(frozen=True)
class CaseRow:
    """A line of summary.csv: state is "done", "skipped" or "failed"."""

    case: str
    state: str
    message: str


class BatchProcess:
    """One run of `python -m DanteSegmenterLib batch`."""

    def __init__(self, folder: Path, model: Path, out: Path, device: str = "auto", mirror: bool = False) -> None:
        """
        Raises:
            ResourceError: the process cannot be started.
        """
        self._summary = out / SUMMARY_FILE
        self._before = _changed(self._summary)
        command = [interpreter(), *standing_back(), "DanteSegmenterLib", "batch", str(folder), "--model", str(model)]
        command += ["--out", str(out), "--device", device, "--with-parent", *(["--mirror"] if mirror else [])]
        # What it complains of is read at its end, if at all: a pipe would fill up and hold it.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors,
                env=child_environment(), **window_options(),
            )  # fmt: skip
        except OSError as error:
            raise ResourceError(f"The computing process could not be started: {error}.") from None

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def rows(self) -> list[CaseRow]:
        """What is in the summary that this run has written; nothing before the first case has ended."""
        if _changed(self._summary) == self._before:
            return []
        try:
            with open(self._summary, newline="", encoding="utf-8") as file:
                return [CaseRow(line["case"], line["state"], line["message"]) for line in csv.DictReader(file)]
        except (OSError, KeyError):  # it is being written
            return []

    def error(self) -> DanteError | None:
        """Why it ended without doing its work; None if it did, or still runs. Failed cases are told by `rows`."""
        code = self._process.poll()
        if code in (None, 0) or (code == REFUSED and self.rows()):
            return None
        self._errors.seek(0)
        words = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return DanteError(words[-1].removeprefix("error: ") if words else f"The process ended with code {code}.")

    def stop(self) -> None:
        """End it; the case that is going on is lost, files that are written are whole."""
        assert self._process.stdin is not None  # a pipe
        for stream in (self._process.stdin, self._errors):
            with contextlib.suppress(OSError):
                stream.close()  # ends the process even where a launcher stands between
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        self._process.kill()
        self._process.wait()


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
