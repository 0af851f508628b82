"""Runs one segmentation at a time, polled by a timer so that the window never blocks."""

from collections.abc import Iterator
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DanteSegmenterLib.errors import Cancelled, DanteError
from DanteSlicerLib.logic import POLL_MS
from DanteSlicerLib.parameters import inWindowWords

PAUSE_MS = 1  # between two steps of writing a result into the scene, so that the window can process events


class Runner:
    """Segments volumes with the window's choices, also while another module is shown.

    Two objects are notified: `watcher`, which shows the run (see `RunPanel`), and the panel that started it, through
    `panel.finished(job)` once the result is in the scene and `panel.ended(error)` at the end, with None or the error.

    watcher: has `starting()`, `started()`, `progressed(progress)`, `finishing()`, `stopping()`, `idle()`.
    reserved: why only the panel that reserved the runner may start a run; empty if any panel may.
    """

    def __init__(self, choices):
        self.watcher: Any = None  # None before the window is set up and after it is closed
        self.reserved = ""
        self._choices = choices
        self._panel: Any = None  # that started the run; None if the run was abandoned
        self._starting = False  # whether `logic.begin` is running
        self._cancelled = False  # whether the run was cancelled during `logic.begin`
        self._job: Any = None  # the current run
        self._steps: Iterator[None] | None = None  # the remaining steps of writing its result into the scene
        self._timer = qt.QTimer()
        self._timer.timeout.connect(self.onTick)

    @property
    def running(self):
        """Whether a run is in progress or starting; packages may be installed first, without blocking the window."""
        return self._starting or self._job is not None

    def start(self, panel, inputs, output=None, brainMask=None):
        """Start segmenting volumes; `panel` is notified of the outcome.

        Args:
            inputs: volume nodes by modality id.
            output: node for the result, confirmed by the user; None for the volumes' earlier result or a new node.
            brainMask: node to use instead of extracting the brain.
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
            self._becomeIdle()
            return
        self._job = job
        self.watcher.started()
        if self._cancelled:
            self.cancel()

    def cancel(self):
        """Cancel the run, as soon as it has started; a result that is already being written is completed."""
        if not self.running or self._steps is not None:
            return
        self._cancelled = True
        self.watcher.stopping()
        if not self._starting:
            self._choices.logic.inference.cancel()

    def abandon(self):
        """End the computing process without notifying the panel, because the scene closes or Slicer exits.

        A run that is still installing packages stops after that, and counts as `running` until then.
        """
        self._choices.logic.inference.close()
        self._forget()

    def onTick(self):
        """Timer callback during a run; does one short step at a time."""
        if self._job is not None:
            attempt(self._tick, self._failed)
        if self._job is not None:  # from now: a late repeating timer would fire twice and delay other events
            self.later(POLL_MS if self._steps is None else PAUSE_MS)

    def later(self, milliseconds):
        """Schedule the next tick."""
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
        self._becomeIdle()
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
        self._becomeIdle()
        if panel is not None:
            panel.ended(error)

    def _becomeIdle(self):
        self._forget()
        if self.watcher is not None:
            self.watcher.idle()

    def _forget(self):
        self._timer.stop()
        self._job = self._steps = self._panel = None


def attempt(action, failed, failure=None):
    """Run `action`; if it fails, show or pass on an explanation.

    Args:
        failure: description of an unexpected failure, without a full stop; by default that the segmentation failed.
        failed: called with a DanteError, or with the text of an unexpected error that was already shown and logged.
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
    except Exception as error:  # a bug; tryWithErrorDisplay has shown it and logged the traceback
        defect = f"{failure}: {error}"
        raise
    finally:
        if refusal is not None or defect:
            failed(refusal or defect)
