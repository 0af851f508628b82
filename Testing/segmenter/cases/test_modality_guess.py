"""Guessing modalities from names."""

import pytest

from DanteSegmenterLib.cases.modality_guess import assign, guess_modality

MR = ("t1", "t1ce", "t2", "flair")

NAMES = {
    "t1": [
        "t1", "T1", "t1n", "t1_mpr", "T1w", "T1-weighted", "MPRAGE", "sub-01_T1w.nii.gz", "5: AX T1 MPRAGE",
        "AX T1 PRE", "BraTS20_Training_001_t1", "BraTS-GLI-00002-000-t1n.nii.gz", "t1 without contrast", "T1 w/o",
        "SAG T1 FLAIR", "axT1", "t1mprage3D",
    ],
    "t1ce": [
        "t1ce", "t1c", "t1gd", "t1post", "T1 +C", "Gd", "T1_Gd", "AX T1 POST GAD", "T1 MPRAGE post contrast", "t1 C+",
        "BraTS20_Training_001_t1ce", "BraTS-GLI-00002-000-t1c", "T1 km", "DanteBrainMR t1ce", "T1 Gadovist",
        "MPRAGE +C",
    ],
    "t2": ["t2", "T2w", "t2_tse", "AX T2 FSE", "BraTS19_2013_2_1_t2.nii", "BraTS-GLI-00002-000-t2w", "7: T2 TRA"],
    "flair": ["flair", "FLAIR", "t2f", "fla", "SAG FLAIR", "T2_FLAIR", "AX T2 FLAIR FS", "BraTS-GLI-00002-000-t2f",
              "t2flair", "3D_FLAIR_SPACE"],
    "nct": ["nct", "NCCT", "CT without contrast", "ct native", "CT chest non-contrast", "CT w/o contrast"],
    "ctpa": ["ctpa", "CTA", "CT pulmonary angiography", "CT chest +C", "ct contrast", "CT ANGIO THORAX"],
    None: [
        "", "volume", "MRHead", "AX DWI", "ADC map", "T2*", "t2 star", "SWI", "t1 map", "BraTS20_Training_001_seg",
        "T12 spine", "CT chest", "post", "contrast", "t1 t2 ratio", "PERF T2", "localizer", "best1", "T1 SUBTRACTION",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("expected", "name"), [(key, name) for key, names in NAMES.items() for name in names])
def test_a_name_tells_its_modality_or_nothing(expected, name):
    assert guess_modality(name) == expected


def test_a_whole_study_is_assigned_and_every_volume_used_once():
    names = ["SAG FLAIR", "localizer", "5: AX T1 POST GAD", "AX T2", "3: AX T1"]
    assert assign(names, MR) == {"t1": 4, "t1ce": 2, "t2": 3, "flair": 0}
    assert assign(["t1", "t2"], MR) == {"t1": 0, "t1ce": None, "t2": 1, "flair": None}
    assert assign([], MR) == dict.fromkeys(MR)


def test_only_what_the_model_asks_for_is_assigned():
    assert assign(["t1", "t1ce", "t2", "flair"], ("t1", "flair")) == {"t1": 0, "flair": 3}


def test_two_equally_good_volumes_leave_the_choice_open():
    assert assign(["t1 a", "t1 b", "t2"], ("t1", "t2")) == {"t1": None, "t2": 2}


def test_the_patient_with_more_matching_volumes_wins():
    names = ["patient_7_t1", "patient_9_t1", "patient_9_t2", "patient_9_flair"]
    assert assign(names, MR) == {"t1": 1, "t1ce": None, "t2": 2, "flair": 3}


def test_two_complete_patients_leave_everything_open():
    names = [f"{patient}_{modality}" for patient in ("a", "b") for modality in MR]
    assert assign(names, MR) == dict.fromkeys(MR)


def test_chest_ct_pairs_are_assigned():
    assert assign(["case3_ctpa", "case3_nct"], ("nct", "ctpa")) == {"nct": 1, "ctpa": 0}
