import pandas as pd
import pytest
from datasets import write_dataset

from DanteTrainerLib.__main__ import main

SMALL = ["--set", "run.steps=1", "--set", "run.pretrain_steps=0", "--smoke", "--quiet", "--device", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"))


def run_of(method, data, folder):
    assert main(["train", method, "--data", str(data), "--out", str(folder), *SMALL]) == 0
    return folder


def test_every_patch_of_every_encoder_gets_a_place_and_the_seed_decides_it(data, tmp_path):
    run = run_of("dante", data, tmp_path / "run")
    tables = []
    for name in ("one", "two"):
        out = tmp_path / name
        assert main(["features", str(run), "--data", str(data), "--out", str(out), "--device", "cpu"]) == 0
        assert (out / "feature_map.png").stat().st_size > 5000
        tables.append(pd.read_csv(out / "feature_map.csv"))
    assert tables[0].groupby("pathway").patch.nunique().to_dict() == {"Z^L": 8, "Z^A": 8, "Z^P": 8}
    pd.testing.assert_frame_equal(*tables)


def test_a_model_without_a_full_network_is_refused(data, tmp_path, capsys):
    run = run_of("lower", data, tmp_path / "run")
    assert main(["features", str(run), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "holds no E_A and E_P" in capsys.readouterr().err
