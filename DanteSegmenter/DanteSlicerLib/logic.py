"""A run begun and finished, without a window."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import qt
import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from DanteSegmenterLib.cases.modality_guess import assign
from DanteSegmenterLib.errors import DanteError, InputError
from DanteSegmenterLib.host.address import Host, parse_host
from DanteSegmenterLib.model_folder import ModelSpec, check_can_prepare, choose_pathway
from DanteSegmenterLib.model_folder.library import ModelEntry, choose_model, find_models
from DanteSegmenterLib.model_folder.zip_file import unpack_model
from DanteSegmenterLib.nnunet import ImportProcess, import_in_process, is_results_folder
from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.volume import Volume
from DanteSegmenterLib.worker.client import WorkerClient
from DanteSlicerLib.installing import ensureBrainFinder, ensureDependencies
from DanteSlicerLib.parameters import ADDED_MODELS_SETTING, DanteSegmenterParameterNode
from DanteSlicerLib.scene.overlays import (
    PROBABILITY_ROLE,
    probabilityRoles,
    removeProbabilities,
    writePrepared,
    writeProbabilities,
)
from DanteSlicerLib.scene.read_nodes import checkTwins, maskFromNode, volumeFromNode
from DanteSlicerLib.scene.results import (
    MODEL_ATTRIBUTE,
    checkOutput,
    newResult,
    previousResult,
    rememberInputs,
    replaceableResult,
    usersWork,
)
from DanteSlicerLib.scene.show import centre3D, setFill, showResult
from DanteSlicerLib.scene.studies import SceneStudy, isLeftOut, studyOf, usedModalities, volumeNodes, volumesBeside
from DanteSlicerLib.scene.write_result import partsOfReport, writeSegmentation

POLL_MS = 10  # how often the window looks after a run


class WarmInference:
    """Computes in a process of its own, which stays for the next click; see `worker.client`."""

    def __init__(self):
        self._client = WorkerClient()

    def begin(
        self,
        modelFolder: Path,
        volumes: dict[str, Volume],
        device: str,
        options: SegmentOptions,
        brainMask: Volume | None,
        host: Host | None,
    ) -> None:
        if host is None:  # another computer has its own packages
            ensureDependencies()
            if options.prepare and brainMask is None:
                ensureBrainFinder()
        self._client.begin(modelFolder, volumes, device, options, brainMask, host)

    def poll(self):
        return self._client.poll()

    def cancel(self) -> None:
        self._client.cancel()

    def close(self) -> None:
        self._client.close()


@dataclass
class Job:
    """A run that was begun: what belongs to it in the scene.

    reference: the volume on whose grid the result will be.
    output: chosen by the user, or None; after `finish` the node that holds the result.
    usersWork: what `output` held of the user's own when the run began, which they allowed to be written into.
    """

    entry: ModelEntry
    inputs: dict[str, vtkMRMLScalarVolumeNode]
    reference: vtkMRMLScalarVolumeNode
    output: vtkMRMLSegmentationNode | None
    usersWork: str = ""


class DanteSegmenterLogic(ScriptedLoadableModuleLogic):
    """Works without a window: `slicer.util.getModuleLogic("DanteSegmenter").segment({"t1": node, ...})`."""

    def __init__(self, inference=None, embeddedModels: Path | None = None):
        """
        Args:
            inference: computes in place of `WarmInference`.
            embeddedModels: a folder of model folders instead of the extension's.
        """
        ScriptedLoadableModuleLogic.__init__(self)
        self.inference = inference or WarmInference()
        self._embeddedModels = embeddedModels

    def getParameterNode(self):
        return DanteSegmenterParameterNode(super().getParameterNode())

    def models(self) -> tuple[ModelEntry, ...]:
        """The extension's models and those the user added."""
        return find_models(self.addedModels(), self._embeddedModels)

    def addedModels(self) -> list[str]:
        text = slicer.util.settingsValue(ADDED_MODELS_SETTING, "", converter=str)
        return [line for line in text.split("\n") if line]

    def addModel(self, folder: str | Path) -> ModelEntry:
        """Remember a model folder for this and later sessions, and return when that is done.

        A zip file is unpacked among Slicer's settings first, a results folder of nnU-Net imported there.

        Raises:
            ModelError: it is no model folder that can be used.
            ResourceError: it cannot be unpacked or imported here.
        """
        if str(folder).lower().endswith(".zip"):
            folder = unpack_model(folder, self.ownModels())
        elif is_results_folder(Path(folder)):
            ensureDependencies()
            folder = import_in_process(Path(folder), self.ownModels())
        return self.rememberModel(folder)

    def beginImport(self, folder: str | Path) -> ImportProcess | None:
        """Begin to import a results folder of nnU-Net among Slicer's settings, without waiting for it.

        What comes of it is for `rememberModel`.

        Returns:
            None if it is no such folder.

        Raises:
            ResourceError: it cannot be imported here.
        """
        if not is_results_folder(Path(folder)):
            return None
        ensureDependencies()
        return ImportProcess(Path(folder), self.ownModels())

    @staticmethod
    def ownModels() -> Path:
        """Where models are kept that did not come as a folder."""
        return Path(slicer.app.slicerUserSettingsFilePath).parent / "DanteModels"

    def rememberModel(self, folder: str | Path) -> ModelEntry:
        """Remember a model folder as it is.

        Raises:
            ModelError: it is none that can be used.
        """
        entry = choose_model((), folder)
        folders = dict.fromkeys([*self.addedModels(), str(folder)])
        qt.QSettings().setValue(ADDED_MODELS_SETTING, "\n".join(folders))
        return entry

    def guessInputs(self, modalities: list[str], nodes: list) -> dict[str, vtkMRMLScalarVolumeNode | None]:
        """A volume node for every modality id, guessed from the names; None where they do not tell."""
        found = assign([node.GetName() or "" for node in nodes], modalities)
        return {modality: None if n is None else nodes[n] for modality, n in found.items()}

    def studies(self, spec: ModelSpec) -> list[SceneStudy]:
        """The scene's studies in the order of their first volumes, each with its volumes guessed from their names."""
        groups: dict[int, tuple[str, list]] = {}
        made = {
            node.GetNodeReference(role)
            for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
            for role in (f"{PROBABILITY_ROLE}{region.id}" for region in spec.regions)
        }
        for node in volumeNodes():
            if node not in made:
                item, name = studyOf(node)
                groups.setdefault(item, (name, []))[1].append(node)
        found = [self.loose(spec, *group) if not item else [self.study(spec, *group)] for item, group in groups.items()]
        return [study for studies in found for study in studies]

    def loose(self, spec: ModelSpec, name: str, nodes: list) -> list[SceneStudy]:
        """What can be made of volumes without a study: one, or one for each patient whom their names tell apart."""
        parts, left = [], nodes
        while left:
            beside = volumesBeside(left[0], left)
            parts.append(self.study(spec, left[0].GetName() or "", beside))
            left = [node for node in left if node not in beside]
        whole = [part for part in parts if set(spec.limited.modalities) <= set(part.inputs)]
        return [part for part in parts if part.inputs] if len(whole) > 1 else [self.study(spec, name, nodes)]

    def study(self, spec: ModelSpec, name: str, nodes: list) -> SceneStudy:
        """What can be made of the volumes of one study."""
        guessed = self.guessInputs([modality.id for modality in usedModalities(spec)], nodes)
        inputs = {m: node for m, node in guessed.items() if node is not None and not isLeftOut(spec, m, node)}
        missing = [spec.modality(m).label for m in spec.limited.modalities if m not in inputs]
        if missing:
            return SceneStudy(name, inputs, _("no volume for {missing}").format(missing=", ".join(missing)))
        reference = inputs[choose_pathway(spec, inputs)[0].modalities[0]]
        finished = previousResult(reference, spec) is not None
        return SceneStudy(name, inputs, _("finished already") if finished else "")

    def segment(
        self,
        volumes,
        model=None,
        device="auto",
        outputSegmentation=None,
        show3D=True,
        showProbabilities=False,
        mirror=False,
        prepare=False,
        brainMask=None,
        progress=None,
        cancelled=None,
        confirmed=False,
        host="",
        hostPython="",
    ) -> vtkMRMLSegmentationNode:
        """Segment volume nodes, and return when it is done; the scene is touched only when the result is there.

        Args:
            volumes: volume nodes by modality id, e.g. {"t1": node, "t2": node, "flair": node}.
            model: key, name or folder of a model; the first by default.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            outputSegmentation: node for the result; by default our last one for the same volume if nothing in it was
                corrected by hand, or a new one.
            show3D: make surfaces.
            showProbabilities: add a volume of probabilities per region.
            mirror: average over mirrored images; eight times as long.
            prepare: align the volumes with the first and extract the brain (deepbet): for raw clinical studies.
            brainMask: segmentation or label map node to use with `prepare` instead of deepbet, on the first volume.
            progress: called with `worker.outcome.RunProgress`.
            cancelled: asked often; True ends the run.
            confirmed: `outputSegmentation` may hold segments of others, which stay, or corrected ones of ours, which
                are replaced; otherwise such a node is refused.
            host: another computer that computes, reached by ssh: "ssh:user@host", "ssh:user@host:port", or "ssh:name"
                of ~/.ssh/config.
            hostPython: the command that starts the Python there that has slicer-dante; "python3" by default.

        Returns:
            The segmentation node, with one segment a region.

        Raises:
            DanteError: a volume is missing or cannot be used, the model cannot be used, or it was cancelled.
        """
        job = self.begin(
            volumes,
            model,
            device,
            outputSegmentation,
            showProbabilities,
            mirror,
            prepare,
            brainMask,
            confirmed,
            host,
            hostPython,
        )
        for _step in self.finish(job, self._computed(progress, cancelled), show3D):
            pass
        return job.output

    def _computed(self, progress, cancelled):
        """The result of the run that was begun, when it is there.

        Raises:
            DanteError: how it ended instead.
        """
        outcome = None
        while outcome is None:
            news, outcome = self.inference.poll()
            if news is not None and progress is not None:
                progress(news)
            if outcome is None:
                if cancelled is not None and cancelled():
                    self.inference.cancel()
                time.sleep(POLL_MS / 1000)
        if isinstance(outcome, DanteError):
            raise outcome
        return outcome

    def begin(
        self,
        volumes,
        model=None,
        device="auto",
        outputSegmentation=None,
        showProbabilities=False,
        mirror=False,
        prepare=False,
        brainMask=None,
        confirmed=False,
        host="",
        hostPython="",
    ) -> Job:
        """Check everything, and begin to compute; `self.inference.poll()` tells how it goes.

        Raises:
            DanteError: as of `segment`, but for an error while it computes.
        """
        computer = parse_host(host, hostPython) if host else None
        entry = choose_model(self.models(), model)
        spec = entry.usable_spec()
        given = {modality: node for modality, node in volumes.items() if node is not None}
        pathway, _notes = choose_pathway(spec, given)
        reference = given[pathway.modalities[0]]
        inputs = {modality: volumeFromNode(node) for modality, node in given.items()}
        checkTwins(given)
        work = ""
        if outputSegmentation is not None:
            checkOutput(outputSegmentation, reference)
            work = usersWork(outputSegmentation)
        if work and not confirmed:
            raise InputError(work + _(" Choose another output segmentation, or pass confirmed=True."))
        if prepare:
            check_can_prepare(spec)
        logging.info("DANTE: segmenting %s with %s", ", ".join(inputs), entry.title)
        mask = maskFromNode(brainMask, reference) if prepare and brainMask is not None else None
        options = SegmentOptions(mirror, prepare, showProbabilities)
        self.inference.begin(entry.folder, inputs, device, options, mask, computer)
        return Job(entry, given, reference, outputSegmentation, work)

    def finish(self, job: Job, result, show3D: bool = True) -> Iterator[None]:
        """Put a result into the scene, in steps of at most some tenths of a second.

        Raises:
            InputError: the volume was deleted meanwhile.
        """
        reference = job.reference
        if not slicer.mrmlScene.IsNodePresent(reference):
            raise InputError(_("The volume was deleted while it was segmented; nothing was changed."))
        if job.output is not None and not slicer.mrmlScene.IsNodePresent(job.output):
            job.output = None
        if job.output is not None and usersWork(job.output) != job.usersWork:
            job.output = None  # something was drawn into it during the run
        job.output = job.output or replaceableResult(reference, result.spec) or newResult(reference)
        rememberInputs(job.output, job.inputs)
        known = {PROBABILITY_ROLE + region.id for region in result.spec.regions}
        if result.probabilities is None or not set(probabilityRoles(job.output)) <= known:
            removeProbabilities(job.output)
        isNew = not job.output.GetAttribute(MODEL_ATTRIBUTE)
        yield from writeSegmentation(job.output, reference, result)
        if isNew:
            setFill(job.output, self.getParameterNode().fill)
        yield from writePrepared(job.output, reference, result)
        yield from writeProbabilities(job.output, reference, result)
        yield from showResult(job.output, reference, show3D)
        parameters = self.getParameterNode()
        if show3D and not parameters.centred3D:
            parameters.centred3D = centre3D(job.output)
        logging.info("DANTE: %s", partsOfReport(job.output)[0])
