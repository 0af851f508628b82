"""Hostile zip files are refused with a reason, without loss or leftovers."""

import io
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import zipfile

import pytest
from models import write_brain_model

from DanteSegmenterLib.errors import DanteError, ModelError, ResourceError
from DanteSegmenterLib.model_folder import read_spec, zip_file
from DanteSegmenterLib.model_folder.zip_file import unpack_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("models") / "model", with_full=True)


def contents(model):
    return [(file.name, file.read_bytes()) for file in sorted(model.iterdir())]


def packed(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["...zip", "..zip", ".zip", " .zip", ". . .zip"])
def test_zip_file_named_with_dots_deletes_nothing(tmp_path, model, name):
    models = tmp_path / "settings" / "DanteModels"
    other = shutil.copytree(model, models / "other")
    (tmp_path / "settings" / "Slicer.ini").write_text("precious")
    folder = unpack_model(packed(tmp_path / name, contents(model)), models)
    assert folder.parent == models and read_spec(folder) == read_spec(model) == read_spec(other)
    assert (tmp_path / "settings" / "Slicer.ini").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Müller 1.0.zip", "Müller 1.0"),
        ("CON.zip", "CON-model"),
        ("nul.v2.zip", "nul.v2-model"),
        ("a<b>:c.zip", "a_b__c"),
        ("dots. .zip", "dots"),
        ("x\x1b[2J\n.zip", "x[2J"),
        ("é" * 90 + ".zip", "é" * 50),
    ],
)
def test_folder_name_is_portable(tmp_path, model, name, folder):
    assert unpack_model(packed(tmp_path / name, contents(model)), tmp_path / "into").name == folder


def test_folder_with_other_files_is_not_replaced(tmp_path, model):
    archive = packed(tmp_path / "m.zip", contents(model))
    folder = unpack_model(archive, tmp_path / "into")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="notes.txt"):
        unpack_model(archive, tmp_path / "into")
    assert (folder / "notes.txt").read_text() == "mine"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "README.md").write_text("no model")
    with pytest.raises(ModelError, match="is not replaced"):
        unpack_model(archive, tmp_path / "into")
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path)
    with pytest.raises(ModelError, match="in the way"):
        unpack_model(archive, tmp_path / "into")


def test_zip_bomb_is_refused_before_unpacking(tmp_path, model, monkeypatch):
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        bomb.write(model / "model.json", "model.json")
        with bomb.open("limited.safetensors", "w", force_zip64=True) as file:
            for _ in range(200):
                file.write(bytes(1 << 20))
    monkeypatch.setattr(zip_file, "_extract", lambda *args: pytest.fail("unpacked"))
    with pytest.raises(ModelError, match="far more than any weights would"):
        unpack_model(archive, tmp_path / "into")
    assert not list((tmp_path / "into").iterdir())


