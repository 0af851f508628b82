import itertools
import os
import signal
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import pytest
from batches import batch, summary
from datasets import write_case
from models import write_brain_model

from DanteSegmenterLib import inference
from DanteSegmenterLib.batch import Options, run_batch
from DanteSegmenterLib.batch import case as case_of_batch
from DanteSegmenterLib.cases.case_list import find_cases
from DanteSegmenterLib.errors import Cancelled
from DanteSegmenterLib.model_folder import Normalisation, read_spec, write_spec
from DanteSegmenterLib.options import SegmentOptions


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model"), with_full=True)


@pytest.fixture
def cases(tmp_path):
    """A and D are fine, B lacks FLAIR, C's T2 is truncated."""
    folder = tmp_path / "cases"
    for n, name in enumerate("ABCD"):
        write_case(folder / name, seed=n)
    (folder / "B" / "B_flair.nii.gz").unlink()
    broken = folder / "C" / "C_t2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-200])
    return folder


def test_failures_do_not_stop_the_batch_and_are_in_the_summary(cases, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert batch(cases, model, out) == 2
    assert sorted(os.listdir(out)) == ["A.seg.nrrd", "D.seg.nrrd", "contact_sheet.png", "summary.csv"]
    rows = summary(out)
    assert {name: row["state"] for name, row in rows.items()} == {
        "A": "done",
        "B": "failed",
        "C": "failed",
        "D": "done",
    }
    assert "missing: flair" in rows["B"]["message"] and "cut short" in rows["C"]["message"]
    assert float(rows["A"]["WT_ml"]) > 0 and 0.5 < float(rows["A"]["WT_confidence"]) <= 1
    assert float(rows["A"]["WT_low_ml"]) <= float(rows["A"]["WT_ml"]) <= float(rows["A"]["WT_high_ml"])
    assert "2 of 4 cases failed" in capsys.readouterr().err


def test_finished_cases_are_skipped_on_the_next_run(cases, model, tmp_path, capsys):
    out = tmp_path / "out"
    batch(cases, model, out)
    before = (out / "A.seg.nrrd").stat().st_mtime_ns
    capsys.readouterr()
    batch(cases, model, out)
    assert (out / "A.seg.nrrd").stat().st_mtime_ns == before
    assert "0 done, 2 skipped, 2 failed" in capsys.readouterr().out


def test_second_run_keeps_the_numbers_of_the_first_and_of_other_folders(cases, model, tmp_path):
    out = tmp_path / "out"
    batch(cases, model, out)
    first, picture = summary(out), (out / "contact_sheet.png").read_bytes()
    write_case(tmp_path / "more" / "E", seed=9)
    assert batch(tmp_path / "more", model, out) == 0
    second = summary(out)
    assert {name: second[name] for name in first} == first and second["E"]["state"] == "done"
    batch(cases, model, out)
    third = summary(out)
    assert third["A"]["state"] == "skipped" and third["A"]["WT_ml"] == first["A"]["WT_ml"] != ""
    assert (out / "contact_sheet.png").read_bytes() == picture and (out / "contact_sheet-2.png").is_file()


def test_case_counts_as_finished_only_for_the_same_model_and_options(cases, model, tmp_path):
    """Another model's result, or one that was edited by hand, is neither counted for this model nor lost."""
    out = tmp_path / "out"
    batch(cases, model, out)
    first = (out / "A.seg.nrrd").read_bytes()
    other = write_brain_model(tmp_path / "other", seed=1)
    spec = read_spec(other)
    write_spec(other, replace(spec, name="another model"))
    batch(cases, other, out)
    row = summary(out)["A"]
    assert row["state"] == "done" and row["model"] == "another model 1" and "A.earlier.seg.nrrd" in row["message"]
    assert (out / "A.earlier.seg.nrrd").read_bytes() == first
    second = (out / "A.seg.nrrd").read_bytes()
    batch(cases, other, out, "--mirror")
    assert (out / "A.earlier-2.seg.nrrd").read_bytes() == second
    batch(cases, other, out, "--mirror")
    assert summary(out)["A"]["state"] == "skipped"
    (out / "A.seg.nrrd").write_bytes(b"corrected by hand, in another program")
    batch(cases, other, out, "--mirror")
    assert (out / "A.earlier-3.seg.nrrd").read_bytes() == b"corrected by hand, in another program"


@pytest.mark.parametrize("error", [RuntimeError("CUDA error:\nillegal access"), MemoryError(), OSError(5, "I/O")])
def test_unexpected_error_fails_only_its_own_case(model, tmp_path, monkeypatch, error):
    for n, name in enumerate("ABC"):
        write_case(tmp_path / "cases" / name, seed=n)
    real, count = inference.segment, itertools.count()

    def breaks_once(*arguments, **more):
        if next(count) == 1:
            raise error
        return real(*arguments, **more)

    monkeypatch.setattr(inference, "segment", breaks_once)
    outcomes = run_batch(model, find_cases(tmp_path / "cases"), tmp_path / "out", Options("cpu"))
    assert [outcome.state for outcome in outcomes] == ["done", "failed", "done"]
    reasons = {RuntimeError: "CUDA error: illegal access", MemoryError: "not enough memory", OSError: "I/O"}
    assert reasons[type(error)] in outcomes[1].message and "\n" not in outcomes[1].message


def test_unwritable_result_leaves_the_old_files(model, tmp_path, monkeypatch):
    write_case(tmp_path / "cases" / "A", seed=0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "A.seg.nrrd").write_bytes(b"corrected by hand")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("DanteSegmenterLib.batch.case.write_segmentation", full)
    assert batch(tmp_path / "cases", model, tmp_path / "out") == 2
    assert (tmp_path / "out" / "A.seg.nrrd").read_bytes() == b"corrected by hand"
    assert sorted(os.listdir(tmp_path / "out")) == ["A.seg.nrrd", "summary.csv"]


def test_stopped_batch_keeps_finished_cases(model, tmp_path):
    for n, name in enumerate("AB"):
        write_case(tmp_path / "cases" / name, seed=n)
    ended = []
    with pytest.raises(Cancelled):
        run_batch(
            model, find_cases(tmp_path / "cases"), tmp_path / "out", Options("cpu"),
            progress=ended.append, cancelled=lambda: bool(ended),
        )  # fmt: skip
    assert [outcome.case for outcome in ended] == ["A"] and list(summary(tmp_path / "out")) == ["A"]


def test_preparing_for_a_model_that_reads_no_brains_is_refused_first(tmp_path, capsys):
    model = write_brain_model(tmp_path / "ct")
    spec = read_spec(model)
    window = Normalisation("ct_window", low=-160, high=240, mean=40, std=60)
    normalisation = dict.fromkeys(spec.preprocessing.normalisation, window)
    write_spec(model, replace(spec, preprocessing=replace(spec.preprocessing, normalisation=normalisation)))
    write_case(tmp_path / "cases" / "A", seed=0)
    assert batch(tmp_path / "cases", model, tmp_path / "out", "--prepare") == 2
    assert "brains in MR" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_truncated_or_invalid_summary_is_moved_aside(model, tmp_path):
    write_case(tmp_path / "cases" / "A", seed=0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.csv").write_bytes(b"case,state\n\xff\xfe,d")
    assert batch(tmp_path / "cases", model, tmp_path / "out") == 0
    assert list(summary(tmp_path / "out")) == ["A"] and (tmp_path / "out" / "summary.unreadable.csv").is_file()


def test_list_shows_what_would_run_without_running(cases, model, tmp_path, capsys):
    assert batch(cases, model, tmp_path / "out", "--list") == 0
    text = capsys.readouterr().out
    assert text.count("will run") == 3 and "missing: flair" in text and not (tmp_path / "out").exists()


def test_privileged_scan_is_used_if_present_unless_left_out(cases, model, tmp_path):
    for arguments, full in (((), True), (("--limited",), False)):
        out = tmp_path / f"out{len(arguments)}"
        batch(cases, model, out, *arguments)
        assert ("full-modality network was used" in summary(out)["A"]["message"]) == full


def test_missing_device_is_refused_before_reading_or_writing(cases, model, tmp_path, capsys):
    assert batch(cases, model, tmp_path / "out", "--device", "abacus") == 2
    assert "unknown device 'abacus'" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_two_cases_of_one_name_are_refused(model, tmp_path, capsys):
    for group in ("HGG", "LGG"):
        write_case(tmp_path / "cases" / group / "A", seed=1)
    assert batch(tmp_path / "cases", model, tmp_path / "out") == 2
    assert "two cases are named 'A'" in capsys.readouterr().err


def test_missing_cluster_is_reported(cases, model, tmp_path, capsys, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("DanteSegmenterLib.batch.cluster.CONNECT_SECONDS", 1)
    assert batch(cases, model, tmp_path / "out", "--cluster", "tcp://127.0.0.1:1") == 2
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:1'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_cases_of_a_killed_cluster_worker_are_done_by_another(model, tmp_path):
    distributed = pytest.importorskip("distributed")
    for n in range(8):
        write_case(tmp_path / "cases" / f"case{n}", seed=n)
    killed = []

    def kill_the_first(outcome):
        if not killed:
            pid = next(iter(cluster.workers.values())).process.pid
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    # It leaves OMP_NUM_THREADS and MKL_NUM_THREADS in this process's environment, for the children of later tests.
    with (
        mock.patch.dict(os.environ),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        outcomes = run_batch(
            model,
            find_cases(tmp_path / "cases"),
            tmp_path / "out",
            Options("cpu", SegmentOptions(mirror=True)),
            cluster.scheduler_address,
            kill_the_first,
        )
    assert killed and [outcome.state for outcome in outcomes] == ["done"] * 8
    assert len(list((tmp_path / "out").glob("*.seg.nrrd"))) == 8


def test_case_name_is_plain_text_in_the_table(model, tmp_path):
    write_case(tmp_path / "cases" / "=1+1", seed=0)
    for _again in range(2):
        assert batch(tmp_path / "cases", model, tmp_path / "out") == 0
        assert list(summary(tmp_path / "out")) == ["'=1+1"]


def test_only_the_model_in_use_is_kept_in_memory(monkeypatch):
    monkeypatch.setattr(case_of_batch, "_MODELS", {})
    monkeypatch.setattr(inference, "load_model", lambda folder, device: f"{folder} on {device}")
    monkeypatch.setattr(case_of_batch, "digest_of", lambda folder: f"that of {folder}")
    assert [case_of_batch._loaded(folder, "cpu") for folder in "aab"] == ["a on cpu", "a on cpu", "b on cpu"]
    assert list(case_of_batch._MODELS.values()) == ["b on cpu"]


def test_model_trained_again_in_the_same_folder_is_used_by_the_same_process(cases, tmp_path):
    folder = tmp_path / "model"
    reports = []
    for seed in (0, 1):
        write_brain_model(folder, seed=seed)
        outcomes = run_batch(folder, find_cases(cases)[:1], tmp_path / "out", Options("cpu"))
        reports.append(outcomes[0].report)
    digest = read_spec(folder).limited.digest
    assert digest.startswith(reports[1].weights) and reports[0].weights != reports[1].weights


def test_dicom_segmentation_without_its_result_is_removed(tmp_path, monkeypatch):
    source = SimpleNamespace(stack=None)
    result = SimpleNamespace(masks={}, spec=SimpleNamespace(regions=()), report=None)
    monkeypatch.setattr(case_of_batch, "write_seg", lambda path, *_: path.write_text("new"))
    (tmp_path / "A.dcm").write_text("of before")
    for name in "AB":
        with pytest.raises(OSError), case_of_batch._dicom_beside(tmp_path / f"{name}.seg.nrrd", source, result):
            assert (tmp_path / f"{name}.dcm").read_text() == "new"
            raise OSError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"A.dcm": "of before"}
    with case_of_batch._dicom_beside(tmp_path / "B.seg.nrrd", source, result):
        pass
    assert (tmp_path / "B.dcm").read_text() == "new"
