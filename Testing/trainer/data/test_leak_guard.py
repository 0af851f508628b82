import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import write_case, write_dataset
from small_trainings import with_teacher

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.strict_dataclass import to_plain
from DanteTrainerLib.data.dataset import Dataset, Split, make_split, read_dataset, read_split
from DanteTrainerLib.data.patients import (
    Patients,
    check_split,
    leak_warnings_of_pretraining,
    pretraining_cases,
    read_mappings,
)
from DanteTrainerLib.run.split import held_out_but_seen
from DanteTrainerLib.run.start import start_run
from DanteTrainerLib.run.train import continue_run
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.smoke import smoke
from DanteTrainerLib.settings.tasks import BRAIN

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


def test_test_patient_under_another_name_is_excluded_from_stage_1(folders):
    small, large = map(read_dataset, folders)
    cases, refused = pretraining_cases(small, SPLIT, [large])
    # 00001 duplicates the training case, 00003 the test case; 00002 is unknown to the downstream set.
    assert names(cases) == ["BraTS2021_00002", "BraTS20_Training_001"] and refused == ["BraTS2021_00003"]


def test_scan_in_two_further_folders_is_read_once_without_mask(folders):
    small, large = map(read_dataset, folders)
    cases, _ = pretraining_cases(small, SPLIT, [large, large])
    assert names(cases) == ["BraTS2021_00002", "BraTS20_Training_001"]
    assert {case.name: case.label is not None for case in cases} == {
        "BraTS20_Training_001": True,
        "BraTS2021_00002": False,
    }


def test_switch_allows_test_patients_and_validation_patients_are_a_choice(folders):
    small, large = map(read_dataset, folders)
    cases, refused = pretraining_cases(small, SPLIT, [large], on_val=True, include_held_out=True)
    assert names(cases) == ["BraTS2021_00002", "BraTS2021_00003", "BraTS20_Training_001", "BraTS20_Training_002"]
    assert not refused


def test_equal_names_are_equal_patients_without_a_mapping(folders):
    small, _ = map(read_dataset, folders)
    cases, refused = pretraining_cases(small, SPLIT, [small])
    assert names(cases) == ["BraTS20_Training_001"]
    assert refused == ["BraTS20_Training_002", "BraTS20_Training_003"]


def test_names_are_joined_across_mapping_files(tmp_path):
    (tmp_path / "name_mapping.csv").write_text("Grade,BraTS_2018_subject_ID,BraTS_2020_subject_ID\nHGG,A,B\nLGG,NA,C\n")
    (tmp_path / "BraTS21-17_Mapping.csv").write_text("BraTS2021,BraTS2020\nD,b\nE,F\n")
    patients = read_mappings([tmp_path / "set"] if (tmp_path / "set").mkdir() else [tmp_path / "set"])
    assert len({patients.patient(name) for name in ("A", "B", "D")}) == 1
    assert len({patients.patient(name) for name in ("A", "C", "E", "HGG", "new")}) == 5
    assert patients.patient("E") == patients.patient("F")


def test_patient_in_training_and_test_is_refused(folders):
    small, large = folders
    shutil.copytree(large / "BraTS2021_00003", small / "BraTS2021_00003")
    shutil.copy(large / "BraTS21-17_Mapping.csv", small)
    dataset = read_dataset(small)
    with pytest.raises(InputError, match="'BraTS2021_00003' .train. and 'BraTS20_Training_003' .test. are one patient"):
        check_split(dataset, replace(SPLIT, train=(*SPLIT.train, "BraTS2021_00003")))
    check_split(dataset, SPLIT)


