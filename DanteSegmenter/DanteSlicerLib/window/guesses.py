"""Guesses volumes for the boxes that the user left empty: those of the patient in view."""

from DanteSlicerLib.scene.results import MODEL_ATTRIBUTE, modelName, previousResult, resultReference
from DanteSlicerLib.scene.segments import otherSegments
from DanteSlicerLib.scene.studies import isLeftOut, studyOf, volumeInView, volumeNodes, volumesBeside


class Guesses:
    """Writes guesses into the scene's parameter node; the boxes follow it."""

    def __init__(self, choices):
        self._choices = choices
        self._inView = None  # the volume in the slices when the boxes were last filled
        self._reference = None  # the reference of the last lookup of a result
        self._model = None  # the name of the model of that lookup; None before the first one
        self._passedOver = {}  # modality -> ids of the volumes present when the chosen one was deleted
        self._guessed = {}  # modality -> id of the guessed node
        self._chosenByHand = set()

    def isGuess(self, modality):
        """Whether the volume in a box is a guess."""
        node = self._choices.parameters.inputVolume(modality)
        return node is not None and self._guessed.get(modality) == node.GetID()

    def noteManualChoice(self, modality):
        """Note that the user has chosen a volume, or none, for a modality."""
        self._chosenByHand.add(modality)
        self._guessed.pop(modality, None)

    def volumeAboutToBeRemoved(self, modality):
        """Note that the volume in a box is being deleted.

        The box was not emptied by the user: volumes added later may be guessed for it, but none already there.
        """
        self._chosenByHand.discard(modality)
        self._guessed.pop(modality, None)
        self._passedOver[modality] = {volume.GetID() for volume in volumeNodes()}

    def forgetManualChoices(self):
        """Reset what the user chose or deleted, for a new scene."""
        self._chosenByHand.clear()
        self._passedOver.clear()

    def forgetScene(self):
        """Release the nodes of a scene that closes, which would keep its images in memory, and its guesses.

        The next scene has nodes with the same ids.
        """
        self._inView = self._reference = None
        self._guessed.clear()

    def forgetReference(self):
        """Look for a result again, as the choices were reloaded."""
        self._reference = None

    def viewHasChanged(self):
        """Whether the slices show another volume than when the boxes were last filled."""
        return volumeInView() is not self._inView

    def fill(self):
        """Fill the boxes that are empty, but not by the user's choice, with unused volumes of one patient."""
        parameters, modalities = self._choices.parameters, self._choices.modalities()
        candidates = self._candidates()
        used = [parameters.inputVolume(modality) for modality in modalities]
        empty = [modality for modality, node in zip(modalities, used) if node is None]
        free = [node for node in candidates if node not in used]
        wanted = [modality for modality in empty if modality not in self._chosenByHand]
        for modality, node in self._choices.logic.guessInputs(wanted, free).items():
            if node is None or isLeftOut(self._choices.spec, modality, node):
                continue
            if node.GetID() not in self._passedOver.get(modality, ()):
                self._guessed[modality] = node.GetID()
                parameters.setInputVolume(modality, node)
        self.followReference()

    def _candidates(self):
        """The volumes to guess from, all of one patient where that is known.

        Boxes with guesses for another patient are emptied, so that guesses follow the patient in view.
        """
        self._inView = volumeInView()
        filled = self._choices.inputs()
        guessed = {modality: node for modality, node in filled.items() if self._guessed.get(modality) == node.GetID()}
        chosen = [node for modality, node in filled.items() if modality not in guessed]
        nodes = self._ofOnePatient(chosen, self._inView, list(filled.values()))
        others = [modality for modality, node in guessed.items() if node not in nodes]
        for modality in others:
            self._guessed.pop(modality)
            self._choices.parameters.setInputVolume(modality, None)
        if others:
            self._passedOver.clear()
        return nodes

    def _ofOnePatient(self, chosen, inView, filled):
        """Volumes of the patient of the chosen volumes, or of the one in view, if all required modalities are there.

        Otherwise those of the study in the boxes and those outside any study; all volumes if the boxes are empty.
        """
        nodes, spec = volumeNodes(), self._choices.spec
        anchors = [node for node in (*chosen, inView, *filled) if node is not None]
        if not anchors or spec is None:
            return nodes
        beside = volumesBeside(anchors[0], nodes)
        found = self._choices.logic.guessInputs(self._choices.modalities(), beside)
        if all(found[modality] is not None for modality in spec.limited.modalities):
            return beside
        study = studyOf((filled or anchors)[0])[0]
        return [node for node in nodes if not study or studyOf(node)[0] in (0, study)]

    def offered(self, modality):
        """An unused volume for the empty privileged box, of the patient in the other boxes, or None."""
        chosen = list(self._choices.inputs().values())
        if self._choices.parameters.inputVolume(modality) is not None or not chosen:
            return None
        beside = volumesBeside(chosen[0], volumeNodes())
        node = self._choices.logic.guessInputs(self._choices.modalities(), beside)[modality]
        return None if node in chosen else node

    def followReference(self):
        """Choose this model's result of the chosen volumes as output; no other result must be overwritten."""
        output, reference = self._choices.output(), self._choices.referenceVolume()
        anotherModel, anotherVolume = self._modelHasChanged(), reference is not self._reference
        self._reference = reference
        if output is not None and (not output.GetAttribute(MODEL_ATTRIBUTE) or otherSegments(output)):
            return
        if output is not None and anotherModel and output.GetAttribute(MODEL_ATTRIBUTE) != self._model:
            output = self._choices.parameters.outputSegmentation = None
        if reference is None or (output is None and not (anotherModel or anotherVolume)):
            return
        if output is None or resultReference(output) is not reference:
            self._choices.parameters.outputSegmentation = previousResult(reference, self._choices.spec)

    def _modelHasChanged(self):
        """Whether the chosen model differs from that of the last call."""
        if self._choices.spec is None:
            return False
        before, self._model = self._model, modelName(self._choices.spec)
        return before not in (None, self._model)

    def chooseVolumes(self, inputs, byHand=True):
        """Put a study's volumes into the boxes, as a user choice or as guesses, and choose its result, if any."""
        with self._choices.change():  # update the boxes together
            for modality in self._choices.modalities():
                self._chosenByHand.discard(modality)
                self._guessed.pop(modality, None)
                if byHand:
                    self._chosenByHand.add(modality)
                elif modality in inputs:
                    self._guessed[modality] = inputs[modality].GetID()
                self._choices.parameters.setInputVolume(modality, inputs.get(modality))
        self.followReference()
