"""Run a batch on an existing Dask cluster: cases are sent out, typed bytes come back.

Whoever can reach a Dask scheduler can run code on its workers; that is inherent. In the other direction, a worker's
answer is never unpickled here: it must be a frame of `worker.protocol`, anything else counts as that case's failure.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..cases.case import Case
from ..errors import Cancelled, DanteError, ResourceError, sentence_of
from ..model_folder.read_write import read_spec
from ..model_folder.spec import ModelSpec
from ..volume import Volume
from ..worker.protocol import CaseMessage, FrameReader, encode
from .case import Answer, Options, Outcome, Tile, segment_case

# How often a case is given to another machine after its machine died.
RETRIES = 3
CONNECT_SECONDS = 10
# How long a cluster may be without any worker before the command gives up.
WITHOUT_WORKERS_SECONDS = 30.0
SCHEDULER_LOOK_SECONDS = 0.1
# Dask serialisers that only create bytes, numbers and texts.
SAFE = ["dask", "msgpack"]


def on_cluster(
    address: str,
    model: str,
    cases: Sequence[tuple[Case, Path]],
    options: Options,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Answer]:
    """Segment cases on the cluster's machines, which write the results; yields answers in order of completion.

    Args:
        cases: each with the path of its result, which all machines must be able to access.

    Raises:
        Cancelled: `cancelled` returned True; cases that have not started are withdrawn.
        ResourceError: no scheduler answers, it has no workers, or it was lost before all cases were done.
    """
    spec = read_spec(model)
    with _client(address) as client:
        _wait_for_workers(client, address)
        waiting = {}
        for case, path in cases:
            future = client.submit(segment_as_bytes, model, case, path, options, pure=False, retries=RETRIES)
            waiting[future] = case
        lost_since = None
        while waiting:
            if cancelled():
                client.cancel(list(waiting))
                raise Cancelled("Stopped.")
            ended = [future for future in waiting if future.status != "pending"]
            for future in ended:
                yield _answer(future, waiting.pop(future), spec)
            lost_since = None if ended or _alive(client) else lost_since or time.monotonic()
            if lost_since is not None and time.monotonic() - lost_since > WITHOUT_WORKERS_SECONDS:
                raise ResourceError(
                    f"the cluster at '{address}' has no workers any more; {len(waiting)} cases are undone. "
                    "Run the command again when it has: what is finished is skipped."
                )
            time.sleep(SCHEDULER_LOOK_SECONDS)


def segment_as_bytes(model: str, case: Case, path: Path, options: Options) -> bytes:
    """Run `segment_case` on a worker and encode its answer as one frame."""
    answer = segment_case(model, case, path, options)
    outcome, tile = answer.outcome, answer.tile
    arrays: tuple[np.ndarray, ...] = ()
    if tile is not None:
        arrays = (tile.reference.array.astype(np.float32), tile.label_map)
    message = CaseMessage(outcome.case, outcome.state, outcome.message, outcome.report)
    return b"".join(bytes(piece) for piece in encode(message, arrays))


def decode(data: object, case: Case, spec: ModelSpec) -> Answer:
    """Decode the answer in a worker's bytes.

    Raises:
        DanteError: it is not an answer about this case.
    """
    if not isinstance(data, (bytes, bytearray)):
        raise DanteError(f"a worker answered with {type(data).__name__} instead of bytes.")
    frames = list(FrameReader().feed(bytes(data)))
    message = frames[0].message if len(frames) == 1 else None
    if not isinstance(message, CaseMessage) or message.case != case.name:
        raise DanteError("a worker answered something else than was asked.")
    outcome = Outcome(message.case, message.state, message.message, message.report)
    arrays = frames[0].arrays
    if not arrays:
        return Answer(outcome)
    if len(arrays) != 2 or arrays[0].shape != arrays[1].shape or arrays[0].ndim != 3 or arrays[0].shape[0] != 1:
        raise DanteError("a worker's picture is not one slice with its labels.")
    return Answer(outcome, Tile(spec, Volume(arrays[0], np.eye(4), case.name), arrays[1]))


def _answer(future: Any, case: Case, spec: ModelSpec) -> Answer:
    try:
        if future.status == "cancelled":
            raise DanteError("the scheduler was lost before it ended.")
        if future.status != "finished":  # the reason is a pickle from elsewhere, which is not opened
            raise DanteError("its worker ended again and again, or answered with an error of Dask.")
        return decode(future.result(timeout=CONNECT_SECONDS), case, spec)
    except DanteError as error:
        return Answer(Outcome(case.name, "failed", str(error)))
    except Exception as error:  # an answer that Dask refuses to read, or a broken connection
        return Answer(Outcome(case.name, "failed", f"the worker's answer cannot be read: {sentence_of(error)}"))


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise ResourceError('a cluster needs the package distributed: pip install "slicer-dante[cluster]".') from None
    for name in logging.root.manager.loggerDict:  # no tracebacks of lost connections; errors are reported here
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    class TypedClient(Client):
        """Never unpickles data from a worker: neither its results (`SAFE`) nor its errors."""

        def start(self, **options: Any) -> Any:
            # For the connection on which the scheduler reports; results come on others.
            self.connection_args = {**self.connection_args, "deserialize": False}
            return super().start(**options)

        def _handle_task_erred(self, key: Any = None, exception: Any = None, traceback: Any = None) -> None:
            super()._handle_task_erred(key, "refused to read", None)

    try:
        asyncio.run(_try_to_reach(address))
        return TypedClient(address, timeout=CONNECT_SECONDS, serializers=SAFE, deserializers=SAFE, set_as_default=False)
    except Exception as error:  # distributed raises whatever its streams raise
        reason = "no answer in time" if isinstance(error, TimeoutError) else sentence_of(error)
        raise ResourceError(f"no Dask scheduler answers at '{address}' ({reason}). Check the address.") from None


async def _try_to_reach(address: str) -> None:
    """Try a handshake: for another kind of server (e.g. a web server) Dask's client would wait forever."""
    from distributed.comm.core import connect

    comm = await asyncio.wait_for(connect(address, timeout=CONNECT_SECONDS), CONNECT_SECONDS + 1)
    await comm.close()


def _wait_for_workers(client: Any, address: str) -> None:
    deadline = time.monotonic() + WITHOUT_WORKERS_SECONDS
    while not _alive(client):
        if time.monotonic() > deadline:
            raise ResourceError(f"the scheduler at '{address}' has no workers. Start some: dask worker {address}")
        time.sleep(SCHEDULER_LOOK_SECONDS)


def _alive(client: Any) -> bool:
    """Whether the scheduler answers and has a worker."""
    try:
        return client.status == "running" and bool(client.scheduler_info(n_workers=1)["workers"])
    except Exception:  # any error of a broken connection
        return False
