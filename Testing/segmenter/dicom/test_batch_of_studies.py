"""A batch of DICOM studies beside folders of image files: one case per study, skipped, resumed and summarised alike."""

import builtins
import os
import shutil
import sys

import highdicom
import numpy as np
import pytest
from batches import batch, summary
from datasets import LPS_4MM, images, write_case
from dicom_files import write_series, write_study
from models import write_brain_model
from pydicom import config, dcmread
from pydicom.uid import generate_uid

from DanteSegmenterLib.cases.case import Case
from DanteSegmenterLib.command_line.batch import all_cases
from DanteSegmenterLib.dicom.case_list import SeriesSource, dicom_cases
from DanteSegmenterLib.errors import ResourceError
from DanteSegmenterLib.model_folder.read_write import read_spec
from DanteSegmenterLib.volume import Volume


def volumes(seed):
    arrays, _ = images(seed)
    named = {name: arrays[name] for name in ("t1", "t2", "flair")}
    return {name: Volume(np.rint(100 * array).astype(np.int16), LPS_4MM) for name, array in named.items()}


def write_dicom_case(folder, seed):
    return write_study(folder, volumes(seed), StudyInstanceUID=generate_uid(None))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def folder(tmp_path):
    """A NIfTI case with its own originals inside, and a study two folders down."""
    folder = tmp_path / "patients"
    write_case(folder / "A", 0)
    write_dicom_case(folder / "A" / "originals", 0)
    write_dicom_case(folder / "B" / "day 1", 1)
    write_dicom_case(folder / "sourcedata" / "C", 2)
    return folder


