"""DANTE's trainer in 3D Slicer: a hidden module that trains on local datasets from Slicer's Python console.

    logic = slicer.util.getModuleLogic("DanteTrainer")
    run = logic.start("dante", data="/data/BraTS2021", out="/runs/mine")
    logic.follow(run, print)

Training runs in a separate process (`DanteTrainerLib.run.background`). This file only remembers runs in Slicer's
settings and reports their status by timers of the event loop, so that nothing blocks. Slicer imports it at start-up,
before torch is installed.
"""

import logging
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import qt
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

if find_spec("DanteSegmenter") is None:  # installed modules share one folder, unlike the source tree
    sys.path.append(str(Path(__file__).resolve().parent.parent / "DanteSegmenter"))

from DanteTrainerLib.run import background
from DanteTrainerLib.status import RUN_FILE, RunStatus

RUNS_SETTING = "DanteTrainer/Runs"
FOLLOW_INTERVAL_MS = 1000
ACTIVE_STATES = ("starting", "running")


class DanteTrainer(ScriptedLoadableModule):
    """The module's entry in Slicer; hidden, because it has no GUI."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "DANTE Trainer"
        self.parent.categories = ["Segmentation"]
        self.parent.dependencies = []
        self.parent.contributors = ["SlicerDANTE contributors"]
        self.parent.helpText = (
            "Trains segmentation networks that do without the decisive scan. Use it from the Python console: "
            "slicer.util.getModuleLogic('DanteTrainer').start(...)."
        )
        self.parent.acknowledgementText = "Method: DANTE, AAAI 2026, doi:10.1609/aaai.v40i15.38305."
        self.parent.hidden = True


def ensureDependencies():
    """Make sure that torch and the training packages are installed; asks before installing.

    Raises:
        ResourceError: a package is missing and was not installed; the message says what to do.
    """
    from DanteSlicerLib.installing import ensurePackages, ensureTorch

    ensureTorch()
    ensurePackages(packagesBesideTorch(), "Training needs it.")


def packagesBesideTorch() -> list[str]:
    from DanteSlicerLib.requirements import read_requirements

    return read_requirements(Path(__file__).parent / "Resources" / "requirements-training.txt")


class DanteTrainerWidget(ScriptedLoadableModuleWidget):
    """Holds the logic, which Slicer finds through a scripted module's widget; shows nothing else."""

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = DanteTrainerLogic()
        label = qt.QLabel("Trainings are started from the Python console; see the module's help.")
        label.wordWrap = True
        self.layout.addWidget(label)

    def cleanup(self):
        self.logic.close()


