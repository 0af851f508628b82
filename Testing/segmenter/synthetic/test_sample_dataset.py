import json
import shutil

import numpy as np
import pytest

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.files import read_volume
from DanteSegmenterLib.model_folder import read_spec
from DanteSegmenterLib.preprocess import prepare
from DanteTrainerLib.__main__ import main as train
from DanteTrainerLib.data.dataset import read_dataset

CHESTS = ["--kind", "chest", "--spacing-mm", "4", "2.8", "2.8", "--shape", "32", "48", "64"]


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "chests"
    assert main(["sample", str(folder), "--cases", "6", "--seed", "3", *CHESTS]) == 0
    return folder


def test_generated_dataset_is_read_as_paired_chest_ct(chests):
    dataset = read_dataset(chests)
    assert dataset.task.id == "chest" and list(dataset.cases) == [f"SyntheticChest{n:03d}" for n in range(3, 9)]
    case = dataset.cases["SyntheticChest003"]
    nct, ctpa, truth = case.images["nct"].read(), case.images["ctpa"].read(), case.label.read().array == 1
    assert nct.shape == ctpa.shape == (32, 48, 64) and np.allclose(nct.spacing_mm, (4, 2.8, 2.8))
    # In the CTPA, clots are dark in bright blood; without contrast they are as dense as blood.
    assert truth.any() and ctpa.array[truth].mean() < 150 < 250 < np.percentile(ctpa.array, 99.5)
    assert abs(nct.array[truth].mean() - 45) < 25


@pytest.mark.parametrize("method", ["lower", "dante"])
def test_methods_train_on_it_and_segment_from_the_plain_ct(chests, tmp_path, method, capsys):
    run = tmp_path / "run"
    settings = ["--experiment", "chest-small", "--smoke", "--quiet", "--device", "cpu"]
    assert train(["train", method, "--data", str(chests), "--out", str(run), *settings]) == 0
    spec = read_spec(run / "model")
    assert spec.limited.modalities == ("nct",) and spec.output == "labels"
    assert (spec.full is not None) == (method == "dante")
    nct = chests / "SyntheticChest003" / "nct.nii.gz"
    out = tmp_path / "embolism.nii.gz"
    assert main(["segment", "--model", str(run / "model"), "--input", f"nct={nct}", "--output", str(out)]) == 0
    assert read_volume(out).same_grid(read_volume(nct))
    assert train(["evaluate", str(run), "--data", str(chests), "--out", str(tmp_path / "e"), "--quiet"]) == 0
    assert json.loads((tmp_path / "e" / "summary.json").read_text())["regions"].keys() == {"PE"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--kind", "brain", "--shape", "9", "9", "9"],
        ["--spacing-mm", "1", "2"],
        ["--spacing-mm", "0.001"],
        ["--spacing-mm", "nan"],
        ["--spacing-mm", "9"],
        [*CHESTS, "--spacing-mm", "-1"],
        [*CHESTS, "--spacing-mm", "0.001"],
        ["--cases", "-3"],
        ["--seed", "-1"],
    ],
)
def test_impossible_patient_is_refused_and_nothing_written(tmp_path, arguments, capsys):
    assert main(["sample", str(tmp_path / "x"), *arguments]) == 2
    assert "error: --" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_patient_is_not_written_into_a_file(tmp_path, capsys):
    (tmp_path / "x").write_text("precious")
    assert main(["sample", str(tmp_path / "x"), "--spacing-mm", "6"]) == 2
    assert "is a file" in capsys.readouterr().err and (tmp_path / "x").read_text() == "precious"


def test_foreign_scan_is_not_overwritten_and_the_same_patient_may_be(chests, tmp_path, capsys):
    patient = shutil.copytree(chests / "SyntheticChest004", tmp_path / "patient")
    assert main(["sample", str(patient), "--seed", "4", *CHESTS]) == 0
    before = {path: path.read_bytes() for path in patient.iterdir()}
    assert main(["sample", str(patient), "--seed", "5", *CHESTS]) == 2
    assert "exists and is not of this patient" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in patient.iterdir()} == before


def test_real_chest_ct_is_read_in_hounsfield_units_and_segmented_on_its_grid(shared_data, chests, tmp_path, capsys):
    run, real = tmp_path / "run", shared_data / "ct-chest" / "ct_cropped.nii.gz"
    settings = ["--experiment", "chest-small", "--smoke", "--quiet", "--device", "cpu"]
    assert train(["train", "lower", "--data", str(chests), "--out", str(run), *settings]) == 0
    volume, artery = read_volume(real), read_volume(shared_data / "ct-chest" / "pulmonary_artery.nii.gz")
    assert artery.same_grid(volume)
    inside = volume.array[artery.array > 0]
    assert 150 < np.median(inside) < 600  # contrast in the pulmonary artery
    assert -1100 < volume.array.min() < -800 and np.median(volume.array) < 100
    prepared = prepare({"nct": volume}, ("nct",), read_spec(run / "model").preprocessing)
    assert prepared.tensor.min() >= (-160 - 40) / 60 - 1e-3 and prepared.tensor.max() <= (240 - 40) / 60 + 1e-3
    out = tmp_path / "embolism.nii.gz"
    assert main(["segment", "--model", str(run / "model"), "--input", f"nct={real}", "--output", str(out)]) == 0
    assert read_volume(out).same_grid(volume)
