"""One run at a time, looked after by a timer: the window never waits."""

from collections.abc import Iterator
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DanteSegmenterLib.errors import Cancelled, DanteError
from DanteSlicerLib.logic import POLL_MS
from DanteSlicerLib.parameters import inWindowWords

PAUSE_MS = 1  # between two steps of a result into the scene: whatever waits for the window has its turn


class Runner:
    """Segments volumes with the choices of the window, also while another module is shown.

    Two are told how a run goes: `watcher`, which shows it (see `RunPanel`), and the panel that has begun it, by
    `panel.finished(job)` when the result is in the scene, and by `panel.ended(error)` at rest: None, or why it failed.

    watcher: has `starting()`, `begun()`, `progressed(progress)`, `finishing()`, `stopping()`, `rested()`.
    reserved: why nobody but the panel that has reserved the runner may begin a run; empty if anybody may.
    """

    def __init__(self, choices):
        self.watcher: Any = None  # until the window is set up, and after its end
        self.reserved = ""
        self._choices = choices
        self._panel: Any = None  # that has begun the run; None if the run was abandoned
        self._starting = False  # whether `logic.begin` is going on
        self._cancelled = False  # whether it was asked to stop meanwhile
        self._job: Any = None  # the run that is going on
        self._steps: Iterator[None] | None = None  # what is left to do of putting its result into the scene
        self._timer = qt.QTimer()
        self._timer.timeout.connect(self.onTick)

    @property
    def running(self):
        """Whether a run goes on, or begins: packages may be installed for it first, while the window lives."""
        return self._starting or self._job is not None

    def start(self, panel, inputs, output=None, brainMask=None):
        """Begin to segment volumes; `panel` is told how it ends.

        Args:
            inputs: volume nodes by modality id.
            output: the node for the result, about which the user was asked; None for that of the volumes, or a new one.
            brainMask: a node to use instead of finding the brain.
        """
        self._panel = panel
        self._cancelled = False
        attempt(lambda: self._begin(inputs, output, brainMask), self._failed)
        self.onTick()

    def _begin(self, inputs, output, brainMask):
        logic = self._choices.logic
        parameters = logic.getParameterNode()
        self._starting = True
        try:
            self.watcher.starting()
            job = logic.begin(
                inputs,
                model=self._choices.model.folder,
                device=parameters.device.value,
                outputSegmentation=output,
                showProbabilities=parameters.showProbabilities,
                mirror=parameters.mirror,
                prepare=parameters.prepare,
                brainMask=brainMask,
                confirmed=True,
                host=self._choices.host,
                hostPython=self._choices.hostPython,
            )
        finally:
            self._starting = False
        if self._panel is None:
            logic.inference.close()
            self._rest()
            return
        self._job = job
        self.watcher.begun()
        if self._cancelled:
            self.cancel()

    def cancel(self):
        """Ask the run to stop, as soon as it has begun; what is put into the scene already comes to its end."""
        if not self.running or self._steps is not None:
            return
        self._cancelled = True
        self.watcher.stopping()
        if not self._starting:
            self._choices.logic.inference.cancel()

    def abandon(self):
        """The scene closes, or Slicer ends: the computing process ends, and nobody is told.

        A run that still waits for its packages goes no further than that, and is `running` until then.
        """
        self._choices.logic.inference.close()
        self._forget()

    def onTick(self):
        """Called every few milliseconds while a run is going on: each time a little is done."""
        if self._job is not None:
            attempt(self._tick, self._failed)
        if self._job is not None:  # counted from now: a timer that is late comes twice before others come once
            self.later(POLL_MS if self._steps is None else PAUSE_MS)

    def later(self, milliseconds):
        """Look again after so long."""
        self._timer.start(milliseconds)

    def _tick(self):
        if self._steps is None:
            self._poll()
            return
        for _step in self._steps:
            return
        job, panel = self._job, self._panel
        panel.finished(job)
        self._choices.logic.getParameterNode().outputSegmentation = job.output
        self._rest()
        panel.ended(None)

    def _poll(self):
        logic = self._choices.logic
        news, outcome = logic.inference.poll()
        if news is not None:
            self.watcher.progressed(news)
        if isinstance(outcome, DanteError):
            raise outcome
        if outcome is not None:
            self.watcher.finishing()
            self._steps = logic.finish(self._job, outcome, logic.getParameterNode().show3D)

    def _failed(self, error):
        panel = self._panel
        self._rest()
        if panel is not None:
            panel.ended(error)

    def _rest(self):
        self._forget()
        if self.watcher is not None:
            self.watcher.rested()

    def _forget(self):
        self._timer.stop()
        self._job = self._steps = self._panel = None


def attempt(action, failed, failure=None):
    """Do something, and come to rest with an explanation if it fails.

    Args:
        failure: what a defect is called, a sentence without its full stop; by default that the segmentation failed.
        failed: told why: a DanteError, or the text of a defect, which was shown and logged already.
    """
    failure = failure or _("The segmentation failed")
    refusal: DanteError | None = None
    defect = ""
    try:
        with slicer.util.tryWithErrorDisplay(f"{failure}."):
            try:
                action()
            except Cancelled:
                refusal = Cancelled(_("Stopped; nothing was changed."))
            except DanteError as error:
                refusal = type(error)(inWindowWords(str(error)))
    except Exception as error:  # a defect; tryWithErrorDisplay has shown and logged it with its traceback
        defect = f"{failure}: {error}"
        raise
    finally:
        if refusal is not None or defect:
            failed(refusal or defect)
