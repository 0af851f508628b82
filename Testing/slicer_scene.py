"""Patients, corrections and probabilities in the scene behind the window: fixtures and users' gestures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from slicer_window import add_study


def choose(window, nodes):
    """Choose a study's volumes, as a user does, box by box."""
    for modality, selector in window.inputsPanel.selectors.items():
        selector.setCurrentNode(nodes.get(modality))


@pytest.fixture
def two_patients(slicer, module, window):
    """Two patients with a result each; the second one's is the last."""
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
    """The Segment Editor as the window's button opens it on a result of 12, 8 and 4 voxels of 6 mm3."""
    add_study(slicer)
    window.ui.segmentButton.click()
    window.ui.editButton.click()
    return slicer.util.getModuleWidget("SegmentEditor").editor


def voxels(slicer, window):
    """How many each of our segments holds, from the outermost."""
    output, reference = window.choices.output(), window.choices.referenceVolume()
    masks = [slicer.util.arrayFromSegmentBinaryLabelmap(output, name, reference) for name in ("WT", "TC", "ET")]
    return [int((mask > 0).sum()) for mask in masks]


def delete(slicer, node):
    slicer.mrmlScene.RemoveNode(node)
    slicer.app.processEvents()


def draw(slicer, name, reference):
    """A segmentation of the user's with one segment."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    node.GetSegmentation().AddEmptySegment("mine", "my segment")
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((4, 5, 6), np.uint8), node, "mine", reference)
    return node


@pytest.fixture
def probable(module, window):
    """The computation answers with probabilities too, of 0.9 inside and 0.1 outside, where they are asked for."""
    run = window.logic.inference.run
    window.choices.parameters.showProbabilities = True

    def with_probabilities(*arguments):
        result = run(*arguments)
        if window.logic.getParameterNode().showProbabilities:
            return replace(result, probabilities=np.stack([np.where(m, 0.9, 0.1) for m in result.masks.values()]))
        return result

    window.logic.inference.run = with_probabilities
    return window.choices.parameters
