"""DanteSegmenter in the application stand-in (Testing/app): the self-test, and the window."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
from at_once import ImmediateInference, at_once
from models import write_brain_model
from slicer_half import SlicerHalf

REPOSITORY = Path(__file__).resolve().parent.parent
MODULE = REPOSITORY / "DanteSegmenter" / "DanteSegmenter.py"
NAMES = {"t1": "3: AX T1", "t1ce": "5: AX T1 POST GAD", "t2": "4: AX T2", "flair": "6: AX FLAIR"}

pytest.importorskip("PySide6", reason="PySide6 is not installed")
pytest.importorskip("slicer_core", reason="slicer-core is not installed")


@pytest.mark.parametrize("module_name", ["DanteSegmenter", "DanteTrainer"])
def test_the_self_test_passes(module_name, brain_model_folder, tmp_path):
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"}
    if not brain_model_folder.is_dir():
        environment["DANTE_TEST_MODEL"] = str(write_brain_model(tmp_path / "model"))
    command = [sys.executable, str(REPOSITORY / "Testing" / "run_self_test.py"), module_name]
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
sys.path.insert(0, "Testing")
from run_self_test import start_application, load_segmenter, leave
start_application()
widget = load_segmenter()
widget.parent.enter()
print("status:", widget.ui.statusLabel.text)
leave(0)
"""


def test_slicer_starts_and_the_window_opens_before_torch_is_installed(tmp_path):
    environment = {**os.environ, "DANTE_TEST_MODEL": str(write_brain_model(tmp_path / "model"))}
    command = [sys.executable, "-c", WITHOUT_TORCH]
    result = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "status: Choose the volumes for: T1" in result.stdout


# The window, in this process


@pytest.fixture(scope="session")
def slicer():
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path.insert(0, str(REPOSITORY / "Testing" / "app"))
    import slicer

    slicer.app.load_module(MODULE)
    slicer.app.startup_completed()
    return slicer


@pytest.fixture
def module(slicer):
    """The Slicer half as it is now: Reload replaces it."""
    return SlicerHalf()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("Models") / "tiny", with_full=True)


class FakeRun:
    """Stands in for the computation: answers with a block, and remembers what it was given."""

    def __init__(self, error=None):
        self.error = error
        self.calls = []

    def __call__(self, folder, volumes, device, progress=None, cancelled=None):
        from DanteSegmenterLib.model_folder import read_spec

        self.calls.append((folder, volumes, device))
        progress(types.SimpleNamespace(phase="network", fraction=0.5, message="Segmenting"))
        if self.error:
            raise self.error
        spec = read_spec(folder)
        reference = volumes["t1"]
        masks = {region.id: np.zeros(reference.shape, bool) for region in spec.regions}
        for n, mask in enumerate(masks.values()):
            mask[1:3, 1:3, 1 : 4 - n] = True
        volumes_ml = {name: mask.sum() * reference.voxel_volume_ml for name, mask in masks.items()}
        return types.SimpleNamespace(
            spec=spec, reference=reference, masks=masks, volumes_ml=volumes_ml, seconds={"network": 1.25}, device="cpu",
            notes=("A note.",), volume_ranges_ml={name: (v / 2, 2 * v) for name, v in volumes_ml.items()},
            confidence=dict.fromkeys(masks, 0.875),
        )  # fmt: skip


@pytest.fixture
def window(slicer, module, model_folder):
    """The open window over an empty scene, with the tiny model and a computation that is none."""
    widget = slicer.util.getModuleWidget("DanteSegmenter")
    widget.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=model_folder.parent)
    slicer.mrmlScene.Clear(0)  # and with it the choice of a model that this logic does not know
    widget.parent.enter()
    with at_once(widget):
        yield widget
    slicer.util.getModuleWidget("DanteSegmenter").parent.exit()
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()


def add_volume(slicer, name, shape=(4, 5, 6)):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    node = slicer.util.addVolumeFromArray(array, np.diag([1.0, 2.0, 3.0, 1.0]), name)
    slicer.app.processEvents()
    return node


def add_study(slicer, modalities=("t1", "t2", "flair"), prefix=""):
    return {modality: add_volume(slicer, prefix + NAMES[modality]) for modality in modalities}


