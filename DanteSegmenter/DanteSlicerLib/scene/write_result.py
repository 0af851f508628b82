"""What the model found, written into a segmentation node."""

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

WARNING_PREFIX = "WARNING: "  # what a note begins with that speaks against the result


def writeSegmentation(
    output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode, result: Result
) -> Iterator[None]:
    """Put the result's regions into `output` as overlapping segments, replacing only those this module made.

    A generator: between its steps, of at most a region each, the application may look after its window.

    Args:
        output: any segmentation node; segments of others in it stay as they are.
        reference: the volume on whose grid the result is.
        result: of the window's process, or of `inference.segment`.
    """
    spec = result.spec
    model = modelName(spec)
    with slicer.util.NodeModify(output):
        output.CreateDefaultDisplayNodes()
        if not otherSegments(output):
            output.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
            output.SetReferenceImageGeometryParameterFromVolumeNode(reference)
        if output.GetAttribute(MODEL_ATTRIBUTE) != model:
            removeSegments(output, ourSegments(output).values())
        output.SetAttribute(MODEL_ATTRIBUTE, model)
        output.SetAttribute(REPORT_ATTRIBUTE, reportText(result.report))
        output.SetNodeReferenceID(RESULT_ROLE, reference.GetID())
        # Surfaces of the segments before would be made anew at every change.
        output.RemoveClosedSurfaceRepresentation()
    for region in spec.regions:
        segmentId = ourSegments(output).get(region.id) or addSegment(output, region, spec.regions)
        mask = result.mask(region.id).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, output, segmentId, reference)
        output.GetSegmentation().GetSegment(segmentId).SetTag(FINGERPRINT_TAG, fingerprint(output, segmentId))
        yield
    writeTable(output, result, model)


def reportText(report: Report) -> str:
    """What the window says below the button after a run, and again when the scene is reopened."""
    done = _("Done in {seconds:.1f} s on {device}.")
    done = done.format(seconds=report.total_seconds, device=deviceName(report.device))
    return "\n".join([done, *report.notes])


def partsOfReport(output: vtkMRMLSegmentationNode | None) -> tuple[str, list[str], list[str]]:
    """What `reportText` said of a result: that it is done, the warnings, and the other notes."""
    report = (output.GetAttribute(REPORT_ATTRIBUTE) if output else None) or ""
    done, *notes = report.split("\n")
    warnings = [note.removeprefix(WARNING_PREFIX) for note in notes if note.startswith(WARNING_PREFIX)]
    return done, warnings, [note for note in notes if not note.startswith(WARNING_PREFIX)]
