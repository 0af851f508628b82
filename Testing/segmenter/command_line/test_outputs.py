"""Output paths are checked before anything is computed."""

import os

import pytest

from DanteSegmenterLib.command_line.outputs import check_outputs, same_file
from DanteSegmenterLib.errors import DanteError, InputError, ResourceError
from DanteSegmenterLib.files.images import WRITTEN_ENDINGS


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "t1.nii.gz"
    path.write_bytes(b"a scan")
    return path


@pytest.mark.parametrize("name", ["x.json", "x.nii.GZ", "X.NRRD", "x", ".nii.gz", "x.seg.nrrd.txt"])
def test_unknown_file_extension_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="unknown ending"):
        check_outputs([(tmp_path / name, WRITTEN_ENDINGS)], [])


@pytest.mark.parametrize("way", ["itself", "a link", "a hard link", "another spelling"])
def test_input_cannot_be_an_output(tmp_path, scan, way):
    path = {"itself": scan, "another spelling": tmp_path / "sub" / ".." / "t1.nii.gz"}.get(way, tmp_path / "x.nii.gz")
    (tmp_path / "sub").mkdir()
    if way == "a link":
        path.symlink_to(scan)
    if way == "a hard link":
        os.link(scan, path)
    with pytest.raises(InputError, match="would replace"):
        check_outputs([(path, WRITTEN_ENDINGS)], [scan])
    assert scan.read_bytes() == b"a scan"


def test_two_outputs_must_be_two_files(tmp_path):
    with pytest.raises(InputError, match="would replace"):
        check_outputs([(tmp_path / "o.nii.gz", WRITTEN_ENDINGS), (tmp_path / "o.nii.gz", WRITTEN_ENDINGS)], [])
    assert not same_file(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("name", ["no/o.nii.gz", "folder.nii.gz", "x" * 300 + ".nii.gz", "nul\0.nii.gz"])
def test_impossible_output_path_is_refused_without_leftovers(tmp_path, name):
    (tmp_path / "folder.nii.gz").mkdir()
    with pytest.raises((ResourceError, DanteError)):
        check_outputs([(tmp_path / name, WRITTEN_ENDINGS)], [])
    assert [path.name for path in tmp_path.iterdir()] == ["folder.nii.gz"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is closed to root")
def test_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(ResourceError, match="cannot be written"):
        check_outputs([(tmp_path / "closed" / "o.nii.gz", WRITTEN_ENDINGS)], [])


def test_full_disk_is_detected_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1 << 20})())
    with pytest.raises(ResourceError, match="1 MB left, 16 MB are needed"):
        check_outputs([(tmp_path / "o.nii.gz", WRITTEN_ENDINGS)], [])