def shown(widget, window):
    """Whether a widget would be seen if the window were on a screen."""
    return widget.isVisibleTo(window.parent)


def test_volumes_are_put_into_their_boxes_by_name_and_marked_as_guessed(slicer, window):
    nodes = add_study(slicer, NAMES)
    for modality, node in nodes.items():
        assert window.inputsPanel.selectors[modality].currentNode() is node
        assert shown(window.inputsPanel.guessLabels[modality], window)
    assert not shown(window.ui.sampleLabel, window)


def test_a_volume_with_a_meaningless_name_is_not_guessed(slicer, window):
    add_volume(slicer, "MRHead")
    assert window.choices.parameters.inputVolume("t1") is None
    assert not shown(window.inputsPanel.guessLabels["t1"], window)


def test_the_users_choice_stays_when_more_volumes_come(slicer, window):
    other = add_volume(slicer, "something")
    window.inputsPanel.selectors["t1"].setCurrentNode(other)
    nodes = add_study(slicer)
    assert window.choices.parameters.inputVolume("t1") is other
    assert window.choices.parameters.inputVolume("t2") is nodes["t2"]
    window.inputsPanel.selectors["t2"].setCurrentNode(None)
    add_volume(slicer, "9: COR T2")
    assert window.choices.parameters.inputVolume("t2") is None


def test_the_button_waits_for_the_volumes_and_says_which(slicer, window):
    assert not window.ui.segmentButton.enabled
    assert window.ui.segmentButton.toolTip == "Choose the volumes for: T1, T2, FLAIR."
    add_study(slicer, ("t1", "t2"))
    assert window.ui.segmentButton.toolTip == "Choose the volumes for: FLAIR."
    assert window.ui.statusLabel.text == "Choose the volumes for: FLAIR."
    flair = add_volume(slicer, NAMES["flair"])
    assert window.ui.segmentButton.enabled
    window.inputsPanel.selectors["t2"].setCurrentNode(flair)
    assert not window.ui.segmentButton.enabled
    assert (
        window.ui.segmentButton.toolTip == "'6: AX FLAIR' is chosen for T2 and FLAIR; each needs a volume of its own."
    )


def test_the_button_waits_when_an_input_is_deleted(slicer, window):
    nodes = add_study(slicer)
    slicer.mrmlScene.RemoveNode(nodes["t2"])
    slicer.app.processEvents()
    assert not window.ui.segmentButton.enabled
    assert "T2" in window.ui.segmentButton.toolTip


def test_without_a_model_the_button_says_so(slicer, module, window, tmp_path):
    window.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=tmp_path)
    window.enter()
    window.choices.parameters.model = ""
    window.inputsPanel.updateModels()
    assert "There is no model" in window.ui.segmentButton.toolTip
    broken = write_brain_model(tmp_path / "broken")
    (broken / "model.json").write_text("{")
    window.inputsPanel.updateModels()
    assert "not valid JSON" in window.ui.segmentButton.toolTip


def test_segment_shows_the_result_and_comes_to_rest(slicer, module, window):
    nodes = add_study(slicer)
    window.ui.segmentButton.click()
    (folder, volumes, device) = window.logic.inference.run.calls[0]
    assert set(volumes) == {"t1", "t2", "flair"} and device == "auto"
    assert volumes["t1"].name == NAMES["t1"]
    output = window.choices.parameters.outputSegmentation
    assert window.ui.outputSelector.currentNode() is output
    assert [window.ui.volumesTable.item(n, 0).text() for n in range(3)] == [
        "whole tumour", "tumour core", "enhancing tumour"
    ]  # fmt: skip
    # 12, 8 and 4 voxels of 6 mm3
    assert [window.ui.volumesTable.item(n, 1).text() for n in range(3)] == ["0.1", "0.0", "0.0"]
    assert window.ui.statusLabel.text == "Done in 1.2 s on Processor (CPU)." and window.ui.notesLabel.text == "A note."
    at_rest(slicer, window)
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert view.GetBackgroundVolumeID() == nodes["flair"].GetID()  # nothing was shown before


