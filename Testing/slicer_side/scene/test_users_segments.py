"""Segments that are not ours or were edited: the user's work is never overwritten without asking."""

from __future__ import annotations

import numpy as np
import pytest
import vtk
from slicer_scene import draw, voxels
from slicer_window import add_study


@pytest.mark.parametrize("answer", [False, True])
def test_writing_into_a_node_with_other_segments_asks_first(slicer, module, window, monkeypatch, answer):
    nodes = add_study(slicer)
    theirs = draw(slicer, "theirs", nodes["t1"])
    questions = []
    ask = lambda text, **options: questions.append(text) or answer  # noqa: E731
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", ask)
    window.ui.outputSelector.setCurrentNode(theirs)
    window.ui.segmentButton.click()
    assert len(questions) == 1 and "'theirs' holds 'my segment'" in questions[0]
    assert len(module.ourSegments(theirs)) == (3 if answer else 0)
    assert (slicer.util.arrayFromSegmentBinaryLabelmap(theirs, "mine", nodes["t1"]) == 1).all()
    assert len(window.logic.inference.run.calls) == int(answer)
    assert window.ui.segmentButton.enabled


def test_unedited_own_result_is_replaced_without_asking(slicer, window, monkeypatch):
    add_study(slicer)
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda *args, **options: pytest.fail("a question"))
    window.ui.segmentButton.click()
    first = window.choices.output()
    window.ui.segmentButton.click()
    assert window.choices.output() is first


def test_edited_result_is_replaced_only_after_confirmation(slicer, window, editor, monkeypatch):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    questions = []
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda text, **options: questions.append(text))
    window.ui.segmentButton.click()
    assert voxels(slicer, window) == [48, 8, 4]
    assert "'whole tumour' in '3: AX T1 DANTE' was corrected by hand" in questions[0]


def test_edited_result_is_kept_when_a_new_segmentation_is_requested(slicer, window, editor):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    corrected = window.choices.output()
    window.ui.outputSelector.setCurrentNode(None)
    window.ui.segmentButton.click()
    assert window.choices.output() is not corrected and voxels(slicer, window) == [12, 8, 4]


def test_console_refuses_a_node_with_other_segments_unless_confirmed(slicer, module, window):
    from DanteSegmenterLib.errors import InputError

    nodes = add_study(slicer)
    theirs = draw(slicer, "theirs", nodes["t1"])
    with pytest.raises(InputError, match="'theirs' holds 'my segment'.*confirmed=True"):
        window.logic.segment(nodes, outputSegmentation=theirs)
    assert not module.ourSegments(theirs)
    window.logic.segment(nodes, outputSegmentation=theirs, confirmed=True)
    assert len(module.ourSegments(theirs)) == 3


def test_edits_during_a_run_are_not_overwritten(slicer, window, editor):
    job = window.logic.begin(window.choices.inputs(), outputSegmentation=window.choices.output())
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    _news, outcome = window.logic.inference.poll()
    for _step in window.logic.finish(job, outcome):
        pass
    assert voxels(slicer, window) == [48, 8, 4] and job.output is not window.choices.output()


def surfaces(slicer, name):
    """A segmentation that stores a ball of 10 mm as a surface, as one loaded from an STL file does."""
    ball = vtk.vtkSphereSource()
    ball.SetRadius(10)
    ball.SetThetaResolution(60)
    ball.SetPhiResolution(60)
    ball.Update()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetSourceRepresentationToClosedSurface()
    node.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "ball", [1, 0, 0], "ball")
    return node


def test_node_of_surfaces_is_refused_before_computing(slicer, module, window):
    from DanteSegmenterLib.errors import InputError

    nodes, theirs = add_study(slicer), surfaces(slicer, "theirs")
    with pytest.raises(InputError, match="'theirs' stores its segments as closed surface, not as voxels. Choose"):
        window.logic.segment(nodes, outputSegmentation=theirs, confirmed=True)
    assert not window.logic.inference.run.calls
    assert theirs.GetSegmentation().GetNumberOfSegments() == 1 and not theirs.GetAttribute(module.MODEL_ATTRIBUTE)
    theirs.GetSegmentation().RemoveSegment("ball")
    assert len(module.ourSegments(window.logic.segment(nodes, outputSegmentation=theirs))) == 3


def test_node_turned_to_surfaces_during_a_run_is_left_alone(slicer, module, window):
    nodes = add_study(slicer)
    theirs = draw(slicer, "theirs", nodes["t1"])
    job = window.logic.begin(nodes, outputSegmentation=theirs, confirmed=True)
    theirs.SetSourceRepresentationToClosedSurface()
    _news, outcome = window.logic.inference.poll()
    for _step in window.logic.finish(job, outcome):
        pass
    assert job.output is not theirs and len(module.ourSegments(job.output)) == 3
    assert theirs.GetSegmentation().GetNumberOfSegments() == 1


def test_segment_stored_as_a_surface_has_its_volume(slicer, module, window):
    theirs = surfaces(slicer, "theirs")
    # By hand: 4/3 pi 10^3 mm3 = 4.19 mL.
    assert module.segmentVolumeMl(theirs, "ball") == pytest.approx(4.19, rel=0.03)
    assert not theirs.GetSegmentation().ContainsRepresentation("Binary labelmap")


def test_result_turned_to_surfaces_is_not_empty_and_not_overwritten(slicer, module, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    output = window.choices.output()
    output.SetSourceRepresentationToClosedSurface()
    assert module.followEdits(output)
    rows = module.readTable(output.GetNodeReference(module.TABLE_ROLE))
    assert all(row.edited and row.volume for row in rows), rows
    window.ui.outputSelector.setCurrentNode(None)
    window.ui.segmentButton.click()
    assert window.choices.output() is not output
