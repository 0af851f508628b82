import shutil
from dataclasses import replace

import pytest
from datasets import write_case, write_dataset

from DanteSegmenterLib.errors import InputError
from DanteTrainerLib.data.dataset import Split, read_dataset, read_split
from DanteTrainerLib.data.patients import check_split, pretraining_cases, read_mappings
from DanteTrainerLib.run.start import start_run
from DanteTrainerLib.run.train import continue_run
from DanteTrainerLib.settings.experiment import load_experiment, smoke

MAPPING = "BraTS2021,BraTS2020,Site No\nBraTS2021_00001,BraTS20_Training_001,1\nBraTS2021_00002,NA,1\n"


@pytest.fixture
def folders(tmp_path):
    """A downstream set (train 001, val 002, test 003 of 2020) and a larger one that contains patient 001 and 003."""
    small, large = tmp_path / "brats20", tmp_path / "brats21"
    for n in (1, 2, 3):
        write_case(small / f"BraTS20_Training_00{n}", seed=n)
    for n in (1, 2, 3):
        write_case(large / f"BraTS2021_0000{n}", seed=10 + n)
    (large / "BraTS21-17_Mapping.csv").write_text(MAPPING + "BraTS2021_00003,BraTS20_Training_003,4\n")
    return small, large


SPLIT = Split(("BraTS20_Training_001",), ("BraTS20_Training_002",), ("BraTS20_Training_003",))


def names(cases):
    return sorted(case.name for case in cases)


def test_a_test_patient_under_another_name_is_kept_out_of_stage_1(folders):
    small, large = map(read_dataset, folders)
    cases, refused = pretraining_cases(small, SPLIT, [large])
    # 00001 is the training case once more, 00003 the test case, 00002 is unknown to the downstream set.
    assert names(cases) == ["BraTS2021_00002", "BraTS20_Training_001"] and refused == ["BraTS2021_00003"]


def test_the_switch_lets_test_patients_in_and_validation_is_a_choice(folders):
    small, large = map(read_dataset, folders)
    cases, refused = pretraining_cases(small, SPLIT, [large], on_val=True, include_held_out=True)
    assert names(cases) == ["BraTS2021_00002", "BraTS2021_00003", "BraTS20_Training_001", "BraTS20_Training_002"]
    assert not refused


def test_without_a_mapping_equal_names_are_equal_patients(folders):
    small, _ = map(read_dataset, folders)
    cases, refused = pretraining_cases(small, SPLIT, [small])
    assert names(cases) == ["BraTS20_Training_001"]
    assert refused == ["BraTS20_Training_002", "BraTS20_Training_003"]


def test_names_are_joined_over_several_mapping_files(tmp_path):
    (tmp_path / "name_mapping.csv").write_text("Grade,BraTS_2018_subject_ID,BraTS_2020_subject_ID\nHGG,A,B\nLGG,NA,C\n")
    (tmp_path / "BraTS21-17_Mapping.csv").write_text("BraTS2021,BraTS2020\nD,b\nE,F\n")
    patients = read_mappings([tmp_path / "set"] if (tmp_path / "set").mkdir() else [tmp_path / "set"])
    assert len({patients.patient(name) for name in ("A", "B", "D")}) == 1
    assert len({patients.patient(name) for name in ("A", "C", "E", "HGG", "new")}) == 5
    assert patients.patient("E") == patients.patient("F")


def test_one_patient_in_training_and_test_is_refused(folders):
    small, large = folders
    shutil.copytree(large / "BraTS2021_00003", small / "BraTS2021_00003")
    shutil.copy(large / "BraTS21-17_Mapping.csv", small)
    dataset = read_dataset(small)
    with pytest.raises(InputError, match="'BraTS2021_00003' .train. and 'BraTS20_Training_003' .test. are one patient"):
        check_split(dataset, replace(SPLIT, train=(*SPLIT.train, "BraTS2021_00003")))
    check_split(dataset, SPLIT)


def test_a_mapping_without_names_is_refused(tmp_path):
    (tmp_path / "name_mapping.csv").write_text("Grade,BraTS_2018_subject_ID\nHGG,A\n")
    with pytest.raises(InputError, match="two columns"):
        read_mappings([tmp_path])


def test_stage_1_trains_on_the_further_folder_without_its_masks(folders, tmp_path, capsys):
    small, large = folders
    data = write_dataset(tmp_path / "data")
    shutil.rmtree(small)
    (large / "BraTS2021_00002" / "BraTS2021_00002_seg.nii.gz").unlink()
    experiment = smoke(load_experiment("brats-2mm", method="dante"))
    settings = replace(experiment.data, pretrain_folders=(str(large),), pretrain_on_val=True)
    run = replace(experiment.run, steps=1, pretrain_steps=1, validate_every=0)
    start_run(replace(experiment, data=settings, run=run), data, tmp_path / "run")
    assert "Stage 1 reads 7 cases" in capsys.readouterr().out  # three training, one validation, three further
    assert (continue_run(tmp_path / "run", "cpu", quiet=True) / "limited.safetensors").is_file()
    # All but the test case were prepared.
    assert len(list((tmp_path / "run" / "cache").glob("*-*"))) == 7
    assert read_split(read_dataset(data)).test[0] not in {p.name[0] for p in (tmp_path / "run" / "cache").glob("?-*")}


def test_a_further_folder_that_lacks_a_modality_is_refused_before_the_first_step(folders, tmp_path):
    _, large = folders
    (large / "BraTS2021_00002" / "BraTS2021_00002_t2.nii.gz").unlink()
    experiment = smoke(load_experiment("brats-2mm", method="dante"))
    settings = replace(experiment.data, pretrain_folders=(str(large),))
    with pytest.raises(InputError, match="has no t2"):
        start_run(replace(experiment, data=settings), write_dataset(tmp_path / "data"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
