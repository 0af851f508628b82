"""Shrink any experiment to a smoke test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.volume import triple

from .experiment import Experiment


def smoke(experiment: Experiment) -> Experiment:
    """The same experiment at a tiny size and for a few steps, to check a dataset folder within a minute."""
    stages = min(3, len(experiment.network.features))
    network = NetworkSpec(
        features=(4, 8, 8)[:stages],
        strides=experiment.network.strides[:stages],
        kernels=experiment.network.kernels[:stages],
        convs_per_stage=1,
    )
    spacing = triple(max(spacing, 4.0) for spacing in experiment.data.spacing_mm)
    tiny: dict[str, Any] = {name: table.smoke() for name, table in experiment.method_settings.items()}
    return replace(
        experiment,
        **tiny,
        data=replace(experiment.data, spacing_mm=spacing, patch=(16, 16, 16), workers=0),
        network=network,
        run=replace(
            experiment.run,
            steps=10,
            pretrain_steps=min(10, experiment.run.pretrain_steps),
            checkpoint_every=5,
            validate_every=5,
            validation_batches=2,
        ),
    )
