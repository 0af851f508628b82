"""A result counts as finished while the images that it was made of are there, whatever they are called."""

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
    """A case and its result, which nobody changes; the contrast T1 is not read."""
    folder = tmp_path_factory.mktemp("computed")
    write_case(folder / "cases" / "A", seed=0)
    assert batch(folder / "cases", model, folder / "out", "--limited") == 0
    return folder


@pytest.fixture
def place(computed, tmp_path):
    """Copies, with the files' times."""
    shutil.copytree(computed, tmp_path / "all")
    return tmp_path / "all"


def again(place, model):
    """How the case ends when the same command is run again."""
    assert batch(place / "cases", model, place / "out", "--limited") == 0
    return summary(place / "out")["A"]


def replace_image(place, modality="flair", seed=1):
    """Another patient's image under the same name, from before the result was made."""
    path = place / "cases" / "A" / f"A_{modality}.nii.gz"
    write_volume(path, Volume(images(seed)[0][modality], LPS_4MM))
    os.utime(path, (LONG_AGO, LONG_AGO))


def made_by_an_earlier_version(place):
    """The result without what it says of its images."""
    path = place / "out" / "A.seg.nrrd"
    head, blank, data = path.read_bytes().partition(b"\n\n")
    lines = [line for line in head.split(b"\n") if not line.startswith(b"DanteImages")]
    path.write_bytes(b"\n".join(lines) + blank + data)
    assert not any("Images" in key for key in nrrd.read_header(str(path)))


def test_a_case_whose_image_was_replaced_is_computed_again_and_the_earlier_result_is_kept(place, model, tmp_path):
    before = (place / "out" / "A.seg.nrrd").read_bytes()
    replace_image(place)
    row = again(place, model)
    assert row["state"] == "done" and "of other images" in row["message"]
    assert (place / "out" / "A.earlier.seg.nrrd").read_bytes() == before
    batch(place / "cases", model, tmp_path / "fresh", "--limited")
    assert row["WT_confidence"] == summary(tmp_path / "fresh")["A"]["WT_confidence"]
    assert again(place, model)["state"] == "skipped"


def test_two_images_that_were_exchanged_are_other_images(place, model):
    case = place / "cases" / "A"
    (case / "A_t1.nii.gz").rename(case / "x")
    (case / "A_t2.nii.gz").rename(case / "A_t1.nii.gz")
    (case / "x").rename(case / "A_t2.nii.gz")
    assert again(place, model)["state"] == "done"


def test_copies_and_other_times_are_the_same_images(place, model):
    case = place / "cases" / "A"
    shutil.copytree(case, place / "elsewhere")  # with other times of the inode at least
    shutil.rmtree(case)
    shutil.move(place / "elsewhere", case)
    for file in case.iterdir():
        os.utime(file)
    assert again(place, model)["state"] == "skipped"
    for file in case.iterdir():
        file.rename(file.with_name(file.name.replace("A_", "other_")))
    assert again(place, model)["state"] == "skipped"


def test_an_image_that_the_model_does_not_read_may_be_replaced(place, model):
    replace_image(place, "t1ce")
    assert again(place, model)["state"] == "skipped"


def test_where_size_and_times_are_as_they_were_no_image_is_opened(computed, model, monkeypatch):
    monkeypatch.setattr("DanteSegmenterLib.batch.fingerprint.sha256_of", None)
    assert again(computed, model)["state"] == "skipped"


@pytest.mark.parametrize(("hours", "state"), [(-1, "skipped"), (1, "done")])
def test_a_result_of_an_earlier_version_is_finished_unless_an_image_is_newer(place, model, hours, state):
    made_by_an_earlier_version(place)
    made = (place / "out" / "A.seg.nrrd").stat().st_mtime
    for file in (place / "cases" / "A").iterdir():
        os.utime(file, (made - 3600, made - 3600))
    os.utime(place / "cases" / "A" / "A_t2.nii.gz", (made + 3600 * hours,) * 2)
    assert again(place, model)["state"] == state
    assert (place / "out" / "A.earlier.seg.nrrd").is_file() == (state == "done")


def test_an_image_that_is_replaced_while_it_is_computed_is_computed_again(model, tmp_path, monkeypatch):
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


def test_an_image_that_cannot_be_read_any_more_fails_its_case_and_the_result_stays(place, model):
    before = (place / "out" / "A.seg.nrrd").read_bytes()
    flair = place / "cases" / "A" / "A_flair.nii.gz"
    flair.write_bytes(flair.read_bytes()[:-200])
    assert batch(place / "cases", model, place / "out", "--limited") == 2
    row = summary(place / "out")["A"]
    assert row["state"] == "failed" and "cut short" in row["message"]
    assert (place / "out" / "A.seg.nrrd").read_bytes() == before


def test_a_result_says_of_its_images_digests_alone(computed):
    header = nrrd.read_header(str(computed / "out" / "A.seg.nrrd"))
    assert re.fullmatch(r'\{"contents": "[0-9a-f]{64}", "seen": "[0-9a-f]{64}"\}', header["DanteImages"])
    assert "nii" not in "".join(map(str, header.values()))
    assert np.any(read_volume(computed / "out" / "A.seg.nrrd", component=0).array)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_a_pipe_in_the_place_of_an_image_is_not_waited_for(place, model):
    file = next((place / "cases" / "A").glob("*t2.nii.gz"))
    file.unlink()
    os.mkfifo(file)
    writer = threading.Thread(target=written_after_a_while, args=(file,), daemon=True)  # lets go of one who waits
    writer.start()
    assert batch(place / "cases", model, place / "out", "--limited") == 2
    assert "does not exist" in summary(place / "out")["A"]["message"] and writer.is_alive()


def written_after_a_while(pipe):
    time.sleep(20)
    pipe.write_bytes(b"")


def test_which_channel_of_a_file_is_read_counts_and_in_which_order_they_come_does_not(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"four channels")
    one, other = (ImageSource(tmp_path / "a.nii", component) for component in (0, 1))
    first = fingerprint({"t1": one, "t2": other})
    assert fingerprint({"t2": other, "t1": one}) == first
    changed = fingerprint({"t1": other, "t2": one})
    assert changed.contents != first.contents and changed.seen != first.seen


def test_another_image_of_the_same_size_and_time_is_another(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(b"one")
    before, times = fingerprint({"t1": ImageSource(path)}), path.stat()
    time.sleep(0.02)  # clocks of file systems tick slowly
    path.write_bytes(b"two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = fingerprint({"t1": ImageSource(path)})
    assert after.contents != before.contents and after.seen != before.seen
