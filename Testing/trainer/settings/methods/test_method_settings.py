"""The methods' own settings: limits, words, short names."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from DanteSegmenterLib.errors import ConfigError
from DanteTrainerLib.methods import METHODS
from DanteTrainerLib.settings.experiment import Experiment
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.method_settings import MethodSettings
from DanteTrainerLib.settings.tables import DroppingSettings, RunSettings


@dataclass(frozen=True)
class Example(MethodSettings):
    LIMITS: ClassVar = {"share": (0, 1)}
    POSITIVE: ClassVar = ("temperature",)
    CHOICES: ClassVar = {"kind": ("one", "two")}
    share: float = 0.5
    temperature: float = 1.0
    weight: float = 1.0
    kind: str = "one"


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ({}, []),
        ({"share": 2.0}, ["share must be at most 1, got 2"]),
        ({"temperature": 0.0}, ["temperature must be positive and below 3.4e+38, got 0"]),
        ({"weight": -1.0}, ["weight must be at least 0, got -1"]),
        ({"kind": "three"}, ["kind must be one of one, two, got 'three'"]),
    ],
)
def test_each_problem_is_named(values, problems):
    assert list(Example(**values).problems()) == problems


def test_settings_table_has_the_name_of_its_method():
    assert set(Experiment().method_settings) <= set(METHODS)


@pytest.mark.parametrize(
    ("method", "probability", "equal_views", "steps"),
    [
        ("robustseg", 0.5, False, 300),
        ("robustseg", 0.5, True, 600),
        ("mmanet", 0.3, True, 1000),
        ("robustseg", 1.0, True, 300),
        ("shaspec", 0.5, True, 750),  # nothing is dropped in the first fifth
        ("cpmn", 0.5, True, 300),
        ("lower", 0.5, True, 300),
    ],
)
def test_equal_views_give_the_lower_bound_number_of_steps_without_the_privileged_scan(
    method, probability, equal_views, steps
):
    run, dropping = RunSettings(steps=300), DroppingSettings(probability, equal_views)
    assert Experiment(method=method, run=run, dropping=dropping).supervised_steps == steps


def test_problem_names_table_and_setting():
    with pytest.raises(ConfigError, match=r"mmanet\.kd_weight must be at least 0, got -1\."):
        load_experiment("brats-2mm", ["mmanet.kd_weight=-1"])


def test_short_key_prefers_the_training_setting_over_that_of_a_method():
    assert load_experiment("brats-2mm", ["weight_decay=0.5"]).optimiser.weight_decay == 0.5
    assert load_experiment("brats-2mm", ["kl_weight=0.5"]).robustseg.kl_weight == 0.5


def test_tables_of_other_methods_do_not_affect_a_training():
    words = ["dante.align_weight=0.1", "mmanet.kd_weight=1"]
    assert load_experiment("brats-2mm", words, method="lower").own == load_experiment("brats-2mm", method="lower").own
    assert load_experiment("brats-2mm", words, method="dante").own != load_experiment("brats-2mm", method="dante").own