class DanteTrainerLogic(ScriptedLoadableModuleLogic):
    """Starts, follows, stops and resumes trainings; every call returns at once, so the GUI stays responsive."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self._ticks = {}  # key -> function called every second
        self._timer = qt.QTimer()
        self._timer.setInterval(FOLLOW_INTERVAL_MS)
        self._timer.timeout.connect(self._onTimer)

    def start(
        self, method, data, out, overrides=(), experiment="brats-2mm", smoke=False, device="auto", detach=False
    ) -> Path:
        """Start training `method` on the dataset folder `data`; returns the run folder `out` at once.

        The training process then takes a few seconds to check the settings and the dataset; meanwhile its state is
        "starting". A refusal is written to the log, and reported by `follow` as "failed" with the reason.

        Args:
            method: "dante", "lower", "upper", ... (`python -m DanteTrainerLib list`).
            overrides: settings, e.g. ["run.steps=800"].
            experiment: shipped experiment or TOML file.
            smoke: a few tiny steps of every stage, to check a dataset folder.
            detach: let the training outlive Slicer; otherwise it ends with Slicer, after a checkpoint.

        Raises:
            DanteError: for what can be checked at once: a package is not installed, `data` or the parent folder of
                `out` is missing, or `out` is already a run.
        """
        ensureDependencies()
        run = background.start(method, data, out, overrides, experiment, smoke, device, detach, False)
        self._rememberRun(run)
        return run

    def runs(self) -> dict[Path, RunStatus]:
        """Status of every run started from this Slicer installation whose folder exists, or soon will."""
        return {run: background.status(run) for run in self._known()}

    def follow(self, run, callback) -> None:
        """Call `callback(status)` every second, from Slicer's event loop, until the run's training has ended.

        Raises:
            InputError: there is no such run.
        """
        run = Path(run)
        background.status(run)

        def tick():
            status = background.status(run)
            if status.state not in ACTIVE_STATES:
                self._forget(run)
            callback(status)

        self._everySecond(run, tick)

    def stop(self, run) -> RunStatus:
        """Ask a run to write a checkpoint and end; returns its present status at once, `follow` reports the end."""
        return background.stop(run, 0)

    def resume(self, run, device="auto", detach=False, data=None, overrides=()) -> Path:
        """Resume a run, of this or an earlier session, from its last checkpoint; returns at once, like `start`.

        Args:
            data: the dataset folder, if it has moved.
            overrides: settings to change from here on: `optimiser.*`, `run.*` and `data.workers`.
        """
        ensureDependencies()
        run = background.resume(run, device, detach, False, data, overrides)
        self._rememberRun(run)
        return run

    def evaluate(self, run, data, split="test", device="auto", callback=print) -> Path:
        """Evaluate a finished run (Dice and HD95) in a separate process.

        Returns at once the future folder of cases.csv and contact_sheet.png; `callback(status)` is called at the end
        with the state "finished", or "failed" and the reason.
        """
        ensureDependencies()
        evaluation = background.begin_evaluation(run, data, split, device)

        def tick():
            if evaluation.running:
                return
            self._forget(evaluation.out)
            error = evaluation.error()
            evaluation.close()
            callback(RunStatus("failed" if error else "finished", message=str(error or evaluation.out)))

        self._everySecond(evaluation.out, tick)
        return evaluation.out

    def close(self) -> None:
        """Stop all notifications; trainings continue."""
        self._timer.stop()
        self._ticks.clear()

    def _rememberRun(self, run) -> None:
        """Remember a run, and log an error if it is refused, since nobody may be following it."""
        known = [str(path) for path in self._known()]
        path = Path(run).resolve()
        if str(path) not in known:
            qt.QSettings().setValue(RUNS_SETTING, "\n".join([*known, str(path)]))

        def tick():
            status = background.status(run)
            if status.state != "starting":
                self._forget(("refused", path))
            if status.state == "failed":
                # Without the reason: it may contain a case name, i.e. a patient, and logs are shared.
                logging.error("DANTE: the training '%s' was refused; follow(run, print) says why.", run)

        self._everySecond(("refused", path), tick)

    def _known(self) -> list[Path]:
        runs = [Path(text) for text in (qt.QSettings().value(RUNS_SETTING) or "").split("\n") if text]
        return [run for run in runs if (run / RUN_FILE).is_file() or background.is_starting(run)]

    def _everySecond(self, key, tick) -> None:
        """Call `tick()` from the event loop until it forgets `key`."""
        self._ticks[key] = tick
        self._timer.start()

    def _forget(self, key) -> None:
        self._ticks.pop(key, None)

    def _onTimer(self) -> None:
        for key, tick in list(self._ticks.items()):
            try:
                tick()
            except Exception:  # in a user's callback, or the run's folder is gone; still call the others
                self._forget(key)
                logging.exception("DANTE: a training is followed no longer")
        if not self._ticks:
            self._timer.stop()


class DanteTrainerTest(ScriptedLoadableModuleTest):
    """Trains a few steps on synthetic patients with loader processes, as from the console."""

    # A single step is fast, all of them take hours.
    LONG = (
        "run.steps=100000",
        "run.validate_every=0",
        "data.patch=[16,16,16]",
        "data.workers=2",
        "data.spacing_mm=[8.0,8.0,8.0]",
        "features=[4,8]",
        "strides=[[1,1,1],[2,2,2]]",
        "kernels=[[3,3,3],[3,3,3]]",
    )

    def setUp(self):
        slicer.mrmlScene.Clear()
        self.logic = slicer.util.getModuleLogic("DanteTrainer")
        self.folder = tempfile.TemporaryDirectory(prefix="DanteTrainerTest-", ignore_cleanup_errors=True)
        folder = Path(self.folder.name).resolve()  # as `runs` knows it: on macOS temporary folders lie behind a link
        self.data, self.out = folder / "data", folder / "run"
        self.patients = writeSyntheticDataset(self.data)
        self.statuses = []

    def tearDown(self):
        if self.isActive():
            self.logic.stop(self.out)
            self.waitUntil(lambda: not self.isActive())
        self.folder.cleanup()

    def runTest(self):
        from DanteSlicerLib import requirements

        # PyTorch's extension asks nobody while Slicer is tested: it would install where extensions are built.
        missing = requirements.missing([requirements.TORCH, *packagesBesideTorch()])
        if missing:
            logging.warning("not installed: %s; training was not tested", ", ".join(missing))
            return
        for name in [name for name in dir(self) if name.startswith("test_")]:
            self.setUp()
            try:
                getattr(self, name)()
                self.delayDisplay(f"{name}: passed")
            finally:
                self.tearDown()

    def isActive(self):
        return self.out in self.logic.runs() and self.logic.runs()[self.out].state in ACTIVE_STATES

    def waitUntil(self, condition, seconds=120):
        """Process GUI events until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, f"timed out after {seconds} s; last status: {self.statuses[-1:]}")
            slicer.app.processEvents()
            time.sleep(0.02)

    def atOnce(self, function, *arguments, **options):
        """Call a function and check that it returns quickly."""
        start = time.monotonic()
        result = function(*arguments, **options)
        self.assertLess(time.monotonic() - start, 1.0)
        return result

    def followed(self, run):
        self.statuses.clear()
        self.logic.follow(run, self.statuses.append)

    def test_trainingWithLoaderProcessesStopsAndResumes(self):
        run = self.atOnce(self.logic.start, "lower", self.data, self.out, self.LONG, device="cpu")
        self.assertIn(run.resolve(), [known.resolve() for known in self.logic.runs()])
        self.followed(run)
        self.waitUntil(lambda: self.statuses and self.statuses[-1].step > 0)
        self.atOnce(self.logic.stop, run)
        self.waitUntil(lambda: self.statuses[-1].state == "stopped")
        step = self.statuses[-1].step
        self.atOnce(self.logic.resume, run, device="cpu")
        self.followed(run)
        self.waitUntil(lambda: self.statuses and self.statuses[-1].step > step)
        self.atOnce(self.logic.stop, run)
        self.waitUntil(lambda: self.statuses[-1].state == "stopped")

    def test_finishedTrainingIsEvaluatedAndSegments(self):
        from DanteSegmenterLib.inference import load_model, segment

        run = self.atOnce(self.logic.start, "lower", self.data, self.out, smoke=True, device="cpu")
        self.followed(run)
        self.waitUntil(lambda: self.statuses and self.statuses[-1].state not in ACTIVE_STATES)
        self.assertEqual(self.statuses[-1].state, "finished", self.statuses[-1].message)
        scores = self.atOnce(self.logic.evaluate, run, self.data, "test", "cpu", self.statuses.append)
        self.statuses.clear()
        self.waitUntil(lambda: self.statuses)
        self.assertEqual(self.statuses[-1].state, "finished", self.statuses[-1].message)
        self.assertTrue((scores / "cases.csv").is_file())
        model = load_model(run / "model", "cpu")
        volumes = {modality: self.patients[0].volumes[modality] for modality in model.spec.limited.modalities}
        self.assertEqual(segment(model, volumes).label_map.shape, self.patients[0].labels.shape)

    def test_unknownMethodIsReported(self):
        run = self.atOnce(self.logic.start, "loser", self.data, self.out, device="cpu")
        self.followed(run)
        self.waitUntil(lambda: self.statuses and self.statuses[-1].state not in ACTIVE_STATES)
        self.assertEqual(self.statuses[-1].state, "failed")
        self.assertIn("Did you mean 'lower'", self.statuses[-1].message)


def writeSyntheticDataset(folder: Path) -> list:
    """Write four synthetic patients at 8 mm as BraTS case folders."""
    from DanteSegmenterLib.files import write_volume
    from DanteSegmenterLib.synthetic.sample import brain_mr

    patients = [brain_mr(seed, spacing_mm=8.0) for seed in range(4)]
    for n, patient in enumerate(patients):
        (folder / f"P{n}").mkdir(parents=True)
        for name, volume in {**patient.volumes, "seg": patient.labels}.items():
            write_volume(folder / f"P{n}" / f"P{n}_{name}.nii.gz", volume)
    return patients
