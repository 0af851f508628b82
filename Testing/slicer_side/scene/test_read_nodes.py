"""Conversion of nodes to volumes."""

from __future__ import annotations

import pytest
import vtk
from slicer_window import add_study

from DanteSegmenterLib.errors import InputError


def test_node_used_twice_is_refused_before_computing(slicer, window):
    nodes = add_study(slicer)
    with pytest.raises(InputError, match="is chosen as t1 and as t2; each needs a volume of its own"):
        window.logic.segment({**nodes, "t2": nodes["t1"]})
    assert not window.logic.inference.run.calls


def cropped(slicer, node):
    slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(node)[1:].copy())
    node.SetOrigin(0, 0, 3)


def flipped(slicer, node):
    slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(node)[::-1].copy())
    node.SetIToRASDirection(-1, 0, 0)


def emptied(slicer, node):
    node.SetAndObserveImageData(None)


@pytest.mark.parametrize("change", [cropped, flipped, emptied])
def test_result_of_a_volume_changed_during_the_run_is_not_written(slicer, module, window, change):
    """The masks are on the voxels that were sent: on others they would lie elsewhere."""
    nodes = add_study(slicer)
    job = window.logic.begin(nodes)
    change(slicer, nodes["t1"])
    _news, outcome = window.logic.inference.poll()
    with pytest.raises(InputError, match="'3: AX T1' was changed while it was segmented"):
        list(window.logic.finish(job, outcome))
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_volume_moved_during_the_run_takes_its_result_along(slicer, module, window):
    nodes = add_study(slicer)
    job = window.logic.begin(nodes)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 5.0)
    transform.SetMatrixTransformToParent(matrix)
    for node in nodes.values():
        node.SetAndObserveTransformNodeID(transform.GetID())
    nodes["t1"].HardenTransform()
    nodes["t1"].CreateDefaultDisplayNodes()
    nodes["t1"].GetDisplayNode().SetWindowLevel(1, 2)
    _news, outcome = window.logic.inference.poll()
    list(window.logic.finish(job, outcome))
    # By hand: the middle voxel of I 1 to 3, J 1 to 2 and K 1 to 2 is (2, 1, 1), of 1 x 2 x 3 mm; 5 mm further in R.
    assert job.output.GetSegmentCenterRAS("WT") == pytest.approx((7, 2, 3))
