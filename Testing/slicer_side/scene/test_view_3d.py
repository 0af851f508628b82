"""The camera of the 3D view after a run."""

from __future__ import annotations

from ctypes.util import find_library
from dataclasses import replace

import numpy as np
import pytest
from slicer_scene import choose
from slicer_window import add_study


def camera(slicer):
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCameraNode")


def far_study(slicer, prefix="", shift=(300.0, 400.0, 500.0)):
    """A study outside the default view of Slicer's camera."""
    nodes = add_study(slicer, prefix=prefix)
    for node in nodes.values():
        node.SetOrigin(shift)
    return nodes


def test_3d_view_is_centred_on_the_first_result(slicer, window):
    far_study(slicer)
    before = np.array(camera(slicer).GetPosition()) - np.array(camera(slicer).GetFocalPoint())
    window.ui.segmentButton.click()
    # By hand: i 1..3, j 1..2, k 1..2 of voxels of 1, 2 and 3 mm from (300, 400, 500): the middle voxel is (2, 1, 1).
    np.testing.assert_allclose(camera(slicer).GetFocalPoint(), (302, 402, 503), atol=0.01)
    after = np.array(camera(slicer).GetPosition()) - np.array(camera(slicer).GetFocalPoint())
    np.testing.assert_allclose(after / np.linalg.norm(after), before / np.linalg.norm(before), atol=1e-6)
    # Seen completely, and from outside: half a field of view of at least 50 mm.
    half = np.linalg.norm(after) * np.sin(np.radians(camera(slicer).GetViewAngle() / 2))
    assert half == pytest.approx(50)


def test_camera_is_not_moved_after_the_first_result(slicer, window, tmp_path):
    far_study(slicer)
    window.ui.segmentButton.click()
    camera(slicer).SetFocalPoint(1, 2, 3)
    camera(slicer).SetPosition(4, 5, 6)
    window.ui.segmentButton.click()
    choose(window, far_study(slicer, "b ", (0.0, 0.0, 0.0)))
    window.ui.segmentButton.click()
    assert camera(slicer).GetFocalPoint() == (1, 2, 3) and camera(slicer).GetPosition() == (4, 5, 6)
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.ReadFromMRB(path, True)
    slicer.app.processEvents()
    camera(slicer).SetFocalPoint(7, 8, 9)
    window.ui.segmentButton.click()
    assert camera(slicer).GetFocalPoint() == (7, 8, 9)


def test_new_scene_is_centred_again_once_there_are_surfaces(slicer, window):
    far_study(slicer)
    window.choices.parameters.show3D = False
    window.ui.segmentButton.click()
    assert camera(slicer).GetFocalPoint() == (0, 0, 0)
    window.choices.parameters.show3D = True
    window.ui.segmentButton.click()
    np.testing.assert_allclose(camera(slicer).GetFocalPoint(), (302, 402, 503), atol=0.01)
    slicer.mrmlScene.Clear(0)
    assert camera(slicer).GetFocalPoint() == (0, 0, 0)
    far_study(slicer)
    window.ui.segmentButton.click()
    np.testing.assert_allclose(camera(slicer).GetFocalPoint(), (302, 402, 503), atol=0.01)


def test_empty_result_does_not_use_up_the_first_centring(slicer, window):
    far_study(slicer)
    run, empty = window.logic.inference.run, [True]

    def nothing_first(*arguments):
        result = run(*arguments)
        return replace(result, label_map=result.label_map * (not empty[0]))

    window.logic.inference.run = nothing_first
    window.ui.segmentButton.click()
    assert camera(slicer).GetFocalPoint() == (0, 0, 0)
    empty[0] = False
    window.ui.segmentButton.click()
    assert camera(slicer).GetFocalPoint() != (0, 0, 0)


def test_3d_view_fits_a_large_result_but_not_the_whole_volume(slicer, module, window):
    """By hand: a block of 40 x 30 x 60 voxels of 2 mm measures 80 x 60 x 120 mm; half its diagonal is 78.10 mm."""
    reference = slicer.util.addVolumeFromArray(np.zeros((100, 100, 100), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]), "T1")
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "large")
    mask = np.zeros((100, 100, 100), np.uint8)
    mask[10:70, 20:50, 30:70] = 1
    output.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    output.CreateDefaultDisplayNodes()
    segment = module.addSegment(output, window.choices.model.spec.regions[0], window.choices.model.spec.regions)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, output, segment, reference)
    assert module.centre3D(output)
    distance = np.linalg.norm(np.subtract(camera(slicer).GetPosition(), camera(slicer).GetFocalPoint()))
    assert distance * np.sin(np.radians(camera(slicer).GetViewAngle() / 2)) == pytest.approx(78.10, abs=0.01)


@pytest.mark.skipif(not find_library("EGL"), reason="pictures of views need EGL (sh Testing/tools/system_libraries.sh)")
def test_tumour_is_visible_in_the_3d_view(slicer, module, window):
    """By the pixels of the view: the background is blue-grey, the tumour is not."""
    import views

    drawn = module.DanteSegmenterTest()
    inputs = drawn.drawnInputs(window.choices.model.spec)
    for node in inputs.values():
        node.SetOrigin(300, 400, 500)
    drawn.drawnLogic().segment(inputs)
    picture = views.three_d_picture((200, 200)).astype(int)
    middle = picture[80:120, 80:120].reshape(-1, 3)
    assert (middle[:, 2] < middle[:, :2].max(axis=1)).any(), "only background"
