"""The methods that can be trained, by name. A method is a function: experiment and task -> its stages, in order."""

from __future__ import annotations

from collections.abc import Callable

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.structure import unknown_key_message

from ..config import Experiment
from ..stage import Stage
from ..tasks import Task
from . import dante, mmanet, plain, robustseg

Method = Callable[[Experiment, Task], list[Stage]]

METHODS: dict[str, Method] = {
    "lower": plain.lower,
    "upper": plain.upper,
    "dante": dante.stages,
    "robustseg": robustseg.stages,
    "mmanet": mmanet.stages,
}


def method_named(name: str) -> Method:
    """Look a method up.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    if name not in METHODS:
        raise ConfigError(unknown_key_message(name, list(METHODS), "method").replace("key", "method"))
    return METHODS[name]
