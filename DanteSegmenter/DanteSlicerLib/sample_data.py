"""Sample data: a synthetic patient, generated on request; nothing is downloaded or shipped."""

from pathlib import Path

import slicer
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _

from DanteSlicerLib.scene.overlays import showInSlices
from DanteSlicerLib.scene.studies import SAMPLE_ATTRIBUTE, makeStudy

SAMPLE_CATEGORY = "DANTE"
SAMPLE_NAME = "DanteBrainMR"
SAMPLE_MODALITIES = ("t1", "t1ce", "t2", "flair")


def registerSampleData():
    """Register the synthetic patient in the Sample Data module."""
    import SampleData

    names = [f"{SAMPLE_NAME} {modality}" for modality in SAMPLE_MODALITIES]
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=SAMPLE_CATEGORY,
        sampleName=SAMPLE_NAME,
        thumbnailFileName=str(Path(__file__).parent.parent / "Resources" / "Icons" / "DanteSegmenter.png"),
        # These URIs do not exist: the button calls the custom downloader, which generates the volumes.
        uris=[f"dante-sample:{modality}" for modality in SAMPLE_MODALITIES],
        fileNames=[f"{name}.nrrd" for name in names],
        nodeNames=names,
        customDownloader=loadSamplePatient,
    )


def loadSamplePatient(source=None, seed: int = 0, spacingMm: float = 1.0) -> dict[str, vtkMRMLScalarVolumeNode]:
    """Generate a synthetic patient with a brain tumour and add its four MR volumes to the scene.

    Args:
        source: passed by the Sample Data module; unused.
        seed: selects the patient.
        spacingMm: voxel spacing.

    Returns:
        The volume nodes by modality id.
    """
    from DanteSegmenterLib.synthetic.sample import brain_mr

    patient = brain_mr(seed=seed, spacing_mm=spacingMm)
    nodes = {
        modality: slicer.util.addVolumeFromArray(volume.array, volume.ijk_to_ras, f"{SAMPLE_NAME} {modality}")
        for modality, volume in patient.volumes.items()
    }
    for modality, node in nodes.items():
        node.SetAttribute(SAMPLE_ATTRIBUTE, modality)
    makeStudy(_("Synthetic patient"), _("Brain MR"), list(nodes.values()))
    showInSlices(nodes.get("flair") or next(iter(nodes.values())))
    return nodes
