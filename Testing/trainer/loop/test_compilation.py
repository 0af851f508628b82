import shutil

import pandas as pd
import pytest
import torch
from datasets import write_dataset

from DanteSegmenterLib.errors import ConfigError
from DanteTrainerLib.run.start import start_run
from DanteTrainerLib.run.train import continue_run
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.smoke import smoke


def trained(data, run, method, compiled):
    overrides = ["run.compile=true"] if compiled else []
    start_run(smoke(load_experiment("brats-2mm", overrides, method=method)), data, run)
    continue_run(run, "cpu", quiet=True)
    return pd.read_csv(run / "log.csv")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.parametrize("method", ["lower", "dante", "robustseg"])
def test_compiled_training_equals_uncompiled(tmp_path, method):
    data = write_dataset(tmp_path / "data")
    plain, compiled = (trained(data, tmp_path / str(on), method, on) for on in (False, True))
    assert list(plain["stage"]) == list(compiled["stage"])
    assert compiled["loss"].to_numpy() == pytest.approx(plain["loss"].to_numpy(), abs=2e-3)


def test_failing_compiler_is_reported_before_the_first_step(tmp_path, monkeypatch):
    def without_compiler(*_, **__):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", without_compiler)
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler.*run.compile=false"):
        trained(write_dataset(tmp_path / "data"), tmp_path / "run", "lower", compiled=True)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
