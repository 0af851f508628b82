"""Weight updates: SGD or AdamW with a schedule, mixed precision and gradient clipping, as in nnU-Net."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from DanteSegmenterLib.errors import DanteError, ResourceError

from ..data.patches import Batch
from ..settings.tables import OptimiserSettings
from .distributed import Group
from .precision import autocast
from .stage import LossTerms, Stage, StepContext


class TrainingFailed(DanteError):
    """Training failed, for example because the loss became NaN."""


def poly(step: int, steps: int, initial: float, exponent: float = 0.9) -> float:
    """initial * (1 - step / steps)^exponent: nnU-Net's polynomial decay per step; steps count from 0."""
    return initial * (1 - step / steps) ** exponent


def rate_of(step: int, steps: int, settings: OptimiserSettings) -> float:
    """Learning rate of a step: rises linearly during warm-up, then follows the schedule towards 0."""
    warm_up = round(settings.warm_up * steps)
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    step, steps = step - warm_up, steps - warm_up
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
    return poly(step, steps, settings.learning_rate, settings.exponent)


def optimiser_of(stage: Stage, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101)."""
    rate, decay = settings.learning_rate, settings.weight_decay
    groups = parameter_groups(stage)
    if settings.kind == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=settings.betas, weight_decay=decay)
    momentum = settings.momentum
    return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)


def parameter_groups(stage: Stage) -> list[dict[str, Any]]:
    """The stage's parameters, grouped by the factor of their learning rate."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in stage.networks.named_parameters():
        groups.setdefault(stage.rates.get(name.partition(".")[0], 1.0), []).append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


class Updater:
    """Updates a stage's networks; owns the state of that: weights, momentum, and the loss scale of fp16.

    Args:
        stage: its networks are moved to the device, in channels-last layout.
        settings: used unless the stage has its own optimiser settings.
        device: device of the networks.
        dtype: precision of the forward pass; weights stay float32.
        group: processes that train together.
    """

    def __init__(
        self,
        stage: Stage,
        settings: OptimiserSettings,
        device: torch.device,
        dtype: torch.dtype,
        group: Group = Group(),  # noqa: B008 - frozen
    ) -> None:
        self.stage, self.device, self.dtype, self.group = stage, device, dtype, group
        self.settings = stage.optimiser or settings
        self.networks: nn.ModuleDict = stage.networks.to(device).train()
        self.networks.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in torch's stub
        # Parameters without a gradient (frozen ones) are skipped: no decay and no momentum.
        self.optimiser = optimiser_of(stage, self.settings)
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        # Held while the weights, or anything else in a checkpoint, change: whoever holds it may save.
        self.updating = threading.RLock()

    def rate(self, context: StepContext) -> float:
        """The learning rate of a step."""
        return rate_of(context.step, context.steps, self.settings)

    def step(self, batch: Batch, context: StepContext, updated: Callable[[], object] = lambda: None) -> LossTerms:
        """Forward pass, backward pass, gradient clipping and update.

        Args:
            batch: on any device.
            context: of this step.
            updated: called after the update, before another thread may save.

        Raises:
            TrainingFailed: the loss became NaN or infinite; the weights are unchanged.
        """
        batch = batch.to(self.device)
        batch = replace(batch, images=batch.images.to(memory_format=torch.channels_last_3d))
        self.optimiser.zero_grad(set_to_none=True)
        with autocast(self.device, self.dtype):
            terms = self.stage.loss(batch, context)
        self._check(terms, context)
        self.scaler.scale(terms.total).backward()
        self.group.average_gradients(self.networks.parameters())
        self.scaler.unscale_(self.optimiser)
        trained = [parameter for parameter in self.networks.parameters() if parameter.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, self.settings.clip_norm)
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = self.rate(context) * parameters.get("factor", 1.0)
        with self.updating:
            self.scaler.step(self.optimiser)
            self.scaler.update()
            if self.stage.after_step is not None:
                with torch.no_grad():
                    self.stage.after_step(context)
            updated()
        return terms

    def check_weights(self, step: int) -> None:
        """Check weights before saving: even a finite loss can lead to a non-finite update.

        Raises:
            TrainingFailed: a weight is NaN or infinite.
        """
        for name, tensor in self.networks.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise TrainingFailed(
                    f"step {step}: the weights are not finite any more (first '{name}'). {self._advice}"
                )

    @property
    def _advice(self) -> str:
        """What the user can try after a failed training."""
        lower = self.settings.learning_rate / 10
        return (
            f"Resume with smaller steps, for example --set {self.stage.rate_setting}={lower:g}, or with --set "
            "run.precision=fp32. If it fails again, start a new run with these: the last checkpoint may be on its way "
            "there already."
        )

    def _check(self, terms: LossTerms, context: StepContext) -> None:
        if self.group.any(not torch.isfinite(terms.total), self.device):
            parts = ", ".join(f"{name} {term.value.item():g}" for name, term in terms.terms.items())
            raise TrainingFailed(f"step {context.step}: the loss is not finite ({parts}). {self._advice}")

    def state(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def _load_optimiser(self, state: dict[str, Any]) -> None:
        """Load momentum but not the settings, which may change when a run is resumed; torch would load both."""
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimiser.param_groups]
        self.optimiser.load_state_dict(state)
        for group, own in zip(self.optimiser.param_groups, settings):
            group.update(own)

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned, keeping this run's own settings.

        Raises:
            ResourceError: the state does not fit the networks.
        """
        try:
            self.networks.load_state_dict(state["networks"])
            self._load_optimiser(state["optimiser"])
            # Empty if the run did not use fp16 so far; it may be resumed in fp16.
            if state["scaler"]:
                self.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise ResourceError(
                f"the checkpoint does not fit the networks of this run ({reason[0].strip()}). Were its files or "
                "run.json exchanged? Put them back, or start a new run."
            ) from None
