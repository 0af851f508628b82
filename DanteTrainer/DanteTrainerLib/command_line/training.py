"""Commands `train` and `resume`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .common import set_stop_message

if TYPE_CHECKING:
    from ..ending import EndRequest


def train(options: argparse.Namespace) -> None:
    from ..methods import method_named
    from ..settings.loading import load_experiment
    from ..settings.smoke import smoke

    set_stop_message(options, "Stopped before the first step; resume the run to continue.")
    method_named(options.method)
    experiment = load_experiment(options.experiment, options.set, method=options.method)
    experiment = smoke(experiment) if options.smoke else experiment

    from DanteSegmenterLib.inference.devices import resolve_device

    from ..loop.distributed import check_batch, join
    from ..run.start import start_run

    group, device = join(options.device)
    resolve_device(device)
    check_batch(experiment.data.batch_size, group)
    if group.leads:
        cache = options.cache.resolve() if options.cache else None
        start_run(experiment, options.data, options.out, options.name, cache)
    group.wait()
    _continue(options.out, options)


def resume(options: argparse.Namespace) -> None:
    from DanteSegmenterLib.inference.devices import resolve_device

    from ..loop.distributed import join
    from ..run.change import change_run

    set_stop_message(options, "Stopped before the first step; resume the run to continue.")
    group, device = join(options.device)
    resolve_device(device)
    if group.leads:
        change_run(options.run, options.data, options.set)
    group.wait()
    _continue(options.run, options)


def _continue(run: Path, options: argparse.Namespace) -> None:
    from ..loop.distributed import join
    from ..run.train import continue_run
    from ..status import STOP_FILE

    group, device = join(options.device)
    if options.log:
        _log_to(run)
    stop: EndRequest | None = options.stop
    if stop is None:
        model = continue_run(run, device, options.quiet, group=group)
    else:
        if group.size > 1:
            stop.end_with_parent()
        with stop.watching(run / STOP_FILE):
            model = continue_run(run, device, options.quiet, stop, group)
    if group.leads:
        print(f"model: {model}")


def _log_to(run: Path) -> None:
    """Redirect output to the run's train.log; a pipe would break when its reader ends."""
    from ..status import LOG_FILE

    if not run.is_dir():
        return
    sys.stdout.flush()
    with open(run / LOG_FILE, "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
