"""A run in the computing process from beginning to end, for tests, which have no timer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from DanteSegmenterLib.errors import DanteError
from DanteSegmenterLib.result import Result
from DanteSegmenterLib.volume import Volume
from DanteSegmenterLib.worker.client import WorkerClient


def run_in_worker(
    client: WorkerClient,
    model: Path | str,
    volumes: dict[str, Volume],
    device: str = "auto",
    progress: Callable | None = None,
    cancelled: Callable[[], bool] | None = None,
    **options: Any,
) -> Result:
    """One run from beginning to end, for callers without a timer.

    Raises:
        DanteError: how it ended, if not with a result.
    """
    client.begin(model, volumes, device, **options)
    while True:
        news, outcome = client.poll()
        if news is not None and progress is not None:
            progress(news)
        if isinstance(outcome, DanteError):
            raise outcome
        if outcome is not None:
            return outcome
        if cancelled is not None and cancelled():
            client.cancel()
        client.wait(0.02)
