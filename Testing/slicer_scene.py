"""User actions with patients, edits and probabilities in the scene."""

from __future__ import annotations

import numpy as np


def choose(window, nodes):
    """Choose a study's volumes box by box, as a user does."""
    for modality, selector in window.inputsPanel.selectors.items():
        selector.setCurrentNode(nodes.get(modality))


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
