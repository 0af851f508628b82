"""The warm inference process: `python -m DanteSegmenterLib.worker.server`, started by `connection` through `priority`.

Runs on this computer, or with `--by-ssh` on a remote host, where models arrive as files and are cached. It reads frames
of `protocol` from standard input and answers on standard output. Models stay loaded between requests. It ends when its
standard input closes, which happens however its parent ends; after being idle for a while; and when it receives
something that is not a message.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..child_process import take_over_standard_input
from ..errors import Cancelled, DanteError, ResourceError, lacks_memory, sentence_of
from ..host.model_cache import ModelCache, cache_folder
from ..memory import give_back_freed_memory, keep_freed_memory
from ..result.result import Result
from ..volume import Volume
from .compression import Compressor, Decompressor
from .connection import GREETING
from .pipes import READ_BYTES
from .protocol import (
    BRAIN_MASK,
    ENDED_IDLE,
    PROTOCOL_VERSION,
    CancelRequest,
    FailureMessage,
    Frame,
    FrameReader,
    Hello,
    Message,
    ModelFiles,
    ModelWanted,
    ProgressMessage,
    ProtocolError,
    ResultMessage,
    SegmentRequest,
    encode,
)

if TYPE_CHECKING:  # torch is imported after the first byte has been read
    from ..inference.segmenting import Progress

IDLE_SECONDS = 600.0
# After this long without a request, memory is returned to the system; models stay loaded.
REST_SECONDS = 30.0
# Maximum rate of progress messages: one is cheap, but a network has a hundred convolutions per window.
PROGRESS_EVERY_SECONDS = 0.1
MODEL_LOOK_SECONDS = 0.1
ENDED_BY_PARENT, ENDED_BY_PROTOCOL, ENDED_BY_MEMORY = 0, 3, 5


def main(arguments: list[str] | None = None) -> int:
    """Serve until standard input closes, or there was no request for `--idle-seconds`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS)
    parser.add_argument("--by-ssh", action="store_true")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    source, sink = _take_over_streams()
    outbox = Outbox(sink, options.by_ssh)
    inbox = Inbox(source, options.by_ssh)
    threading.Thread(target=inbox.read, daemon=True).start()
    import torch  # the long part of the first click  # noqa: F401

    keep_freed_memory()
    server = Server(outbox, inbox, ModelCache(cache_folder()) if options.by_ssh else None)
    outbox.send(Hello(os.getpid(), __version__, time.perf_counter() - started))
    rest = min(REST_SECONDS, options.idle_seconds / 2)
    while True:
        frame = inbox.next(rest)
        if frame is None:
            give_back_freed_memory()
            frame = inbox.next(options.idle_seconds - rest)
        if frame is None:
            return ENDED_IDLE
        server.serve(frame)


def _take_over_streams() -> tuple[int, int]:
    """Descriptors of standard input and output; all other output goes to standard error from now on."""
    source, sink = take_over_standard_input(), os.dup(1)
    os.dup2(2, 1)
    if os.name == "nt":
        import msvcrt

        for descriptor in (source, sink):
            msvcrt.setmode(descriptor, os.O_BINARY)  # type: ignore[attr-defined]  # on Windows alone
    return source, sink


def _end(reason: str, code: int) -> None:
    """End the process from any thread, with the reason on standard error."""
    with contextlib.suppress(OSError):
        os.write(2, f"DANTE worker: {reason}\n".encode())
    os._exit(code)


def _end_with_parent(group: bool) -> None:
    """End the process because standard input was closed: the parent has ended."""
    if group and os.getpgrp() == os.getpid():  # on a remote host nothing else would end processes of libraries
        os.killpg(0, signal.SIGKILL)
    os._exit(ENDED_BY_PARENT)


