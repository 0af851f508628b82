"""Runs inference in the worker process synchronously, for tests without a timer."""

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
    """Run from start to end.

    Raises:
        DanteError: the run failed or was cancelled.
    """
    client.begin(model, volumes, device, **options)
    while True:
        update, outcome = client.poll()
        if update is not None and progress is not None:
            progress(update)
        if isinstance(outcome, DanteError):
            raise outcome
        if outcome is not None:
            return outcome
        if cancelled is not None and cancelled():
            client.cancel()
        client.wait(0.02)