def claim(archive, name, size):
    """Make the directory give a false size for a file."""
    content = bytearray(archive.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
    content[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    archive.write_bytes(content)
    return archive


def test_false_sizes_are_refused(tmp_path, model):
    files = [
        ("model.json", (model / "model.json").read_bytes()),
        ("limited.safetensors", bytes(100_000)),
        ("full.safetensors", b""),
    ]
    for size, reason in ((10, "Bad CRC"), (4_000_000_000, "far more"), (200_000, "m.zip")):
        archive = claim(packed(tmp_path / "m.zip", files), "limited.safetensors", size)
        with pytest.raises(ModelError, match=reason):
            unpack_model(archive, tmp_path / "into")
    archive = claim(packed(tmp_path / "m.zip", contents(model)), "model.json", 3 << 20)
    with pytest.raises(ModelError, match="at most 1048576"):
        unpack_model(archive, tmp_path / "into")
    assert not list((tmp_path / "into").iterdir())


def test_endless_directory_is_not_read(tmp_path):
    archive = packed(tmp_path / "m.zip", [(f"{n:0200}", b"") for n in range(6000)], zipfile.ZIP_STORED)
    with pytest.raises(ModelError, match="list of contents is too long"):
        unpack_model(archive, tmp_path / "into")


def entry(kind, name="limited.safetensors"):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ([(entry(stat.S_IFLNK, "link.safetensors"), b"/etc/passwd")], "a link"),
        ([(entry(stat.S_IFCHR, "null"), b"")], "no plain file"),
        ([(entry(stat.S_IFIFO, "pipe"), b"")], "no plain file"),
        ([("limited.safetensors", b"x")], "a file twice"),
        ([("b/model.json", b"{}")], "holds 2 files"),
        ([("//server/share/x", b"")], "leads outside"),
        ([("c:\\x", b"")], "leads outside"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_non_model_file_is_refused(tmp_path, model, extra, reason):
    archive = packed(tmp_path / "m.zip", [*contents(model), *extra])
    with pytest.raises(ModelError, match=reason):
        unpack_model(archive, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_system_files_are_ignored(tmp_path, model):
    extra = [
        ("MODEL.JSON", b"{}"),
        ("Limited.safetensors", b"x"),
        ("third.safetensors", b"x"),
        ("sub/a.txt", b""),
        ("CON", b""),
        ("a. ", b""),
    ]
    leavings = [(f"__MACOSX/._{n}", b"x") for n in range(30)] + [("__MACOSX/model.json", b"x"), (".DS_Store", b"x")]
    folder = unpack_model(packed(tmp_path / "m.zip", [*contents(model), *extra, *leavings]), tmp_path / "into")
    assert sorted(path.name for path in folder.iterdir()) == [name for name, _content in contents(model)]


def test_zip_inside_a_zip_is_refused(tmp_path, model):
    inner = packed(tmp_path / "inner.zip", contents(model))
    with pytest.raises(ModelError, match="0 files named"):
        unpack_model(packed(tmp_path / "m.zip", [("inner.zip", inner.read_bytes())]), tmp_path / "into")


def test_missing_weights_are_reported(tmp_path, model):
    some = [(name, content) for name, content in contents(model) if not name.startswith("full")]
    with pytest.raises(ModelError, match=r"holds no 'full\.safetensors'"):
        unpack_model(packed(tmp_path / "m.zip", some), tmp_path / "into")


def test_non_regular_file_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "folder.zip").mkdir()
    for name in ("pipe.zip", "folder.zip", "gone.zip"):
        with pytest.raises(ModelError, match="is no file"):
            unpack_model(tmp_path / name, tmp_path / "into")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_zip_is_refused_and_the_old_model_kept(tmp_path, model, method):
    whole = packed(tmp_path / "m.zip", contents(model), method).read_bytes()
    earlier = unpack_model(tmp_path / "m.zip", tmp_path / "into")
    chance = random.Random(1)
    for _ in range(25):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            start = chance.choice((0, len(content) - 600))
            content[chance.randrange(start, len(content))] = chance.randrange(256)
        if chance.random() < 0.1:
            del content[chance.randrange(len(content)) :]
        (tmp_path / "m.zip").write_bytes(content)
        try:
            unpack_model(tmp_path / "m.zip", tmp_path / "into")
        except DanteError as error:
            assert str(error).endswith(".")
        assert read_spec(earlier).modalities == read_spec(model).modalities
    assert os.listdir(tmp_path / "into") == ["m"]


def test_full_disk_keeps_the_old_model(tmp_path, model, monkeypatch):
    archive = packed(tmp_path / "m.zip", contents(model))
    earlier = unpack_model(archive, tmp_path / "into")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(zip_file.shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ResourceError, match="Free some space"):
        unpack_model(archive, tmp_path / "into")
    monkeypatch.undo()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zip_file.os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left on device. Nothing was changed"):
        unpack_model(archive, tmp_path / "into")
    assert read_spec(earlier) == read_spec(model) and os.listdir(tmp_path / "into") == ["m"]


def test_killed_import_changes_nothing_and_the_next_cleans_up(tmp_path, model):
    archive = packed(tmp_path / "m.zip", contents(model))
    earlier = unpack_model(archive, tmp_path / "into")
    code = f"""
import os, signal
from pathlib import Path
from DanteSegmenterLib.model_folder import zip_file
zip_file.check_weights_file = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
zip_file.unpack_model({str(archive)!r}, Path({str(tmp_path / "into")!r}))
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == -signal.SIGKILL
    assert read_spec(earlier) == read_spec(model) and len(os.listdir(tmp_path / "into")) == 2
    unpack_model(archive, tmp_path / "into")
    assert os.listdir(tmp_path / "into") == ["m"]


def test_zip_with_a_prefix_is_read(tmp_path, model):
    """Self-extracting archives start with a program."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in contents(model):
            archive.writestr(name, content)
    (tmp_path / "m.zip").write_bytes(b"MZ" + bytes(1000) + whole.getvalue())
    assert read_spec(unpack_model(tmp_path / "m.zip", tmp_path / "into")) == read_spec(model)
