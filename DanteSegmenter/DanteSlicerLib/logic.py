"""Starts and finishes segmentation runs without a window."""

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
from DanteSlicerLib.foreign_texts import nodeName
from DanteSlicerLib.installing import ensureBrainFinder, ensureDependencies
from DanteSlicerLib.parameters import ADDED_MODELS_SETTING, DanteSegmenterParameterNode
from DanteSlicerLib.scene.overlays import (
    PROBABILITY_ROLE,
    probabilityRoles,
    removeProbabilities,
    writePrepared,
    writeProbabilities,
)
from DanteSlicerLib.scene.read_nodes import checkNoDuplicates, holdsImageOf, maskFromNode, volumeFromNode
from DanteSlicerLib.scene.results import (
    MODEL_ATTRIBUTE,
    canHold,
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

POLL_MS = 10  # interval at which the window polls a run


class WarmInference:
    """Runs inference in a separate process that stays alive for the next run; see `worker.client`."""

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
        if host is None:  # a remote host has its own packages
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
    """A started run and its nodes in the scene.

    reference: the volume whose grid the result uses.
    output: chosen by the user, or None; after `finish` the node that holds the result.
    usersWork: the user's own work in `output` when the run started, which they agreed to have in the node.
    """

    entry: ModelEntry
    inputs: dict[str, vtkMRMLScalarVolumeNode]
    reference: vtkMRMLScalarVolumeNode
    output: vtkMRMLSegmentationNode | None
    usersWork: str = ""


class DanteSegmenterLogic(ScriptedLoadableModuleLogic):
    """Usable without a window: `slicer.util.getModuleLogic("DanteSegmenter").segment({"t1": node, ...})`."""

    def __init__(self, inference=None, embeddedModels: Path | None = None):
        """
        Args:
            inference: replaces `WarmInference`.
            embeddedModels: a folder of model folders that replaces the extension's.
        """
        ScriptedLoadableModuleLogic.__init__(self)
        self.inference = inference or WarmInference()
        self._embeddedModels = embeddedModels

    def getParameterNode(self):
        return DanteSegmenterParameterNode(super().getParameterNode())

    def models(self) -> tuple[ModelEntry, ...]:
        """The models of the extension and those added by the user."""
        return find_models(self.addedModels(), self._embeddedModels)

    def addedModels(self) -> list[str]:
        text = slicer.util.settingsValue(ADDED_MODELS_SETTING, "", converter=str)
        return [line for line in text.split("\n") if line]

    def addModel(self, folder: str | Path) -> ModelEntry:
        """Add a model folder for this and later sessions; blocks until it is added.

        A zip file is first unpacked, and an nnU-Net results folder imported, into Slicer's settings folder.

        Raises:
            ModelError: it is not a usable model folder.
            ResourceError: it cannot be unpacked or imported here.
        """
        if str(folder).lower().endswith(".zip"):
            folder = unpack_model(folder, self.ownModels())
        elif is_results_folder(Path(folder)):
            ensureDependencies()
            folder = import_in_process(Path(folder), self.ownModels())
        return self.rememberModel(folder)

    def beginImport(self, folder: str | Path) -> ImportProcess | None:
        """Start importing an nnU-Net results folder into Slicer's settings folder, without blocking.

        Pass the finished import's folder to `rememberModel`.

        Returns:
            None if `folder` is not an nnU-Net results folder.

        Raises:
            ResourceError: it cannot be imported here.
        """
        if not is_results_folder(Path(folder)):
            return None
        ensureDependencies()
        return ImportProcess(Path(folder), self.ownModels())

    @staticmethod
    def ownModels() -> Path:
        """The folder for unpacked and imported models."""
        return Path(slicer.app.slicerUserSettingsFilePath).parent / "DanteModels"

    def rememberModel(self, folder: str | Path) -> ModelEntry:
        """Add a model folder in place.

        Raises:
            ModelError: it is not a usable model folder.
        """
        entry = choose_model((), folder)
        folders = dict.fromkeys([*self.addedModels(), str(folder)])
        qt.QSettings().setValue(ADDED_MODELS_SETTING, "\n".join(folders))
        return entry

    def guessInputs(self, modalities: list[str], nodes: list) -> dict[str, vtkMRMLScalarVolumeNode | None]:
        """Guess a volume node for every modality id from the node names; None where no name matches."""
        found = assign([node.GetName() or "" for node in nodes], modalities)
        return {modality: None if n is None else nodes[n] for modality, n in found.items()}

    def studies(self, spec: ModelSpec) -> list[SceneStudy]:
        """The scene's studies in the order of their first volumes, with inputs guessed from the volume names."""
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
        found: list[SceneStudy] = []
        for item, group in groups.items():
            found += [self.study(spec, *group)] if item else self.studiesByName(spec, *group)
        return found

    def studiesByName(self, spec: ModelSpec, name: str, nodes: list) -> list[SceneStudy]:
        """What can be made of volumes without a study: one, or one for each patient whom their names tell apart."""
        parts, left = [], nodes
        while left:
            beside = volumesBeside(left[0], left)
            parts.append(self.study(spec, left[0].GetName() or "", beside))
            left = [node for node in left if node not in beside]
        whole = [part for part in parts if set(spec.limited.modalities) <= set(part.inputs)]
        return [part for part in parts if part.inputs] if len(whole) > 1 else [self.study(spec, name, nodes)]

    def study(self, spec: ModelSpec, name: str, nodes: list) -> SceneStudy:
        """Build a `SceneStudy` from the volumes of one study."""
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
        """Segment volume nodes; blocks until done, and changes the scene only once the result is available.

        Args:
            volumes: volume nodes by modality id, e.g. {"t1": node, "t2": node, "flair": node}.
            model: key, name or folder of a model; by default the first model.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            outputSegmentation: node for the result; by default this module's latest result for the same volume that
              was not edited by hand, or a new node.
            show3D: create surfaces for the 3D view.
            showProbabilities: add a probability volume per region.
            mirror: average over mirrored images; eight times as long.
            prepare: align the volumes with the first one and extract the brain (deepbet): for raw clinical studies.
            brainMask: segmentation or label map node to use with `prepare` instead of deepbet, on the first volume.
            progress: called with `worker.outcome.RunProgress`.
            cancelled: polled during the run; True cancels it.
            confirmed: allow an `outputSegmentation` that holds segments not made by this module, which are kept, or
              edited segments of this module, which are replaced; otherwise such a node is refused.
            host: remote computer to run on by ssh: "ssh:user@host", "ssh:user@host:port", or "ssh:name" from
              ~/.ssh/config.
            hostPython: command that starts the remote Python that has slicer-dante; "python3" by default.

        Returns:
            The segmentation node, with one segment per region.

        Raises:
            DanteError: a volume is missing or unusable, the model is unusable, or the run was cancelled.
        """
        job = self.begin(
            volumes,
            model,
            device,
            outputSegmentation,
            showProbabilities=showProbabilities,
            mirror=mirror,
            prepare=prepare,
            brainMask=brainMask,
            confirmed=confirmed,
            host=host,
            hostPython=hostPython,
        )
        for _step in self.finish(job, self._computed(progress, cancelled), show3D):
            pass
        return job.output

    def _computed(self, progress, cancelled):
        """Wait for the result of the current run.

        Raises:
            DanteError: the run failed or was cancelled.
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
        """Validate everything and start the run; poll it with `self.inference.poll()`.

        Raises:
            DanteError: as in `segment`, except for errors during the computation.
        """
        computer = parse_host(host, hostPython) if host else None
        entry = choose_model(self.models(), model)
        spec = entry.usable_spec()
        given = {modality: node for modality, node in volumes.items() if node is not None}
        pathway, _notes = choose_pathway(spec, given)
        reference = given[pathway.modalities[0]]
        inputs = {modality: volumeFromNode(node) for modality, node in given.items()}
        checkNoDuplicates(given)
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
        """Write a result into the scene, in steps of at most a few tenths of a second.

        Raises:
            InputError: the volume was deleted or its image changed during the run.
        """
        reference = job.reference
        if not slicer.mrmlScene.IsNodePresent(reference):
            raise InputError(_("The volume was deleted while it was segmented; nothing was changed."))
        if not holdsImageOf(reference, result.reference):  # cropped, flipped, filtered, or the next frame of a sequence
            raise InputError(
                _("'{name}' was changed while it was segmented; the result does not fit it. Segment again.").format(
                    name=nodeName(reference)
                )
            )
        if job.output is not None and not slicer.mrmlScene.IsNodePresent(job.output):
            job.output = None
        if job.output is not None and (usersWork(job.output) != job.usersWork or not canHold(job.output, reference)):
            job.output = None  # the user edited, converted or moved it during the run
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