def test_studies_and_file_folders_are_segmented_then_skipped(folder, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert batch(folder, model, out) == 0
    assert {name: line["state"] for name, line in summary(out).items()} == {"A": "done", "B_day 1": "done"}
    assert not list(out.glob("*.dcm"))
    capsys.readouterr()
    assert batch(folder, model, out) == 0
    assert "0 done, 2 skipped, 0 failed" in capsys.readouterr().out


def test_study_is_recomputed_for_a_changed_slice_but_not_for_renamed_files(folder, model, tmp_path, capsys):
    out, series = tmp_path / "out", folder / "B" / "day 1" / "S00002"
    assert batch(folder, model, out) == 0
    for n, file in enumerate(sorted(series.iterdir(), reverse=True)):
        file.rename(file.with_name(f"IM{n}"))
    assert batch(folder, model, out) == 0
    assert "0 done, 2 skipped, 0 failed" in capsys.readouterr().out
    changed = dcmread(series / "IM3")
    pixels = changed.pixel_array.copy()
    pixels[4, 5] += 1
    changed.PixelData = pixels.tobytes()
    changed.save_as(series / "IM3")
    assert batch(folder, model, out) == 0
    assert "1 done, 1 skipped, 0 failed" in capsys.readouterr().out


def test_dicom_segmentation_of_a_study_is_written_on_request(folder, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert batch(folder, model, out, "--dicom-seg") == 0
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".png") == [
        *("A.seg.nrrd", "B_day 1.dcm", "B_day 1.seg.nrrd", "summary.csv")
    ]
    segmentation = highdicom.seg.segread(out / "B_day 1.dcm")
    spacing = 4.0**3 / 1000
    frames = segmentation.pixel_array
    for number, region in enumerate(("WT", "TC", "ET"), 1):
        of_segment = [
            frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
            for frame in segmentation.PerFrameFunctionalGroupsSequence
        ]
        assert frames[of_segment].sum() * spacing == pytest.approx(float(summary(out)["B_day 1"][f"{region}_ml"]), 1e-3)
    # A case without its DICOM segmentation is not finished; existing files stay beside it.
    (out / "B_day 1.dcm").unlink()
    assert batch(folder, model, out, "--dicom-seg") == 0
    assert "1 done, 1 skipped, 0 failed" in capsys.readouterr().out and (out / "B_day 1.dcm").is_file()


@pytest.mark.parametrize("results", ["results", "."])
def test_segmentations_in_the_searched_folder_change_no_name_of_a_case(tmp_path, model, capsys, results):
    folder = tmp_path / "patients"
    write_dicom_case(folder / "B", 1)
    assert batch(folder, model, folder / results, "--dicom-seg") == 0
    assert (folder / results / "B.dcm").is_file()
    capsys.readouterr()
    assert batch(folder, model, folder / results, "--dicom-seg") == 0
    assert "0 done, 1 skipped, 0 failed" in capsys.readouterr().out
    assert list(summary(folder / results)) == ["B"]


def test_study_that_cannot_be_referenced_fails_before_computing(tmp_path, model, monkeypatch):
    write_study(tmp_path / "all" / "B", volumes(1), FrameOfReferenceUID=None)
    monkeypatch.setattr("DanteSegmenterLib.inference.segment", None)
    assert batch(tmp_path / "all", model, tmp_path / "out", "--dicom-seg") == 2
    assert "names no Frame of Reference UID" in summary(tmp_path / "out")["B"]["message"]


def test_ambiguous_study_fails_alone(folder, model, tmp_path):
    # A second T1.
    uid = next(iter(dicom_cases(folder / "B", read_spec(model))[0].images.values())).stack.series.instances[0].study
    write_series(folder / "B" / "day 1" / "x", volumes(1)["t1"], "t1", 8, StudyInstanceUID=uid)
    assert batch(folder, model, tmp_path / "out") == 2
    lines = summary(tmp_path / "out")
    assert lines["A"]["state"] == "done" and lines["B_day 1"]["state"] == "failed"
    message = lines["B_day 1"]["message"]
    assert "2 series are taken for t1: series 1 " in message
    # Options that `batch` lacks are not suggested.
    assert ". Segment it alone: segment --dicom FOLDER --series t1=NUMBER (or UID) chooses. (" in message


def test_no_series_already_in_use_is_offered_for_a_missing_one(tmp_path, model):
    """One study has no series left; the other has a series without identifying attributes."""
    two = {name: volume for name, volume in volumes(1).items() if name != "flair"}
    for name in ("A", "B"):
        uid = generate_uid(None)
        write_study(tmp_path / "all" / name, two, StudyInstanceUID=uid)
    nothing = {"SeriesDescription": "x", "EchoTime": None, "RepetitionTime": None}
    write_series(tmp_path / "all" / "B" / "x", volumes(1)["flair"], "t1", 8, StudyInstanceUID=uid, **nothing)
    assert batch(tmp_path / "all", model, tmp_path / "out") == 2
    lines = summary(tmp_path / "out")
    assert lines["A"]["message"].startswith(
        "no series was taken for flair, and all 2 are taken for others. Look whether the study is whole; "
        "segment --dicom FOLDER --list shows what each was taken for. ("
    )
    assert lines["B"]["message"].startswith(
        "no series was taken for flair. Segment it alone: segment --dicom FOLDER --series flair=NUMBER (or UID) gives "
        "one, for example of series 8 'x' (20 slices, 4 x 4 x 4 mm; "
    )
    assert "; segment --dicom FOLDER --list shows what each was taken for. (" in lines["B"]["message"]
    assert "series 1 " not in lines["B"]["message"] and "series 2 " not in lines["B"]["message"]


def closed(monkeypatch, *paths):
    """Make files and folders unreadable, also for root, who may run the tests."""
    shut = {str(path) for path in paths}

    def refusing(real):
        def call(path, *more, **named):
            if str(path) in shut:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *more, **named)

        return call

    for module, name in ((os, "scandir"), (os, "listdir"), (builtins, "open")):
        monkeypatch.setattr(module, name, refusing(getattr(module, name)))


