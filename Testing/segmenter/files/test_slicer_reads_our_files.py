"""Slicer's own core reads the segmentation file that the command line writes."""

import json
import subprocess
import sys

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


def test_slicers_core_finds_every_segment_its_codes_and_its_voxels_in_the_world(tmp_path):
    matrix = np.array([[0, 0, -2.5, 7], [0.9, 0, 0, -3], [0, -1.1, 0, 5], [0, 0, 0, 1.0]])
    masks = {id: np.zeros((3, 4, 5), bool) for id in ("WT", "TC", "ET")}
    masks["WT"][1:, 1:3, 2:] = True
    masks["TC"][1, 1, 2:4] = True
    masks["ET"][1, 1, 2] = True
    path = tmp_path / "result.seg.nrrd"
    write_segmentation(path, masks, brain_regions(), Volume(np.zeros((3, 4, 5)), matrix))
    result = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, timeout=60)
    assert "REPORT" in result.stdout, result.stderr[-2000:]
    report = json.loads(result.stdout.partition("REPORT")[2])
    assert report["layers"] == 3 and list(report["segments"]) == ["WT", "TC", "ET"]
    for region in brain_regions():
        found = report["segments"][region.id]
        assert found["name"] == region.name and found["color"] == pytest.approx(region.color)
        assert found["terminology"] == region.terminology.entry()
        expected = [(matrix @ [i, j, k, 1])[:3] for k, j, i in np.argwhere(masks[region.id])]
        assert np.allclose(sorted(map(list, found["points"])), sorted(map(list, expected)), atol=1e-4)
