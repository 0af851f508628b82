"""DANTE's three encoders and the initialisation of its networks."""

from __future__ import annotations

from torch import nn

from DanteSegmenterLib.networks.fusion import Fusion
from DanteSegmenterLib.networks.unet import Encoder, initialise

from ...settings.experiment import Experiment
from ...settings.tasks import Task
from ..bounds import untrained

ENCODERS = ("E_L", "E_A", "E_P")
FULL_PATHWAY = ("E_A", "E_P", "psi", "D_F")
# Names of the stages before Stage 2.
PRETRAINED, MATURED = "stage-1", "teacher"


def encoders_of(experiment: Experiment, task: Task) -> dict[str, Encoder]:
    """E_L reads X^L; E_A and E_P both read the full X^F."""
    channels = {"E_L": len(task.limited), "E_A": len(task.full), "E_P": len(task.full)}
    return {name: Encoder(channels[name], experiment.network) for name in ENCODERS}


def initialise_networks(networks: nn.ModuleDict, experiment: Experiment, task: Task) -> None:
    """Initialise E_L and D_L as the seed's lower bound, with `common_start` also E_A and D_F, the rest randomly."""
    initialise(networks)
    start, common = untrained(experiment, task, task.limited), experiment.dante.common_start
    if "E_L" in networks:
        networks["E_L"].load_state_dict(start.encoder.state_dict())
    if common:
        _copy_weights(start.encoder, networks["E_A"], task.limited_channels)
    for name in ("D_L", "D_F") if common else ("D_L",):
        if name in networks:  # not every stage has both
            networks[name].load_state_dict(start.decoder.state_dict())
    _scale_fusions(networks, experiment.dante.fusion_init)


def _scale_fusions(networks: nn.ModuleDict, factor: float) -> None:
    """Scale the initial projections, so that the privileged corrections start smaller than with He initialisation."""
    for fusion in networks.values():
        if isinstance(fusion, Fusion) and factor != 1.0:
            for projection in fusion.parameters():
                projection.data.mul_(factor)


def _copy_weights(limited: nn.Module, full: nn.Module, limited_channels: list[int]) -> None:
    """Copy all weights; those of the privileged channel become 0, so both encoders give the same features at first."""
    weights = full.state_dict()
    for name, theirs in limited.state_dict().items():
        if theirs.shape == weights[name].shape:
            weights[name] = theirs
        else:  # the first convolution, the only one that reads channels of the image
            weights[name].zero_()[:, limited_channels] = theirs
    full.load_state_dict(weights)
