"""A run that finishes within the click, for tests with a function in place of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from DanteSegmenterLib.errors import DanteError


class ImmediateInference:
    """Replaces `logic.WarmInference`: computes inside `begin`.

    run: a function (folder, volumes, device, progress, cancelled) that returns a result.
    host: the host of the last run.
    """

    def __init__(self, run: Callable) -> None:
        self.run = run
        self.host: Any = None
        self._outcome = None

    def begin(self, modelFolder: Any, volumes: dict, device: str, options: Any, brainMask: Any, host: Any) -> None:
        self.host = host
        try:
            self._outcome = self.run(modelFolder, volumes, device, lambda progress: None, lambda: False)
        except DanteError as error:
            self._outcome = error

    def poll(self) -> tuple[None, Any]:
        outcome, self._outcome = self._outcome, None
        return None, outcome

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def at_once(window: Any) -> Iterator[Any]:
    """The window, with a runner that takes its steps immediately instead of waiting for its timer."""
    window.runner.later = lambda milliseconds: window.runner.onTick()
    try:
        yield window
    finally:
        del window.runner.later
