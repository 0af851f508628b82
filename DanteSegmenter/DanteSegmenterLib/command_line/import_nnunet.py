"""Command `import nnunet`: convert nnU-Net's results folder to a model folder."""

from __future__ import annotations

import _thread
import argparse
import os
import time

from ..child_process import when_parent_ends
from ..errors import InputError
from ..nnunet import Choices, import_model
from ..program import STOPPED, StopRequest, say
from .info import describe

TIDYING_SECONDS = 5.0  # maximum; a main thread that hangs must not keep the process alive


def import_nnunet(given: argparse.Namespace, stop: StopRequest) -> None:
    """Write the model folder and describe it.

    Raises:
        InputError: a choice is not a pair, or one thing is given twice.
    """
    if given.with_parent:
        when_parent_ends(_end)
    channels = _pairs("--channel", given.channel)
    numbers = [number for number in channels if not (number.isascii() and number.isdigit())]
    if numbers:
        raise InputError(f"--channel {numbers[0]}={channels[numbers[0]]}: NUMBER=ID is needed, e.g. 0=t1.")
    choices = Choices(
        tuple(given.fold),
        given.checkpoint,
        {int(number): id for number, id in channels.items()},
        _pairs("--label", given.label),
        given.name,
        given.orientation,
    )
    spec = import_model(given.folder, given.to, choices, lambda line: say(f"note: {line}."))
    describe(spec)
    say(f"wrote {given.to}")


def _end() -> None:
    """Interrupt the main thread, which removes what is partly written."""
    _thread.interrupt_main()
    time.sleep(TIDYING_SECONDS)
    os._exit(STOPPED)


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key or not value:
            raise InputError(f"{option} {text}: two words with '=' between them are needed.")
        if key in pairs:
            raise InputError(f"{option} {key} is given twice.")
        pairs[key] = value
    return pairs
