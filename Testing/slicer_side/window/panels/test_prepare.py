"""The output of *Prepare* in the scene, and models for which it is disabled."""

from dataclasses import replace

import numpy as np
import pytest
from immediate_runs import ImmediateInference
from slicer_window import FakeRun, add_study, shown

from DanteSegmenterLib.errors import InputError

SHIFT = np.array([[1.0, 0, 0, 3.0], [0, 1.0, 0, -2.0], [0, 0, 1.0, 1.5], [0, 0, 0, 1.0]])


class PreparedRun(FakeRun):
    """Answers as after *Prepare*: T2 was shifted, FLAIR was aligned already, and the brain is a block."""

    def __call__(self, folder, volumes, device, progress=None, cancelled=None):
        result = super().__call__(folder, volumes, device, progress, cancelled)
        brain = np.zeros(volumes["t1"].shape, np.uint8)
        brain[1:4, 1:4, 1:5] = 1
        return replace(result, brain=brain, alignments={"t2": SHIFT, "flair": np.eye(4)})


@pytest.fixture
def study(slicer, module, window, model_folder):
    """A study that was prepared and segmented."""
    window.logic = module.DanteSegmenterLogic(ImmediateInference(PreparedRun()), embeddedModels=model_folder.parent)
    nodes = add_study(slicer)
    window.ui.segmentButton.click()
    return nodes


def foreground(slicer):
    (shown_id,) = {view.GetForegroundVolumeID() for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    return slicer.mrmlScene.GetNodeByID(shown_id or "")


def brain(window, module):
    return window.choices.output().GetNodeReference(module.BRAIN_ROLE)


def aligned(window, module, modality):
    return window.choices.output().GetNodeReference(module.ALIGNED_ROLE + modality)


def test_aligned_volume_is_a_copy_at_its_aligned_position(slicer, module, window, study):
    before = {m: module.worldIjkToRas(node) for m, node in study.items()}
    window.ui.preparedButton.click()
    moved = aligned(window, module, "t2")
    assert moved.GetName() == f"{study['t2'].GetName()} aligned"
    np.testing.assert_allclose(module.worldIjkToRas(moved), SHIFT @ before["t2"])
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(moved), slicer.util.arrayFromVolume(study["t2"]))
    for modality, node in study.items():
        np.testing.assert_array_equal(module.worldIjkToRas(node), before[modality])
    assert module.resultReference(window.choices.output()) is study["t1"]


def test_extracted_brain_is_a_segmentation_on_the_reference_grid(slicer, module, window, study):
    node = brain(window, module)
    assert node is not None and not node.GetDisplayVisibility()
    window.ui.preparedButton.click()
    assert node.GetDisplayVisibility()
    segment = node.GetSegmentation().GetNthSegmentID(0)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment, study["t1"])
    expected = np.zeros((4, 5, 6), np.uint8)
    expected[1:4, 1:4, 1:5] = 1
    np.testing.assert_array_equal(mask, expected)


def test_aligned_flair_is_overlaid_until_the_second_click(slicer, module, window, study):
    assert shown(window.ui.preparedButton, window)
    window.ui.preparedButton.click()
    assert foreground(slicer) is aligned(window, module, "flair") and window.ui.preparedButton.checked
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert view.GetBackgroundVolumeID() == study["t1"].GetID() and 0 < view.GetForegroundOpacity() < 1
    window.ui.preparedButton.click()
    assert foreground(slicer) is None and not brain(window, module).GetDisplayVisibility()
    window.ui.preparedButton.click()
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert len(names) == len(set(names)) == 5  # three of the user's and two copies, created once


def test_aligned_copies_are_not_inputs(slicer, module, window, study):
    window.ui.preparedButton.click()
    slicer.app.processEvents()
    assert window.choices.inputs() == study
    (row,) = window.logic.studies(window.choices.model.spec)
    assert row.inputs == study


def test_run_without_prepare_removes_earlier_prepared_data(slicer, module, window, study, model_folder):
    window.ui.preparedButton.click()
    window.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=model_folder.parent)
    window.ui.segmentButton.click()
    assert not shown(window.ui.preparedButton, window) and foreground(slicer) is None
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 3
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


def test_reopened_scene_still_shows_the_prepared_data(slicer, module, window, study, tmp_path):
    expected = SHIFT @ module.worldIjkToRas(study["t2"])
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.ReadFromMRB(path, True)
    slicer.app.processEvents()
    assert shown(window.ui.preparedButton, window)
    window.ui.preparedButton.click()
    np.testing.assert_allclose(module.worldIjkToRas(aligned(window, module, "t2")), expected)


def test_deleted_input_is_left_out(slicer, module, window, study):
    slicer.mrmlScene.RemoveNode(study["flair"])
    module.showPrepared(window.choices.output(), True)
    assert aligned(window, module, "flair") is None and foreground(slicer) is aligned(window, module, "t2")


@pytest.fixture
def chest(slicer, module, window, brain_model_folder):
    """The window with the embedded models; the second is for chest CT."""
    window.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=brain_model_folder.parent)
    window.choices.parameters.model = "brats-without-t1ce"
    window.modelPanel.updateModels()
    yield window
    window.choices.parameters.prepare = False


def choose(window, name):
    window.choices.parameters.model = name
    window.modelPanel.updateModels()


def test_prepare_is_disabled_for_models_it_does_not_suit(module, chest):
    chest.ui.prepareCheckBox.checked = True
    assert chest.ui.prepareCheckBox.enabled
    choose(chest, "embolism-without-contrast")
    assert not chest.ui.prepareCheckBox.enabled and not chest.ui.prepareCheckBox.checked
    assert not chest.choices.parameters.prepare and not shown(chest.ui.maskFrame, chest)
    assert "brain" in chest.ui.prepareCheckBox.toolTip
    choose(chest, "brats-without-t1ce")
    assert chest.ui.prepareCheckBox.enabled and not chest.ui.prepareCheckBox.checked


def test_console_refuses_prepare_for_chest_ct(slicer, module, chest):
    nodes = add_study(slicer, ("t1",))
    with pytest.raises(InputError, match="Prepare is for brains in MR.*'Embolism without .*' reads something else"):
        chest.logic.segment({"nct": nodes["t1"]}, model="embolism-without-contrast", prepare=True)
