"""A result counts as finished while the images it was made from are unchanged, whatever their names."""

import os
import re
import shutil
import threading
import time

import nrrd
import numpy as np
import pytest
from batches import batch, summary
from datasets import LPS_4MM, images, write_case
from models import write_brain_model

from DanteSegmenterLib import inference
from DanteSegmenterLib.batch.fingerprint import fingerprint
from DanteSegmenterLib.cases.case import ImageSource
from DanteSegmenterLib.files import read_volume, write_volume
from DanteSegmenterLib.volume import Volume

LONG_AGO = 10**9


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model"), with_full=True)


@pytest.fixture(scope="module")
def computed(model, tmp_path_factory):
    """A case and its result, not to be modified; the contrast T1 is not read."""
    folder = tmp_path_factory.mktemp("computed")
    write_case(folder / "cases" / "A", seed=0)
    assert batch(folder / "cases", model, folder / "out", "--limited") == 0
    return folder


@pytest.fixture
def place(computed, tmp_path):
    """Copies with the files' times preserved."""
    shutil.copytree(computed, tmp_path / "all")
    return tmp_path / "all"


def again(place, model):
    """The state of the case when the same command runs again."""
    assert batch(place / "cases", model, place / "out", "--limited") == 0
    return summary(place / "out")["A"]


def replace_image(place, modality="flair", seed=1):
    """Replace an image by another patient's with the same name, older than the result."""
    path = place / "cases" / "A" / f"A_{modality}.nii.gz"
    write_volume(path, Volume(images(seed)[0][modality], LPS_4MM))
    os.utime(path, (LONG_AGO, LONG_AGO))


def made_by_an_earlier_version(place):
    """Remove from the result what it stores about its images."""
    path = place / "out" / "A.seg.nrrd"
    head, blank, data = path.read_bytes().partition(b"\n\n")
    lines = [line for line in head.split(b"\n") if not line.startswith(b"DanteImages")]
    path.write_bytes(b"\n".join(lines) + blank + data)
    assert not any("Images" in key for key in nrrd.read_header(str(path)))


def test_case_with_replaced_image_is_recomputed_and_the_old_result_kept(place, model, tmp_path):
    before = (place / "out" / "A.seg.nrrd").read_bytes()
    replace_image(place)
    row = again(place, model)
    assert row["state"] == "done" and "of other images" in row["message"]
    assert (place / "out" / "A.earlier.seg.nrrd").read_bytes() == before
    batch(place / "cases", model, tmp_path / "fresh", "--limited")
    assert row["WT_confidence"] == summary(tmp_path / "fresh")["A"]["WT_confidence"]
    assert again(place, model)["state"] == "skipped"


def test_swapped_images_count_as_changed(place, model):
    case = place / "cases" / "A"
    (case / "A_t1.nii.gz").rename(case / "x")
    (case / "A_t2.nii.gz").rename(case / "A_t1.nii.gz")
    (case / "x").rename(case / "A_t2.nii.gz")
    assert again(place, model)["state"] == "done"


def test_copies_and_touched_files_count_as_unchanged(place, model):
    case = place / "cases" / "A"
    shutil.copytree(case, place / "elsewhere")  # at least with other inode times
    shutil.rmtree(case)
    shutil.move(place / "elsewhere", case)
    for file in case.iterdir():
        os.utime(file)
    assert again(place, model)["state"] == "skipped"
    for file in case.iterdir():
        file.rename(file.with_name(file.name.replace("A_", "other_")))
    assert again(place, model)["state"] == "skipped"


def test_image_the_model_does_not_read_may_be_replaced(place, model):
    replace_image(place, "t1ce")
    assert again(place, model)["state"] == "skipped"


def test_images_with_unchanged_size_and_times_are_not_opened(computed, model, monkeypatch):
    monkeypatch.setattr("DanteSegmenterLib.batch.fingerprint.sha256_of", None)
    assert again(computed, model)["state"] == "skipped"


@pytest.mark.parametrize(("hours", "state"), [(-1, "skipped"), (1, "done")])
def test_result_of_an_earlier_version_is_finished_unless_an_image_is_newer(place, model, hours, state):
    made_by_an_earlier_version(place)
    made = (place / "out" / "A.seg.nrrd").stat().st_mtime
    for file in (place / "cases" / "A").iterdir():
        os.utime(file, (made - 3600, made - 3600))
    os.utime(place / "cases" / "A" / "A_t2.nii.gz", (made + 3600 * hours,) * 2)
    assert again(place, model)["state"] == state
    assert (place / "out" / "A.earlier.seg.nrrd").is_file() == (state == "done")


def test_image_replaced_during_the_run_is_recomputed(model, tmp_path, monkeypatch):
    write_case(tmp_path / "cases" / "A", seed=0)
    real = inference.segment

    def slowly(*arguments, **more):
        result = real(*arguments, **more)
        replace_image(tmp_path)
        return result

    monkeypatch.setattr(inference, "segment", slowly)
    assert again(tmp_path, model)["state"] == "done"
    monkeypatch.setattr(inference, "segment", real)
    assert again(tmp_path, model)["state"] == "done"


def test_unreadable_image_fails_its_case_and_keeps_the_result(place, model):
    before = (place / "out" / "A.seg.nrrd").read_bytes()
    flair = place / "cases" / "A" / "A_flair.nii.gz"
    flair.write_bytes(flair.read_bytes()[:-200])
    assert batch(place / "cases", model, place / "out", "--limited") == 2
    row = summary(place / "out")["A"]
    assert row["state"] == "failed" and "cut short" in row["message"]
    assert (place / "out" / "A.seg.nrrd").read_bytes() == before


def test_result_stores_only_digests_of_its_images(computed):
    header = nrrd.read_header(str(computed / "out" / "A.seg.nrrd"))
    assert re.fullmatch(r'\{"contents": "[0-9a-f]{64}", "seen": "[0-9a-f]{64}"\}', header["DanteImages"])
    assert "nii" not in "".join(map(str, header.values()))
    assert np.any(read_volume(computed / "out" / "A.seg.nrrd", component=0).array)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_pipe_in_place_of_an_image_does_not_block(place, model):
    file = next((place / "cases" / "A").glob("*t2.nii.gz"))
    file.unlink()
    os.mkfifo(file)
    writer = threading.Thread(target=written_after_a_while, args=(file,), daemon=True)  # unblocks a reader that waits
    writer.start()
    assert batch(place / "cases", model, place / "out", "--limited") == 2
    assert "does not exist" in summary(place / "out")["A"]["message"] and writer.is_alive()


def written_after_a_while(pipe):
    time.sleep(20)
    pipe.write_bytes(b"")


def test_fingerprint_depends_on_the_channel_but_not_on_the_order(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"four channels")
    one, other = (ImageSource(tmp_path / "a.nii", component) for component in (0, 1))
    first = fingerprint({"t1": one, "t2": other})
    assert fingerprint({"t2": other, "t1": one}) == first
    changed = fingerprint({"t1": other, "t2": one})
    assert changed.contents != first.contents and changed.seen != first.seen


def test_different_image_of_equal_size_and_time_is_detected(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(b"one")
    before, times = fingerprint({"t1": ImageSource(path)}), path.stat()
    time.sleep(0.02)  # file system clocks tick slowly
    path.write_bytes(b"two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = fingerprint({"t1": ImageSource(path)})
    assert after.contents != before.contents and after.seen != before.seen