def test_a_result_comes_into_the_scene_one_label_map_or_one_surface_a_turn(slicer, module, window):
    """All label maps kept a window waiting for 235 ms, and all surfaces for 185 ms."""
    nodes = add_study(slicer)
    job = window.logic.begin(nodes)
    _news, outcome = window.logic.inference.poll()
    closed = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()

    def made():
        segmentation = job.output.GetSegmentation()
        segments = [segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments())]
        return len(segments) + sum(segment.GetRepresentation(closed) is not None for segment in segments)

    seen = [0]
    for _step in window.logic.finish(job, outcome):
        seen.append(made())
    seen.append(made())
    assert max(after - before for before, after in zip(seen, seen[1:])) == 1
    assert seen[-1] == 6 and job.output.GetSegmentation().ContainsRepresentation(closed)


def at_rest(slicer, window):
    from PySide6 import QtWidgets

    assert window.ui.segmentButton.enabled
    assert not shown(window.ui.progressBar, window)
    assert QtWidgets.QApplication.overrideCursor() is None


def test_the_optional_volume_is_passed_on_when_it_is_there(slicer, window):
    add_study(slicer, NAMES)
    window.ui.segmentButton.click()
    assert set(window.logic.inference.run.calls[0][1]) == set(NAMES)


def test_a_volume_the_model_cannot_use_is_not_asked_for(slicer, module, window, tmp_path):
    write_brain_model(tmp_path / "limited only")
    window.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=tmp_path)
    window.choices.parameters.model = ""
    window.inputsPanel.updateModels()
    assert list(window.inputsPanel.selectors) == ["t1", "t2", "flair"]


def test_a_refusal_is_shown_as_it_stands_and_changes_nothing(slicer, module, window, caplog):
    from DanteSegmenterLib.errors import InputError

    window.logic.inference.run.error = InputError("'3: AX T1' holds 7 voxels that are NaN or infinite.")
    add_study(slicer)
    before = slicer.mrmlScene.GetNumberOfNodes()
    window.ui.segmentButton.click()
    assert window.ui.statusLabel.text == "'3: AX T1' holds 7 voxels that are NaN or infinite."
    assert "#c0392b" in window.ui.statusLabel.styleSheet
    assert "holds 7 voxels" in caplog.text
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    at_rest(slicer, window)


def test_an_unexpected_error_is_shown_with_its_cause(slicer, window):
    window.logic.inference.run.error = RuntimeError("CUDA out of memory")
    add_study(slicer)
    with pytest.raises(RuntimeError):
        window.runPanel.onSegment()
    assert window.ui.statusLabel.text == "The segmentation failed: CUDA out of memory"
    at_rest(slicer, window)


def test_bad_volumes_are_refused_by_their_node_names(slicer, module, window):
    from DanteSegmenterLib.errors import InputError
    from DanteSegmenterLib.inference import load_model, segment

    def run(folder, volumes, device, progress=None, cancelled=None):
        return segment(load_model(folder, "cpu"), volumes)

    logic = module.DanteSegmenterLogic(ImmediateInference(run), embeddedModels=window.logic._embeddedModels)
    nodes = {name: add_volume(slicer, name, (8, 9, 10)) for name in ("t1", "t2", "flair")}
    for name, array, message in (
        ("with holes", np.full((8, 9, 10), np.nan, np.float32), "'with holes' holds 720 voxels that are NaN"),
        ("one slice", np.ones((1, 9, 10), np.float32), r"'one slice' has shape \(1, 9, 10\)"),
        ("nothing in it", np.zeros((8, 9, 10), np.float32), "'nothing in it' is empty"),
    ):
        bad = slicer.util.addVolumeFromArray(array, np.diag([1.0, 2.0, 3.0, 1.0]), name)
        with pytest.raises(InputError, match=message):
            logic.segment({**nodes, "t2": bad})


