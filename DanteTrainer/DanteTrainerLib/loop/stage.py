"""What a method defines for the training loop: stages with networks, what is trained, and a loss of named terms."""

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
    """Context of one training step.

    Attributes:
        step, steps: index of this step, and number of steps; `share` is the fraction of the stage already done.
        generator: on the CPU, seeded by the run's seed, the stage and the step; a loss draws all its randomness from
            it.
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
        """This process's rows of a tensor drawn for all samples of the step.

        Args:
            samples: number of samples of this process.
            draw: number of samples -> tensor with that many rows, drawn from `generator`.
        """
        return draw(samples * self.world_size)[self.rank :: self.world_size]


@dataclass(frozen=True)
class Term:
    """A scalar loss term and its weight in the total."""

    value: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class LossTerms:
    """A step's loss terms by name, and further values that are only logged."""

    terms: Mapping[str, Term]
    logged: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        return torch.stack([term.weight * term.value for term in self.terms.values()]).sum()


@dataclass(frozen=True)
class Deployed:
    """A network that is written to the model folder.

    Attributes:
        network: called after the stage; returns the network as `DanteSegmenterLib.networks.build` would build it.
        modalities: its input, in channel order.
        architecture: its name in `model.json`.
        options: its options besides the backbone's, for `model.json`.
    """

    network: Callable[[], nn.Module]
    modalities: tuple[str, ...]
    architecture: str = "unet"
    options: ArchitectureOptions = PLAIN


@dataclass(frozen=True)
class Origin:
    """Source of a network's initial weights, loaded strictly.

    Attributes:
        network: name in the stage; in a model folder "limited" or "full", optionally followed by a dot and a submodule,
            e.g. "limited.encoder".
        stage: name of an earlier stage of this training; "" for the previous one.
        folder: a model folder to load from instead.
    """

    network: str
    stage: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Stage:
    """One stage of a training.

    Attributes:
        name: for logs and files.
        networks: everything that is saved; only parameters in here are trained.
        steps: number of steps.
        loss: batch and context -> terms. A term that does not apply yet is left out and not computed.
        frozen_until: network name -> share of the stage during which it is frozen; 1 for the whole stage.
        carried: network name -> source of its initial weights.
        optimiser: this stage's settings, if they differ from the run's.
        rate_setting: name of the setting with its learning rate, for error messages.
        rates: network name -> factor on the learning rate, if not 1.
        after_step: called without gradients right after each update, before the weights can be saved.
        augmentation: "full" or "spatial"; the settings can reduce it further.
        labelled_only: whether unlabelled cases are excluded.
        deployed: "limited" (f_L), and "full" (f_F) if the method has it; last stage only.
        predict: images [B, C, K, J, I] of all modalities -> logits at full resolution, used for validation.
        also_predict: further predictions by name, validated as well.
        remark: the stage's log rows -> a message for the user at its end, or None.
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
        """Set `requires_grad` of each network for this share of the stage."""
        for name, network in self.networks.items():
            network.requires_grad_(share >= self.frozen_until.get(name, 0.0) and self.frozen_until.get(name, 0.0) < 1.0)