FOREIGN = {
    "another table": b"label,name\n1,necrosis\n2,oedema\n",
    "one column of names": b"Grade,BraTS_2018_subject_ID\nHGG,A\n",
    "parts of a split": b"BraTS2021,BraTS_split\nA,train\nB,train\nC,train\n",
    "nothing": b"",
    "no text at all": bytes(range(256)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_table_without_case_names_is_ignored(tmp_path, kind):
    (tmp_path / "label_mapping.csv").write_bytes(FOREIGN[kind])
    patients = read_mappings([tmp_path])
    assert len({patients.patient(name) for name in "ABC"}) == 3
    assert [path.name for path in patients.passed_over] == ["label_mapping.csv"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_mapping_saved_by_a_spreadsheet_is_read(tmp_path, encoding, separator):
    lines = ["Grade,BraTS_2019_subject_ID,BraTS_2020_subject_ID,Site", "HGG,x,y,Köln", "LGG,NA,z,Köln"]
    text = "\r\n".join(lines).replace(",", separator)
    (tmp_path / "Name_Mapping.CSV").write_bytes(text.encode(encoding))
    (tmp_path / "._name_mapping.csv").write_bytes(b"\0\5\26\7")
    patients = read_mappings([tmp_path])
    assert patients.patient("x") == patients.patient("Y") and patients.patient("z") != patients.patient("x")
    assert not patients.passed_over


SAME = [
    ("BraTS-GLI-00005-100", "BraTS-GLI-00005-101"),
    ("BraTS-GLI-00005-000", "BraTS2021_00005"),
    ("Brats18_CBICA_AAB_1", "BraTS19_CBICA_AAB_1"),
    ("Patient-001_week-000-1", "Patient-001_week-044"),
    ("sub-01_ses-01", "sub-01_ses-02"),
    ("UPENN-GBM-00001_11", "UPENN-GBM-00001_21"),
    ("UCSF-PDGM-0391_nifti", "UCSF-PDGM-0391_FU016d_nifti"),
    ("100118_time1", "100118_time2"),
    ("P07_baseline", "P07_followup"),
    ("P07-v1", "p07-v2"),
    ("P07_tp1", "P07_tp02"),
    ("TCGA-02-0006_1996.08.23", "TCGA-02-0006_1997-01-02"),
    ("PatientID_0003_Timepoint_1", "PatientID_0003_Timepoint_2"),
    ("Smith_preop", "Smith_postop"),
    ("RHUH-0001_0", "RHUH-0001_2"),
    ("BraTS-MET-00012-000", "BraTS-MET-00012-001"),
    ("P1_month_6", "P1_month_12"),
]
DIFFERENT = [
    ("BraTS20_Training_001", "BraTS20_Training_002"),
    ("BraTS2021_00001", "BraTS2021_00002"),
    ("Brats18_2013_10_1", "Brats18_2013_11_1"),
    ("BraTS-GLI-00005-000", "BraTS-GLI-00006-000"),
    ("BRATS_001", "BRATS_002"),
    ("UCSF-PDGM-0004", "UCSF-PDGM-0005"),
    ("SyntheticChest001", "SyntheticChest002"),
    ("case_1", "case_2"),
    ("scan_001", "scan_002"),
    ("week-000", "week-001"),
    ("TCGA-02-0006", "TCGA-02-0007"),
    ("site1_001", "site1_002"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_time_points_and_known_renamings_are_one_patient(one, other):
    assert Patients().patient(one) == Patients().patient(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_patients_are_not_taken_for_time_points(one, other):
    assert Patients().patient(one) != Patients().patient(other)


def parts_of(names, seed=12345):
    split = make_split([Case(name, {}, None, {}) for name in names], seed)
    assert sorted((*split.train, *split.val, *split.test)) == sorted(names)
    return [set(split.train), set(split.val), set(split.test)]


@pytest.mark.parametrize("seed", range(3))
def test_new_split_keeps_the_time_points_of_a_patient_together(seed):
    names = [f"BraTS-GLI-{patient:05d}-{100 + time}" for patient in range(40) for time in range(3)]
    patients = [{name[:15] for name in part} for part in parts_of(names, seed)]
    assert [len(part) for part in patients] == [28, 4, 8]


def test_new_split_keeps_possible_time_points_together_unless_the_series_is_too_long():
    patients = [
        {name[:4] for name in part} for part in parts_of([f"P{n:03d}_{k}" for n in range(20) for k in range(3)])
    ]
    assert [len(part) for part in patients] == [14, 2, 4]
    assert [len(part) for part in parts_of([f"site1_{n:03d}" for n in range(40)])] == [28, 4, 8]


def test_long_series_of_patients_does_not_separate_time_points_of_others():
    others = [f"P{n:03d}_{k}" for n in range(20) for k in range(3)]
    parts = parts_of([*others, *(f"site1_{n:03d}" for n in range(12))])
    patients = [{name[:4] for name in part if name.startswith("P")} for part in parts]
    assert sum(map(len, patients)) == 20


def test_test_images_of_the_dataset_are_in_no_new_split(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path / "data"))
    (tmp_path / "data" / "split.json").unlink()
    kept = {name: replace(case, held_apart=name == "A") for name, case in dataset.cases.items()}
    split = read_split(replace(dataset, cases=kept))
    assert sorted((*split.train, *split.val, *split.test)) == ["B", "C", "D", "E"]


def test_time_points_of_one_patient_in_two_parts_are_refused(folders):
    dataset = read_dataset(folders[0])
    with pytest.raises(InputError, match="'P1_week-000' .train. and 'P1_week-044' .test. are one patient"):
        check_split(dataset, Split(("P1_week-000",), (), ("P1_week-044",)))
    assert check_split(dataset, Split(("P1_week-000", "P1_week-044"), (), ("P2_week-000",))) == []


def test_possible_patient_in_two_parts_gives_a_note(folders):
    (sentence,) = check_split(read_dataset(folders[0]), Split(("P12_1", "P13_1"), (), ("P12_2",)))
    assert "'P12_1' (train) and 'P12_2' (test) may be two examinations of one patient" in sentence


def test_time_point_of_a_test_patient_is_excluded_from_stage_1_but_not_of_a_training_patient(tmp_path):
    for name in ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000"):
        write_case(tmp_path / "own" / name, 1)
    for name in ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-001"):
        write_case(tmp_path / "more" / name, 2)
    own, more = read_dataset(tmp_path / "own"), read_dataset(tmp_path / "more")
    cases, refused = pretraining_cases(own, Split(("BraTS-GLI-00001-000",), (), ("BraTS-GLI-00002-000",)), [more])
    assert names(cases) == ["BraTS-GLI-00001-000", "BraTS-GLI-00001-001"] and refused == ["BraTS-GLI-00002-001"]
    assert next(case for case in cases if case.name.endswith("001")).label is None


def test_undecidable_names_give_a_note_unless_mapped(folders):
    small, large = folders
    mapping = large / "BraTS21-17_Mapping.csv"
    text = mapping.read_text()
    mapping.unlink()
    one, other = read_dataset(small), read_dataset(large)
    (sentence,) = leak_warnings_of_pretraining(SPLIT, [other], False, read_mappings([small, large]))
    assert "2 validation or test case(s) of BraTS 2020" in sentence and "BraTS 2021-2023" in sentence
    mapping.write_text(text)
    assert leak_warnings_of_pretraining(SPLIT, [other], False, read_mappings([small, large])) == []
    mapping.unlink()
    mixed = replace(SPLIT, train=("Brats18_CBICA_AAB_1",))
    assert "BraTS 2020" in check_split(one, mixed)[0] and "BraTS 2013-2019" in check_split(one, mixed)[0]


def test_collections_without_common_patients_give_no_note():
    read, held_out = ("BraTS-SSA-00001-000", "BraTS2021_00001"), ("BraTS2021_00002", "BraTS-MEN-00001-000")
    split = Split(read, (), held_out)
    assert check_split(Dataset(Path("nowhere"), BRAIN, {}), split) == []


def test_strict_leak_guard_refuses_undecidable_names(folders, tmp_path, capsys):
    small, large = folders
    (large / "BraTS21-17_Mapping.csv").unlink()
    (small / "split.json").write_text(json.dumps(to_plain(SPLIT)))
    experiment = smoke(load_experiment("brats-2mm", method="dante"))
    settings = replace(experiment.data, pretrain_folders=(str(large),))
    start_run(replace(experiment, data=settings), small, tmp_path / "run")
    assert "warning: whether 2 validation or test case(s)" in capsys.readouterr().out
    strict = replace(settings, strict_leak_guard=True)
    with pytest.raises(InputError, match="cannot be told.*strict_leak_guard"):
        start_run(replace(experiment, data=strict), small, tmp_path / "run2")
    assert not (tmp_path / "run2").exists()


def test_model_trained_on_held_out_cases_gives_a_note_or_is_refused(data, teacher, tmp_path, capsys):
    """The teacher was trained on A, B and C; here B and C are test cases."""
    other = shutil.copytree(data, tmp_path / "data")
    (other / "split.json").write_text(json.dumps(to_plain(Split(("A", "E"), ("D",), ("B", "C")))))
    experiment = with_teacher(smoke(load_experiment("brats-2mm", method="pmkl")), teacher)
    start_run(experiment, other, tmp_path / "run")
    assert "warning: distillation.teacher: by their names, 2 validation or test case(s)" in capsys.readouterr().out
    strict = replace(experiment, data=replace(experiment.data, strict_leak_guard=True))
    with pytest.raises(InputError, match="e.g. 'B', are of patients whom the model .* was trained on"):
        start_run(strict, other, tmp_path / "strict")
    start_run(strict, data, tmp_path / "same")
    assert "warning" not in capsys.readouterr().out


def test_model_without_a_readable_run_has_unknown_cases(teacher, tmp_path):
    split, lost = Split(("D",), (), ("A",)), shutil.copytree(teacher, tmp_path / "lost" / "model")
    models = {"begin_with": str(lost), "distillation.teacher": ""}
    assert held_out_but_seen(split, models, Patients()) == []
    (tmp_path / "lost" / "run.json").write_text("{")
    assert held_out_but_seen(split, models, Patients()) == []
    shutil.copy(teacher.parent / "run.json", tmp_path / "lost")
    (sentence,) = held_out_but_seen(split, models, Patients())
    assert sentence.startswith("begin_with: by their names, 1 validation or test case(s) of this run, e.g. 'A'")


def test_stage_1_trains_on_the_further_folder_without_masks(folders, tmp_path, capsys):
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
    # All cases except the test case were prepared.
    assert len(list((tmp_path / "run" / "cache").glob("*-*"))) == 7
    assert read_split(read_dataset(data)).test[0] not in {p.name[0] for p in (tmp_path / "run" / "cache").glob("?-*")}


def test_further_folder_without_a_modality_is_refused_before_the_first_step(folders, tmp_path):
    _, large = folders
    (large / "BraTS2021_00002" / "BraTS2021_00002_t2.nii.gz").unlink()
    experiment = smoke(load_experiment("brats-2mm", method="dante"))
    settings = replace(experiment.data, pretrain_folders=(str(large),))
    with pytest.raises(InputError, match="has no t2"):
        start_run(replace(experiment, data=settings), write_dataset(tmp_path / "data"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
