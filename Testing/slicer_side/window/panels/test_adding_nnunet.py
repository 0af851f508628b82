"""Adding an nnU-Net model in the window: a process imports it without blocking."""

import shutil
import subprocess
import time
from dataclasses import replace

import pytest
from models import write_brain_model
from slicer_window import add_study, until

from DanteSegmenterLib.child_process import Child
from DanteSegmenterLib.model_folder import read_spec, write_spec

# In place of the import: waits for the file `go`, with a time limit.
PROCESS = """
import os, pathlib, shutil, sys, time
from DanteSegmenterLib.child_process import when_parent_ends
when_parent_ends(lambda: os._exit(1))
go, model, target = map(pathlib.Path, sys.argv[1:])
end = time.monotonic() + 3
while not go.exists() and time.monotonic() < end:
    time.sleep(0.01)
if not model.is_dir():
    print("error: fold 0 has no checkpoint.", file=sys.stderr)
    sys.exit(2)
shutil.copytree(model, target, dirs_exist_ok=True)
"""
AT_ONCE_SECONDS = 1.0


@pytest.fixture
def results(slicer, module, tmp_path, monkeypatch):
    """A results folder. Its import waits for `go`, and returns `made`, or is refused while that does not exist."""
    folder = tmp_path / "Dataset001_Mine" / "trained"
    folder.mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        (folder / name).write_text("{}")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "waits.py").write_text(PROCESS)

    def child(_module, arguments):
        target = arguments[arguments.index("--to") + 1]
        go, made = tmp_path / "go", tmp_path / "made"
        children.append(of_module("waits", [str(go), str(made), target], paths=[tmp_path / "here"]))
        return children[-1]

    children, of_module = [], Child.of_module
    monkeypatch.setattr(Child, "of_module", child)
    monkeypatch.setattr("DanteSlicerLib.logic.ensureDependencies", lambda: None)
    yield folder
    for one in children:
        one.end()
    shutil.rmtree(module.DanteSegmenterLogic.ownModels(), ignore_errors=True)
    slicer.app.userSettings().remove(module.ADDED_MODELS_SETTING)


@pytest.fixture
def made(tmp_path):
    folder = write_brain_model(tmp_path / "made")
    write_spec(folder, replace(read_spec(folder), name="mine", version="1"))
    return folder


@pytest.fixture
def dialogs(slicer, monkeypatch):
    """The texts of dialogs; while one is open, the window's timers continue."""
    texts = []

    def show(text, *arguments, **options):
        texts.append(text)
        end = time.monotonic() + 0.4
        while time.monotonic() < end and len(texts) < 5:
            slicer.app.processEvents()

    monkeypatch.setattr(slicer.util, "errorDisplay", show)
    return texts


def titles(window):
    return [window.ui.modelSelector.itemText(n) for n in range(window.ui.modelSelector.count)]


def finish(slicer, window, tmp_path):
    (tmp_path / "go").touch()
    until(slicer, lambda: not window.modelPanel.importing, 10)


def test_window_stays_responsive_during_an_import_and_selects_the_model(slicer, window, results, made, tmp_path):
    before = titles(window)
    start = time.monotonic()
    window.modelPanel.addModel(str(results))
    assert time.monotonic() - start < AT_ONCE_SECONDS, "the window was kept waiting"
    assert window.ui.statusLabel.text == "Importing what nnU-Net trained..."
    assert window.ui.modelInfoLabel.text == "Importing what nnU-Net trained: 0 s so far."
    assert window.ui.addModelButton.text == "Stop" and titles(window) == before
    add_study(slicer)
    assert window.ui.segmentButton.enabled  # with the previously chosen model
    finish(slicer, window, tmp_path)
    assert window.choices.model.folder.name == "Dataset001_Mine__trained" and titles(window) == [*before, "mine 1"]
    assert window.ui.addModelButton.text == "..." and window.ui.modelInfoLabel.text.startswith("Finds ")
    assert window.ui.addModelButton.toolTip.startswith("Add a model")


def test_button_stops_the_import_and_nothing_is_added(slicer, module, window, results, made):
    before = titles(window)
    window.modelPanel.addModel(str(results))
    process = window.modelPanel._import
    window.ui.addModelButton.click()
    assert not process.running and not process.target.exists()
    assert window.ui.statusLabel.text == "Stopped; no model was added." and window.ui.addModelButton.text == "..."
    assert titles(window) == before and module.DanteSegmenterLogic().addedModels() == []


def test_failed_import_is_reported_once(slicer, window, results, dialogs, tmp_path):
    before = titles(window)
    window.modelPanel.addModel(str(results))
    finish(slicer, window, tmp_path)
    assert dialogs == ["fold 0 has no checkpoint."] and window.ui.statusLabel.text == dialogs[0]
    assert titles(window) == before and window.ui.addModelButton.text == "..."


def test_unexpected_import_error_has_a_dialog_and_a_status_message(slicer, window, results, dialogs, monkeypatch):
    def fails():
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr("DanteSlicerLib.logic.ensureDependencies", fails)
    with pytest.raises(subprocess.CalledProcessError):  # Slicer prints its traceback
        window.modelPanel.addModel(str(results))
    why = "Command 'pip' returned non-zero exit status 1."
    assert dialogs == [f"The model could not be added.\n\n{why}"]
    assert window.ui.statusLabel.text == f"The model could not be added: {why}"
    assert not window.modelPanel.importing and window.ui.addModelButton.text == "..."


def test_import_continues_while_another_module_is_shown(slicer, window, results, made, tmp_path):
    window.modelPanel.addModel(str(results))
    window.parent.exit()
    finish(slicer, window, tmp_path)
    window.parent.enter()
    assert window.choices.model.spec.name == "mine"


def test_several_studies_keep_the_model_they_started_with(slicer, window, results, made, tmp_path, monkeypatch):
    before = window.choices.model
    window.modelPanel.addModel(str(results))
    monkeypatch.setattr(window.runner, "reserved", "Several studies are being segmented.")
    finish(slicer, window, tmp_path)
    assert window.choices.model.key == before.key and "mine 1" in titles(window)
    assert window.ui.statusLabel.text == "mine 1 is in the list of models now."


def test_reload_stops_the_import(slicer, window, results, made):
    window.modelPanel.addModel(str(results))
    process = window.modelPanel._import
    slicer.util.reloadScriptedModule("DanteSegmenter")
    assert not process.running


def test_console_waits_for_the_import(window, results, made, tmp_path):
    (tmp_path / "go").touch()
    entry = window.logic.addModel(results)
    assert (entry.spec.name, entry.folder.name) == ("mine", "Dataset001_Mine__trained")
    assert window.logic.addedModels() == [str(entry.folder)]
