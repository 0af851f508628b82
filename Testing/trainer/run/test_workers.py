"""How many processes prepare batches if the settings do not say it."""

import os

import pytest

from DanteTrainerLib.run.cases import workers_of
from DanteTrainerLib.settings.loading import load_experiment


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 1), (6, 3), (64, 8)])
def test_default_is_half_of_the_cores_that_the_run_may_use(monkeypatch, cores, workers):
    monkeypatch.setattr(os, "cpu_count", lambda: 128)  # of the node, of which a cluster's job has some
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert workers_of(load_experiment("brats-2mm", ["data.workers=-1"])) == workers


def test_default_counts_all_cores_where_the_system_does_not_tell_the_allotted_ones(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS, Windows
    assert workers_of(load_experiment("brats-2mm", ["data.workers=-1"])) == 4


def test_given_number_is_used():
    assert workers_of(load_experiment("brats-2mm", ["data.workers=3"])) == 3
