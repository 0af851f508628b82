"""The methods that can be trained, by name: a function of experiment and task that gives the stages in order."""

from __future__ import annotations

from collections.abc import Callable

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.strict_dataclass import unknown_key_message

from ..loop.stage import Stage
from ..settings.experiment import Experiment
from ..settings.tasks import Task
from . import bounds
from .any_modality import mmformer, robustseg, shaspec
from .dante.stages import stages as dante
from .distillation import cmfd, cpmn, mmanet, pmkl
from .vit.stages import stages as vit

Method = Callable[[Experiment, Task], list[Stage]]

METHODS: dict[str, Method] = {
    "lower": bounds.lower,
    "upper": bounds.upper,
    "dante": dante,
    "robustseg": robustseg.stages,
    "mmformer": mmformer.stages,
    "shaspec": shaspec.stages,
    "mmanet": mmanet.stages,
    "pmkl": pmkl.stages,
    "cmfd": cmfd.stages,
    "cpmn": cpmn.stages,
    "vit": vit,
}


def method_named(name: str) -> Method:
    """Look up a method.

    Raises:
        ConfigError: there is no such method; suggests the nearest name.
    """
    if name not in METHODS:
        raise ConfigError(unknown_key_message(name, list(METHODS), "method").replace("key", "method"))
    return METHODS[name]
