"""Client of the inference process: start it, send volumes, poll for progress and results. No torch, no Qt.

Nothing here blocks: `begin` and `cancel` return at once, and `poll`, called by a timer, transfers bytes for some
milliseconds and reports what has happened. `wait` is for callers without a timer. One run at a time.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..errors import Cancelled, DanteError, ModelError, ResourceError
from ..guard.plain_text import LONG, one_line
from ..host.address import Host
from ..host.model_cache import digest_of, model_bytes
from ..model_folder.choosing import choose_pathway
from ..model_folder.read_write import read_spec
from ..model_folder.spec import ModelSpec
from ..options import DEFAULTS, SegmentOptions
from ..result.report import Report
from ..result.result import Result
from ..volume import Volume
from .connection import Connection
from .outcome import HostFailed, RunProgress, WorkerDied
from .protocol import (
    BRAIN_MASK,
    ENDED_IDLE,
    CancelRequest,
    FailureMessage,
    Grid,
    ModelFiles,
    ModelWanted,
    ProgressMessage,
    ProtocolError,
    ResultMessage,
    SegmentRequest,
    arrays_of,
    encode,
)

# A run that has not stopped this long after `cancel` is ended by ending its process.
CANCEL_SECONDS = 1.2
# After this long without news, the last progress is repeated with the seconds since, to show that it is alive.
REPEAT_SECONDS = 0.5


@dataclass
class _Run:
    """The current run."""

    request: SegmentRequest
    host: Host | None
    folder: Path
    spec: ModelSpec
    volumes: dict[str, Volume]
    frame: list[bytes | memoryview]  # the request as bytes
    sent_again: bool = False
    model_sent: bool = False
    cancelled_at: float | None = None
    first_progress: tuple[float, float] | None = None  # time and fraction when the network began
    last: RunProgress = RunProgress("start", 0.0, "Starting the computing process")
    last_at: float = 0.0
    repeated_at: float = 0.0


class WorkerClient:
    """Owns the inference process, on this computer or a remote host."""

    def __init__(self, idle_seconds: float = 600.0) -> None:
        self._idle_seconds = idle_seconds
        self._connection: Connection | None = None
        self._run: _Run | None = None
        self._next_id = 1

    @property
    def running(self) -> bool:
        """Whether there is a current run."""
        return self._run is not None

    @property
    def _current(self) -> _Run:
        """The current run; must exist."""
        assert self._run is not None
        return self._run

    @property
    def _open(self) -> Connection:
        """The connection; must exist."""
        assert self._connection is not None
        return self._connection

    @property
    def pid(self) -> int | None:
        """Process id on the computer that runs it; None before its hello message."""
        return self._connection.hello.pid if self._connection and self._connection.hello else None

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that starting the process took, by step: "start", "connect", "import"."""
        return self._connection.seconds if self._connection else {}

    def begin(
        self,
        model: Path | str,
        volumes: dict[str, Volume],
        device: str = "auto",
        options: SegmentOptions = DEFAULTS,
        brain_mask: Volume | None = None,
        host: Host | None = None,
        **choices: bool,
    ) -> None:
        """Start a run with the arguments of `inference.segment`; starts the process if there is none.

        Args:
            host: the remote host; None for this computer. The process on a previously used host is ended.

        Raises:
            ResourceError: a run is in progress, or the process cannot be started.
            ModelError: no usable model.json.
        """
        if self._run is not None:
            raise ResourceError("A segmentation is running already. Wait for it, or cancel it.")
        spec = read_spec(model)
        sent = dict(volumes) if brain_mask is None else {**volumes, BRAIN_MASK: brain_mask}
        grids = tuple(
            Grid(modality, volume.name, tuple(map(float, volume.ijk_to_ras.ravel())))
            for modality, volume in sent.items()
        )
        folder = os.path.abspath(model)  # the process may have another working directory
        known_there = folder if host is None else digest_of(folder)
        request = SegmentRequest(self._next_id, known_there, device, grids, replace(options, **choices))
        frame = encode(request, arrays_of(sent))
        run = _Run(request, host, Path(folder), spec, sent, frame, last_at=time.monotonic())
        if self._connection is None or not self._connection.usable or self._connection.host != host:
            self._connect(host)
        self._next_id += 1
        self._run = run
        self._open.send(run.frame)

    def poll(self) -> tuple[RunProgress | None, Result | DanteError | None]:
        """The latest progress, if any, and the outcome of the run, if it has ended.

        Errors are returned, not raised: `Cancelled`, a refusal of the model or the volumes, or `WorkerDied`.
        """
        if self._run is None or self._connection is None:
            return None, None
        progress: RunProgress | None = None
        outcome: Result | DanteError | None = None
        try:
            for message, arrays in self._connection.exchange():
                if getattr(message, "id", None) != self._run.request.id:
                    continue  # from a previous run
                if isinstance(message, ProgressMessage):
                    progress = self._progress(message)
                elif isinstance(message, ModelWanted):
                    self._send_model()
                elif isinstance(message, (ResultMessage, FailureMessage)):
                    outcome = self._outcome(message, arrays)
        except HostFailed as error:
            outcome = error
            self.kill()
        except (ProtocolError, OSError) as error:
            outcome = WorkerDied(f"The segmentation's process sent something wrong and was ended: {error}")
            self.kill()
        except DanteError as error:  # the answer is well-formed but of no use, or the model cannot be sent
            outcome = error
            self._open.send(encode(CancelRequest(self._run.request.id)))
        if outcome is None:
            outcome = self._what_went_wrong()
        if outcome is not None:
            self._run = None
            return None, outcome
        return self._new_or_repeated(progress), None

    def _new_or_repeated(self, progress: RunProgress | None) -> RunProgress | None:
        """The new progress; after `REPEAT_SECONDS` without any, the last one again, with the seconds since."""
        run, now = self._current, time.monotonic()
        stage = self._open.stage() if run.last.phase == "start" else ""
        if progress is None and stage and stage != run.last.message:
            progress = RunProgress("start", 0.0, stage)
        if progress is not None:
            run.last, run.last_at = progress, now
        elif now - max(run.last_at, run.repeated_at) >= REPEAT_SECONDS:
            run.repeated_at = now
            left = None if run.last.seconds_left is None else max(0.0, run.last.seconds_left - (now - run.last_at))
            progress = replace(run.last, message=f"{run.last.message} ({now - run.last_at:.0f} s)", seconds_left=left)
        return progress

    def wait(self, seconds: float) -> None:
        """Sleep until there may be something to poll, at most this long."""
        time.sleep(min(seconds, 0.01))

    def cancel(self) -> None:
        """Ask the run to stop; `poll` reports when it has, within `CANCEL_SECONDS` even if it does not respond."""
        if self._run is not None and self._run.cancelled_at is None:
            self._run.cancelled_at = time.monotonic()
            self._open.send(encode(CancelRequest(self._run.request.id)))

    def close(self) -> None:
        """End the process; a current run is lost."""
        self._end(patience=0.5)

    def kill(self) -> None:
        """End the process and its children at once."""
        self._end(patience=0.0)

    def _end(self, patience: float) -> None:
        if self._connection is not None:
            self._connection.end(patience)
        self._connection, self._run = None, None

    def _connect(self, host: Host | None) -> None:
        self.kill()
        self._connection = Connection(host, self._idle_seconds)

    def _send_model(self) -> None:
        """Send the model to a host that lacks it; once per run."""
        run = self._current
        if run.host is None or run.model_sent:
            raise ProtocolError("a model is wanted that was not asked of it.")
        run.model_sent = True
        names, contents = model_bytes(run.folder)
        self._open.send(encode(ModelFiles(run.request.id, names), contents))

    def _progress(self, message: ProgressMessage) -> RunProgress:
        run, now = self._current, time.monotonic()
        left = None
        if message.phase == "network":
            run.first_progress = run.first_progress or (now, message.fraction)
            since, done = now - run.first_progress[0], message.fraction - run.first_progress[1]
            if done > 0.02:
                left = since / done * (1 - message.fraction)
        fraction = max(0.0, min(message.fraction, 1.0))  # 0 for NaN
        return RunProgress(message.phase, fraction, one_line(message.message, LONG), left)

    def _outcome(self, message: ResultMessage | FailureMessage, arrays: tuple[np.ndarray, ...]) -> Result | DanteError:
        if isinstance(message, FailureMessage):
            where = "" if self._current.host is None else f"On '{self._current.host.name}': "
            if message.kind == "cancelled":
                return Cancelled(message.message)
            if message.kind == "refused":
                return DanteError(message.message)
            if message.kind == "lacking":
                return DanteError(where + message.message)
            return WorkerDied(f"{where}The segmentation failed: {message.message}. {self._open.last_error_line()}")
        return self._result(message, arrays)

    def _result(self, message: ResultMessage, arrays: tuple[np.ndarray, ...]) -> Result:
        run = self._current
        reference, spec = run.volumes.get(message.modality), run.spec
        shapes: list[tuple[int, ...]] = []
        if reference is not None:
            shapes = [reference.shape, *[(len(spec.regions), *reference.shape)] * run.request.options.probabilities]
            shapes += [reference.shape] * message.brain
        kinds = ["uint8", *["float16"] * run.request.options.probabilities, *["uint8"] * message.brain]
        found = [(array.shape, array.dtype.name) for array in arrays]
        if reference is None or found != list(zip(shapes, kinds)):
            raise ProtocolError("the result's arrays do not fit the volumes.")
        if any(len(matrix) != 16 for matrix in message.alignments.values()):
            raise ProtocolError("an alignment is no 4x4 matrix.")
        if [finding.region for finding in message.report.findings] != [region.id for region in spec.regions]:
            raise ModelError("the model folder changed while it was used. Segment again.")
        report = message.report if run.host is None else self._from_elsewhere(message.report, run.host)
        return Result(
            spec=spec,
            reference=reference,
            modality=message.modality,
            label_map=arrays[0],
            report=replace(report, notes=_with_notes_of_reading(report.notes, run)),
            probabilities=arrays[1] if run.request.options.probabilities else None,
            alignments={m: np.array(matrix).reshape(4, 4) for m, matrix in message.alignments.items()},
            brain=arrays[-1] if message.brain else None,
        )

    def _from_elsewhere(self, report: Report, host: Host) -> Report:
        """A remote host's report, with sanitised texts and its origin.

        Raises:
            ProtocolError: it used weights other than the model's.
        """
        weights = [pathway.digest for pathway in self._current.spec.pathways.values()]
        if not report.weights or not any(digest.startswith(report.weights) for digest in weights):
            raise ProtocolError("the result is of another model.")
        notes, hello = [one_line(note, LONG) for note in report.notes], self._open.hello
        if hello is not None and hello.version != __version__:
            notes.append(f"slicer-dante is {one_line(hello.version)} on '{host.name}' and {__version__} here.")
        return replace(report, device=f"{one_line(report.device)} at {host.name}", notes=tuple(notes))

    def _what_went_wrong(self) -> DanteError | None:
        """Outcome of a run that will not end by itself: its process is gone, or does not stop."""
        run = self._current
        code = self._open.ended()
        if run.cancelled_at is not None:
            if code is None and time.monotonic() - run.cancelled_at < CANCEL_SECONDS:
                return None
            self.kill()
            return Cancelled("Stopped; nothing was changed.")
        if code is None:
            return None
        if code == ENDED_IDLE and not run.sent_again:  # it became idle and ended just as it was asked
            self._connect(run.host)
            self._run = replace(run, sent_again=True, model_sent=False)
            self._open.send(run.frame)
            return None
        error = self._open.why_ended(code)
        self.kill()
        return error


def _with_notes_of_reading(notes: tuple[str, ...], run: _Run) -> tuple[str, ...]:
    """The result's notes plus those of its volumes, which may name files and are not sent; ordered as in `segment`."""
    options, volumes = run.request.options, {m: v for m, v in run.volumes.items() if m != BRAIN_MASK}
    pathway, chosen = choose_pathway(run.spec, volumes, options.limited)
    # Preparing processes all volumes, before anything else; otherwise only the chosen ones are read.
    read, before = (volumes, ()) if options.prepare else (pathway.modalities, chosen)
    first = len(before) if notes[: len(before)] == before else 0
    of_reading = [note for modality in read for note in volumes[modality].notes]
    return (*notes[:first], *of_reading, *notes[first:])
