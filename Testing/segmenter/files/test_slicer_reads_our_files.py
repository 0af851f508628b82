"""Slicer's own core reads the segmentation file written by the command line."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from models import brain_regions

from DanteSegmenterLib.files import write_segmentation
from DanteSegmenterLib.volume import Volume

pytest.importorskip("slicer_core", reason="slicer-core is not installed")

READ = """
import json, sys
import numpy as np, slicer, vtk
from vtkmodules.util.numpy_support import vtk_to_numpy
scene = slicer.vtkMRMLScene()
node, storage = slicer.vtkMRMLSegmentationNode(), slicer.vtkMRMLSegmentationStorageNode()
for n in (node, storage):
    scene.AddNode(n)
storage.SetFileName(sys.argv[1])
assert storage.ReadData(node)
segmentation = node.GetSegmentation()
report = {"layers": segmentation.GetNumberOfLayers(), "segments": {}}
for n in range(segmentation.GetNumberOfSegments()):
    segment = segmentation.GetNthSegment(n)
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segmentation.GetNthSegmentID(n), image)
    matrix, terminology, points = vtk.vtkMatrix4x4(), vtk.reference(""), []
    image.GetImageToWorldMatrix(matrix)
    segment.GetTag(segment.GetTerminologyEntryTagName(), terminology)
    first = image.GetExtent()[::2]
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    for k, j, i in np.argwhere(voxels):
        points.append(matrix.MultiplyPoint((i + first[0], j + first[1], k + first[2], 1))[:3])
    report["segments"][segmentation.GetNthSegmentID(n)] = {
        "name": segment.GetName(), "color": segment.GetColor(), "terminology": str(terminology), "points": points}
print("REPORT" + json.dumps(report), flush=True)
import os; os._exit(0)
"""


def read_by_slicer(path):
    env = {**os.environ, "PYTHONUTF8": "1"}
    result = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, encoding="utf-8", env=env)
    assert "REPORT" in result.stdout, result.stderr[-2000:]
    return json.loads(result.stdout.partition("REPORT")[2])


def test_slicer_core_reads_segments_codes_and_world_voxels(tmp_path):
    matrix = np.array([[0, 0, -2.5, 7], [0.9, 0, 0, -3], [0, -1.1, 0, 5], [0, 0, 0, 1.0]])
    masks = {id: np.zeros((3, 4, 5), bool) for id in ("WT", "TC", "ET")}
    masks["WT"][1:, 1:3, 2:] = True
    masks["TC"][1, 1, 2:4] = True
    masks["ET"][1, 1, 2] = True
    path = tmp_path / "result.seg.nrrd"
    write_segmentation(path, masks, brain_regions(), Volume(np.zeros((3, 4, 5)), matrix))
    report = read_by_slicer(path)
    assert report["layers"] == 3 and list(report["segments"]) == ["WT", "TC", "ET"]
    for region in brain_regions():
        found = report["segments"][region.id]
        assert found["name"] == region.name and found["color"] == pytest.approx(region.color)
        assert found["terminology"] == region.terminology.entry()
        expected = [(matrix @ [i, j, k, 1])[:3] for k, j, i in np.argwhere(masks[region.id])]
        assert np.allclose(sorted(map(list, found["points"])), sorted(map(list, expected)), atol=1e-4)


NAMES = ["Hirnödem, größer 頭 😀", r"back\slash \n and $^$", "<b>x</b>; =1+1"]


def test_texts_in_any_language_round_trip(tmp_path):
    meaning = brain_regions()[0].terminology
    meaning = replace(meaning, type=replace(meaning.type, meaning="Ödem: groß"))
    regions = [replace(r, name=name, terminology=meaning) for r, name in zip(brain_regions(), NAMES)]
    masks = {region.id: np.ones((3, 4, 5), bool) for region in regions}
    write_segmentation(tmp_path / "result.seg.nrrd", masks, regions, Volume(np.zeros((3, 4, 5)), np.eye(4)))
    found = read_by_slicer(tmp_path / "result.seg.nrrd")["segments"].values()
    assert [segment["name"] for segment in found] == NAMES
    assert {segment["terminology"] for segment in found} == {meaning.entry()}
    assert all(len(segment["points"]) == 60 for segment in found)


def test_name_cannot_break_a_header_line(tmp_path):
    regions = [replace(brain_regions()[0], name="a\r\nSegment0_ID:=evil\n\n\x1b")]
    grid = Volume(np.zeros((3, 4, 5)), np.eye(4))
    write_segmentation(tmp_path / "r.seg.nrrd", {"WT": np.ones((3, 4, 5), bool)}, regions, grid)
    head = (tmp_path / "r.seg.nrrd").read_bytes().partition(b"\n\n")[0].decode()
    assert "Segment0_Name:=a Segment0_ID:=evil\n" in head and head.count("\nSegment0_ID:=") == 1
    assert read_by_slicer(tmp_path / "r.seg.nrrd")["segments"]["WT"]["name"] == "a Segment0_ID:=evil"
