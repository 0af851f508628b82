"""The window's side of the warm inference process: start it, hand it volumes, ask how it goes. No torch, no Qt.

Nothing here waits: `begin` and `cancel` return at once, and `poll`, called from a timer, moves bytes for some
milliseconds and says what has happened. `wait` is for callers without a timer. One run at a time.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from ..child_process import Child
from ..errors import Cancelled, DanteError, ModelError, ResourceError
from ..model_folder.read_write import read_spec
from ..model_folder.spec import ModelSpec
from ..options import DEFAULTS, SegmentOptions
from ..result.result import Result
from ..volume import Volume
from .outcome import RunProgress, WorkerDied
from .pipes import READ_BYTES, reason_of, widen
from .protocol import (
    BRAIN_MASK,
    ENDED_IDLE,
    CancelRequest,
    FailureMessage,
    FrameReader,
    Grid,
    Hello,
    Message,
    ProgressMessage,
    ProtocolError,
    ResultMessage,
    SegmentRequest,
    arrays_of,
    encode,
)

# Bytes are moved for so long at most per poll, so that a window stays fluid.
POLL_SECONDS = 0.015
# A run that was asked to stop and has not after this time is ended with its process.
CANCEL_SECONDS = 1.2
ERROR_BYTES = 1 << 16
# A phase that says nothing for so long is told again, with its seconds: the user sees that it lives.
REPEAT_SECONDS = 0.5


@dataclass
class _Run:
    """The run that is going on."""

    request: SegmentRequest
    spec: ModelSpec
    volumes: dict[str, Volume]
    frame: list[bytes | memoryview]  # the request as bytes
    sent_again: bool = False
    cancelled_at: float | None = None
    first_progress: tuple[float, float] | None = None  # when and how far the network began
    last: RunProgress = RunProgress("start", 0.0, "Starting the computing process")
    last_at: float = 0.0
    repeated_at: float = 0.0


class WorkerClient:
    """Owns the process; `seconds` holds what the first click cost beside computing ("start", "import")."""

    def __init__(self, idle_seconds: float = 600.0) -> None:
        self._idle_seconds = idle_seconds
        self._child: Child | None = None
        self._reader = FrameReader()
        self._outbox: deque[memoryview] = deque()
        self._errors = bytearray()
        self._run: _Run | None = None
        self._next_id = 1
        self._started = 0.0
        self._hello: Hello | None = None
        self.seconds: dict[str, float] = {}

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        return self._run is not None

    @property
    def _current(self) -> _Run:
        """The run; for where there is one."""
        assert self._run is not None
        return self._run

    @property
    def _process(self) -> Child:
        """The process; for where there is one."""
        assert self._child is not None
        return self._child

    @property
    def pid(self) -> int | None:
        """Of the process that computes, once it has said so."""
        return self._hello.pid if self._hello else None

    def begin(
        self,
        model: Path | str,
        volumes: dict[str, Volume],
        device: str = "auto",
        options: SegmentOptions = DEFAULTS,
        brain_mask: Volume | None = None,
        **choices: bool,
    ) -> None:
        """Start a run, with the arguments of `inference.segment`; the process is started first where there is none.

        Raises:
            ResourceError: a run is going on, or the process cannot be started.
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
        folder = os.path.abspath(model)  # the process may have another current folder
        request = SegmentRequest(self._next_id, folder, device, grids, replace(options, **choices))
        run = _Run(request, spec, sent, encode(request, arrays_of(sent)), last_at=time.monotonic())
        if self._child is None or not self._child.running or self._hello is None:
            self._start()
        self._next_id += 1
        self._run = run
        self._queue(run.frame)

    def poll(self) -> tuple[RunProgress | None, Result | DanteError | None]:
        """What is new: the latest progress, and how the run ended if it did.

        An error is returned, not raised: `Cancelled`, what the model or the volumes were refused for, or `WorkerDied`.
        """
        if self._run is None or self._child is None:
            return None, None
        progress: RunProgress | None = None
        outcome: Result | DanteError | None = None
        try:
            for message, arrays in self._exchange():
                if isinstance(message, ProgressMessage) and message.id == self._run.request.id:
                    progress = self._progress(message)
                elif isinstance(message, (ResultMessage, FailureMessage)) and message.id == self._run.request.id:
                    outcome = self._outcome(message, arrays)
        except (ProtocolError, OSError) as error:
            outcome = WorkerDied(f"The segmentation's process sent something wrong and was ended: {error}")
            self.kill()
        except DanteError as error:  # the answer was in order, but is of no use
            outcome = error
        if outcome is None:
            outcome = self._what_went_wrong()
        if outcome is not None:
            self._run = None
            return None, outcome
        return self._told(progress), None

    def _told(self, progress: RunProgress | None) -> RunProgress | None:
        """What is new; where nothing is for a while, the last word again with the seconds that have passed since."""
        run, now = self._current, time.monotonic()
        if progress is not None:
            run.last, run.last_at = progress, now
        elif now - max(run.last_at, run.repeated_at) >= REPEAT_SECONDS:
            run.repeated_at = now
            left = None if run.last.seconds_left is None else max(0.0, run.last.seconds_left - (now - run.last_at))
            progress = replace(run.last, message=f"{run.last.message} ({now - run.last_at:.0f} s)", seconds_left=left)
        return progress

    def wait(self, seconds: float) -> None:
        """Return when there is something to poll, or after so long."""
        time.sleep(min(seconds, 0.01))

    def cancel(self) -> None:
        """Ask the run to stop; `poll` says when it has, within `CANCEL_SECONDS` even if it does not listen."""
        if self._run is not None and self._run.cancelled_at is None:
            self._run.cancelled_at = time.monotonic()
            self._queue(encode(CancelRequest(self._run.request.id)))

    def close(self) -> None:
        """End the process; a run that is going on is lost."""
        self._end(patience=0.5)

    def kill(self) -> None:
        """End the process and those that it started, at once."""
        self._end(patience=0.0)

    def _end(self, patience: float) -> None:
        if self._child is not None:
            pid = self.pid
            self._child.end(patience)
            if pid is not None and pid != self._child.process.pid and os.name == "nt":  # behind Slicer's launcher
                with contextlib.suppress(OSError):
                    os.kill(pid, 15)
        self._child, self._hello, self._run = None, None, None
        self._outbox.clear()
        self._reader = FrameReader()

    def _start(self) -> None:
        self.kill()
        self._errors.clear()
        self._started = time.monotonic()
        child = Child("DanteSegmenterLib.worker.server", ["--idle-seconds", str(self._idle_seconds)], pipes=True)
        self._child = child
        for stream in child.streams():
            os.set_blocking(stream.fileno(), False)
        for stream in child.streams()[:2]:
            widen(stream.fileno())
        self.seconds = {"start": time.monotonic() - self._started}

    def _queue(self, frame: list[bytes | memoryview]) -> None:
        self._outbox.extend(memoryview(piece) for piece in frame if len(piece))

    def _exchange(self) -> list[tuple[Message, tuple[np.ndarray, ...]]]:
        """Move bytes both ways until there is nothing to move, or the time for it is over."""
        messages: list[tuple[Message, tuple[np.ndarray, ...]]] = []
        _, output, errors = self._process.streams()
        deadline = time.monotonic() + POLL_SECONDS
        while time.monotonic() < deadline:
            written, data = self._write(), self._read(output)
            self._hear(self._read(errors))
            for frame in self._reader.feed(data or b""):
                if isinstance(frame.message, Hello):
                    self._hello = frame.message
                    self.seconds["import"] = frame.message.seconds
                else:
                    messages.append((frame.message, frame.arrays))
            if not written and not data:
                if not self._outbox:
                    break
                self._until_movable(deadline)
        return messages

    def _until_movable(self, deadline: float) -> None:
        """The pipe is full: wait until the other side has read from it."""
        if os.name == "nt":  # select knows sockets only there
            time.sleep(0.0005)
            return
        left = max(0.0, deadline - time.monotonic())
        to_child, from_child, _ = self._process.streams()
        select.select([from_child], [to_child], [], left)

    def _write(self) -> int:
        total, stream = 0, self._process.streams()[0]
        while self._outbox:
            try:
                count = os.write(stream.fileno(), self._outbox[0][: 1 << 20])
            except BlockingIOError:
                break
            except OSError:  # it is gone; `_what_went_wrong` says so
                self._outbox.clear()
                break
            total += count
            rest = self._outbox.popleft()[count:]
            if len(rest):
                self._outbox.appendleft(rest)
        return total

    @staticmethod
    def _read(stream: IO[bytes]) -> bytes | None:
        try:
            return os.read(stream.fileno(), READ_BYTES)
        except BlockingIOError:
            return None
        except (OSError, ValueError):
            return b""

    def _progress(self, message: ProgressMessage) -> RunProgress:
        run, now = self._current, time.monotonic()
        left = None
        if message.phase == "network":
            run.first_progress = run.first_progress or (now, message.fraction)
            since, done = now - run.first_progress[0], message.fraction - run.first_progress[1]
            if done > 0.02:
                left = since / done * (1 - message.fraction)
        return RunProgress(message.phase, message.fraction, message.message, left)

    def _outcome(self, message: ResultMessage | FailureMessage, arrays: tuple[np.ndarray, ...]) -> Result | DanteError:
        if isinstance(message, FailureMessage):
            if message.kind == "cancelled":
                return Cancelled(message.message)
            if message.kind == "refused":
                return DanteError(message.message)
            return WorkerDied(f"The segmentation failed: {message.message}. {self._last_words()}")
        return self._result(message, arrays)

    def _result(self, message: ResultMessage, arrays: tuple[np.ndarray, ...]) -> Result:
        run = self._current
        reference, spec = run.volumes.get(message.modality), run.spec
        shapes: list[tuple[int, ...]] = []
        if reference is not None:
            shapes = [reference.shape, *[(len(spec.regions), *reference.shape)] * run.request.options.probabilities]
            shapes += [reference.shape] * message.brain
        if reference is None or [array.shape for array in arrays] != shapes:
            raise ProtocolError("the result's arrays do not fit the volumes.")
        if any(len(matrix) != 16 for matrix in message.alignments.values()):
            raise ProtocolError("an alignment is no 4x4 matrix.")
        if [finding.region for finding in message.report.findings] != [region.id for region in spec.regions]:
            raise ModelError("the model folder changed while it was used. Segment again.")
        return Result(
            spec=spec,
            reference=reference,
            modality=message.modality,
            label_map=arrays[0],
            report=message.report,
            probabilities=arrays[1] if run.request.options.probabilities else None,
            alignments={m: np.array(matrix).reshape(4, 4) for m, matrix in message.alignments.items()},
            brain=arrays[-1] if message.brain else None,
        )

    def _what_went_wrong(self) -> DanteError | None:
        """A run that will not end by itself: its process is gone, or does not stop."""
        run = self._current
        code = self._process.poll()
        if run.cancelled_at is not None:
            if code is None and time.monotonic() - run.cancelled_at < CANCEL_SECONDS:
                return None
            self.kill()
            return Cancelled("Stopped; nothing was changed.")
        if code is None:
            return None
        if code == ENDED_IDLE and not run.sent_again:  # it went to rest just as it was asked
            self._start()
            self._run = replace(run, sent_again=True)
            self._queue(run.frame)
            return None
        self._hear(self._read(self._process.streams()[2]))
        error = WorkerDied(
            f"The computing process ended unexpectedly ({reason_of(code)}). {self._last_words()}".strip()
        )
        self.kill()
        return error

    def _hear(self, words: bytes | None) -> None:
        """Keep the end of what it writes to standard error."""
        self._errors += words or b""
        del self._errors[:-ERROR_BYTES]

    def _last_words(self) -> str:
        """The end of what the process wrote to its standard error."""
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        return f"Its last words: {lines[-1]}" if lines else ""
