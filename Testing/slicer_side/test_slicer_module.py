"""DanteSegmenter in the application stand-in (Testing/app): the self-test, start, reload, scenes and the console."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY
from immediate_runs import ImmediateInference, at_once
from models import write_brain_model
from slicer_window import MODULE, NAMES, FakeRun, add_study, add_volume, shown


# The trainer's self-test starts five processes that train or score: the fast tests run two of its three parts in
# test_trainer_module.py, and the third, a training that is stopped and resumed, is a step of the click-through.
@pytest.mark.parametrize("module_name", ["DanteSegmenter", pytest.param("DanteTrainer", marks=pytest.mark.slow)])
def test_self_test_passes(module_name, brain_model_folder, tmp_path):
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"}
    if not brain_model_folder.is_dir():
        environment["DANTE_TEST_MODEL"] = str(write_brain_model(tmp_path / "model"))
    command = [sys.executable, str(REPOSITORY / "Testing" / "tools" / "run_self_test.py"), module_name]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "self-test passed" in result.stdout


WITHOUT_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "monai", "DanteTrainerLib"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
sys.path[:0] = ["Testing", "Testing/tools"]
from run_self_test import start_application, load_segmenter, leave
start_application()
widget = load_segmenter()
widget.parent.enter()
print("status:", widget.ui.statusLabel.text)
leave(0)
"""


def test_slicer_starts_and_the_window_opens_without_torch(tmp_path):
    environment = {**os.environ, "DANTE_TEST_MODEL": str(write_brain_model(tmp_path / "model"))}
    command = [sys.executable, "-c", WITHOUT_TORCH]
    result = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "status: Choose the volumes for: T1" in result.stdout


START_UP = """
import sys
sys.path[:0] = ["Testing", "Testing/tools", "DanteSegmenter", "DanteTrainer"]
from run_self_test import start_application, leave
start_application()
import DanteSegmenter, DanteTrainer
print("large:", sorted(sys.modules.keys() & {"SimpleITK", "scipy", "torch", "matplotlib", "pandas", "nrrd", "pydicom"}))
leave(0)
"""


def test_start_of_slicer_loads_no_large_package():
    """Slicer imports both module files at every start, also in sessions that never use them."""
    command = [sys.executable, "-c", START_UP]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "large: []" in result.stdout, result.stdout


def test_category_is_translated_like_those_of_slicer(slicer, module, monkeypatch):
    """Otherwise the module would have a category of its own in a translated Slicer."""
    from slicer import i18n

    monkeypatch.setitem(i18n.TRANSLATIONS, ("qSlicerAbstractCoreModule", "Segmentation"), "Segmentierung")
    monkeypatch.setitem(i18n.TRANSLATIONS, ("DanteSegmenter", "DANTE Segmenter"), "DANTE-Segmentierer")
    monkeypatch.setitem(slicer.selfTests, "DanteSegmenter", None)  # a new instance registers itself again
    parent = SimpleNamespace(path=str(MODULE))
    module.DanteSegmenter(parent)
    assert (parent.title, parent.categories) == ("DANTE-Segmentierer", ["Segmentierung"])


def test_reload_works_repeatedly(slicer, module, model_folder, window):
    scene = slicer.mrmlScene
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            slicer.util.reloadScriptedModule("DanteSegmenter")
        fresh = slicer.util.getModuleWidget("DanteSegmenter")
        assert fresh is not window
        assert window.choices.parameters is None and not window.Observations
        window = fresh
    with at_once(window):
        window.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=model_folder.parent)
        window.enter()
        add_study(slicer)
        assert window.ui.segmentButton.enabled
        window.ui.segmentButton.click()
        assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


RELOAD = """
import sys
sys.path[:0] = ["Testing", "Testing/tools"]
from run_self_test import start_application, load_segmenter, leave
app = start_application()
widget = load_segmenter()
widget.parent.enter()
import slicer

def loaded():
    halves = ("DanteSlicerLib", "DanteSegmenterLib")
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in halves}

for _ in range(3):
    before, old = loaded(), widget
    slicer.mrmlScene.Clear(0)
    widget.onReload()
    widget = slicer.util.getModuleWidget("DanteSegmenter")
    widget.enter()
    after = loaded()
    print("kept:", [name for name in before if after.get(name) is before[name]])
    print("old code in the window:", [part for part in ("runner", "inputsPanel", "logic")
          if type(getattr(widget, part)) is type(getattr(old, part))])
    sys.modules["DanteSegmenter"].loadSamplePatient(spacingMm=4.0)
    app.processEvents()
    print("ready:", widget.ui.segmentButton.enabled)
leave(0)
"""


