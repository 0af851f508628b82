"""Models received from another computer: whole and verified, or not stored."""

import hashlib
import os
from dataclasses import replace

import numpy as np
import pytest
from models import write_brain_model

from DanteSegmenterLib.errors import ModelError, ResourceError
from DanteSegmenterLib.host.model_cache import MODELS_KEPT, ModelCache, cache_folder, digest_of, model_bytes
from DanteSegmenterLib.model_folder import read_spec, write_spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_brain_model(tmp_path_factory.mktemp("model") / "one", with_full=True, more=(1,))
    (folder / "README.md").write_text("stays here")
    return folder


@pytest.fixture
def cache(tmp_path):
    return ModelCache(tmp_path / "not yet" / "models")


def test_model_arrives_byte_for_byte_and_is_found_by_digest(cache, folder):
    digest = digest_of(folder)
    assert digest == hashlib.sha256((folder / "model.json").read_bytes()).hexdigest() and cache.find(digest) is None
    place = cache.keep(digest, *model_bytes(folder))
    assert place == cache.folder / digest == cache.find(digest) == ModelCache(cache.folder).find(digest)
    names = {path.name for path in folder.iterdir()} - {"README.md"}
    assert {path.name for path in place.iterdir()} == names and len(names) == 5  # two pathways of two members
    assert all((place / name).read_bytes() == (folder / name).read_bytes() for name in names)
    assert os.listdir(cache.folder) == [digest] and cache.folder.stat().st_mode & 0o077 == 0


def test_model_with_another_digest_is_not_kept(cache, folder):
    with pytest.raises(ModelError, match="another than was announced"):
        cache.keep("0" * 64, *model_bytes(folder))
    names, contents = model_bytes(folder)
    altered = contents[-1].copy()
    altered[-1] ^= 1
    with pytest.raises(ModelError, match="is not the file the model was released with"):
        cache.keep(digest_of(folder), names, (*contents[:-1], altered))
    with pytest.raises(ModelError, match="is missing"):
        cache.keep(digest_of(folder), names[:-1], contents[:-1])
    assert os.listdir(cache.folder) == []


@pytest.mark.parametrize("name", ["../x.safetensors", "/tmp/x.safetensors", "run.py", ".bashrc", "", "a\0.safetensors"])
def test_foreign_file_of_a_model_is_not_written(cache, folder, tmp_path, name):
    names, contents = model_bytes(folder)
    with pytest.raises(ModelError, match="is no file of a model"):
        cache.keep(digest_of(folder), (*names, name), (*contents, np.zeros(3, np.uint8)))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("digest", ["", "../../etc", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_invalid_digest_names_no_folder(cache, digest):
    with pytest.raises(ModelError, match="no digest"):
        cache.find(digest)


def test_damaged_model_is_requested_again_and_replaced(cache, folder):
    digest = digest_of(folder)
    weights = cache.keep(digest, *model_bytes(folder)) / "limited.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    fresh = ModelCache(cache.folder)
    assert fresh.find(digest) is None
    assert (fresh.keep(digest, *model_bytes(folder)) / "limited.safetensors").read_bytes() == whole
    assert os.listdir(cache.folder) == [digest]


def test_altered_model_is_not_sent(tmp_path):
    folder = write_brain_model(tmp_path / "model")
    spec = read_spec(folder)
    write_spec(folder, replace(spec, limited=replace(spec.limited, sha256="1" * 64)))
    with pytest.raises(ModelError, match="is not the file the model was released with"):
        model_bytes(folder)


def test_most_recent_models_are_kept_and_other_files_untouched(cache, folder):
    digest = digest_of(folder)
    cache.folder.mkdir(parents=True)
    others = [f"{n:064x}" for n in range(MODELS_KEPT + 2)]
    for age, name in enumerate(others):
        (cache.folder / name).mkdir()
        os.utime(cache.folder / name, (1000 + age, 1000 + age))
    (cache.folder / "the user's own").mkdir()
    cache.keep(digest, *model_bytes(folder))
    assert set(os.listdir(cache.folder)) == {digest, "the user's own", *others[-(MODELS_KEPT - 1) :]}


def test_found_model_counts_as_used(cache, folder):
    place = cache.keep(digest_of(folder), *model_bytes(folder))
    os.utime(place, (1000, 1000))
    cache.find(digest_of(folder))
    assert place.stat().st_mtime > 1e9


def test_unwritable_cache_is_reported(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="the model cannot be kept in"):
        ModelCache(tmp_path / "file" / "models").keep(digest_of(folder), *model_bytes(folder))


def test_cache_is_in_the_user_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "dante" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "dante" / "models"
