"""A complete run on a remote host as one blocking call, for commands without a timer. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DanteError
from ..host.address import Host
from ..options import SegmentOptions
from ..result.result import Result
from ..volume import Volume
from .client import WorkerClient
from .outcome import RunProgress

RUN_LOOK_SECONDS = 0.02


@contextmanager
def worker_client() -> Iterator[WorkerClient]:
    """A client whose process ends with the block."""
    client = WorkerClient()
    try:
        yield client
    finally:
        client.close()


def segment_on_host(
    client: WorkerClient,
    host: Host,
    model: Path | str,
    volumes: dict[str, Volume],
    device: str,
    options: SegmentOptions,
    brain_mask: Volume | None = None,
    *,
    progress: Callable[[RunProgress], None] = lambda news: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Result:
    """Like `inference.segment`, on a remote host; the process is kept for this client's next run.

    Raises:
        Cancelled: `cancelled` returned True.
        HostFailed: the host cannot be reached, or cannot be used.
        DanteError: whatever `segment` raises, or the process or connection was lost.
    """
    client.begin(model, volumes, device, options, brain_mask, host)
    while True:
        news, outcome = client.poll()
        if news is not None:
            progress(news)
        if isinstance(outcome, DanteError):
            raise outcome
        if outcome is not None:
            return outcome
        if cancelled():
            client.cancel()
        client.wait(RUN_LOOK_SECONDS)
