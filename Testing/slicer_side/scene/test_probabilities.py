"""Probability volumes over the slices: replaced, coloured, named, hidden with their result."""

from __future__ import annotations

from ctypes.util import find_library

import numpy as np
import pytest
from slicer_scene import choose, delete
from slicer_window import add_study


def foregrounds(slicer):
    return {view.GetForegroundVolumeID() for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}


def probability(module, output, region):
    return output.GetNodeReference(module.PROBABILITY_ROLE + region)


def counted(slicer, kind):
    return slicer.mrmlScene.GetNumberOfNodesByClass(kind)


KINDS = ("vtkMRMLScalarVolumeNode", "vtkMRMLScalarVolumeDisplayNode", "vtkMRMLColorLegendDisplayNode")


@pytest.mark.parametrize("reopened", [False, True])
def test_old_probabilities_are_removed_with_their_result(slicer, module, window, probable, tmp_path, reopened):
    add_study(slicer)
    volumes = counted(slicer, KINDS[0])
    window.ui.segmentButton.click()
    assert counted(slicer, KINDS[0]) == volumes + 3
    if reopened:
        path = str(tmp_path / "scene.mrb")
        assert slicer.mrmlScene.WriteToMRB(path)
        slicer.mrmlScene.Clear(0)
        assert slicer.mrmlScene.ReadFromMRB(path, True)
        slicer.app.processEvents()
        assert counted(slicer, KINDS[0]) == volumes + 3
    window.choices.parameters.showProbabilities = False
    window.ui.segmentButton.click()
    assert counted(slicer, KINDS[0]) == volumes and foregrounds(slicer) == {None}
    assert counted(slicer, KINDS[1]) <= volumes and counted(slicer, KINDS[2]) == 0
    assert not module.probabilityRoles(window.choices.output())


def test_new_probabilities_replace_old_ones(slicer, module, window, probable):
    add_study(slicer)
    window.ui.segmentButton.click()
    first, before = probability(module, window.choices.output(), "ET"), [counted(slicer, kind) for kind in KINDS]
    window.ui.segmentButton.click()
    assert probability(module, window.choices.output(), "ET") is first
    assert [counted(slicer, kind) for kind in KINDS] == before
    assert foregrounds(slicer) == {first.GetID()}


def test_high_probabilities_are_hot_and_low_ones_cold(slicer, module, window, probable):
    add_study(slicer)
    window.ui.segmentButton.click()
    node = probability(module, window.choices.output(), "ET")
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1)
    table, color = display.GetColorNode(), [0.0] * 4
    colors = {}
    for value in (0.1, 0.5, 0.85):
        table.GetColor(round(value * 255), color)
        colors[value] = tuple(color[:3])
    assert colors[0.1][2] > 0.9 and colors[0.1][0] == 0  # blue
    assert colors[0.5][1] == 1  # green
    assert colors[0.85][0] > 0.9 and colors[0.85][2] == 0  # red


def test_legend_explains_the_colours_and_names_the_region(slicer, module, window, probable):
    add_study(slicer)
    window.ui.segmentButton.click()
    for region, name in (("WT", "whole tumour"), ("TC", "tumour core"), ("ET", "enhancing tumour")):
        node = probability(module, window.choices.output(), region)
        legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node)
        assert legend.GetTitleText() == f"Probability of\n{name}" and legend.GetVisibility()
        assert legend.GetLabelFormat() % 0.25 == "0.25"


@pytest.mark.skipif(not find_library("EGL"), reason="pictures of views need EGL (sh Testing/tools/system_libraries.sh)")
def test_only_the_legend_of_the_overlay_is_visible(slicer, module, window, probable):
    """Its colour bar is at the right edge of a slice view."""
    import views

    def differs(change, back):
        """Share of changed pixels in the left quarter of the view and at its right edge, after a change."""
        before = views.slice_picture("Red", (300, 300)).astype(int)
        change()
        moved = np.abs(views.slice_picture("Red", (300, 300)).astype(int) - before).max(axis=2) > 30
        back()
        return moved[:, :75].mean(), moved[:, 240:].mean()

    add_study(slicer)
    window.ui.segmentButton.click()
    logic = slicer.modules.colors.logic()
    legends = {
        region: logic.GetColorLegendDisplayNode(probability(module, window.choices.output(), region))
        for region in ("WT", "ET")
    }
    shown_one, hidden_one = legends["ET"], legends["WT"]
    left, right = differs(lambda: shown_one.SetVisibility(False), lambda: shown_one.SetVisibility(True))
    assert left == 0 and right > 0.05
    assert differs(lambda: hidden_one.SetVisibility(False), lambda: None) == (0, 0)


def test_overlay_is_hidden_and_restored_with_its_result(slicer, module, window, probable):
    one, two = add_study(slicer, prefix="one "), add_study(slicer, prefix="two ")
    choose(window, one)
    window.ui.segmentButton.click()
    overlay = probability(module, window.choices.output(), "ET").GetID()
    assert foregrounds(slicer) == {overlay}
    window.choices.parameters.showProbabilities = False
    choose(window, two)
    window.ui.segmentButton.click()
    assert foregrounds(slicer) == {None}
    choose(window, one)
    assert foregrounds(slicer) == {overlay}


def test_overlay_does_not_stay_over_another_result_of_the_same_volume(slicer, module, window, probable):
    add_study(slicer)
    window.ui.segmentButton.click()
    first = window.choices.output()
    window.choices.parameters.showProbabilities = False
    another = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "another")
    window.logic.segment(window.choices.inputs(), outputSegmentation=another)
    assert foregrounds(slicer) == {None} and len(module.probabilityRoles(first)) == 3


def test_probability_volume_is_never_guessed_as_an_input(slicer, module, window, probable):
    nodes = add_study(slicer)
    window.ui.segmentButton.click()
    for region in ("TC", "ET"):  # "3: AX T1 DANTE whole tumour probability" must not make names ambiguous
        delete(slicer, probability(module, window.choices.output(), region))
    delete(slicer, window.choices.output())
    delete(slicer, nodes["t1"])
    window.guesses._passedOver.clear()
    window.guesses.fill()
    assert window.choices.parameters.inputVolume("t1") is None
    assert [study.problem for study in window.logic.studies(window.choices.model.spec)] == ["no volume for T1"]