def test_reload_reimports_every_file_of_the_segmenter(tmp_path):
    environment = {**os.environ, "DANTE_TEST_MODEL": str(write_brain_model(tmp_path / "model"))}
    command = [sys.executable, "-c", RELOAD]
    result = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-4000:]
    for line in ("kept: []", "old code in the window: []", "ready: True"):
        assert result.stdout.count(line) == 3, result.stdout


def test_reopened_scene_shows_the_same_choices(slicer, module, window, tmp_path):
    nodes = add_study(slicer)
    extra = add_volume(slicer, "no modality")
    window.inputsPanel.selectors["t2"].setCurrentNode(extra)
    window.choices.parameters.device = module.Device.CPU
    window.choices.parameters.show3D = False
    window.ui.segmentButton.click()
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.ReadFromMRB(path, True)
    slicer.app.processEvents()
    parameters = window.choices.parameters
    assert parameters.model == "tiny" and parameters.device == module.Device.CPU and not parameters.show3D
    assert parameters.inputVolume("t1").GetName() == nodes["t1"].GetName()
    assert window.inputsPanel.selectors["t2"].currentNode().GetName() == "no modality"
    assert window.ui.volumesTable.rowCount == 3
    assert window.ui.statusLabel.text.startswith("Done in")
    again = parameters.outputSegmentation
    window.ui.segmentButton.click()
    assert parameters.outputSegmentation is again
    assert again.GetSegmentation().GetNumberOfSegments() == 3


def test_choices_of_a_reopened_scene_are_not_guesses(slicer, module, window, tmp_path):
    """Node ids begin at 1 in every scene: a guess in the scene before must not be taken for one in this scene."""
    one, two = add_study(slicer, prefix="one "), add_study(slicer, prefix="two ")
    for name, nodes in (("one", one), ("two", two)):
        module.makeStudy(name, "MR", list(nodes.values()))
    for modality, selector in window.inputsPanel.selectors.items():  # by hand
        selector.setCurrentNode(one.get(modality))
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(0)
    nodes = add_study(slicer)  # guessed, with the ids of the saved volumes
    assert shown(window.inputsPanel.guessLabels["t1"], window)
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.ReadFromMRB(path, True)
    slicer.app.processEvents()
    assert not shown(window.inputsPanel.guessLabels["t1"], window)
    slicer.util.setSliceViewerLayers(background=slicer.util.getNode("two " + NAMES["flair"]))
    slicer.app.processEvents()
    names = {modality: node.GetName() for modality, node in window.choices.inputs().items()}
    assert names == {modality: "one " + NAMES[modality] for modality in nodes}


def test_console_gets_the_logic_and_a_segmentation_node(slicer, window):
    nodes = add_study(slicer)
    logic = slicer.util.getModuleLogic("DanteSegmenter")
    output = logic.segment(nodes, progress=lambda progress: None)
    assert output.IsA("vtkMRMLSegmentationNode")
    assert output.GetName() == f"{NAMES['t1']} DANTE"


def test_sample_patient_is_loaded_from_the_sample_data_module_and_from_the_link(slicer, module, window, monkeypatch):
    import SampleData

    from DanteSegmenterLib.synthetic import sample

    monkeypatch.setattr(sample, "brain_mr", lambda seed, spacing_mm, real=sample.brain_mr: real(seed, 4.0))
    assert shown(window.ui.sampleLabel, window)
    nodes = SampleData.SampleDataLogic.click("DANTE", "DanteBrainMR")
    slicer.app.processEvents()
    for modality in ("t1", "t2", "flair"):
        assert window.inputsPanel.selectors[modality].currentNode() is nodes[modality]
    assert window.ui.segmentButton.enabled
    slicer.mrmlScene.Clear(0)
    window.ui.sampleLabel.linkActivated.emit("sample")
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 4
