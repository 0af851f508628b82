"""Recognising images and patients in the layouts and naming schemes of public collections and hospitals."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.cases.case_folder import read_case_folder
from DanteSegmenterLib.cases.case_list import find_cases
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.volume import Volume

BRAIN = ("t1", "t1ce", "t2", "flair")
CLASSIC = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
OF_2023 = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
IN_2023 = ("-t1n", "-t1c", "-t2w", "-t2f", "-seg")
IN_2018 = ("_t1", "_t1ce", "_t2", "_flair", "_seg")


def write(root, *names, ending=".nii.gz"):
    """Create files of which only the names matter."""
    for name in names:
        path = root / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def found(case):
    """Modality -> end of the file's name."""
    return {modality: source.path.name.removesuffix(".nii.gz") for modality, source in case.images.items()}


@pytest.mark.parametrize("contrast", ["t1ce", "t1c", "T1GD", "t1Gd", "T1c", "T1_post", "T1KM", "T1w_CE", "CT1", "T1+C"])
def test_contrast_t1_is_found_under_all_its_names(tmp_path, contrast):
    write(tmp_path / "p", "p_t1", f"p_{contrast}", "p_t2", "p_flair")
    assert found(read_case_folder(tmp_path / "p"))["t1ce"] == f"p_{contrast}"


