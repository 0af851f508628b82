"""Fixtures and user actions for patients, edits and probabilities in the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from slicer_window import add_study


def choose(window, nodes):
    """Choose a study's volumes box by box, as a user does."""
    for modality, selector in window.inputsPanel.selectors.items():
        selector.setCurrentNode(nodes.get(modality))


@pytest.fixture
def two_patients(slicer, module, window):
    """Two patients with a result each; the second result is the latest."""
    results, patients = {}, {}
    for name in ("one", "two"):
        patients[name] = add_study(slicer, prefix=f"{name} ")
        module.makeStudy(name, "MR", list(patients[name].values()))
        choose(window, patients[name])
        window.ui.segmentButton.click()
        results[name] = window.choices.output()
    slicer.app.processEvents()
    assert results["one"] is not results["two"]
    return patients, results


@pytest.fixture
def editor(slicer, window):
    """The Segment Editor, opened by the window's button on a result of 12, 8 and 4 voxels of 6 mm3."""
    add_study(slicer)
    window.ui.segmentButton.click()
    window.ui.editButton.click()
    return slicer.util.getModuleWidget("SegmentEditor").editor


def voxels(slicer, window):
    """The number of voxels in each of our segments, outermost first."""
    output, reference = window.choices.output(), window.choices.referenceVolume()
    masks = [slicer.util.arrayFromSegmentBinaryLabelmap(output, name, reference) for name in ("WT", "TC", "ET")]
    return [int((mask > 0).sum()) for mask in masks]


def delete(slicer, node):
    slicer.mrmlScene.RemoveNode(node)
    slicer.app.processEvents()


def draw(slicer, name, reference):
    """A segmentation of the user with one segment."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    node.GetSegmentation().AddEmptySegment("mine", "my segment")
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((4, 5, 6), np.uint8), node, "mine", reference)
    return node


@pytest.fixture
def probable(module, window):
    """The fake run also returns probabilities on request: 0.9 inside and 0.1 outside."""
    run = window.logic.inference.run
    window.choices.parameters.showProbabilities = True

    def with_probabilities(*arguments):
        result = run(*arguments)
        if window.logic.getParameterNode().showProbabilities:
            return replace(result, probabilities=np.stack([np.where(m, 0.9, 0.1) for m in result.masks.values()]))
        return result

    window.logic.inference.run = with_probabilities
    return window.choices.parameters