class Outbox:
    """Sends messages."""

    def __init__(self, sink: int, by_ssh: bool) -> None:
        self._sink = sink
        self._compressor = Compressor() if by_ssh else None
        if by_ssh:
            self._write(GREETING % PROTOCOL_VERSION)

    def send(self, message: Message, arrays: tuple[np.ndarray, ...] = ()) -> None:
        for piece in encode(message, arrays):
            self._write(piece if self._compressor is None else self._compressor.feed(piece))
        if self._compressor is not None:
            self._write(self._compressor.flush())

    def _write(self, data: bytes | memoryview) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._sink, left) :]


class Inbox:
    """Reads frames in a separate thread, so that a cancel request is noticed while the network computes."""

    def __init__(self, source: int, by_ssh: bool = False) -> None:
        self._source = source
        self._decompressor = Decompressor() if by_ssh else None
        self.requests: queue.Queue[Frame] = queue.Queue()
        self.models: queue.Queue[Frame] = queue.Queue()
        self.cancelled: set[int] = set()

    def read(self) -> None:
        reader = FrameReader()
        while True:
            try:
                data = os.read(self._source, READ_BYTES)
                if not data:
                    _end_with_parent(self._decompressor is not None)
                for piece in [data] if self._decompressor is None else self._decompressor.feed(data):
                    for frame in reader.feed(piece):
                        self._sort(frame)
            except OSError:
                _end_with_parent(self._decompressor is not None)
            except MemoryError:
                _end("there is not enough memory for the volumes", ENDED_BY_MEMORY)
            except ProtocolError as error:
                _end(str(error), ENDED_BY_PROTOCOL)
            except BaseException as error:  # a process that does not read would hang forever
                _end(f"{type(error).__name__}: {error}", ENDED_BY_PROTOCOL)

    def next(self, timeout: float) -> Frame | None:
        """The next request; None after the timeout."""
        try:
            return self.requests.get(timeout=timeout)
        except queue.Empty:
            return None

    def model(self, number: int) -> Frame:
        """Wait for the requested model of a run.

        Raises:
            Cancelled: the run was cancelled meanwhile.
        """
        while number not in self.cancelled:
            with contextlib.suppress(queue.Empty):
                frame = self.models.get(timeout=MODEL_LOOK_SECONDS)
                if getattr(frame.message, "id", None) == number:
                    return frame
        raise Cancelled("Stopped; nothing was changed.")

    def _sort(self, frame: Frame) -> None:
        if isinstance(frame.message, CancelRequest):
            self.cancelled.add(frame.message.id)
        elif isinstance(frame.message, SegmentRequest):
            self.requests.put(frame)
        elif isinstance(frame.message, ModelFiles) and self._decompressor is not None:
            self.models.put(frame)
        else:
            raise ProtocolError(f"a {type(frame.message).__name__} is not for this side.")


