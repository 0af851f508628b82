"""Writes a result into a segmentation node."""

from collections.abc import Iterator

import numpy as np
import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _

from DanteSegmenterLib.result import Report, Result
from DanteSlicerLib.parameters import deviceName
from DanteSlicerLib.scene.results import MODEL_ATTRIBUTE, REPORT_ATTRIBUTE, RESULT_ROLE, modelName
from DanteSlicerLib.scene.segments import (
    FINGERPRINT_TAG,
    addSegment,
    fingerprint,
    otherSegments,
    ourSegments,
    removeSegments,
)
from DanteSlicerLib.scene.volumes_table import writeTable

WARNING_PREFIX = "WARNING: "  # marks a note that questions the result


def writeSegmentation(
    output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode, result: Result
) -> Iterator[None]:
    """Write the result's regions into `output` as overlapping segments, replacing only those made by this module.

    A generator with steps of at most one region each, so that the application can process events in between.

    Args:
        output: any segmentation node; other segments in it are kept.
        reference: the volume whose grid the result uses.
        result: from the window's process, or from `inference.segment`.
    """
    spec = result.spec
    model = modelName(spec)
    with slicer.util.NodeModify(output):
        output.CreateDefaultDisplayNodes()
        if not output.GetSegmentation().GetNumberOfSegments():
            output.SetSourceRepresentationToBinaryLabelmap()  # an empty node may be meant for surfaces
        if not otherSegments(output):
            output.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
            output.SetReferenceImageGeometryParameterFromVolumeNode(reference)
        if output.GetAttribute(MODEL_ATTRIBUTE) != model:
            removeSegments(output, ourSegments(output).values())
        output.SetAttribute(MODEL_ATTRIBUTE, model)
        output.SetAttribute(REPORT_ATTRIBUTE, reportText(result.report))
        output.SetNodeReferenceID(RESULT_ROLE, reference.GetID())
        # Existing surfaces would be recomputed at every change.
        output.RemoveClosedSurfaceRepresentation()
    for region in spec.regions:
        segmentId = ourSegments(output).get(region.id) or addSegment(output, region, spec.regions)
        mask = result.mask(region.id).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, output, segmentId, reference)
        output.GetSegmentation().GetSegment(segmentId).SetTag(FINGERPRINT_TAG, fingerprint(output, segmentId))
        yield
    writeTable(output, result, model)


def reportText(report: Report) -> str:
    """The text that the window shows below the button after a run, and again when the scene is reopened."""
    done = _("Done in {seconds:.1f} s on {device}.")
    done = done.format(seconds=report.total_seconds, device=deviceName(report.device))
    return "\n".join([done, *report.notes])


def partsOfReport(output: vtkMRMLSegmentationNode | None) -> tuple[str, list[str], list[str]]:
    """Split the text of `reportText` into the line that it is done, the warnings, and the other notes."""
    report = (output.GetAttribute(REPORT_ATTRIBUTE) if output else None) or ""
    done, *notes = report.split("\n")
    warnings = [note.removeprefix(WARNING_PREFIX) for note in notes if note.startswith(WARNING_PREFIX)]
    return done, warnings, [note for note in notes if not note.startswith(WARNING_PREFIX)]
