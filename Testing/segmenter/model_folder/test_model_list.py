"""Finding model folders in both layouts of the extension."""

import shutil

import pytest
from models import write_brain_model

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.model_folder.library import choose_model, embedded_models_folder, find_models


def test_models_are_found_in_the_repository(tmp_path):
    (tmp_path / "Resources" / "Models").mkdir(parents=True)
    (tmp_path / "DanteSegmenter" / "Resources" / "UI").mkdir(parents=True)  # these Resources contain no models
    found = embedded_models_folder(library=tmp_path / "DanteSegmenter" / "DanteSegmenterLib")
    assert found == tmp_path / "Resources" / "Models"


def test_models_are_found_beside_the_installed_modules(tmp_path):
    (tmp_path / "qt-scripted-modules" / "Resources" / "Models").mkdir(parents=True)
    found = embedded_models_folder(library=tmp_path / "qt-scripted-modules" / "DanteSegmenterLib")
    assert found == tmp_path / "qt-scripted-modules" / "Resources" / "Models"


def test_missing_models_folder_is_accepted(tmp_path):
    assert embedded_models_folder(library=tmp_path / "a" / "b") is None


def test_own_models_come_first_with_their_name_as_key(tmp_path):
    write_brain_model(tmp_path / "Models" / "b")
    write_brain_model(tmp_path / "Models" / "a")
    mine = write_brain_model(tmp_path / "mine")
    (tmp_path / "Models" / "no model").mkdir()
    models = find_models([mine, mine], embedded=tmp_path / "Models")
    assert [entry.key for entry in models] == ["a", "b", str(mine)]
    assert models[0].title == "test model 1"


def test_unusable_model_is_listed_with_the_reason(tmp_path):
    broken = write_brain_model(tmp_path / "broken")
    (broken / "model.json").write_text("{")
    gone = tmp_path / "gone"
    first, second = find_models([broken, gone], embedded=tmp_path)[-2:]
    assert first.spec is None and "not valid JSON" in first.problem and "cannot be used" in first.title
    assert second.spec is None and "no model folder" in second.problem


def test_model_is_chosen_by_key_name_or_folder(tmp_path):
    folder = write_brain_model(tmp_path / "Models" / "a")
    models = find_models(embedded=tmp_path / "Models")
    for wanted in (None, "a", "test model", folder, str(folder)):
        assert choose_model(models, wanted).folder == folder


def test_first_usable_model_is_the_default(tmp_path):
    broken = write_brain_model(tmp_path / "Models" / "a")
    (broken / "model.json").write_text("{")
    good = shutil.copytree(write_brain_model(tmp_path / "Models" / "b"), tmp_path / "Models" / "c")
    assert choose_model(find_models(embedded=tmp_path / "Models")).folder == good.parent / "b"


def test_missing_model_is_reported(tmp_path):
    with pytest.raises(ModelError, match="There is no model"):
        choose_model(())
    with pytest.raises(ModelError, match="no model folder"):
        choose_model((), tmp_path)
