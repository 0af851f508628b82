import json
import shutil

import numpy as np
import pytest
from datasets import BRATS_2023, LPS_4MM, images, write_case, write_dataset

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.cases.case_folder import read_case_folder
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.files import write_components, write_volume
from DanteSegmenterLib.volume import Volume
from DanteTrainerLib.data.dataset import check_cases, make_split, read_dataset, read_split
from DanteTrainerLib.data.patients import check_split

ALL = {"t1", "t1ce", "t2", "flair"}


def test_brats_2018_with_grades_is_read_and_grouped(tmp_path):
    write_case(tmp_path / "HGG" / "Brats18_X_1", 0)
    write_case(tmp_path / "LGG" / "Brats18_Y_1", 1)
    cases = read_dataset(tmp_path).cases
    assert {name: case.group for name, case in cases.items()} == {"Brats18_X_1": "HGG", "Brats18_Y_1": "LGG"}
    assert set(cases["Brats18_X_1"].images) == ALL and cases["Brats18_X_1"].regions["ET"] == (4,)


def test_brats_2020_case_355_has_a_differently_named_mask(tmp_path):
    folder = write_case(tmp_path / "BraTS20_Training_355", 0)
    (folder / "BraTS20_Training_355_seg.nii.gz").rename(folder / "W39_1998.09.19_Segm.nii.gz")
    case = read_case_folder(folder)
    assert case.label is not None and case.label.path.name == "W39_1998.09.19_Segm.nii.gz" and set(case.images) == ALL


def test_brats_2023_calls_enhancing_tumour_3(tmp_path):
    case = read_case_folder(write_case(tmp_path / "BraTS-GLI-00001-000", 0, BRATS_2023, joint="-"))
    assert set(case.images) == ALL and case.images["t1ce"].path.name.endswith("-t1c.nii.gz")
    assert case.regions == {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}


def test_uncompressed_files_are_read(tmp_path):
    folder = tmp_path / "case"
    folder.mkdir()
    write_volume(folder / "x_t1.nii", Volume(images(0)[0]["t1"], LPS_4MM))
    assert read_case_folder(folder).read_images()["t1"].shape == (20, 22, 24)


def test_paired_chest_ct_needs_no_label(tmp_path):
    for name in ("nct", "ctpa"):
        (tmp_path / "P1").mkdir(exist_ok=True)
        write_volume(tmp_path / "P1" / f"{name}.nii.gz", Volume(images(0)[0]["t1"], LPS_4MM))
    dataset = read_dataset(tmp_path)
    assert dataset.task.id == "chest" and dataset.cases["P1"].label is None


