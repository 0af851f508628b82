"""Masks whose labels would be misread are refused before anything is segmented."""

import json

import numpy as np
import pytest
from datasets import BRATS_2023, write_case, write_dataset
from models import write_brain_model

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.files import read_volume, write_volume
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.data.dataset import read_dataset, read_split
from DanteTrainerLib.evaluation.evaluate import evaluate
from DanteTrainerLib.run.split import split_for
from DanteTrainerLib.status import RUN_FILE


def change(path, pairs):
    mask = read_volume(path)
    array = mask.array
    for old, new in pairs.items():
        array = np.where(mask.array == old, new, array)
    write_volume(path, mask.with_array(array.astype(np.uint8)))


@pytest.mark.parametrize(("old", "new"), [(4, 3), (1, 5), (2, 28)])
def test_unknown_label_is_refused_before_the_first_case(tmp_path, old, new):
    data = write_dataset(tmp_path / "data")
    (data / "split.json").write_text(json.dumps({"train": [], "val": [], "test": ["D", "E"]}))
    for name in "DE":
        change(data / name / f"{name}_seg.nii.gz", {old: new})
    dataset = read_dataset(data)
    with pytest.raises(InputError, match=rf"case 'D': the mask .*holds the labels \['{new}'\].*1 more of this kind"):
        evaluate(write_brain_model(tmp_path / "model"), dataset, read_split(dataset), "test", tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


def after_treatment(folder):
    """A case of BraTS 2024, with a cavity in place of the necrosis."""
    name = "BraTS-GLI-00005-100"
    write_case(folder / name, 0, BRATS_2023, joint="-")
    change(folder / name / f"{name}-seg.nii.gz", {1: 4})
    (folder / "split.json").write_text(json.dumps({"train": [], "val": [], "test": [name]}))
    return folder


def test_resection_cavity_is_no_tumour_with_a_note(tmp_path, capsys):
    data = after_treatment(tmp_path / "data")
    model, out = write_brain_model(tmp_path / "model"), tmp_path / "out"
    assert main(["evaluate", str(model), "--data", str(data), "--out", str(out), "--device", "cpu", "--quiet"]) == 0
    assert "note: 1 case(s) have masks of gliomas after treatment (BraTS 2024): label 4" in capsys.readouterr().out
    lines = [line.split(",") for line in (out / "cases.csv").read_text().splitlines()]
    truth = {line[2]: float(line[lines[0].index("truth_ml")]) for line in lines[1:]}
    assert truth["WT"] > truth["TC"] == truth["ET"] > 0


def test_masks_of_unknown_meaning_are_refused(tmp_path):
    for n in range(2):
        write_case(tmp_path / "data" / f"BraTS-PED-0000{n}-000", n, BRATS_2023, joint="-")
    (tmp_path / "data" / "split.json").write_text('{"train": [], "val": [], "test": ["BraTS-PED-00000-000"]}')
    dataset = read_dataset(tmp_path / "data")
    with pytest.raises(InputError, match="BraTS PED.*labels.json"):
        evaluate(write_brain_model(tmp_path / "model"), dataset, read_split(dataset), "test", tmp_path / "out", "cpu")


def run_folder(folder, train):
    """A run that records its training cases."""
    from DanteSegmenterLib.strict_dataclass import to_plain
    from DanteTrainerLib.data.dataset import Split
    from DanteTrainerLib.run.run_folder import Run
    from DanteTrainerLib.settings.loading import load_experiment

    folder.mkdir()
    run = Run(load_experiment("brats-2mm"), "/data", Split(train, (), ()), "/cache", "x")
    (folder / RUN_FILE).write_text(json.dumps(to_plain(run)))
    return folder


def test_other_time_point_of_a_training_patient_is_not_scored(tmp_path):
    dataset = read_dataset(after_treatment(tmp_path / "data"))
    seen = run_folder(tmp_path / "seen", ("BraTS2021_00005",))
    with pytest.raises(InputError, match="'BraTS-GLI-00005-100' was 'BraTS2021_00005'"):
        split_for(seen, dataset)
    assert split_for(seen, dataset, tmp_path / "data" / "split.json").test == ("BraTS-GLI-00005-100",)
    unseen = run_folder(tmp_path / "unseen", ("BraTS2021_00006",))
    assert split_for(unseen, dataset).test == ("BraTS-GLI-00005-100",)


def test_inconsistent_split_is_refused_even_if_the_run_has_one(tmp_path):
    data = write_dataset(tmp_path / "data")
    run = run_folder(tmp_path / "run", tuple("ABCDE"))
    (data / "split.json").write_text('{"train": ["E"], "val": [], "test": ["E"]}')
    with pytest.raises(InputError, match="'E' more than once"):
        split_for(run, read_dataset(data))


def test_split_with_a_patient_in_two_parts_is_refused(tmp_path):
    names = ["P1_week-000", "P2_week-000", "P1_week-044"]
    for n, name in enumerate(names):
        write_case(tmp_path / "data" / name, n)
    split = {"train": names[:1], "val": names[1:2], "test": names[2:]}
    (tmp_path / "data" / "split.json").write_text(json.dumps(split))
    with pytest.raises(InputError, match="'P1_week-000' .train. and 'P1_week-044' .test. are one patient"):
        split_for(tmp_path / "model", read_dataset(tmp_path / "data"))