def test_another_patients_volumes_let_go_of_the_result(slicer, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    first = window.choices.parameters.outputSegmentation
    others = add_study(slicer, prefix="b ")
    for modality, node in others.items():
        window.inputsPanel.selectors[modality].setCurrentNode(node)
    assert window.choices.parameters.outputSegmentation is None
    window.ui.segmentButton.click()
    assert window.choices.parameters.outputSegmentation is not first
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2


def test_another_models_segments_take_the_place_of_ours_in_a_chosen_output(slicer, module, window, tmp_path):
    import dataclasses

    from DanteSegmenterLib.model_folder import read_spec, write_spec

    nodes = add_study(slicer)
    output = window.logic.segment(nodes, progress=print)
    other = write_brain_model(tmp_path / "other")
    spec = read_spec(other)
    lesion = dataclasses.replace(spec.regions[0], id="lesion", name="lesion")
    write_spec(other, dataclasses.replace(spec, name="other", regions=(lesion,)))
    window.logic.segment(nodes, model=other, outputSegmentation=output, progress=print)
    segmentation = output.GetSegmentation()
    names = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
    assert names == ["lesion"]


def test_an_output_whose_own_segments_would_move_is_refused(slicer, module, window):
    from DanteSegmenterLib.errors import InputError

    nodes = add_study(slicer)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "theirs")
    theirs.SetAndObserveTransformNodeID(transform.GetID())
    window.logic.segment(nodes, outputSegmentation=theirs, progress=print)
    assert theirs.GetParentTransformNode() is None  # nothing of theirs was in it
    theirs.GetSegmentation().AddEmptySegment("mine", "mine")
    theirs.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError, match="'theirs' holds other segments and lies under another transform"):
        window.logic.segment(nodes, outputSegmentation=theirs, progress=print)


def test_a_deleted_result_is_forgotten(slicer, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    slicer.mrmlScene.RemoveNode(window.choices.parameters.outputSegmentation)
    slicer.app.processEvents()
    assert window.choices.output() is None
    window.ui.segmentButton.click()
    assert window.choices.output() is not None


def test_closing_the_scene_empties_the_window(slicer, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()
    assert not window.ui.segmentButton.enabled
    assert not shown(window.ui.volumesCollapsibleButton, window)
    add_study(slicer)
    assert window.ui.segmentButton.enabled


def test_reload_works_any_number_of_times(slicer, module, model_folder, window):
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
sys.path.insert(0, "Testing")
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


def test_reload_takes_up_every_file_of_the_segmenting_half(tmp_path):
    environment = {**os.environ, "DANTE_TEST_MODEL": str(write_brain_model(tmp_path / "model"))}
    command = [sys.executable, "-c", RELOAD]
    result = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-4000:]
    for said in ("kept: []", "old code in the window: []", "ready: True"):
        assert result.stdout.count(said) == 3, result.stdout


def test_a_reopened_scene_shows_the_same_choices(slicer, module, window, tmp_path):
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


def test_the_console_gets_the_logic_and_a_segmentation_node(slicer, window):
    nodes = add_study(slicer)
    logic = slicer.util.getModuleLogic("DanteSegmenter")
    output = logic.segment(nodes, progress=lambda progress: None)
    assert output.IsA("vtkMRMLSegmentationNode")
    assert output.GetName() == f"{NAMES['t1']} DANTE"


def test_the_sample_patient_is_loaded_from_the_sample_data_module_and_from_the_link(
    slicer, module, window, monkeypatch
):
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


def test_a_model_folder_can_be_added_and_a_bad_one_is_refused(slicer, module, window, tmp_path):
    window.inputsPanel.addModel(str(tmp_path))
    assert "no model folder" in window.ui.statusLabel.text
    mine = write_brain_model(tmp_path / "mine")
    window.inputsPanel.addModel(str(mine))
    assert window.choices.parameters.model == str(mine)
    assert window.choices.model.folder == mine
    assert module.DanteSegmenterLogic().addedModels() == [str(mine)]
    slicer.app.userSettings().remove(module.ADDED_MODELS_SETTING)


def test_a_zipped_model_is_unpacked_among_the_settings_and_chosen(slicer, module, window, tmp_path):
    import shutil

    mine = write_brain_model(tmp_path / "zipped")
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", mine)
    window.inputsPanel.addModel(archive)
    folder = Path(slicer.app.slicerUserSettingsFilePath).parent / "DanteModels" / "zipped"
    assert window.choices.parameters.model == str(folder) and window.choices.model.spec.name == "test model"
    slicer.app.userSettings().remove(module.ADDED_MODELS_SETTING)


# What is installed on the first click


@pytest.fixture
def without_torch(module, monkeypatch):
    """torch is not installed; the PyTorch extension is what the test puts there."""
    from DanteSlicerLib import requirements

    monkeypatch.setattr(requirements, "installed_version", lambda name: None if name == "torch" else "99")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)