def test_unreadable_file_is_named_and_stops_nothing(folder, model, tmp_path, monkeypatch, capsys):
    (folder / "README.txt").write_text("Of all patients.")
    closed(monkeypatch, folder / "README.txt")
    assert batch(folder, model, tmp_path / "out") == 2
    lines = summary(tmp_path / "out")
    states = {name: line["state"] for name, line in lines.items()}
    assert states == {"A": "done", "B_day 1": "done", "DICOM": "failed"}
    assert lines["DICOM"]["message"] == (
        "1 files or folders cannot be read: 'README.txt' (Permission denied). Whether DICOM files are among them is "
        "not known; ask for access to them, or take them away."
    )
    passed_over = "WARNING: 1 files or folders cannot be read and were passed over: 'README.txt'"
    assert passed_over in lines["B_day 1"]["message"]  # it may be a slice
    assert "README" not in lines["A"]["message"] and "1 of 3 cases failed" in capsys.readouterr().err


def test_unreadable_folders_of_equal_name_stop_nothing(folder, model, tmp_path, monkeypatch):
    shut = [folder / name / "private" for name in ("E", "F")]
    for path in shut:
        path.mkdir(parents=True)
    closed(monkeypatch, *shut)
    assert batch(folder, model, tmp_path / "out") == 2
    lines = summary(tmp_path / "out")
    assert {name for name, line in lines.items() if line["state"] == "done"} == {"A", "B_day 1"}
    failed = {name: line["message"] for name, line in lines.items() if line["state"] == "failed"}
    assert set(failed) == {"private", "private (2)", "DICOM"}
    assert "E/private' cannot be read" in failed["private"] and "F/private' cannot be read" in failed["private (2)"]
    assert "'E/private' (Permission denied), 'F/private' (Permission denied)" in failed["DICOM"]


def test_too_many_files_stop_only_the_dicom_search(folder, model, tmp_path, monkeypatch):
    monkeypatch.setattr("DanteSegmenterLib.dicom.study_scan.MOST_FILES", 3)
    assert batch(folder, model, tmp_path / "out") == 2
    lines = summary(tmp_path / "out")
    assert lines["A"]["state"] == "done" and "more than 3 files" in lines["DICOM"]["message"]


def test_studies_in_one_folder_are_named_by_uid(tmp_path, model):
    for seed in (1, 2):
        write_study(tmp_path / "all", volumes(seed), StudyInstanceUID=f"1.2.{seed}", names=f"{seed}-{{}}".format)
    write_study(tmp_path / "all" / "S" / "T", volumes(3), StudyInstanceUID="1.2.3")
    cases = dicom_cases(tmp_path / "all", read_spec(model))
    assert [case.name for case in cases] == ["1.2.1", "1.2.2", "S_T"]
    assert all(isinstance(source, SeriesSource) for case in cases for source in case.images.values())


def test_uid_that_is_a_path_is_harmless(tmp_path, model):
    with config.disable_value_validation():
        write_study(tmp_path / "all", volumes(1), StudyInstanceUID="../../../up")
    (case,) = dicom_cases(tmp_path / "all", read_spec(model))
    assert case.name == "_.._.._up"
    assert batch(tmp_path / "all", model, tmp_path / "out") == 0
    assert (tmp_path / "out" / "_.._.._up.seg.nrrd").is_file()


def test_missing_cases_and_missing_dicom_package_are_reported(tmp_path, model, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    assert batch(tmp_path / "empty", model, tmp_path / "out") == 2
    assert "DICOM" in capsys.readouterr().err
    write_dicom_case(tmp_path / "B", 1)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ResourceError, match="DICOM needs the package pydicom 3"):
        all_cases(tmp_path, read_spec(model))


def test_other_cases_continue_without_the_package(folder, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    first, second = all_cases(folder, read_spec(model))
    assert first.name == "A" and not first.problem and "pip install" in second.problem


def test_originals_beside_files_need_no_package(folder, model, monkeypatch):
    shutil.rmtree(folder / "B")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (case,) = all_cases(folder, read_spec(model))
    assert isinstance(case, Case) and case.name == "A"
