import gzip
import locale
import os
import signal
import subprocess
import sys

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from models import brain_regions

from DanteSegmenterLib.errors import InputError, ResourceError
from DanteSegmenterLib.files import read_volume, write_atomically, write_components, write_segmentation, write_volume
from DanteSegmenterLib.volume import Volume

MATRIX = np.array([[0, 0, -2.5, 7], [0.9, 0, 0, -3], [0, -1.1, 0, 5], [0, 0, 0, 1.0]])


def numbered(shape=(3, 4, 5)):
    return Volume(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), MATRIX, "numbered")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_volume_round_trips(tmp_path, ending):
    path = tmp_path / f"ä file{ending}"
    write_volume(path, numbered())
    again = read_volume(path)
    assert np.array_equal(again.array, numbered().array)
    assert again.ijk_to_ras == pytest.approx(MATRIX, abs=1e-5)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("platform", "folder", "locales"),
    [("win32", "Jürgen", ["C", ".UTF8", "C"]), ("win32", "Ann", ["C"]), ("linux", "Jürgen", ["C"])],
)
def test_on_windows_the_c_library_takes_itks_names_for_utf8_while_it_writes(
    tmp_path, monkeypatch, platform, folder, locales
):
    (tmp_path / folder).mkdir()
    known, write = ["C"], sitk.WriteImage

    def set_locale(_, wanted=None):
        known.extend([wanted] if wanted else [])
        return known[-1]

    def write_there(image, path, **options):
        assert (known[-1] == ".UTF8") == (len(locales) > 1)
        write(image, path, **options)

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(locale, "setlocale", set_locale)
    monkeypatch.setattr(sitk, "WriteImage", write_there)
    write_volume(tmp_path / folder / "a.nii.gz", numbered())
    assert known == locales


def test_files_are_lps_and_volumes_ras(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((2, 2, 2), np.int16))
    image.SetOrigin((10, 20, 30))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    assert (read_volume(tmp_path / "a.nrrd").ijk_to_ras @ [0, 0, 0, 1]).tolist() == [-10, -20, 30, 1]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_component_of_a_4d_file_is_read_and_the_whole_is_refused(tmp_path, ending):
    path = tmp_path / f"4d{ending}"
    write_components(path, np.stack([numbered().array, numbered().array + 100]), numbered())
    assert np.array_equal(read_volume(path, component=1).array, numbered().array + 100)
    assert read_volume(path, component=1).ijk_to_ras == pytest.approx(MATRIX, abs=1e-5)
    with pytest.raises(InputError, match="4 dimensions"):
        read_volume(path)
    with pytest.raises(InputError, match="number 2 does not exist"):
        read_volume(path, component=2)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_half_precision_is_written_as_float32(tmp_path, ending):
    path = tmp_path / f"p{ending}"
    half = np.stack([numbered().array / 64, 1 - numbered().array / 64]).astype(np.float16)  # 64ths are exact
    write_components(path, half, numbered())
    again = read_volume(path, component=1).array
    assert again.dtype == np.float32 and np.array_equal(again, 1 - numbered().array / 64)


def test_colour_image_is_refused(tmp_path):
    path = tmp_path / "colour.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 3, 3, 3), np.uint8), isVector=True), str(path))
    with pytest.raises(InputError, match="3 values per voxel"):
        read_volume(path)


