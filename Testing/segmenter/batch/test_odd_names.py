"""Cases with odd names, and ambiguous folders, which must not affect other cases."""

import csv
import os
import sys

import pytest
from datasets import write_case
from models import write_brain_model

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.batch.run import result_file

ODD = {
    "emoji": "emoji 😀",
    "umlaut": "Müller",
    "Latin-1 bytes": os.fsdecode(b"M\xfcller"),
    "mathematics": "x$^^$y",
    "formula": "=1+1",
    "as long as can be": "n" * 250,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model"))


def states(out):
    with open(out / "summary.csv", newline="", encoding="utf-8", errors="replace") as file:
        return [row["state"] for row in csv.DictReader(file)]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
@pytest.mark.parametrize("kind", ODD)
def test_case_with_an_odd_name_is_segmented(model, tmp_path, kind):
    for n, name in enumerate(("A", "plain")):
        write_case(tmp_path / "cases" / name, seed=n)
    (tmp_path / "cases" / "plain").rename(tmp_path / "cases" / ODD[kind])
    out = tmp_path / "out"
    assert main(["batch", str(tmp_path / "cases"), "--model", str(model), "--out", str(out), "--device", "cpu"]) == 0
    assert len(list(out.glob("*.seg.nrrd"))) == 2 and states(out) == ["done", "done"]
    assert (out / "contact_sheet.png").is_file()


def test_overlong_names_are_truncated_and_stay_distinct(tmp_path):
    files = [result_file("ü" * 130 + end, tmp_path).name for end in "ab"]
    assert files[0] != files[1] and all(len(os.fsencode(file)) <= 255 for file in files)
    assert result_file("n" * 246, tmp_path).name == "n" * 246 + ".seg.nrrd"


def test_folder_with_a_duplicate_scan_fails_alone(model, tmp_path, capsys):
    for n, name in enumerate("ABC"):
        write_case(tmp_path / "cases" / name, seed=n)
    twin = tmp_path / "cases" / "B" / "again_t1.nii.gz"
    twin.write_bytes((tmp_path / "cases" / "B" / "B_t1.nii.gz").read_bytes())
    out = tmp_path / "out"
    assert main(["batch", str(tmp_path / "cases"), "--model", str(model), "--out", str(out), "--device", "cpu"]) == 2
    assert sorted(states(out)) == ["done", "done", "failed"]
    assert "two files for t1" in (out / "summary.csv").read_text(encoding="utf-8")
