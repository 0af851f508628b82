"""Exponential moving average (EMA) of the weights, deployed in place of the last ones.

The decay is lower at first, while weights change fast: min(decay, (1 + step) / (10 + step)).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from .stage import Deployed, Stage, StepContext

AVERAGE = "average"


def with_average(stage: Stage, decay: float) -> Stage:
    """The same stage with an additional, frozen network that holds the averaged weights, which are deployed."""
    moving = {name: network for name, network in stage.networks.items() if stage.frozen_until.get(name, 0.0) < 1.0}
    live, average = nn.ModuleDict(moving), nn.ModuleDict(copy.deepcopy(moving))

    def after_step(context: StepContext) -> None:
        if stage.after_step is not None:
            stage.after_step(context)
        update_average(average, live, min(decay, (1 + context.step) / (10 + context.step)))

    def with_its_weights(network: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def averaged() -> nn.Module:
            live.load_state_dict(average.state_dict())
            return network()

        return averaged

    deployed: dict[str, Deployed] = {}
    for pathway, plain in stage.deployed.items():
        deployed[pathway] = replace(plain, network=with_its_weights(plain.network))
    return replace(
        stage,
        networks=nn.ModuleDict({**stage.networks, AVERAGE: average}),
        frozen_until={**stage.frozen_until, AVERAGE: 1.0},
        after_step=after_step,
        deployed=deployed,
    )


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average := decay * average + (1 - decay) * network, tensor by tensor."""
    for mean, value in zip(average.state_dict().values(), network.state_dict().values()):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