class Server:
    """Answers requests and keeps models loaded."""

    def __init__(self, outbox: Outbox, inbox: Inbox, cache: ModelCache | None = None) -> None:
        """Create a server.

        Args:
            cache: cache of received models, for a client that names them by digest.
        """
        self.send, self._inbox, self._cache = outbox.send, inbox, cache
        self._models: dict[tuple[str, str], tuple[tuple[int, ...], Any]] = {}

    def serve(self, frame: Frame) -> None:
        """Answer one request with a result or a failure."""
        request = frame.message
        assert isinstance(request, SegmentRequest)  # the inbox accepts nothing else
        try:
            self._segment(request, frame.arrays)
        except Cancelled as error:
            self.send(FailureMessage(request.id, "cancelled", str(error)))
        except ResourceError as error:
            self.send(FailureMessage(request.id, "lacking", str(error)))
        except DanteError as error:
            self.send(FailureMessage(request.id, "refused", str(error)))
        except Exception as error:
            if lacks_memory(error):
                self.send(FailureMessage(request.id, "lacking", sentence_of(error)))
                return
            if isinstance(error, OSError):
                raise  # the client is gone
            # A bug: the GUI shows the message, the log has the traceback.
            traceback.print_exc()
            self.send(FailureMessage(request.id, "defect", f"{type(error).__name__}: {error}"))

    def _segment(self, request: SegmentRequest, arrays: tuple[np.ndarray, ...]) -> None:
        from ..inference.segmenting import segment

        def cancelled() -> bool:
            return request.id in self._inbox.cancelled

        volumes = read_volumes(request, arrays)
        mask = volumes.pop(BRAIN_MASK, None)
        if cancelled():
            raise Cancelled("Stopped; nothing was changed.")
        model = self._model(self._folder(request), request.device)

        def tell(progress: Progress) -> None:
            self.send(ProgressMessage(request.id, progress.phase, progress.fraction, progress.message))

        result = segment(model, volumes, request.options, mask, progress=_Throttle(tell), cancelled=cancelled)
        self.send(*answer(request.id, result))

    def _folder(self, request: SegmentRequest) -> str:
        """The model's folder; received from the client first if it is not cached."""
        if self._cache is None:
            return request.model
        folder = self._cache.find(request.model)
        if folder is None:
            self.send(ModelWanted(request.id))
            frame = self._inbox.model(request.id)
            assert isinstance(frame.message, ModelFiles)  # the inbox accepts nothing else here
            folder = self._cache.keep(request.model, frame.message.names, frame.arrays)
        return str(folder)

    def _model(self, folder: str, device: str) -> Any:
        """The model, loaded once; reloaded if its files have changed."""
        from ..inference.segmenting import load_model

        state = _state_of(Path(folder))
        known = self._models.get((folder, device))
        if known is None or known[0] != state:
            known = self._models[folder, device] = (state, load_model(folder, device))
        return known[1]


def answer(number: int, result: Result) -> tuple[ResultMessage, tuple[np.ndarray, ...]]:
    """A run's result as a message and its arrays."""
    arrays = [result.label_map]
    if result.probabilities is not None:
        arrays.append(result.probabilities.astype(np.float16))
    if result.brain is not None:
        arrays.append(result.brain)
    alignments = {modality: tuple(matrix.ravel().tolist()) for modality, matrix in result.alignments.items()}
    brain = result.brain is not None
    return ResultMessage(number, result.modality, result.report, alignments, brain), tuple(arrays)


def read_volumes(request: SegmentRequest, arrays: tuple[np.ndarray, ...]) -> dict[str, Volume]:
    """The volumes of a request.

    Raises:
        ProtocolError: the number of arrays differs from that of grids, or a modality occurs twice.
        InputError: from `Volume`.
    """
    modalities = [grid.modality for grid in request.grids]
    if len(arrays) != len(modalities) or len(set(modalities)) != len(modalities):
        raise ProtocolError(f"{len(arrays)} arrays came for the modalities {modalities}.")
    volumes = {}
    for grid, array in zip(request.grids, arrays):
        if len(grid.ijk_to_ras) != 16:
            raise ProtocolError(f"a matrix of {len(grid.ijk_to_ras)} numbers came for {grid.modality}.")
        volumes[grid.modality] = Volume(array, np.array(grid.ijk_to_ras).reshape(4, 4), grid.name)
    return volumes


def _state_of(folder: Path) -> tuple[int, ...]:
    """Modification times of the model folder's files."""
    try:
        return tuple(sorted(path.stat().st_mtime_ns for path in folder.iterdir()))
    except OSError:
        return ()


class _Throttle:
    """Forwards calls at most every `PROGRESS_EVERY_SECONDS`, and whenever the phase changes."""

    def __init__(self, call: Callable[[Any], None]) -> None:
        self._call, self._phase, self._last = call, "", 0.0

    def __call__(self, progress: Any) -> None:
        now = time.monotonic()
        if progress.phase != self._phase or now - self._last >= PROGRESS_EVERY_SECONDS:
            self._phase, self._last = progress.phase, now
            self._call(progress)


if __name__ == "__main__":
    code = main()
    # Skip the interpreter's cleanup: the reading thread would block it forever.
    sys.stderr.flush()
    os._exit(code)
