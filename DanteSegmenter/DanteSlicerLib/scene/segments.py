"""The segments made by this module: finding, creating and measuring them."""

import zlib

import numpy as np
import slicer
import vtk
from slicer import vtkMRMLSegmentationNode

from DanteSegmenterLib.model_folder import Region

REGION_TAG = "DanteSegmenter.Region"
FINGERPRINT_TAG = "DanteSegmenter.Mask"  # on a segment: fingerprint of the model's output


def ourSegments(output: vtkMRMLSegmentationNode) -> dict[str, str]:
    """Region id -> segment id, for the segments made by this module."""
    segmentation = output.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    text = vtk.reference("")
    return {str(text): segment_id for segment_id in ids if segmentation.GetSegment(segment_id).GetTag(REGION_TAG, text)}


def otherSegments(output: vtkMRMLSegmentationNode) -> bool:
    return output.GetSegmentation().GetNumberOfSegments() > len(ourSegments(output))


def removeSegments(output: vtkMRMLSegmentationNode, segmentIds) -> None:
    for segmentId in list(segmentIds):
        output.GetSegmentation().RemoveSegment(segmentId)


def addSegment(output: vtkMRMLSegmentationNode, region: Region, regions: tuple[Region, ...]) -> str:
    """Add an empty segment with the region's name, colour and codes; returns its id."""
    segmentation = output.GetSegmentation()
    wanted = segmentation.GenerateUniqueSegmentID(region.id)
    segmentId = segmentation.AddEmptySegment(wanted, region.name, region.color)
    segment = segmentation.GetSegment(segmentId)
    segment.SetTag(REGION_TAG, region.id)
    segment.SetTag(segment.GetTerminologyEntryTagName(), region.terminology.entry())
    # A region that encloses another must be translucent.
    encloses = any(set(other.labels) < set(region.labels) for other in regions)
    display = output.GetDisplayNode()
    display.SetSegmentOpacity3D(segmentId, 0.35 if encloses else 1.0)
    return segmentId


def storesVoxels(output: vtkMRMLSegmentationNode) -> bool:
    """Whether a node stores its segments as a binary labelmap, so that voxels can be written into it.

    Others store surfaces, or contours as in an RT structure set.
    """
    voxels = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    return output.GetSegmentation().GetSourceRepresentationName() == voxels


def isEdited(output: vtkMRMLSegmentationNode, segmentId: str) -> bool:
    """Whether a segment differs from the model's output; False if an older version stored no fingerprint."""
    if not storesVoxels(output):
        return True  # the conversion has smoothed it
    noted = vtk.reference("")
    if not output.GetSegmentation().GetSegment(segmentId).GetTag(FINGERPRINT_TAG, noted):
        return False
    sum_, *corner = str(noted).split()
    sumNow, *cornerNow = fingerprint(output, segmentId).split()
    # A saved scene rounds positions and may crop the empty margin of a labelmap.
    return sum_ != sumNow or not np.allclose(np.array(corner, float), np.array(cornerNow, float), atol=0.01)


def fingerprint(output: vtkMRMLSegmentationNode, segmentId: str) -> str:
    """A checksum of a segment's voxels within their bounding box, and the box's corner (RAS mm, without transform)."""
    mask, corner, _voxelMl = segmentBox(output, segmentId)
    checksum = zlib.crc32(np.packbits(mask).tobytes(), zlib.crc32(repr(mask.shape).encode()))
    return " ".join([f"{checksum:08x}", *(f"{value:.3f}" for value in corner)])


def segmentVolumeMl(output: vtkMRMLSegmentationNode, segmentId: str) -> float:
    """A segment's current volume in mL, including linear parent transforms."""
    if storesVoxels(output):
        mask, _corner, voxelMl = segmentBox(output, segmentId)
        volume = float(mask.sum()) * voxelMl
    else:
        volume = surfaceVolumeMl(output, segmentId)
    transform, scale = output.GetParentTransformNode(), 1.0
    if transform is not None and transform.IsTransformToWorldLinear():
        toWorld = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(toWorld)
        scale = abs(toWorld.Determinant())
    return volume * scale


def surfaceVolumeMl(output: vtkMRMLSegmentationNode, segmentId: str) -> float:
    """The volume within the surface of a segment that is stored as a surface or as contours, in mL."""
    surface = closedSurface(output.GetSegmentation(), segmentId)
    if surface is None or not surface.GetNumberOfCells():
        return 0.0
    triangles, measure = vtk.vtkTriangleFilter(), vtk.vtkMassProperties()
    triangles.SetInputData(surface)
    measure.SetInputConnection(triangles.GetOutputPort())
    return float(measure.GetVolume()) / 1000


def segmentBox(output: vtkMRMLSegmentationNode, segmentId: str) -> tuple[np.ndarray, tuple[float, ...], float]:
    """A segment's voxels, bool [K, J, I] within their bounding box; its first voxel in RAS mm; voxel volume in mL."""
    image = output.GetBinaryLabelmapInternalRepresentation(segmentId)
    nothing = np.zeros((0, 0, 0), bool), (0.0, 0.0, 0.0), 0.0
    if image is None or image.IsEmpty():
        return nothing
    # A labelmap may hold several non-overlapping segments, each with its own value.
    label = output.GetSegmentation().GetSegment(segmentId).GetLabelValue()
    mask = slicer.util.arrayFromSegmentInternalBinaryLabelmap(output, segmentId) == label
    inPlane = mask.any(axis=0)
    ranges = [np.flatnonzero(hits) for hits in (mask.any(axis=(1, 2)), inPlane.any(axis=1), inPlane.any(axis=0))]
    if not len(ranges[0]):
        return nothing
    box = tuple(slice(hits[0], hits[-1] + 1) for hits in ranges)
    toWorld = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(toWorld)
    first = [image.GetExtent()[2 * n] + int(ranges[2 - n][0]) for n in range(3)]
    corner = toWorld.MultiplyPoint((*first, 1.0))[:3]
    return mask[box], corner, abs(toWorld.Determinant()) / 1000


def closedSurface(segmentation, segmentId: str):
    """The surface of one segment as vtkPolyData; None if it has none. The segmentation is left as it is.

    Slicer converts all segments of a segmentation at once, so a copy of this one is converted, with equal parameters.
    """
    closed = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    alone = slicer.vtkSegmentation()
    alone.SetSourceRepresentationName(segmentation.GetSourceRepresentationName())
    alone.CopyConversionParameters(segmentation)
    alone.CopySegmentFromSegmentation(segmentation, segmentId)
    alone.CreateRepresentation(closed)
    return alone.GetSegmentRepresentation(segmentId, closed)