def test_without_the_pytorch_extension_the_message_says_how_to_get_it(module, without_torch):
    from DanteSegmenterLib.errors import ResourceError

    with pytest.raises(ResourceError, match="Install the extension 'PyTorch'.*--find-links FOLDER \"torch>=2.5\""):
        module.ensureTorch()


@pytest.mark.parametrize("answer", [None, "the torch module"])
def test_torch_comes_through_the_pytorch_extension_or_a_refusal_is_said(module, without_torch, monkeypatch, answer):
    from DanteSegmenterLib.errors import ResourceError

    calls = []

    class PyTorchUtilsLogic:
        def installTorch(self, **options):
            calls.append(options)
            return answer

    fake = types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", fake)
    if answer is None:
        with pytest.raises(ResourceError, match="PyTorch was not installed"):
            module.ensureTorch()
    else:
        module.ensureTorch()
    assert calls == [{"askConfirmation": True, "torchVersionRequirement": ">=2.5"}]


def test_a_torch_that_is_too_old_is_said(module, monkeypatch):
    from DanteSegmenterLib.errors import ResourceError
    from DanteSlicerLib import requirements

    monkeypatch.setattr(requirements, "installed_version", lambda name: "1.13.1+cu117")
    with pytest.raises(ResourceError, match="PyTorch 1.13.1.* is too old, torch>=2.5 is needed"):
        module.ensureTorch()


@pytest.fixture
def fake_pip(slicer, module, monkeypatch):
    """An older Slicer, without slicer.packaging, whose pip_install installs nothing unless told; the user says yes."""
    from DanteSlicerLib import requirements

    state = types.SimpleNamespace(installed=False, commands=[], constraints="", error=None, answer=True, asked=[])
    monkeypatch.setattr("DanteSlicerLib.installing.find_spec", lambda name: None)

    def pip_install(arguments):
        state.commands.append(arguments[2:])
        state.constraints = Path(arguments[1]).read_text()
        if state.error:
            raise state.error
        state.installed = True

    known = requirements.installed_version
    monkeypatch.setattr(
        requirements,
        "installed_version",
        lambda name: ("1.0" if state.installed else None) if name == "needed" else known(name),
    )
    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, *_, **__: state.asked.append(text) or state.answer
    )
    return state


def test_packages_are_installed_with_torch_and_numpy_held(module, fake_pip):
    module.ensurePackages(["needed>=0.4"])
    assert fake_pip.commands == [["needed>=0.4"]]
    assert fake_pip.asked[0].endswith("needed>=0.4.")
    assert fake_pip.constraints.startswith("torch==") and f"numpy=={np.__version__}" in fake_pip.constraints


def test_nothing_is_asked_where_nothing_is_missing(module, fake_pip):
    fake_pip.installed = True
    module.ensurePackages(["needed>=0.4"])
    assert fake_pip.commands == []


def test_a_refused_or_failed_installation_names_the_command(module, fake_pip):
    from DanteSegmenterLib.errors import ResourceError

    fake_pip.error = subprocess.CalledProcessError(1, "pip")
    # Quoted: a shell would write into a file called =0.4 otherwise.
    command = 'PythonSlicer -m pip install "needed>=0.4"'
    with pytest.raises(
        ResourceError, match=rf"returned non-zero exit status 1\. To install it by hand.*run: {command}$"
    ):
        module.ensurePackages(["needed>=0.4"])
    fake_pip.answer = False
    with pytest.raises(ResourceError, match="Not installed: needed>=0.4"):
        module.ensurePackages(["needed>=0.4"])


def test_the_newest_slicer_installs_by_its_own_packaging(slicer, module, fake_pip, monkeypatch):
    monkeypatch.setattr("DanteSlicerLib.installing.find_spec", importlib.util.find_spec)
    module.ensurePackages(["needed>=0.4"])
    assert fake_pip.commands == [["needed>=0.4"]] and fake_pip.constraints.startswith("torch==")
    assert fake_pip.asked == [
        "1 Python package needs to be installed.\n\nThis will modify Slicer's Python environment. Continue?"
    ]