FOLDERS = {
    "UCSF-PDGM": (
        "UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_",
        "T1 T1_bias T1c T1c_bias T2 T2_bias FLAIR FLAIR_bias SWI DWI ADC ASL DTI_eddy_FA tumor_segmentation "
        "brain_segmentation brain_parenchyma_segmentation",
        ("T1", "T1c", "T2", "FLAIR", "tumor_segmentation"),
    ),
    "UPENN-GBM": (
        "UPENN-GBM-00001_11/UPENN-GBM-00001_11_",
        "T1 T1_unstripped T1GD T1GD_unstripped T2 FLAIR DTI_FA segm",
        ("T1", "T1GD", "T2", "FLAIR", "segm"),
    ),
    "TCGA-GBM": (
        "TCGA-02-0006/TCGA-02-0006_1996.08.23_",
        "t1 t1Gd t2 flair GlistrBoost_ManuallyCorrected",
        ("t1", "t1Gd", "t2", "flair", "GlistrBoost_ManuallyCorrected"),
    ),
    "LUMIERE": ("Patient-001/", "CT1 T1 T2 FLAIR", ("T1", "CT1", "T2", "FLAIR", None)),
    "BIDS": ("sub-01/sub-01_", "T1w ce-gadolinium_T1w T2w FLAIR", ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR", None)),
    "a German scanner": (
        "Muster/",
        "t1_se_tra t1_se_tra_KM t2_tse_tra t2_tirm_tra_dark-fluid ep2d_diff_ADC localizer",
        ("t1_se_tra", "t1_se_tra_KM", "t2_tse_tra", "t2_tirm_tra_dark-fluid", None),
    ),
    "before and after contrast": ("P/p_", "T1_pre T1_post T2 FLAIR", ("T1_pre", "T1_post", "T2", "FLAIR", None)),
    "initials like contrast": ("CE_01/CE_01_", "t1 t1ce t2 flair", ("t1", "t1ce", "t2", "flair", None)),
    "initials in another folder": ("7/GD_01_", "t1 t1ce t2 flair", ("t1", "t1ce", "t2", "flair", None)),
    "a patient like a subtraction": ("7/SUB_01_", "t1 t1ce t2 flair", ("t1", "t1ce", "t2", "flair", None)),
    "a brain mask beside": (
        "p/p_",
        "t1 t1_bet t1_bet_mask t1ce t2 flair brain_seg seg",
        ("t1", "t1ce", "t2", "flair", "seg"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_of_public_collections_and_scanners_are_read(tmp_path, kind):
    prefix, names, wanted = FOLDERS[kind]
    write(tmp_path, *(f"{prefix}{name}" for name in names.split()))
    case = read_case_folder(next(path for path in tmp_path.iterdir()))
    beginning = prefix.partition("/")[2]
    assert found(case) == {modality: f"{beginning}{name}" for modality, name in zip(BRAIN, wanted)}
    mask = case.label and case.label.path.name.removesuffix(".nii.gz")
    assert mask == (wanted[4] and f"{beginning}{wanted[4]}")


def test_contrast_in_the_names_of_all_images_marks_the_t1_as_contrast(tmp_path):
    write(tmp_path / "anat", *(f"sub-01_ce-gd_{name}" for name in ("T1w", "T2w", "FLAIR")))
    assert set(read_case_folder(tmp_path / "anat").images) == {"t1ce", "t2", "flair"}


@pytest.mark.parametrize("mark", ["T1 +K", "T1_+CM", "T1 w contr", "T1 nach CM", "T1_contr"])
def test_contrast_t1_is_never_taken_for_native_t1_or_its_variant(tmp_path, mark):
    write(tmp_path / "alone", mark, "T2", "FLAIR")
    assert found(read_case_folder(tmp_path / "alone")) == {"t1ce": mark, "t2": "T2", "flair": "FLAIR"}
    write(tmp_path / "both", "T1", mark, "T2", "FLAIR")
    assert found(read_case_folder(tmp_path / "both")) == {"t1": "T1", "t1ce": mark, "t2": "T2", "flair": "FLAIR"}


@pytest.mark.parametrize("mark", ["T1 +", "T1 FS +", "T1 + X", "T1 mit X"])
def test_t1_of_unknown_contrast_is_not_taken_for_t1(tmp_path, mark):
    write(tmp_path / "p", mark, "T2", "FLAIR")
    assert found(read_case_folder(tmp_path / "p")) == {"t2": "T2", "flair": "FLAIR"}


def test_plain_contrast_t1_is_chosen_for_any_spelling_of_plus(tmp_path):
    write(tmp_path / "p", "T1", "T1_C_bias", "T1 +C", "T2", "FLAIR")
    assert found(read_case_folder(tmp_path / "p"))["t1ce"] == "T1 +C"


def test_plus_in_the_patient_name_is_ignored(tmp_path):
    write(tmp_path / "Anna+K", *(f"Anna+K_{name}" for name in ("T1", "T1_+K", "T2", "FLAIR")))
    assert found(read_case_folder(tmp_path / "Anna+K")) == {
        "t1": "Anna+K_T1", "t1ce": "Anna+K_T1_+K", "t2": "Anna+K_T2", "flair": "Anna+K_FLAIR",
    }  # fmt: skip


def test_duplicate_scan_is_refused_with_both_names(tmp_path):
    write(tmp_path / "p", "p_T1", "p_T1_2", "p_T2", "p_FLAIR")
    with pytest.raises(InputError, match="two files for t1: p_T1.nii.gz and p_T1_2.nii.gz"):
        read_case_folder(tmp_path / "p")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_under_two_names_is_refused_with_both(tmp_path, link):
    folder = write(tmp_path / "p", "p_t1", "p_flair")
    link(folder / "p_t1.nii.gz", folder / "p_t2.nii.gz")
    with pytest.raises(InputError, match="one file as t1 and as t2: p_t1.nii.gz and p_t2.nii.gz"):
        read_case_folder(folder)


def test_system_files_are_ignored(tmp_path):
    write(tmp_path, "A/A_t1", "A/._A_t1", "A/A_t2", "A/._A_t2", "A/A_flair", "__MACOSX/A/A_t1", ".hidden/A_t1")
    write(tmp_path, "@eaDir/A_t1")
    (tmp_path / "A" / ".DS_Store").write_bytes(b"x")
    (case,) = find_cases(tmp_path)
    assert found(case) == {"t1": "A_t1", "t2": "A_t2", "flair": "A_flair"}


def test_several_masks_are_an_error_only_where_a_mask_is_needed(tmp_path):
    write(tmp_path / "p", *(f"p{name}" for name in IN_2018), "p_pred_seg", "tumour_seg")
    (case,) = find_cases(tmp_path)
    assert set(case.images) == set(BRAIN) and not case.problem
    with pytest.raises(InputError, match="3 masks: p_pred_seg.nii.gz, p_seg.nii.gz, tumour_seg.nii.gz"):
        case.label.read()
    assert "3 masks" in case.mask_problem()


@pytest.mark.parametrize(
    ("name", "parts", "regions", "outside"),
    [
        ("BraTS2021_00001", IN_2018, CLASSIC, ()),
        ("BraTS-GLI-00001-000", IN_2023, OF_2023, ()),
        ("BraTS-SSA-00001-000", IN_2023, OF_2023, ()),
        ("BraTS-SSA-00001-000", IN_2018, CLASSIC, ()),
        ("BraTS-MEN-00001-000", IN_2023, OF_2023, ()),
        ("BraTS-MET-00001-000", IN_2023, OF_2023, ()),
        ("BraTS-GoAT-00001", IN_2023, OF_2023, ()),
        ("BraTS-GLI-00005-101", IN_2023, OF_2023, (4,)),
    ],
)
def test_label_meaning_is_inferred_from_names(tmp_path, name, parts, regions, outside):
    case = read_case_folder(write(tmp_path, *(f"{name}/{name}{part}" for part in parts)) / name)
    assert (case.regions, case.outside) == (regions, outside)
    assert bool(case.remark) == bool(outside)


@pytest.mark.parametrize(
    ("name", "parts", "reason"),
    [
        ("BraTS-PED-00001-000", IN_2023, "BraTS PED"),
        ("BraTS-PED-00001-000", IN_2018, "BraTS PED"),
        ("BraTS-GLI-00005-100", IN_2018, "cavity"),
        ("sub-01", ("_T1w", "_T2w", "_FLAIR", "_seg"), "no naming whose labels are known"),
    ],
)
def test_ambiguous_label_meaning_must_be_given(tmp_path, name, parts, reason):
    write(tmp_path, *(f"{name}/{name}{part}" for part in parts))
    case = find_cases(tmp_path)[0]
    assert case.regions == {} and reason in case.mask_problem() and "labels.json" in case.mask_problem()
    (tmp_path / "labels.json").write_text('{"WT": [1, 2, 3, 4], "TC": [1, 2, 3], "ET": [1]}', encoding="utf-8-sig")
    case = find_cases(tmp_path)[0]
    assert case.regions == {"WT": (1, 2, 3, 4), "TC": (1, 2, 3), "ET": (1,)} and not case.mask_problem()


@pytest.mark.parametrize(
    "text", ['{"WT": [1]}', '{"WT": [1], "TC": 1, "ET": [1]}', '{"WT": [1], "TC": [0], "ET": [1]}', '{"WT"']
)
def test_unusable_labels_file_is_refused(tmp_path, text):
    write(tmp_path, *(f"p/p{part}" for part in IN_2018))
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(InputError, match="labels.json"):
        find_cases(tmp_path)


def test_labels_file_of_another_program_is_ignored(tmp_path):
    write(tmp_path, *(f"p/p{part}" for part in IN_2018))
    (tmp_path / "labels.json").write_text('{"1": "necrosis"}')
    assert find_cases(tmp_path)[0].regions == CLASSIC


@pytest.mark.parametrize(
    ("values", "regions", "outside", "strange"),
    [
        ([0, 1, 2, 4], CLASSIC, (), None),
        ([0, 1, 2, 3], CLASSIC, (), "3"),
        ([0, 2, 4], OF_2023, (), "4"),
        ([0, 2, 4], OF_2023, (4,), None),
        ([0, 1, 5], CLASSIC, (), "5"),
        ([0, 0.5, 1], CLASSIC, (), "0.5"),
        ([0, -1, 1], CLASSIC, (), "-1"),
        ([0, np.nan, 1], CLASSIC, (), "nan"),
    ],
)
def test_label_unknown_to_the_naming_is_refused(tmp_path, values, regions, outside, strange):
    (source,) = read_case_folder(write(tmp_path, "p/p_t1", "p/p_seg") / "p").images.values()
    case = Case("p", {}, source, regions, outside=outside)
    mask = Volume(np.array(values, np.float32).reshape(1, 1, -1), np.eye(4), "p_seg")
    if strange is None:
        case.check_labels(mask)
    else:
        with pytest.raises(InputError, match=rf"'p_seg' holds the labels \['{strange}'\].* labels.json beside"):
            case.check_labels(mask)


@pytest.mark.parametrize(
    ("paths", "names", "groups"),
    [
        ("HGG/Brats18_X_1 LGG/Brats18_Y_1", ["Brats18_X_1", "Brats18_Y_1"], ["HGG", "LGG"]),
        ("Patient-001/week-000 Patient-001/week-044-1", ["Patient-001_week-000", "Patient-001_week-044-1"], ["", ""]),
        ("HGG/P1/baseline HGG/P1/2019-03-02", ["P1_2019-03-02", "P1_baseline"], ["HGG", "HGG"]),
        ("sub-01/ses-01/anat sub-02/anat", ["sub-01_ses-01", "sub-02"], ["", ""]),
        ("UPENN-GBM-00001/UPENN-GBM-00001_11", ["UPENN-GBM-00001_11"], [""]),
        ("2021/BraTS2021_00001 2021/BraTS2021_00002", ["BraTS2021_00001", "BraTS2021_00002"], ["2021", "2021"]),
    ],
)
def test_time_points_in_a_patient_folder_get_the_patient_name(tmp_path, paths, names, groups):
    write(tmp_path, *(f"{path}/t1" for path in paths.split()), "derivatives/sub-01/anat/t1")
    cases = find_cases(tmp_path)
    assert [case.name for case in cases] == names and [case.group for case in cases] == groups


def test_numbered_time_points_are_recognised_by_their_files(tmp_path):
    write(tmp_path, *(f"RHUH-000{n}/{time}/RHUH-000{n}_{time}_t1" for n in (1, 2) for time in (0, 1)))
    assert [case.name for case in find_cases(tmp_path)] == ["RHUH-0001_0", "RHUH-0001_1", "RHUH-0002_0", "RHUH-0002_1"]


def test_bad_folder_becomes_a_failed_case_beside_the_others(tmp_path):
    write(tmp_path, "A/A_t1", "B/B_t1", "B/more_t1", "C/C_t1")
    cases = find_cases(tmp_path)
    assert [case.name for case in cases] == ["A", "B", "C"]
    assert [bool(case.problem) for case in cases] == [False, True, False]
    assert "two files for t1: B_t1.nii.gz and more_t1.nii.gz" in cases[1].problem


UNPRIVILEGED = "cap_dac_override,cap_dac_read_search,cap_fowner"
LISTING = """
import sys
from pathlib import Path
from DanteSegmenterLib.cases.case_list import find_cases
from DanteSegmenterLib.errors import InputError
try:
    print([(case.name, case.problem) for case in find_cases(Path(sys.argv[1]))])
except InputError as error:
    print("refused:", error)
"""


def listed_without_rights(folder):
    """List a folder as a user without superuser rights would."""
    command = [sys.executable, "-c", LISTING, str(folder)]
    if os.getuid() == 0:
        command = ["capsh", f"--drop={UNPRIVILEGED}", "--", "-c", 'exec "$@"', "x", *command]
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **paths}).stdout


@pytest.mark.skipif(os.name == "nt", reason="permissions are of another kind there")
def test_unreadable_folder_is_a_failed_case_with_the_reason(tmp_path):
    write(tmp_path, "A/A_t1", "B/B_t1")
    (tmp_path / "B").chmod(0)
    try:
        text = listed_without_rights(tmp_path)
    finally:
        (tmp_path / "B").chmod(0o755)
    assert "('A', '')" in text and "('B'" in text and "cannot be read: permission denied" in text


@pytest.mark.skipif(os.name == "nt", reason="permissions are of another kind there")
def test_unreadable_dataset_folder_is_refused_with_the_reason(tmp_path):
    folder = write(tmp_path / "shut", "A/A_t1")
    folder.chmod(0)
    try:
        text = listed_without_rights(folder)
    finally:
        folder.chmod(0o755)
    assert text.startswith("refused:") and "permission denied" in text


def test_impossible_folders_are_refused_in_a_sentence(tmp_path):
    for folder, reason in [
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (write(tmp_path, "a") / "a.nii.gz", "is a file"),
    ]:
        with pytest.raises(InputError, match=reason):
            find_cases(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
@pytest.mark.parametrize("name", [os.fsdecode(b"M\xfcller"), "emoji 😀", "x$^$y", "n" * 250, "new\nline", "=1+1"])
def test_odd_names_are_accepted(tmp_path, name):
    write(tmp_path, f"{name}/t1", f"{name}/t2", "A/t1")
    assert {case.name for case in find_cases(tmp_path)} == {"A", name}


NNUNET = {
    "channel_names": {"0": "T1", "1": "T1-Gd", "2": "T2w", "3": "T2-FLAIR"},
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
}


def write_nnunet(root, description=NNUNET, encoding="utf-8"):
    write(root, *(f"images{part}/{part}_{n:04d}" for part in ("Tr", "Ts") for n in range(4)), "labelsTr/Tr")
    (root / "dataset.json").write_text(json.dumps(description), encoding=encoding)
    return root


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_test_images_are_listed_and_a_byte_order_mark_is_accepted(tmp_path, encoding):
    train, test = find_cases(write_nnunet(tmp_path, encoding=encoding))
    assert set(train.images) == set(test.images) == set(BRAIN)
    assert (train.name, train.held_apart, train.label is None) == ("Tr", False, False)
    assert (test.name, test.held_apart, test.label is None) == ("Ts", True, True)


def test_misnamed_file_among_nnunet_images_is_a_case_with_a_problem(tmp_path):
    write(write_nnunet(tmp_path), "imagesTr/notes")
    assert [(case.name, bool(case.problem)) for case in find_cases(tmp_path)] == [
        ("Tr", False),
        ("notes", True),
        ("Ts", False),
    ]


@pytest.mark.parametrize(
    ("labels", "regions", "outside"),
    [
        ({"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}, OF_2023, (4,)),
        ({"background": 0, "ET": 1, "NET": 2, "CC": 3, "ED": 4}, {"WT": (1, 2, 3, 4), "TC": (1, 2, 3), "ET": (1,)}, ()),
        ({"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
         {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)}, ()),
        ({"background": 0, "necrosis": 1, "oedema": 2, "enhancing": 3, "resection cavity": 4}, OF_2023, (4,)),
        ({"background": 0, "whole tumour": [1, 2, 3], "tumour core": [1, 3], "enhancing tumour": [3], "cavity": 4},
         OF_2023, (4,)),
    ],
)  # fmt: skip
def test_dataset_json_labels_are_identified_by_name(tmp_path, labels, regions, outside):
    case = find_cases(write_nnunet(tmp_path, {**NNUNET, "labels": labels}))[0]
    assert (case.regions, case.outside) == (regions, outside)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"channel_names": {"0": "T1", "1": "T1"}}, "two channels alike"),
        ({"channel_names": {"0": "T1", "1": "PET"}}, "'PET' is not known"),
        ({"labels": {"background": 0, "liver": 1}}, "labels .* are not known"),
        ({"labels": {"whole tumor": [1, 2]}}, "labels .* are not known"),
        ({"labels": {"enhancing": "x"}}, "labels .* are not known"),
        ({"channel_names": None}, "cannot be used"),
    ],
)
def test_unintelligible_dataset_json_is_refused(tmp_path, change, reason):
    with pytest.raises(InputError, match=reason):
        find_cases(write_nnunet(tmp_path, {**NNUNET, **change}))


def test_dataset_json_of_another_program_does_not_affect_case_folders(tmp_path):
    write(tmp_path, "A/t1")
    (tmp_path / "dataset.json").write_text('{"owner": "somebody"}')
    assert [case.name for case in find_cases(tmp_path)] == ["A"]
