"""The scene's volumes, and how they stand together in studies."""

from dataclasses import dataclass

import slicer
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _

from DanteSegmenterLib.cases.modality_guess import same_patient
from DanteSegmenterLib.model_folder import Modality, ModelSpec

ALIGNED_ATTRIBUTE = "DanteSegmenter.AlignedCopy"
SAMPLE_ATTRIBUTE = "DanteSegmenter.Sample"  # of the synthetic patient's volumes: their modality
PROBABILITY_ATTRIBUTE = "DanteSegmenter.Probability"  # of a volume: the id of its region


def putBeside(node, reference) -> None:
    """Give a node the place of `reference` in the subject hierarchy: the same study or folder."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(reference) if hierarchy else 0
    if item:
        place(hierarchy, node, hierarchy.GetItemParent(item))


def place(hierarchy, node, parent: int) -> None:
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)


def makeStudy(patient: str, study: str, nodes: list) -> int:
    """A patient with one study in the subject hierarchy; returns the study's item."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    subject = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), patient)
    item = hierarchy.CreateStudyItem(subject, study)
    for node in nodes:
        place(hierarchy, node, item)
    return item


@dataclass
class SceneStudy:
    """Volumes that stand together in the subject hierarchy, and how they would be segmented.

    problem: why they cannot be; empty if they can.
    """

    name: str
    inputs: dict[str, vtkMRMLScalarVolumeNode]
    problem: str = ""


def volumeNodes() -> list[vtkMRMLScalarVolumeNode]:
    """The scene's volumes with an image, without label maps, vectors, what is ours, and what is hidden."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [
        node
        for node in nodes
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetImageData()
        and not node.GetAttribute(PROBABILITY_ATTRIBUTE)
        and not node.GetAttribute(ALIGNED_ATTRIBUTE)
    ]


def volumeInView() -> vtkMRMLScalarVolumeNode | None:
    """What the first slice view with a background shows there."""
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        shown = view.GetBackgroundVolumeID()
        node = slicer.mrmlScene.GetNodeByID(shown) if shown else None
        if node is not None:
            return node
    return None


def volumesBeside(node, nodes: list[vtkMRMLScalarVolumeNode]) -> list[vtkMRMLScalarVolumeNode]:
    """Those of one patient: in the study of `node`, or where it is in none, called alike but for the modality."""
    item = studyOf(node)[0]
    if item:
        return [other for other in nodes if studyOf(other)[0] == item]
    loose = [other for other in nodes if not studyOf(other)[0]]
    return [loose[n] for n in same_patient([other.GetName() or "" for other in loose], node.GetName() or "")]


def isLeftOut(spec: ModelSpec, modality: str, node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a volume is only used when it is asked for: the sample shows what is found without the decisive scan."""
    return modality == spec.privileged and bool(node.GetAttribute(SAMPLE_ATTRIBUTE))


def studyOf(node) -> tuple[int, str]:
    """The subject hierarchy item that holds a node, and its name with the patient's."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    study = hierarchy.GetItemParent(item) if item else 0
    if not study or study == hierarchy.GetSceneItemID():
        return 0, _("(no study)")
    patient = hierarchy.GetItemParent(study)
    names = [hierarchy.GetItemName(i) for i in (patient, study) if i and i != hierarchy.GetSceneItemID()]
    return study, ", ".join(names)


def patientOf(node) -> int:
    """The subject hierarchy item of the patient to whom a node belongs; 0 where that is not known."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient()
    return hierarchy.GetItemAncestorAtLevel(item, level) if item else 0


def usedModalities(spec: ModelSpec) -> list[Modality]:
    """What the model can make use of: the privileged modality only if it came with the full network."""
    used = {*spec.limited.modalities, *(spec.full.modalities if spec.full else ())}
    return [modality for modality in spec.modalities if modality.id in used]
