"""A batch with an imported nnU-Net model, on nnU-Net's raw folder and on folders with files named by channel."""

import json
import shutil
from pathlib import Path

import pytest
from batches import batch, summary

from DanteSegmenterLib.cases.case_list import find_cases
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.files import write_volume
from DanteSegmenterLib.nnunet import import_model
from DanteSegmenterLib.synthetic.sample import brain_mr

RESULTS = Path(__file__).parents[1] / "nnunet" / "golden" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
LABELS = {"background": 0, "tumour": 1, "bone": 2}


@pytest.fixture(scope="module")
def made():
    """Two images of a patient."""
    volumes = brain_mr(0, 6.0).volumes
    return volumes["t1"], volumes["flair"]


def imported(folder, channels):
    """A model with two channels of these names."""
    results = Path(shutil.copytree(RESULTS, folder / RESULTS.name))
    describe(results, channels)
    import_model(results, folder / "model")
    return folder / "model"


def describe(folder, channels, **more):
    """Write dataset.json."""
    plain = json.loads((RESULTS / "dataset.json").read_text())
    plain |= {"channel_names": {str(n): name for n, name in enumerate(channels)}, **more}
    (folder / "dataset.json").write_text(json.dumps(plain))


def write_raw(folder, channels, made, **more):
    (folder / "imagesTs").mkdir(parents=True)
    describe(folder, channels, **more)
    for n, volume in enumerate(made):
        write_volume(folder / "imagesTs" / f"P1_{n:04d}.nii.gz", volume)
    return folder


def test_channels_of_any_name_are_found_in_nnunet_raw_folders_and_by_file_name_suffix(tmp_path, made):
    model = imported(tmp_path, ("CT", "PET (SUV)"))
    raw = write_raw(tmp_path / "raw", ("CT", "PET (SUV)"), made, labels=LABELS)
    (tmp_path / "cases" / "P1").mkdir(parents=True)
    for ending, volume in zip(("CT", "PET_SUV"), made):
        write_volume(tmp_path / "cases" / "P1" / f"P1_{ending}.nii.gz", volume)
    assert batch(raw, model, tmp_path / "out 1") == 0 and batch(tmp_path / "cases", model, tmp_path / "out 2") == 0
    first, second = (summary(tmp_path / out)["P1"] for out in ("out 1", "out 2"))
    assert first.pop("seconds") and second.pop("seconds")
    assert first["state"] == "done" and float(first["edema_ml"]) > 0 and first == second


def test_labels_a_batch_never_reads_do_not_cause_refusal(tmp_path, made, capsys):
    model = imported(tmp_path, ("T1", "FLAIR"))
    raw = write_raw(tmp_path / "raw", ("T1", "FLAIR"), made, labels=LABELS)
    assert batch(raw, model, tmp_path / "out", "--list") == 0
    assert "t1, flair                will run" in capsys.readouterr().out
    with pytest.raises(InputError, match="labels .* are not known"):  # training or scoring reads them
        find_cases(raw)


def test_expected_names_are_reported_when_none_match(tmp_path, made, capsys):
    model = imported(tmp_path, ("CT", "PET"))
    raw = write_raw(tmp_path / "raw", ("CT", "SPECT"), made)
    assert batch(raw, model, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "the channel 'SPECT' is not known" in error and "each one of CT, PET or T1, T1ce" in error
    (tmp_path / "cases" / "P1").mkdir(parents=True)
    write_volume(tmp_path / "cases" / "P1" / "P1.nii.gz", made[0])
    assert batch(tmp_path / "cases", model, tmp_path / "out") == 2
    assert "whose names end in CT, PET, or are as in BraTS" in capsys.readouterr().err
