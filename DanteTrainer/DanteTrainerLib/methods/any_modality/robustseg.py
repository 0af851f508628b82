"""RobustSeg (Chen et al., MICCAI 2019): content and style disentangled per modality, gated fusion, modality dropout.

Departures, to use the shared backbone: content encoders of half its width, its decoder and deep supervision. The style
encoders and reconstruction decoders are only used in training. Only the privileged modality is dropped. As in the
paper, the style's mean shifts and its deviation scales; the published code swaps them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.networks.baselines.gated_unet import GatedNetwork
from DanteSegmenterLib.networks.convolution import Conv3d
from DanteSegmenterLib.networks.instance_norm import instance_norm
from DanteSegmenterLib.networks.unet import initialise

from ...data.patches import Batch
from ...loop.stage import Deployed, LossTerms, Stage, StepContext, Term
from ...settings.experiment import Experiment
from ...settings.tasks import Task
from ..segmentation_loss import segmentation_loss
from .modality_dropout import draw_present, share_without_privileged, without_privileged

STYLE = 8
HIDDEN = 128
ADAIN_BLOCKS = 4


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """One stage: segmentation, reconstruction of every modality, and KL divergence of the style parameters."""
    settings = experiment.robustseg
    spec, outputs, modalities = experiment.network, task.outputs, len(task.full)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        network = GatedNetwork(modalities, outputs, spec)
        styles = [StyleEncoder(max(4, spec.features[0] // 2)) for _ in range(modalities)]
        images = [ImageDecoder(spec) for _ in range(modalities)]
        networks = nn.ModuleDict(
            {"segmentation": network, "styles": nn.ModuleList(styles), "images": nn.ModuleList(images)}
        )
        initialise(networks)

    def loss(batch: Batch, context: StepContext) -> LossTerms:
        present = draw_present(batch, task, context, experiment.dropping)
        logged = share_without_privileged(present, task)
        fused = network.encode(batch.images, present)
        terms = {"segmentation": Term(segmentation_loss(network.decoder.all_logits(fused), batch.regions, task.output))}
        errors, divergences = [], []
        # Dropped modalities are reconstructed too, from the others' content and their own style.
        for n, (style, image) in enumerate(zip(styles, images)):
            original = batch.images[:, n : n + 1]
            rebuilt, mean, log_variance = image(fused[image.level], style(original))
            errors.append((rebuilt.float() - original.float()).abs().mean())
            divergences.append(kl_to_standard_normal(mean, log_variance))
        terms["reconstruction"] = Term(torch.stack(errors).sum(), settings.reconstruction_weight)
        terms["kl"] = Term(torch.stack(divergences).sum(), settings.kl_weight)
        return LossTerms(terms, logged)

    limited = task.limited_channels
    without = without_privileged(task)

    def predict(all_images: Tensor) -> Tensor:
        return network.decoder(network.encode(all_images, without.to(all_images.device)))

    return [
        Stage(
            "supervised",
            networks,
            experiment.supervised_steps,
            loss,
            optimiser=replace(experiment.optimiser, weight_decay=settings.weight_decay),
            deployed={"limited": Deployed(lambda: network.restricted_to(limited), task.limited, "gated")},
            predict=predict,
        )
    ]


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1), [B, C] each: summed over C, averaged over samples."""
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(dim=1).mean()


class StyleEncoder(nn.Sequential):
    """Image [B, 1, K, J, I] -> style code [B, 8]: a 7^3 convolution, four strided ones, global average pooling.

    The first layer is as wide as the content encoders'; the paper's is twice as wide, at three times the cost.
    """

    def __init__(self, features: int) -> None:
        layers: list[nn.Module] = [Conv3d(1, features, 7, padding=3), nn.LeakyReLU(0.2, inplace=True)]
        for n in range(4):
            wide = min(features << n, 64)
            layers += [Conv3d(wide, min(features << (n + 1), 64), 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        super().__init__(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(min(features << 4, 64), STYLE))


class ImageDecoder(nn.Module):
    """Content at 1/8 resolution and a style code -> the modality's image, by adaptive instance norm.

    Kernel size 3 as in the backbone: with 5 and 7, these training-only decoders would cost as much as eight U-Nets.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.level = min(3, len(spec.features) - 1)
        features = spec.features[self.level]
        self.style = nn.Sequential(nn.Linear(STYLE, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, HIDDEN))
        self.mean, self.log_variance = (nn.Linear(HIDDEN, features) for _ in range(2))
        self.blocks = nn.ModuleList(AdainBlock(features) for _ in range(ADAIN_BLOCKS))
        strides, layers = spec.strides[1 : self.level + 1], []
        for stride in reversed(strides):
            layers += [nn.Upsample(scale_factor=stride), Conv3d(features, max(4, features // 2), 3, padding=1)]
            features = max(4, features // 2)
            layers += [nn.GroupNorm(1, features), nn.LeakyReLU(0.2, inplace=True)]
        self.up = nn.Sequential(*layers, Conv3d(features, 1, 3, padding=1))

    def forward(self, content: Tensor, style: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The image [B, 1, K, J, I], and the AdaIN parameters' mean and log variance for the KL term."""
        code = self.style(style)
        mean, log_variance = self.mean(code), self.log_variance(code)
        for block in self.blocks:
            content = block(content, mean, log_variance)
        return self.up(content), mean, log_variance


class AdainBlock(nn.Module):
    """Residual block of two convolutions with AdaIN; all blocks share the same mean and variance."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.second = (Conv3d(features, features, 3, padding=1) for _ in range(2))

    def forward(self, content: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        inner = functional.leaky_relu(adain(self.first(content), mean, log_variance), 0.2)
        return content + adain(self.second(inner), mean, log_variance)


def adain(content: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Adaptive instance norm: content [B, C, ...] with the given mean and log variance [B, C]."""
    places = math.prod(content.shape[2:])
    channels = content.shape[1]
    identity = content.new_ones(channels), content.new_zeros(channels)
    normal = instance_norm(content, *identity) if places > 1 else content
    shape = (*mean.shape, 1, 1, 1)
    return normal * (0.5 * log_variance).exp().reshape(shape) + mean.reshape(shape)
