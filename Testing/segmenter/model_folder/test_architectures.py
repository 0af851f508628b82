from dataclasses import dataclass, fields
from typing import ClassVar

import pytest

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder import Pathway
from DanteSegmenterLib.model_folder.architectures import (
    ARCHITECTURE_OPTIONS,
    ARCHITECTURE_TITLES,
    ArchitectureOptions,
    check_options,
    options_of,
)
from DanteSegmenterLib.networks.build import ARCHITECTURES


@dataclass(frozen=True)
class Heads(ArchitectureOptions):
    LIMITS: ClassVar = {"heads": 16}
    heads: int = 4


def pathway(**options):
    return Pathway("limited.safetensors", "0" * 64, ("t1",), "unet", options)


def test_every_architecture_has_options_and_a_builder():
    assert set(ARCHITECTURES) == set(ARCHITECTURE_OPTIONS)


def test_every_option_has_a_maximum_and_a_valid_default():
    for kind in ARCHITECTURE_OPTIONS.values():
        assert set(kind.LIMITS) == {field.name for field in fields(kind)}
        kind().check()


def test_options_are_typed_numbers_within_bounds():
    assert options_of(pathway(heads=8), Heads) == Heads(8) and options_of(pathway(), Heads).heads == 4
    for wrong, message in (
        ({"heads": 17}, "options of the architecture 'unet': heads is 17, wanted 1 to 16"),
        ({"heads": 0}, "heads is 0, wanted 1 to 16"),
        ({"heads": "8"}, "heads: int is needed"),
        ({"head": 8}, "unknown key 'head'. Did you mean 'heads'"),
    ):
        with pytest.raises(ModelError, match=message):
            options_of(pathway(**wrong), Heads)


def test_plain_unet_has_no_options():
    with pytest.raises(ModelError, match="unknown key 'heads'"):
        check_options(pathway(heads=8))


def test_every_architecture_has_a_title_for_the_card():
    assert set(ARCHITECTURE_TITLES) == set(ARCHITECTURE_OPTIONS)