def test_msd_task01_swaps_oedema_and_core_relative_to_brats(tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    modalities, labels = images(0)
    stack = np.stack([modalities[m] for m in ("flair", "t1", "t1ce", "t2")])
    write_components(tmp_path / "imagesTr" / "BRATS_001.nii.gz", stack, Volume(labels, LPS_4MM))
    msd = np.select([labels == 2, labels == 1, labels == 4], [1, 2, 3], 0).astype(np.uint8)
    write_volume(tmp_path / "labelsTr" / "BRATS_001.nii.gz", Volume(msd, LPS_4MM))
    description = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "training": [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    case = read_dataset(tmp_path).cases["BRATS_001"]
    assert np.allclose(case.images["t1ce"].read().array, modalities["t1ce"])
    mask = case.label.read().array
    truth = {"WT": labels > 0, "TC": (labels == 1) | (labels == 4), "ET": labels == 4}
    for region, expected in truth.items():
        assert np.array_equal(np.isin(mask, case.regions[region]), expected), region


def test_nnunet_raw_folders_are_read(tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    modalities, labels = images(0)
    for n, modality in enumerate(("t1", "t1ce", "t2", "flair")):
        write_volume(tmp_path / "imagesTr" / f"case_7_{n:04d}.nii.gz", Volume(modalities[modality], LPS_4MM))
    write_volume(tmp_path / "labelsTr" / "case_7.nii.gz", Volume(labels, LPS_4MM))
    description = {
        "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"},
        "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
        "regions_class_order": [1, 2, 3],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    case = read_dataset(tmp_path).cases["case_7"]
    assert set(case.images) == ALL and case.regions["TC"] == (2, 3) and case.label is not None


def test_unknown_labels_in_a_dataset_json_are_refused(tmp_path):
    description = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "liver": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="labels .* are not known"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "modalities"),
    [("BraTS2021_00002", 4), ("Brats18_CBICA_AOP_1", 4), ("BraTS-GLI-00000-000", 4)],
)
def test_real_cases_of_every_naming_have_nested_regions_of_plausible_order(shared_data, name, modalities):
    case = read_case_folder(shared_data / "brats-1mm" / name)
    assert len(case.images) == modalities
    mask = case.label.read().array
    volumes = {region: np.isin(mask, labels).sum() for region, labels in case.regions.items()}
    assert volumes["WT"] > volumes["TC"] > volumes["ET"] > 0
    assert set(np.unique(mask)) <= {0, *case.regions["WT"]}


def test_real_mini_dataset_is_read_with_its_split(shared_data):
    dataset = read_dataset(shared_data / "brats-mini-2mm")
    split = read_split(dataset)
    assert (len(split.train), len(split.val), len(split.test)) == (55, 11, 17)
    check_cases(dataset, split.train, dataset.task.full)


def test_real_mini_dataset_split_has_no_duplicate_patient_and_notes_uncertainty(shared_data):
    dataset = read_dataset(shared_data / "brats-mini-2mm")
    (sentence,) = check_split(dataset, read_split(dataset))
    assert "BraTS 2013-2019" in sentence and "BraTS 2021-2023" in sentence


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_split_with_a_byte_order_mark_is_read(tmp_path, encoding):
    folder = write_dataset(tmp_path / "data")
    (folder / "split.json").write_text((folder / "split.json").read_text(), encoding=encoding)
    assert read_split(read_dataset(folder)).train == ("A", "B", "C")


@pytest.mark.parametrize("part", ["A", {"A": 1}, [1], [["A"]], None, 7])
def test_split_part_that_is_no_list_of_names_is_refused(tmp_path, part):
    folder = write_dataset(tmp_path / "data")
    (folder / "split.json").write_text(json.dumps({"train": part, "val": ["D"], "test": ["E"]}))
    with pytest.raises(InputError, match="is no split: lists 'train', 'val' and 'test' are needed"):
        read_split(read_dataset(folder))


def test_bad_case_outside_the_split_is_ignored(tmp_path):
    folder = write_dataset(tmp_path / "data")
    shutil.copytree(folder / "A", folder / "Z")
    shutil.copy(folder / "A" / "A_t1.nii.gz", folder / "Z" / "again_t1.nii.gz")
    dataset = read_dataset(folder)
    check_cases(dataset, read_split(dataset).train, dataset.task.full)
    with pytest.raises(InputError, match="'Z': .*two files for t1"):
        check_cases(dataset, ["Z"], dataset.task.full)


def case(name, group=""):
    return Case(name, {}, None, {}, group)


def test_new_split_is_seeded_stratified_complete_and_disjoint():
    cases = [case(f"h{n}", "HGG") for n in range(20)] + [case(f"l{n}", "LGG") for n in range(10)]
    split = make_split(cases)
    assert split == make_split(cases[::-1]) and split != make_split(cases, seed=1)
    assert (len(split.train), len(split.val), len(split.test)) == (21, 3, 6)
    assert sum(name.startswith("l") for name in split.test) == 2
    assert sorted((*split.train, *split.val, *split.test)) == sorted(c.name for c in cases)


def test_split_of_285_cases_is_199_29_57():
    split = make_split([case(f"h{n}", "HGG") for n in range(210)] + [case(f"l{n}", "LGG") for n in range(75)])
    sizes = [len(split.train), len(split.val), len(split.test)]
    assert sum(sizes) == 285 and all(abs(a - b) <= 1 for a, b in zip(sizes, (199, 29, 57)))


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def missing_mask(folder):
    (folder / "A" / "A_seg.nii.gz").unlink()


def missing_modality(folder):
    (folder / "B" / "B_t1ce.nii.gz").unlink()


def same_name(folder):
    write_case(folder / "more" / "A", 9)


def two_files(folder):
    shutil.copy(folder / "A" / "A_t1.nii.gz", folder / "A" / "again_t1.nii.gz")


def unknown_in_split(folder):
    (folder / "split.json").write_text(json.dumps({"train": ["A", "Z"], "val": [], "test": []}))


def overlap(folder):
    (folder / "split.json").write_text(json.dumps({"train": ["A", "B"], "val": [], "test": ["B"]}))


def damaged_split(folder):
    (folder / "split.json").write_text("[1, 2")


def mixed(folder):
    (folder / "P").mkdir()
    shutil.copy(folder / "A" / "A_t1.nii.gz", folder / "P" / "nct.nii.gz")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (empty, "holds no case"),
        (missing_mask, r"'A' has no mask \(a file \*_seg or \*-seg"),
        (missing_modality, "'B' has no t1ce"),
        (same_name, "case name.*twice, for example 'A'"),
        (two_files, "two files for t1"),
        (unknown_in_split, "not in the folder, e.g. 'Z'"),
        (overlap, "'B' more than once"),
        (damaged_split, "is no split"),
        (mixed, "mixes"),
    ],
)
def test_unusable_dataset_is_refused_before_the_first_step(tmp_path, spoil, reason):
    folder = write_dataset(tmp_path / "data")
    spoil(folder)
    with pytest.raises(InputError, match=reason):
        dataset = read_dataset(folder)
        check_cases(dataset, read_split(dataset).train, dataset.task.full)


def test_folder_without_known_names_is_reported_with_its_content(tmp_path):
    write_volume(tmp_path / "brain.nii.gz", Volume(images(0)[0]["t1"], LPS_4MM))
    with pytest.raises(InputError, match="brain.nii.gz.*BraTS 2023"):
        read_case_folder(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_case_folder(tmp_path / "nowhere")
