"""What a method tells the loop: its stages, each with networks, what moves, and a loss of named terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from DanteSegmenterLib.model_folder.architectures import PLAIN, ArchitectureOptions

from ..data.patches import Batch
from ..settings.tables import OptimiserSettings


@dataclass(frozen=True)
class StepContext:
    """Where a step stands.

    Attributes:
        step, steps: this step of so many; `share` is the part of the stage that is done.
        generator: on the CPU, seeded by the run's seed, the stage and the step; all chance of a loss comes from here.
        rank, world_size: this process among those that train together.
    """

    step: int
    steps: int
    generator: torch.Generator
    rank: int = 0
    world_size: int = 1

    @property
    def share(self) -> float:
        return self.step / self.steps

    def own(self, samples: int, draw: Callable[[int], Tensor]) -> Tensor:
        """This process's part of what is drawn for all samples of the step, one row each.

        Args:
            samples: of this process.
            draw: number of samples -> tensor of as many rows, from `generator`.
        """
        return draw(samples * self.world_size)[self.rank :: self.world_size]


@dataclass(frozen=True)
class Term:
    """A scalar and its weight in the sum that is minimised."""

    value: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class LossTerms:
    """What a step minimises, by name, and what it only writes down."""

    terms: Mapping[str, Term]
    logged: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        return torch.stack([term.weight * term.value for term in self.terms.values()]).sum()


@dataclass(frozen=True)
class Deployed:
    """A network that goes into the model folder.

    Attributes:
        network: called when the stage is over; gives the network as `DanteSegmenterLib.networks.build` builds it.
        modalities: what it reads, in channel order.
        architecture: its name there.
        options: its numbers beside those of the backbone, for `model.json`.
    """

    network: Callable[[], nn.Module]
    modalities: tuple[str, ...]
    architecture: str = "unet"
    options: ArchitectureOptions = PLAIN


@dataclass(frozen=True)
class Origin:
    """Whose weights a network begins with, strictly.

    Attributes:
        network: its name in the stage; in a model folder "limited" or "full", with a part of it after a dot, e.g.
            "limited.encoder".
        stage: name of an earlier stage of this training; "" for the one just before.
        folder: a model folder, instead.
    """

    network: str
    stage: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Stage:
    """One part of a training.

    Attributes:
        name: for logs and files.
        networks: everything that is saved; only what lies in here is trained.
        steps: how many.
        loss: batch and context -> terms. A term that is not due yet is simply absent, and not computed.
        frozen_until: network name -> share of the stage during which it does not move; 1 for never.
        carried: network name -> whose weights it begins with.
        optimiser: of this stage, where it is not the run's.
        rate_setting: what its learning rate is called in the settings, for advice.
        rates: network name -> factor of the learning rate, where it is not 1.
        after_step: called when the weights have moved and before anybody may look at them, without gradients.
        augmentation: "full" or "spatial"; the settings may take away from it.
        labelled_only: whether unlabelled cases are left out.
        deployed: "limited" (f_L), and "full" (f_F) where a method has it; of the last stage.
        predict: images [B, C, K, J, I] of all modalities -> logits at full resolution, to validate with.
        also_predict: further ways to predict by name, validated beside it.
        remark: the log's rows of this stage -> a sentence for the user at its end, or None.
    """

    name: str
    networks: nn.ModuleDict
    steps: int
    loss: Callable[[Batch, StepContext], LossTerms]
    frozen_until: Mapping[str, float] = field(default_factory=dict)
    carried: Mapping[str, Origin] = field(default_factory=dict)
    optimiser: OptimiserSettings | None = None
    rate_setting: str = "optimiser.learning_rate"
    rates: Mapping[str, float] = field(default_factory=dict)
    after_step: Callable[[StepContext], None] | None = None
    augmentation: str = "full"
    labelled_only: bool = True
    deployed: Mapping[str, Deployed] = field(default_factory=dict)
    predict: Callable[[Tensor], Tensor] | None = None
    also_predict: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    remark: Callable[[Sequence[Mapping[str, float]]], str | None] | None = None

    def freeze(self, share: float) -> None:
        """Let exactly those networks move that may at this share of the stage."""
        for name, network in self.networks.items():
            network.requires_grad_(share >= self.frozen_until.get(name, 0.0) and self.frozen_until.get(name, 0.0) < 1.0)
