import csv
import os
import signal

import pytest
from datasets import write_case
from models import write_brain_model

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.batch import Options, run_batch
from DanteSegmenterLib.cases.case_list import find_cases


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model"), with_full=True)


@pytest.fixture
def cases(tmp_path):
    """A and D are fine, B lacks FLAIR, C's T2 is cut short."""
    folder = tmp_path / "cases"
    for n, name in enumerate("ABCD"):
        write_case(folder / name, seed=n)
    (folder / "B" / "B_flair.nii.gz").unlink()
    broken = folder / "C" / "C_t2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-200])
    return folder


def batch(cases, model, out, *options):
    return main(["batch", str(cases), "--model", str(model), "--out", str(out), "--device", "cpu", *options])


def summary(out):
    with open(out / "summary.csv", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_failures_do_not_stop_the_rest_and_the_summary_says_why(cases, model, tmp_path, capsys):
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
    assert float(rows["A"]["WT_ml"]) > 0 and 0.5 < float(rows["A"]["WT_mean_probability"]) <= 1
    assert "2 of 4 cases failed" in capsys.readouterr().err


def test_what_is_finished_is_skipped_when_the_command_is_run_again(cases, model, tmp_path, capsys):
    out = tmp_path / "out"
    batch(cases, model, out)
    before = (out / "A.seg.nrrd").stat().st_mtime_ns
    capsys.readouterr()
    batch(cases, model, out)
    assert (out / "A.seg.nrrd").stat().st_mtime_ns == before
    assert "0 done, 2 skipped, 2 failed" in capsys.readouterr().out


def test_the_list_says_what_would_run_and_does_nothing(cases, model, tmp_path, capsys):
    assert batch(cases, model, tmp_path / "out", "--list") == 0
    text = capsys.readouterr().out
    assert text.count("will run") == 3 and "missing: flair" in text and not (tmp_path / "out").exists()


def test_the_privileged_scan_is_used_where_it_is_there_unless_left_out(cases, model, tmp_path):
    for arguments, said in (((), True), (("--limited",), False)):
        out = tmp_path / f"out{len(arguments)}"
        batch(cases, model, out, *arguments)
        assert ("full-modality network was used" in summary(out)["A"]["message"]) == said


def test_two_cases_of_one_name_are_refused(model, tmp_path, capsys):
    for group in ("HGG", "LGG"):
        write_case(tmp_path / "cases" / group / "A", seed=1)
    assert batch(tmp_path / "cases", model, tmp_path / "out") == 2
    assert "two cases are named 'A'" in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_said(cases, model, tmp_path, capsys):
    pytest.importorskip("distributed")
    assert batch(cases, model, tmp_path / "out", "--cluster", "tcp://127.0.0.1:1") == 2
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:1'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_on_a_cluster_a_killed_workers_cases_are_done_by_another(model, tmp_path):
    distributed = pytest.importorskip("distributed")
    for n in range(8):
        write_case(tmp_path / "cases" / f"case{n}", seed=n)
    killed = []

    def kill_the_first(outcome):
        if not killed:
            pid = next(iter(cluster.workers.values())).process.pid
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        outcomes = run_batch(
            model, find_cases(tmp_path / "cases"), tmp_path / "out", Options("cpu", mirror=True),
            cluster.scheduler_address, kill_the_first,
        )  # fmt: skip
    assert killed and [outcome.state for outcome in outcomes] == ["done"] * 8
    assert len(list((tmp_path / "out").glob("*.seg.nrrd"))) == 8
