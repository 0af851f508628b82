"""Images under the model's own names, where the vocabulary has none."""

import json

import pytest

from DanteSegmenterLib.cases.case_list import find_cases
from DanteSegmenterLib.cases.model_names import ModelNames
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.model_folder.spec import Modality

PAIR = (Modality("CT", "CT"), Modality("PET _SUV_", "PET (SUV)"))
MR = (Modality("t1", "T1"), Modality("ADC", "ADC"))
NUMBERED = (Modality("zscore 0", "zscore"), Modality("zscore 1", "zscore"))
ALIKE = (Modality("T1", "T1"), Modality("T1w", "T1w"))
STARRED = (Modality("t2", "T2"), Modality("T2_", "T2*"))
PLUS = (Modality("t1", "T1"), Modality("T1+", "T1+"), Modality("CT+", "CT+"))
KNOWN = (Modality("t1", "T1"), Modality("nct", "CT"))


def write(folder, *names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.nii.gz").write_bytes(b"x")
    return folder


def found(case):
    return {modality: source.path.name.removesuffix(".nii.gz") for modality, source in case.images.items()}


@pytest.mark.parametrize(
    ("modalities", "channel", "number", "wanted"),
    [
        (PAIR, "CT", 0, "CT"),
        (PAIR, "ct", 0, "CT"),
        (PAIR, "PET (SUV)", 1, "PET _SUV_"),  # by its label
        (PAIR, "PET_SUV", 1, "PET _SUV_"),  # by its id
        (PAIR, "PET", 1, None),
        (PAIR, "T1w", 0, "t1"),  # not the model's, but known
        (MR, "T1w", 0, "t1"),
        (MR, "adc", 1, "ADC"),
        (NUMBERED, "zscore", 0, "zscore 0"),
        (NUMBERED, "zscore", 1, "zscore 1"),
        (NUMBERED, "zscore", 2, None),
        (ALIKE, "T1", 0, "T1"),
        (ALIKE, "T1w", 1, "T1w"),
        (STARRED, "T2", 0, "t2"),
        (STARRED, "T2*", 1, "T2_"),
        (PLUS, "T1", 0, "t1"),
        (PLUS, "T1+", 1, "T1+"),
        (PLUS, "CT", 2, None),
        (KNOWN, "CT", 0, None),  # the label of a known modality is ignored: with or without contrast?
        (KNOWN, "CT native", 0, "nct"),
        ((), "CT", 0, None),
        ((), "T2 FLAIR", 0, "flair"),
    ],
)
def test_channel_is_matched_by_model_id_then_by_name(modalities, channel, number, wanted):
    assert ModelNames(modalities).of_channel(channel, number) == wanted


@pytest.mark.parametrize(
    ("modalities", "stem", "wanted"),
    [
        (PAIR, "p1_ct", "CT"),
        (PAIR, "ct", "CT"),
        (PAIR, "p1-pet-suv", "PET _SUV_"),
        (PAIR, "p1.pet_suv", "PET _SUV_"),
        (PAIR, "project", None),  # not a separate word
        (PAIR, "p1_ct_seg", None),
        (PAIR, "pet_suv_p1", None),
        (MR, "p1_t1", None),  # left to the vocabulary
        (MR, "p1_adc", "ADC"),
        (NUMBERED, "p1_zscore_1", "zscore 1"),
        ((Modality("PET", "PET"), Modality("late PET", "late PET")), "p1_late_pet", "late PET"),
        ((Modality("CT", "CT"), Modality("ct", "ct")), "p1_ct", None),
        (STARRED, "p1_t2", None),
        (STARRED, "p1_t2_", "T2_"),
        (PLUS, "p1_t1", None),
        (PLUS, "p1_t1+", "T1+"),
        (PLUS, "p1_ct", None),
        (PLUS, "p1_ct+", "CT+"),
        (ALIKE, "p1_t1", "T1"),
        (ALIKE, "p1_t1w", "T1w"),
        (ALIKE, "p1_t1_w", None),  # ambiguous
        ((), "p1_ct", None),
    ],
)
def test_file_is_matched_by_the_image_id_at_the_end_of_its_name(modalities, stem, wanted):
    assert ModelNames(modalities).of_file(stem) == wanted


@pytest.mark.parametrize(
    ("modalities", "files", "wanted"),
    [
        (PAIR, "P1_CT P1_PET_SUV P1_seg", {"CT": "P1_CT", "PET _SUV_": "P1_PET_SUV"}),
        (MR, "P1_T1w P1_ADC P1_T2", {"t1": "P1_T1w", "ADC": "P1_ADC"}),
        (ALIKE, "P1_T1 P1_T1w", {"T1": "P1_T1", "T1w": "P1_T1w"}),
        (PAIR, "P1_CT P1_PET_SUV P1_t1 P1_t1ce P1_t2", {"CT": "P1_CT", "PET _SUV_": "P1_PET_SUV"}),
        (KNOWN, "P1_t1 P1_nct P1_t2", {"t1": "P1_t1", "nct": "P1_nct"}),  # brain and chest: the model needs both
        (PAIR, "P1_t1 P1_t2", {"t1": "P1_t1", "t2": "P1_t2"}),  # nothing of the model's
    ],
)  # fmt: skip
def test_images_of_a_case_are_those_of_the_model(tmp_path, modalities, files, wanted):
    write(tmp_path / "P1", *files.split())
    (case,) = find_cases(tmp_path, modalities)
    assert found(case) == wanted


def test_two_files_for_one_image_are_refused_with_both_names(tmp_path):
    write(tmp_path / "P1", "a_CT", "b_CT")
    (case,) = find_cases(tmp_path, PAIR)
    assert "two files for CT: a_CT.nii.gz and b_CT.nii.gz" in case.problem


def test_model_with_known_names_finds_the_same_files_as_no_model(tmp_path):
    write(tmp_path / "P1", "P1_t1", "P1_t1ce", "P1_t2", "P1_flair", "P1_nct", "P1_seg")
    model = tuple(Modality(id, id) for id in ("t1", "t2", "flair"))
    assert find_cases(tmp_path, model) == find_cases(tmp_path)


def test_labels_are_required_only_without_a_model(tmp_path):
    write(tmp_path / "imagesTr", "P1_0000")
    write(tmp_path / "labelsTr", "P1")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}, "labels": {"liver": 1}}))
    (case,) = find_cases(tmp_path, MR)
    assert found(case) == {"t1": "P1_0000"} and "labels {'liver': 1} are not known" in case.mask_problem()
    with pytest.raises(InputError, match="labels {'liver': 1} are not known"):
        find_cases(tmp_path)