def test_non_image_is_refused_by_name(tmp_path):
    text = tmp_path / "notes.nii.gz"
    text.write_text("not an image")
    for path, reason in ((text, "no NIfTI file"), (tmp_path / "no.nii", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=reason) as caught:
            read_volume(path)
        assert path.name in str(caught.value)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused_at_any_length(tmp_path, kept):
    path = tmp_path / "cut.nii.gz"
    noise = np.random.default_rng(0).random((20, 20, 20), np.float32)
    write_volume(path, Volume(noise, np.eye(4)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match="cut.nii.gz"):
        read_volume(path)


def test_damaged_stream_of_correct_length_is_refused(tmp_path):
    path = tmp_path / "damaged.nii.gz"
    write_volume(path, Volume(np.random.default_rng(0).random((20, 20, 20), np.float32), np.eye(4)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged\.nii\.gz"):
        read_volume(path)


def test_segmentation_keeps_overlaps_names_colours_and_codes(tmp_path):
    masks = {id: np.zeros((3, 4, 5), bool) for id in ("WT", "TC", "ET")}
    masks["WT"][1:, 1:3, 2:] = True
    masks["TC"][1, 1, 2:4] = True
    path = tmp_path / "result.seg.nrrd"
    write_segmentation(path, masks, brain_regions(), numbered())
    layers, header = nrrd.read(str(path))
    assert np.array_equal(layers[0].transpose(2, 1, 0), masks["WT"])
    assert np.array_equal(layers[1].transpose(2, 1, 0), masks["TC"]) and not layers[2].any()
    assert header["Segment0_Extent"] == "2 4 1 2 1 2"  # I, J, K from first to last
    assert header["Segment2_Extent"] == "0 -1 0 -1 0 -1"
    assert header["Segment1_ID"] == "TC" and header["Segment1_Name"] == "tumour core"
    assert "SCT^108369006^Neoplasm" in header["Segment1_Tags"]
    assert header["space origin"].tolist() == [-7, 3, 5]  # RAS (7, -3, 5) in LPS


def test_missing_folder_and_unknown_extension_are_refused(tmp_path):
    with pytest.raises(ResourceError, match="does not exist"):
        write_volume(tmp_path / "nowhere" / "a.nii.gz", numbered())
    with pytest.raises(InputError, match="ending"):
        write_volume(tmp_path / "a.jpg", numbered())


def test_sheared_grid_is_refused_by_formats_that_cannot_store_it(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    with pytest.raises(InputError, match="sheared"):
        write_volume(tmp_path / "a.nii.gz", Volume(np.zeros((2, 2, 2), np.uint8), sheared))


def test_interrupted_write_keeps_only_the_old_file(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match="no space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["kept.txt"]


def test_gzip_file_of_other_content_is_refused(tmp_path):
    path = tmp_path / "letter.nii.gz"
    path.write_bytes(gzip.compress(b"Dear reader"))
    with pytest.raises(InputError, match="no NIfTI file"):
        read_volume(path)


class FullDisk:
    """Silently writes only a share of a file's bytes, like ITK's NIfTI writer on a full disk."""

    def __init__(self, share):
        self.share, self.write = share, sitk.WriteImage

    def __call__(self, image, path, *more, **options):
        self.write(image, path, *more, **options)
        os.truncate(path, int(self.share * os.path.getsize(path)))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_silently_full_disk_keeps_the_old_file(tmp_path, monkeypatch, ending, share):
    path = tmp_path / f"result{ending}"
    write_volume(path, numbered())
    before = path.read_bytes()
    monkeypatch.setattr(sitk, "WriteImage", FullDisk(share))
    noise = Volume(np.random.default_rng(0).random((9, 9, 9), np.float32), MATRIX)
    with pytest.raises(ResourceError, match="could not be written"):
        write_volume(path, noise)
    if ending.startswith(".nii"):
        with pytest.raises(ResourceError, match="could not be written"):
            write_components(path, noise.array[None], noise)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("name", ["a" * 248 + ".nii.gz", "ä" * 123 + ".nii.gz", "A.NII.GZ", "Ärzte & \udcff.nrrd"])
def test_names_of_maximum_length_and_odd_characters_work(tmp_path, name):
    write_volume(tmp_path / name, numbered())
    assert np.array_equal(read_volume(tmp_path / name).array, numbered().array)
    assert len(os.listdir(tmp_path)) == 1


def test_impossible_file_name_gives_an_error_message(tmp_path):
    for name in ("b" * 300 + ".nii.gz", "n\0.nii.gz", "c" * 300 + "/x.nii"):
        with pytest.raises(ResourceError):
            write_volume(tmp_path / name, numbered())
        with pytest.raises(InputError):
            read_volume(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_two_file_formats_are_not_written(tmp_path):
    for ending in (".mhd", ".nhdr"):
        with pytest.raises(InputError, match="ending"):
            write_volume(tmp_path / f"a{ending}", numbered())


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_write_changes_nothing_and_the_next_cleans_up(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("earlier")
    code = f"""
import os, signal
from pathlib import Path
from DanteSegmenterLib.files import write_atomically
def half(temporary):
    temporary.write_text("ha")
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path({str(path)!r}), half)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -signal.SIGKILL
    assert path.read_text() == "earlier" and len(os.listdir(tmp_path)) == 2
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["x.json"]
