"""Editing a result in the Segment Editor, and the update of its table."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from slicer_scene import voxels
from slicer_window import add_study, until


def edited(slicer, module, window):
    """Wait until the table is updated; returns its rows."""
    until(slicer, lambda: not window.resultPanel.edits.waiting, 5)
    return module.readTable(window.choices.output().GetNodeReference(module.TABLE_ROLE))


def test_growing_a_segment_does_not_erase_those_inside_it(slicer, window, editor):
    assert editor.segmentationNode() is window.choices.output()
    assert voxels(slicer, window) == [12, 8, 4]
    assert editor.mrmlSegmentEditorNode().GetSelectedSegmentID() == "WT"
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    assert voxels(slicer, window) == [48, 8, 4]


def test_editor_opens_without_the_masks_of_an_earlier_patient(slicer, window, editor):
    node = editor.mrmlSegmentEditorNode()
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    node.SourceVolumeIntensityMaskOn()
    window.ui.editButton.click()
    assert node.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
    assert not node.GetSourceVolumeIntensityMask()


def test_table_follows_an_edit_and_keeps_the_model_values(slicer, module, window, editor):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    outer, core, inner = edited(slicer, module, window)
    # By hand: 48 voxels of 1 x 2 x 3 mm are 0.288 mL; the model found 12, 0.072 mL, in the range 0.036 to 0.144.
    assert outer.edited and not core.edited and not inner.edited
    assert outer.volume == pytest.approx(0.288) and outer.modelVolume == pytest.approx(0.072)
    assert (outer.low, outer.high) == pytest.approx((0.036, 0.144)) and outer.confidence == pytest.approx(0.875)
    assert core.volume == core.modelVolume == pytest.approx(0.048)
    table = window.ui.volumesTable
    assert table.item(0, 1).text() == "0.3 edited" and table.item(0, 4).text() == "0.1"
    assert table.item(1, 1).text() == "0.0"
    assert not table.isColumnHidden(4)


def test_model_values_are_not_repeated_before_an_edit(slicer, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    assert window.ui.volumesTable.isColumnHidden(4) and window.ui.volumesTable.item(0, 1).text() == "0.1"


def test_moved_segment_of_equal_size_counts_as_edited(slicer, module, window, editor):
    editor.mrmlSegmentEditorNode().SetSelectedSegmentID("ET")
    editor.stroke(np.s_[1:3, 1:3, 1:2], erase=True)
    editor.stroke(np.s_[1:3, 1:3, 2:3])
    assert voxels(slicer, window) == [12, 8, 4]
    assert [row.edited for row in edited(slicer, module, window)] == [False, False, True]


def test_undone_edit_does_not_count(slicer, module, window, editor):
    editor.stroke(np.s_[0:1, 0:2, 0:2])
    assert edited(slicer, module, window)[0].edited
    editor.stroke(np.s_[0:1, 0:2, 0:2], erase=True)
    row = edited(slicer, module, window)[0]
    assert not row.edited and row.volume == row.modelVolume


def test_table_shows_deleted_and_renamed_segments(slicer, module, window, editor):
    segmentation = window.choices.output().GetSegmentation()
    segmentation.GetSegment("TC").SetName("core, corrected")
    segmentation.RemoveSegment("ET")
    rows = edited(slicer, module, window)
    assert [row.name for row in rows] == ["whole tumour", "core, corrected", "enhancing tumour"]
    assert rows[2].edited and rows[2].volume == 0 and rows[2].modelVolume == pytest.approx(0.024)


def test_strokes_do_not_wait_for_the_table(slicer, module, window, editor, monkeypatch):
    calls, real = [], module.followEdits
    monkeypatch.setattr(
        "DanteSlicerLib.scene.volumes_table.followEdits", lambda output: calls.append(output) or real(output)
    )
    for n in range(20):
        editor.stroke(np.s_[0:1, 0:1, 0:1], erase=bool(n % 2))
        slicer.app.processEvents()
    assert calls == [] and window.resultPanel.edits.waiting
    edited(slicer, module, window)
    assert len(calls) == 1


def test_table_follows_while_the_segment_editor_is_shown(slicer, module, window, editor):
    window.parent.exit()
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    until(slicer, lambda: not window.resultPanel.edits.waiting, 5)
    window.parent.enter()
    assert window.ui.volumesTable.item(0, 1).text() == "0.3 edited"


def test_edited_table_is_in_the_csv_and_in_the_reopened_scene(slicer, module, window, editor, tmp_path, monkeypatch):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    path = str(tmp_path / "volumes.csv")
    monkeypatch.setattr("qt.QFileDialog.getSaveFileName", lambda *args: (path, "csv"))
    window.ui.saveTableButton.click()  # at once, before the table updates by itself
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["Edited"] for row in rows] == ["yes", "", ""]
    assert float(rows[0]["Volume [mL]"]) == pytest.approx(0.288)
    assert float(rows[0]["Model volume [mL]"]) == pytest.approx(0.072)
    editor.stroke(np.s_[0:4, 0:4, 0:4])
    scene = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(scene)  # also at once
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.ReadFromMRB(scene, True)
    rows = module.readTable(window.choices.output().GetNodeReference(module.TABLE_ROLE))
    assert [row.edited for row in rows] == [True, False, False] and rows[0].volume == pytest.approx(0.288)
    rows = edited(slicer, module, window)
    assert [row.edited for row in rows] == [True, False, False]
    assert rows[0].volume == pytest.approx(0.384) and rows[0].modelVolume == pytest.approx(0.072)


def test_new_run_into_an_edited_result_restores_the_model_values(slicer, module, window, editor, monkeypatch):
    editor.stroke(np.s_[0:4, 0:3, 0:4])
    edited(slicer, module, window)
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda *args, **options: True)
    window.ui.segmentButton.click()
    row = edited(slicer, module, window)[0]
    assert not row.edited and row.volume == pytest.approx(0.072)


def test_each_row_has_its_segments_colour_wherever_the_segment_stands(slicer, window, editor):
    segmentation = window.choices.output().GetSegmentation()
    colours = [segmentation.GetSegment(name).GetColor() for name in ("WT", "TC", "ET")]
    segmentation.SetSegmentIndex("ET", 0)
    window.updateGui()
    table = window.ui.volumesTable
    shown = [table.item(row, 0).icon().pixmap(12, 12).toImage().pixelColor(6, 6) for row in range(3)]
    expected = [tuple(int(255 * part) for part in colour) for colour in colours]
    assert [(pixel.red(), pixel.green(), pixel.blue()) for pixel in shown] == expected
