import stat
import zipfile

import pytest
from models import write_brain_model

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder import read_spec
from DanteSegmenterLib.model_folder.zip_file import unpack_model


@pytest.fixture
def model(tmp_path):
    return write_brain_model(tmp_path / "model")


def packed(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def contents(model, prefix=""):
    return {f"{prefix}{file.name}": file.read_bytes() for file in model.iterdir()}


@pytest.mark.parametrize("prefix", ["", "a folder/", "a/b/"])
def test_zipped_model_folder_is_unpacked_and_usable(tmp_path, model, prefix):
    archive = packed(tmp_path / "mine.zip", {**contents(model, prefix), f"{prefix}setup.py": b"import os"})
    for _twice in range(2):
        folder = unpack_model(archive, tmp_path / "models")
    assert folder == tmp_path / "models" / "mine" and read_spec(folder) == read_spec(model)
    # Only a model folder's own files, and nothing left beside it.
    assert sorted(path.name for path in folder.iterdir()) == ["limited.safetensors", "model.json"]
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "name", ["../evil.safetensors", "/etc/evil.safetensors", "C:/evil", "a/../../evil", "..\\evil"]
)
def test_path_outside_the_folder_is_refused(tmp_path, model, name):
    archive = packed(tmp_path / "x.zip", {**contents(model), name: b"x"})
    with pytest.raises(ModelError, match="leads outside"):
        unpack_model(archive, tmp_path / "models")
    assert not (tmp_path / "models").exists() and not (tmp_path.parent / "evil").exists()


def test_links_and_too_many_or_foreign_files_are_refused(tmp_path, model):
    link = zipfile.ZipInfo("limited.safetensors")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr("model.json", (model / "model.json").read_bytes())
        archive.writestr(link, "/etc/passwd")
    many = packed(tmp_path / "many.zip", {**contents(model), **{f"{n}.txt": b"" for n in range(30)}})
    none = packed(tmp_path / "none.zip", {"a.txt": b""})
    two = packed(tmp_path / "two.zip", {**contents(model, "a/"), **contents(model, "b/")})
    cut = tmp_path / "cut.zip"
    cut.write_bytes(many.read_bytes()[:300])
    for path, reason in (
        (tmp_path / "link.zip", "a link"),
        (many, "more than a model"),
        (none, "holds 0 files named"),
        (two, "holds 2 files named"),
        (cut, "no zip file"),
    ):
        with pytest.raises(ModelError, match=reason):
            unpack_model(path, tmp_path / "models")


def test_altered_model_keeps_the_old_one(tmp_path, model):
    good = unpack_model(packed(tmp_path / "m.zip", contents(model)), tmp_path / "models")
    bad = {**contents(model), "limited.safetensors": b"x" * 100}
    with pytest.raises(ModelError, match="not the file the model was released with"):
        unpack_model(packed(tmp_path / "m.zip", bad), tmp_path / "models")
    assert read_spec(good) == read_spec(model)
