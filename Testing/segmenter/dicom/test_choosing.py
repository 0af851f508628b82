"""The choice of series in a study at the command line: automatic, by argument, or refused with the list."""

import json
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from dicom_files import whole, write_series, write_study
from models import study, write_brain_model
from pydicom.uid import generate_uid

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.dicom.choosing import choose_series, table
from DanteSegmenterLib.dicom.study_scan import choose_study, scan
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.files import read_volume
from DanteSegmenterLib.model_folder.read_write import read_spec
from DanteSegmenterLib.volume import Volume

VOLUMES = {name: whole(volume) for name, volume in study(names=("t1", "t1ce", "t2", "flair")).items()}
LIMITED = {name: VOLUMES[name] for name in ("t1", "t2", "flair")}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model") / "model", with_full=True)


@pytest.fixture(scope="module")
def limited_study(tmp_path_factory):
    """A study of T1, T2 and FLAIR, not to be modified."""
    return write_study(tmp_path_factory.mktemp("study"), LIMITED)


@pytest.fixture
def run(model, tmp_path, capsys):
    def command(*more, output="o.nii"):
        outputs = ["--output", str(tmp_path / output)] if output else []
        code = main(["segment", "--model", str(model), "--device", "cpu", *outputs, *map(str, more)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def labels(tmp_path):
    return read_volume(tmp_path / "o.nii").array


def test_two_series_of_one_modality_are_chosen_by_number_or_uid(run, tmp_path):
    folder = write_study(tmp_path / "study", LIMITED)
    uid = generate_uid(None)
    write_series(folder / "again", VOLUMES["t1"], "t1", 9, SeriesInstanceUID=uid, SeriesDescription="SAG T1")
    code, _, error = run("--dicom", folder)
    assert code == 2 and error.count("\n") == 1
    assert "2 series are taken for t1: series 1 'AX T1 SE' (20 slices, 2 x 2 x 2 mm; 2.25." in error
    assert f"series 9 'SAG T1' (20 slices, 2 x 2 x 2 mm; {uid}). --series t1=NUMBER (or UID) chooses." in error
    for which in ("9", uid):
        code, out, _ = run("--dicom", folder, "--series", f"t1={which}")
        assert code == 0 and "series 9 'SAG T1' was taken for t1" in out
    chosen = labels(tmp_path)
    assert run("--dicom", folder, "--series", "t1=1")[0] == 0
    assert np.array_equal(labels(tmp_path), chosen)


def test_contrast_scan_is_used_if_present_unless_left_out(run, tmp_path):
    folder = write_study(tmp_path / "study", VOLUMES)
    assert "full-modality network was used" in run("--dicom", folder)[1]
    assert "full-modality" not in run("--dicom", folder, "--series", "t1ce=none")[1]


BAD = {
    "both": (("--input", "t1=x.nii", "--dicom", "{}"), "either --input MODALITY=FILE"),
    "neither": ((), "either --input MODALITY=FILE"),
    "series of files": (("--input", "t1=x.nii", "--series", "t1=1"), "are for --dicom FOLDER"),
    "no such series": (("--dicom", "{}", "--series", "t1=77"), "--series t1=77: no such series; there are series 1"),
    "no number": (("--dicom", "{}", "--series", "t1="), "MODALITY=NUMBER"),
    "twice": (("--dicom", "{}", "--series", "t1=1", "--series", "t1=2"), "given twice"),
    "unknown modality": (("--dicom", "{}", "--series", "pet=1"), "knows t1, t1ce, t2, flair"),
    "one series twice": (("--dicom", "{}", "--series", "t1=2"), "given as t1 and as t2; each needs its own"),
    "left out": (("--dicom", "{}", "--series", "flair=none"), "no series was taken for flair. --series flair=NUMBER"),
    "no such study": (("--dicom", "{}", "--study", "1.2"), "--study 1.2: no such study; there are 1 2.25."),
    "no such folder": (("--dicom", "{}/no"), "does not exist"),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_choice_is_reported(run, tmp_path, limited_study, case):
    arguments, reason = BAD[case]
    code, _, error = run(*(part.format(limited_study) for part in arguments))
    assert code == 2 and reason in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_dicom_output_from_files_is_refused(run, tmp_path):
    code, _, error = run("--input", "t1=x.nii", output="o.dcm")
    assert code == 2 and "is written with --dicom FOLDER alone" in error


def test_source_file_is_not_overwritten(run, tmp_path):
    folder = write_study(tmp_path, LIMITED)
    code, _, error = run("--dicom", folder, output="S00001/0003.dcm")
    assert code == 2 and "would replace" in error


def test_file_of_a_series_that_is_not_used_is_not_overwritten(run, tmp_path):
    folder = write_study(tmp_path, LIMITED)
    diffusion = write_series(folder / "S00009", VOLUMES["t2"], "t2", 9, SeriesDescription="DWI")[3]
    before = diffusion.read_bytes()
    code, _, error = run("--dicom", folder, output="S00009/0003.dcm")
    assert code == 2 and "would replace" in error and diffusion.read_bytes() == before


def test_segmentation_in_the_folder_of_its_study_can_be_written_again(run, tmp_path):
    folder = write_study(tmp_path, LIMITED)
    for _ in range(2):
        assert run("--dicom", folder, output="tumour.dcm")[0] == 0
    assert "tumour" not in run("--dicom", folder, "--list", output=None)[1]
    assert len(choose_study(scan(folder)).series) == 3


def test_several_studies_are_listed_and_one_is_chosen(run, tmp_path):
    uid = generate_uid(None)
    folder = write_study(tmp_path / "both" / "a", LIMITED).parent
    for number, (name, volume) in enumerate(LIMITED.items(), 1):
        write_series(
            folder / "b" / name, volume, name, number, StudyInstanceUID=uid, StudyDate="20300101", PatientID="other"
        )
    code, _, error = run("--dicom", folder)
    assert code == 2 and "holds 2 studies of 2 patients; --study UID chooses one: 1 2.25." in error
    assert f"{uid} (20300101: 3 series, 60 files)" in error
    assert "4711-SECRET" not in error and "other" not in error and "Müller" not in error
    assert run("--dicom", folder, "--study", uid)[0] == 0


def test_study_of_two_patients_is_refused(run, tmp_path):
    folder = write_study(tmp_path / "study", LIMITED)
    write_series(folder / "more", VOLUMES["t1"], "t1", 9, PatientID="other")
    assert "its files name 2 patient IDs; a study is of one" in run("--dicom", folder)[2]


def test_list_explains_what_each_series_was_taken_for(run, tmp_path):
    folder = write_study(tmp_path / "study", LIMITED)
    scout = Volume(VOLUMES["t1"].array[8:11], VOLUMES["t1"].ijk_to_ras)
    write_series(folder / "loc", scout, "t2", 7, SeriesDescription="Scout")
    write_series(folder / "gap", VOLUMES["t1"], "t1", 8, SeriesDescription="T1 KM", names="{}".format)
    (folder / "gap" / "5").unlink()
    code, out, _ = run("--dicom", folder, "--list", "--report", tmp_path / "list.json", output="")
    assert code == 0
    assert "    1  t1          AX T1 SE (20 slices, 2 x 2 x 2 mm)  [Series Description 'AX T1 SE'; no contrast" in out
    assert "    7  localizer   Scout (3 slices)  [it has 3 slices, fewer than 8]" in out
    assert "cannot be used: series 8 'T1 KM': its slices are not equally spaced" in out
    listed = json.loads((tmp_path / "list.json").read_text())["series"]
    assert [(row["number"], row["taken_for"], row["slices"]) for row in listed] == [
        *((1, "t1", 20), (2, "t2", 20), (3, "flair", 20), (7, "localizer", 3), (8, "t1ce", 19))
    ]
    assert listed[0]["spacing_mm"] == [2, 2, 2] and listed[4]["spacing_mm"] is None and listed[4]["problem"]
    assert "not equally spaced" in run("--dicom", folder)[2]


def test_output_is_required_unless_listing(run, limited_study):
    assert run("--dicom", limited_study, output="")[2] == "error: --output FILE is needed.\n"


def test_different_frames_of_reference_give_a_warning(run, tmp_path):
    folder = write_study(tmp_path / "study", LIMITED)
    write_series(folder / "S00003", VOLUMES["flair"], "flair", 3, FrameOfReferenceUID=generate_uid(None))
    code, out, _ = run("--dicom", folder)
    assert code == 0 and out.count("have different frames of reference") == 1


def test_damaged_files_beside_the_slices_are_reported(run, tmp_path):
    folder = write_study(tmp_path / "study", LIMITED)
    (folder / "x").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    assert run("--dicom", folder, "--report", tmp_path / "r.json")[0] == 0
    notes = json.loads((tmp_path / "r.json").read_text())["notes"]
    assert sum("1 DICOM files cannot be read and were passed over: 'x'" in note for note in notes) == 1


def test_patient_names_are_never_printed_or_reported(run, tmp_path, limited_study):
    code, out, error = run("--dicom", limited_study, "--report", tmp_path / "r.json", output="o.seg.nrrd")
    header = (tmp_path / "o.seg.nrrd").read_bytes().partition(b"\n\n")[0].decode()
    for text in (out, error, header, (tmp_path / "r.json").read_text()):
        assert not any(
            secret in text for secret in ("Müller", "Änne", "M\\u00fcller", "4711-SECRET", "19500203", "Hidden")
        )


def test_no_series_already_in_use_is_offered_for_a_missing_one(run, tmp_path):
    folder = write_study(tmp_path / "study", {name: VOLUMES[name] for name in ("t1", "t2")})
    code, _, error = run("--dicom", folder)
    assert code == 2 and error == (
        "error: no series was taken for flair, and all 2 are taken for others. Look whether the study is whole; --list "
        "shows what each was taken for.\n"
    )
    write_series(folder / "scout", VOLUMES["flair"], "t1", 8, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    code, _, error = run("--dicom", folder)
    assert code == 2 and error == (
        "error: no series was taken for flair. --series flair=NUMBER (or UID) gives one; --list shows what each was "
        "taken for.\n"
    )


ABSENT = [
    ("pydicom", "pydicom 3", "o.nii"),
    ("pydicom.pixels", "pydicom 3", "o.nii"),
    ("highdicom", "highdicom", "o.dcm"),
]


@pytest.mark.parametrize(("missing", "package", "output"), ABSENT)
def test_missing_packages_are_reported_with_a_command(run, limited_study, monkeypatch, missing, package, output):
    monkeypatch.setitem(sys.modules, missing, None)
    code, _, error = run("--dicom", limited_study, output=output)
    assert code == 2 and error == f'error: DICOM needs the package {package}: pip install "slicer-dante[dicom]".\n'


def test_chest_ct_is_recognised_by_contrast_and_two_kernels_must_be_chosen(tmp_path):
    spec = read_spec(REPOSITORY / "Resources" / "Models" / "embolism-without-contrast")
    chest = {"SeriesDescription": "Thorax 1.0 B30f", "RescaleSlope": 1, "RescaleIntercept": -1024}
    write_series(tmp_path / "a", VOLUMES["t1"], "ct", 2, **chest)
    write_series(tmp_path / "b", VOLUMES["t1"], "ct", 5, **chest, ContrastBolusAgent="Imeron 400")
    rows = table(choose_study(scan(tmp_path)))
    chosen = choose_series(rows, spec, {})
    assert {modality: row.series.number for modality, row in chosen.items()} == {"nct": 2, "ctpa": 5}
    write_series(tmp_path / "c", VOLUMES["t1"], "ct", 6, **(chest | {"SeriesDescription": "Thorax 1.0 B70f"}))
    with pytest.raises(InputError, match="2 series are taken for nct: series 2 .* series 6 'Thorax 1.0 B70f'"):
        choose_series(table(choose_study(scan(tmp_path))), spec, {})
