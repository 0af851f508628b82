"""Which volumes stand in the boxes that the user has not filled: those of the patient they look at."""

from DanteSlicerLib.scene.results import MODEL_ATTRIBUTE, modelName, previousResult, resultReference
from DanteSlicerLib.scene.segments import otherSegments
from DanteSlicerLib.scene.studies import isLeftOut, studyOf, volumeInView, volumeNodes, volumesBeside


class Guesses:
    """Writes what it guesses into the scene's choices; the boxes follow them."""

    def __init__(self, choices):
        self._choices = choices
        self._inView = None  # the volume that the slices showed when the boxes were filled
        self._reference = None  # the volume whose result was looked for last
        self._model = None  # and the name of the model; None before the first one
        self._passedOver = {}  # modality -> ids of volumes that were there when the chosen one was deleted
        self._guessed = {}  # modality -> id of the node that was put there by guess
        self._chosenByHand = set()

    def isGuess(self, modality):
        """Whether what stands in a box was put there by guess."""
        node = self._choices.parameters.inputVolume(modality)
        return node is not None and self._guessed.get(modality) == node.GetID()

    def choseByHand(self, modality):
        """The user has chosen a volume, or none, for a modality."""
        self._chosenByHand.add(modality)
        self._guessed.pop(modality, None)

    def volumeLeaves(self, modality):
        """The volume in a box is being deleted.

        Nobody chose the empty box; a volume that comes may be guessed, but none that was there already.
        """
        self._chosenByHand.discard(modality)
        self._guessed.pop(modality, None)
        self._passedOver[modality] = {volume.GetID() for volume in volumeNodes()}

    def forgetHands(self):
        """Another scene: nothing in it was chosen or deleted by hand yet."""
        self._chosenByHand.clear()
        self._passedOver.clear()

    def forgetReference(self):
        """Other choices are taken up: a result is looked for again."""
        self._reference = None

    def viewHasChanged(self):
        """Whether the slices show another volume than when the boxes were filled."""
        return volumeInView() is not self._inView

    def fill(self):
        """Fill the empty boxes that the user has not emptied, with volumes of one patient that are not used yet."""
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
        """The volumes to fill the boxes from, all of one patient where that can be told.

        Boxes that were filled by a guess for another patient are emptied: they follow what the user looks at.
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
        """Volumes of the chosen ones' patient, or of the one in view, if all is there that the model needs.

        Otherwise of the study that the boxes hold already, and of none; all of them where the boxes are empty.
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
        """The volume for an empty box of the decisive scan that lies beside those in the other boxes, or None."""
        chosen = list(self._choices.inputs().values())
        if self._choices.parameters.inputVolume(modality) is not None or not chosen:
            return None
        beside = volumesBeside(chosen[0], volumeNodes())
        node = self._choices.logic.guessInputs(self._choices.modalities(), beside)[modality]
        return None if node in chosen else node

    def followReference(self):
        """Take up the chosen model's result of the chosen volumes; let go of another's: it must not be written over."""
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
        """Whether another model is chosen than when this was asked last."""
        if self._choices.spec is None:
            return False
        before, self._model = self._model, modelName(self._choices.spec)
        return before not in (None, self._model)

    def chooseVolumes(self, inputs, byHand=True):
        """Put a study's volumes into the boxes, as the user's choice or as a guess, and take up its result, if any."""
        with self._choices.change():  # the boxes change together
            for modality in self._choices.modalities():
                self._chosenByHand.discard(modality)
                self._guessed.pop(modality, None)
                if byHand:
                    self._chosenByHand.add(modality)
                elif modality in inputs:
                    self._guessed[modality] = inputs[modality].GetID()
                self._choices.parameters.setInputVolume(modality, inputs.get(modality))
        self.followReference()
