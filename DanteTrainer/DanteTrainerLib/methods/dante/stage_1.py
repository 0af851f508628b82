"""Stage 1: cross-modal masked reconstruction pre-trains the three encoders (DANTE, eq. 7-9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from DanteSegmenterLib.networks.fusion import Fusion
from DanteSegmenterLib.networks.unet import Encoder

from ...data.patches import Batch
from ...loop.stage import LossTerms, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.tasks import Task
from .blur import blur_warning, blurred
from .initial_weights import ENCODERS, PRETRAINED, encoders_of, initialise_networks
from .losses import masked_reconstruction
from .masking import ReconstructionDecoder, block_size, draw_mask, encode_visible, mask_at

# The blur baseline costs as much as a small convolution, so it is only evaluated every few steps.
BLUR_EVERY = 20


def cross_modal(experiment: Experiment, task: Task) -> Stage:
    """L -> L, A+P -> F and L+P -> F, each with weight 1, on masked voxels (eq. 7-9)."""
    spec, limited = experiment.network, task.limited_channels
    encoders = encoders_of(experiment, task)
    psi_1, psi_2 = Fusion(spec), Fusion(spec)
    rec_l = ReconstructionDecoder(len(task.limited), spec)
    rec_f = ReconstructionDecoder(len(task.full), spec)  # one for both eq. 8 and eq. 9
    networks = nn.ModuleDict({**encoders, "psi_1": psi_1, "psi_2": psi_2, "rec_L": rec_l, "rec_F": rec_f})
    initialise_networks(networks, experiment, task)
    masked = _Masked(experiment)

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        x_f, x_l = batch.images, batch.images[:, limited]
        mask = masked.draw(x_f, context)
        z_l = masked.encode(encoders["E_L"], x_l, mask_for(mask, limited))
        z_a, z_p = (masked.encode(encoders[name], x_f, mask) for name in ("E_A", "E_P"))
        from_ap, _ = psi_1(z_a, z_p)
        from_lp, _ = psi_2(z_l, z_p)
        terms = {
            "L_from_L": Term(masked.error(rec_l, z_l, x_l, mask, limited)),
            "F_from_AP": Term(masked.error(rec_f, from_ap, x_f, mask)),
            "F_from_LP": Term(masked.error(rec_f, from_lp, x_f, mask)),
        }
        everything = list(range(len(task.full)))
        read = {"L_from_L": limited, "F_from_AP": everything, "F_from_LP": everything}
        return LossTerms(terms, masked.blur_errors(x_f, mask, read, context))

    return _pretraining(experiment, networks, loss)


def naive(experiment: Experiment, task: Task) -> Stage:
    """Ablation: each encoder is trained as a masked autoencoder of its own input, with its own decoder."""
    encoders = encoders_of(experiment, task)
    everything = list(range(len(task.full)))
    read = dict(zip(ENCODERS, (task.limited_channels, everything, everything)))
    decoders = {name: ReconstructionDecoder(len(channels), experiment.network) for name, channels in read.items()}
    networks = nn.ModuleDict({**encoders, **{f"rec_{name}": decoder for name, decoder in decoders.items()}})
    initialise_networks(networks, experiment, task)
    masked = _Masked(experiment)

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        mask = masked.draw(batch.images, context)
        terms = {}
        for name, channels in read.items():
            image = batch.images[:, channels]
            features = masked.encode(encoders[name], image, mask_for(mask, channels))
            terms[name] = Term(masked.error(decoders[name], features, image, mask, channels))
        return LossTerms(terms, masked.blur_errors(batch.images, mask, read, context))

    return _pretraining(experiment, networks, loss)


def _pretraining(
    experiment: Experiment, networks: nn.ModuleDict, loss: Callable[[Batch, StepContext], LossTerms]
) -> Stage:
    return Stage(
        PRETRAINED,
        networks,
        experiment.run.pretrain_steps,
        loss,
        optimiser=experiment.pretrain_optimiser,
        rate_setting=("pretrain_optimiser" if experiment.pretrain_optimiser else "optimiser") + ".learning_rate",
        augmentation="spatial",
        labelled_only=False,
        remark=blur_warning,
    )


def mask_for(mask: Tensor, channels: Sequence[int]) -> Tensor:
    """Select channels of a per-channel mask [B, C, ...]; a shared mask [B, 1, ...] is returned as is."""
    return mask[:, channels] if mask.shape[1] > 1 else mask


class _Masked:
    """Draws Stage 1's masks and applies them, with sparse or dense encoding."""

    def __init__(self, experiment: Experiment) -> None:
        self._settings, self._block = experiment.dante, block_size(experiment.network)
        self._sparse = self._settings.masking == "sparse"

    def draw(self, images: Tensor, context: StepContext) -> Tensor:
        """One mask for all channels and objectives [B, 1, ...]; in the ablation one per channel [B, C, ...]."""
        batch, channels = images.shape[:2]
        many = channels if self._settings.per_modality_masks else 1

        def draw(samples: int) -> Tensor:
            ratio = self._settings.mask_ratio
            mask = draw_mask(samples * many, images.shape[2:], self._block, ratio, context.generator)
            return mask.reshape(samples, many, *mask.shape[2:])

        return context.own(batch, draw).to(images.device)

    def encode(self, encoder: Encoder, image: Tensor, mask: Tensor) -> list[Tensor]:
        if self._sparse:
            return encode_visible(encoder, image, mask)
        return encoder(image * mask_at(mask, image.shape[2:]))

    def error(
        self,
        decoder: ReconstructionDecoder,
        features: list[Tensor],
        target: Tensor,
        mask: Tensor,
        channels: list[int] | None = None,
    ) -> Tensor:
        prediction = decoder(features, mask if self._sparse else None)
        return masked_reconstruction(prediction, target, mask if channels is None else mask_for(mask, channels))

    def blur_errors(
        self, images: Tensor, mask: Tensor, read: Mapping[str, Sequence[int]], context: StepContext
    ) -> dict[str, float]:
        """Error of a blur baseline for each reconstruction, as `blur_NAME`; empty except every `BLUR_EVERY` steps.

        Args:
            read: reconstruction -> indices of the channels it reconstructs.
        """
        if context.step % BLUR_EVERY:
            return {}
        guess = blurred(images, mask, self._block)
        errors = {}
        for name, channels in read.items():
            error = masked_reconstruction(guess[:, channels], images[:, channels], mask_for(mask, channels))
            errors[f"blur_{name}"] = error.item()
        return errors