def test_a_refusal_in_the_newest_slicers_own_dialog_becomes_a_sentence(slicer, module, fake_pip, monkeypatch):
    from DanteSegmenterLib.errors import ResourceError

    monkeypatch.setattr("DanteSlicerLib.installing.find_spec", importlib.util.find_spec)
    fake_pip.answer = False
    with pytest.raises(ResourceError, match=r"needs it\. User declined package installation\. To install it by hand"):
        module.ensurePackages(["needed>=0.4"])


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (
            "the device 'cuda' is not available on this computer; use 'auto' or 'cpu'.",
            "the device 'Graphics card (CUDA)' is not available on this computer; use 'Automatic' or "
            "'Processor (CPU)'.",
        ),
        ("'a cpu' holds no image.", "'a cpu' holds no image."),
    ],
)
def test_a_refusal_speaks_of_devices_in_the_windows_own_words(slicer, window, said, wanted):
    from DanteSegmenterLib.errors import ResourceError

    window.logic.inference.run.error = ResourceError(said)
    add_study(slicer)
    window.ui.segmentButton.click()
    assert window.ui.statusLabel.text == wanted


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        ("cpu (bfloat16)", "Done in 1.2 s on Processor (CPU), bfloat16."),
        ("cuda (float16)", "Done in 1.2 s on Graphics card (CUDA), float16."),
        ("mps (float16)", "Done in 1.2 s on Graphics (Apple), float16."),
        ("cpu", "Done in 1.2 s on Processor (CPU)."),
    ],
)
def test_the_report_names_the_device_as_the_window_does(module, device, wanted):
    result = types.SimpleNamespace(seconds={"network": 1.25}, device=device, notes=())
    assert module.reportText(result) == wanted


def test_the_table_is_saved_as_csv_with_the_models_name(slicer, module, window, tmp_path, monkeypatch):
    add_study(slicer)
    window.ui.segmentButton.click()
    path = str(tmp_path / "volumes.csv")
    monkeypatch.setattr("qt.QFileDialog.getSaveFileName", lambda *args: (path, "csv"))
    window.ui.saveTableButton.click()
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["Segment"] for row in rows] == ["whole tumour", "tumour core", "enhancing tumour"]
    # By hand, from FakeRun: 2 x 2 x 3 voxels of 1 x 2 x 3 mm are 0.072 mL.
    assert float(rows[0]["Volume [mL]"]) == pytest.approx(0.072) and rows[0]["Model"] == "test model 1"


def test_the_segment_editor_opens_on_the_result(slicer, window, monkeypatch):
    volumes = add_study(slicer)
    window.ui.segmentButton.click()
    opened, editor = [], slicer.util.getModuleWidget("SegmentEditor").editor
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: "there is one")
    monkeypatch.setattr(slicer.util, "selectModule", opened.append)
    window.ui.editButton.click()
    monkeypatch.undo()
    assert opened == ["SegmentEditor"]
    assert editor.segmentationNode() is window.choices.output() and editor.sourceVolumeNode() is volumes["flair"]


def test_the_window_tells_about_the_model(slicer, window, model_folder):
    from dataclasses import replace

    from DanteSegmenterLib.model_folder import Calibration, read_spec, write_spec

    spec = read_spec(model_folder)
    assert not shown(window.ui.aboutCollapsibleButton, window)  # there is nothing to tell
    calibration = {"WT": Calibration(17, 0.9, 0.75, 0.5)}
    told = replace(spec, licence="CC0", training_data="two cases", scores={"Scores (test)": {"WT Dice": 0.741}},
                   limited=replace(spec.limited, calibration=calibration))  # fmt: skip
    write_spec(model_folder, told)
    window.inputsPanel.updateModels()
    text = window.ui.aboutLabel.text
    write_spec(model_folder, spec)
    for part in (
        "two cases",
        "WT Dice 0.741",
        "CC0",
        "WT 90% sure, 75% right, the true volume within the range in 50% of",
    ):
        assert part in text
