"""The content of the slice views after a run, and the fill of the segments."""

from __future__ import annotations

import pytest
from slicer_scene import choose, draw
from slicer_window import NAMES, add_study, add_volume


def backgrounds(slicer):
    return [view.GetBackgroundVolumeID() for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")]


def read(slicer, node):
    """Show a volume in all slice views, like a user who reads it."""
    slicer.util.setSliceViewerLayers(background=node)


@pytest.mark.parametrize("modality", ["t1", "t1ce", "t2", "flair"])
def test_displayed_volume_stays_in_the_slices(slicer, window, modality):
    nodes = add_study(slicer, NAMES)
    read(slicer, nodes[modality])
    window.ui.segmentButton.click()
    assert set(backgrounds(slicer)) == {nodes[modality].GetID()}


def test_displayed_study_volume_that_is_no_input_stays(slicer, module, window):
    nodes = add_study(slicer)
    perfusion = add_volume(slicer, "9: PERF MAP")
    module.makeStudy("patient", "study", [*nodes.values(), perfusion])
    read(slicer, perfusion)
    window.ui.segmentButton.click()
    assert set(backgrounds(slicer)) == {perfusion.GetID()}


def test_each_view_keeps_its_own_volume(slicer, window):
    nodes = add_study(slicer)
    read(slicer, nodes["t2"])
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    views[1].SetBackgroundVolumeID(nodes["flair"].GetID())
    views[2].SetBackgroundVolumeID(None)
    window.ui.segmentButton.click()
    assert backgrounds(slicer) == [nodes["t2"].GetID(), nodes["flair"].GetID(), nodes["t2"].GetID()]


@pytest.mark.parametrize("studies", [True, False], ids=["in studies", "without studies"])
def test_volume_of_another_patient_is_replaced_by_flair(slicer, module, window, studies):
    nodes, others = add_study(slicer), add_study(slicer, NAMES, prefix="b ")
    if studies:
        module.makeStudy("a", "MR", list(nodes.values()))
        module.makeStudy("b", "MR", list(others.values()))
    choose(window, nodes)
    read(slicer, others["t1ce"])
    window.ui.segmentButton.click()
    assert set(backgrounds(slicer)) == {nodes["flair"].GetID()}


@pytest.mark.parametrize(("shift_mm", "stays"), [(1.0, True), (300.0, False)], ids=["beside them", "elsewhere"])
def test_a_volume_without_a_study_stays_where_the_result_can_be_seen_on_it(slicer, window, shift_mm, stays):
    nodes, other = add_study(slicer), add_volume(slicer, "crop of the chest")
    other.SetOrigin(shift_mm, 0.0, 0.0)
    read(slicer, other)
    window.ui.segmentButton.click()
    assert set(backgrounds(slicer)) == {(other if stays else nodes["flair"]).GetID()}


def test_opening_the_editor_keeps_the_displayed_volume_as_its_source(slicer, window, editor):
    shown_now = backgrounds(slicer)
    assert editor.sourceVolumeNode().GetID() == shown_now[0] == window.choices.inputs()["flair"].GetID()
    window.ui.editButton.click()
    assert backgrounds(slicer) == shown_now


def fill_of(module, output):
    return output.GetDisplayNode().GetOpacity2DFill()


def test_outlines_are_opaque_and_the_fill_is_light(slicer, module, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    display = window.choices.output().GetDisplayNode()
    assert display.GetVisibility2DOutline() and display.GetOpacity2DOutline() == 1
    assert fill_of(module, window.choices.output()) == pytest.approx(0.1) and display.GetVisibility2DFill()
    assert window.ui.fillSlider.value == 10


def test_fill_slider_applies_to_current_and_future_results(slicer, module, window, two_patients):
    patients, results = two_patients
    window.ui.fillSlider.value = 60
    for result in results.values():
        assert fill_of(module, result) == pytest.approx(0.6)
    window.ui.segmentButton.click()
    third = window.logic.segment(add_study(slicer, prefix="three "))
    assert fill_of(module, results["two"]) == fill_of(module, third) == pytest.approx(0.6)


def test_fill_set_elsewhere_moves_the_slider(slicer, module, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    window.choices.output().GetDisplayNode().SetOpacity2DFill(0.35)
    window.updateGui()
    assert window.ui.fillSlider.value == 35
    window.ui.segmentButton.click()
    assert fill_of(module, window.choices.output()) == pytest.approx(0.35)


def test_fill_slider_leaves_the_users_segments_unchanged(slicer, module, window):
    nodes = add_study(slicer)
    theirs = draw(slicer, "theirs", nodes["t1"])
    theirs.CreateDefaultDisplayNodes()
    window.logic.segment(nodes, outputSegmentation=theirs, confirmed=True)
    window.ui.outputSelector.setCurrentNode(theirs)
    display = theirs.GetDisplayNode()
    before = display.GetOpacity2DFill(), display.GetSegmentOpacity2DFill("mine")
    window.ui.fillSlider.value = 40
    assert (display.GetOpacity2DFill(), display.GetSegmentOpacity2DFill("mine")) == before
    ours = [display.GetOpacity2DFill() * display.GetSegmentOpacity2DFill(name) for name in ("TC", "ET")]
    assert ours == pytest.approx([0.4, 0.4])


def test_users_overlay_opacity_is_kept(slicer, window, probable):
    add_study(slicer)
    window.ui.segmentButton.click()
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert [view.GetForegroundOpacity() for view in views] == [0.5] * 3
    for view in views:
        view.SetForegroundOpacity(0.3)
    window.ui.segmentButton.click()
    assert [view.GetForegroundOpacity() for view in views] == [0.3] * 3
