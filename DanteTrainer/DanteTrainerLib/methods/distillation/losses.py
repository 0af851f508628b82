"""Distillation losses, pure functions in float32: soft labels, feature maps, and contrast between images.

Logits are [B, R, K, J, I] for overlapping regions (output "regions": one probability per region) and [B, 1+R, K, J, I]
for exclusive labels (output "labels"). Per-voxel results have R channels for regions and 1 for labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from DanteSegmenterLib.volume import triple

from ..segmentation_loss import labels_of

# A smaller sum of weights counts as none: the teacher is nowhere better than the student.
NO_WEIGHT = 1e-8
# Smallest distance with a gradient: the square root's slope is infinite at 0.
NO_DISTANCE = 1e-6


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float, output: str) -> Tensor:
    """-sum_c p^t_c log p^s_c per voxel, with p = sigmoid(z / T) per region, or softmax(z / T) over the labels.

    Args:
        student, teacher: logits z.
        temperature: T; higher is softer.
        output: "regions" or "labels".
    """
    student, teacher = student.float() / temperature, teacher.float() / temperature
    if output == "labels":
        return -(teacher.softmax(dim=1) * student.log_softmax(dim=1)).sum(dim=1, keepdim=True)
    return functional.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none")


def entropy(logits: Tensor, output: str, temperature: float = 1.0) -> Tensor:
    """Entropy of each voxel's prediction: the network's uncertainty."""
    return soft_cross_entropy(logits, logits, temperature, output)


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float, output: str) -> Tensor:
    """T^2 KL(teacher || student) at temperature T, mean over samples, voxels and regions (Hinton et al. 2015).

    The factor T^2 makes the gradient's size independent of the temperature.
    """
    crossed = soft_cross_entropy(student, teacher, temperature, output)
    return temperature**2 * (crossed - entropy(teacher, output, temperature)).mean()


def hard_cross_entropy(logits: Tensor, regions: Tensor, output: str) -> Tensor:
    """Cross-entropy of every voxel against the ground truth, regions 0/1 [B, R, K, J, I]."""
    if output == "labels":
        return functional.cross_entropy(logits.float(), labels_of(regions), reduction="none")[:, None]
    return functional.binary_cross_entropy_with_logits(logits.float(), regions, reduction="none")


def is_right(logits: Tensor, regions: Tensor, output: str) -> Tensor:
    """Whether each voxel's most probable class is the true one; bool."""
    if output == "labels":
        return (logits.argmax(dim=1) == labels_of(regions))[:, None]
    return (logits > 0) == (regions > 0.5)


@torch.no_grad()
def teacher_advantage(student: Tensor, teacher: Tensor, regions: Tensor, output: str) -> Tensor:
    """w = relu(CE_s - CE_t) [teacher right] per voxel, without gradient: how much better the teacher is (PMKL)."""
    ahead = hard_cross_entropy(student, regions, output) - hard_cross_entropy(teacher, regions, output)
    return ahead.relu() * is_right(teacher, regions, output)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """sum(w v) / sum(w); 0, with zero gradient, if all weights are 0."""
    return (weights * values).sum() / weights.sum().clamp_min(NO_WEIGHT)


def contrast(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Contrastive loss: d^2 for two embeddings of the same image, relu(margin - d)^2 for different images.

    Args:
        student, teacher: embeddings [B, D]; every pair across the two is compared.
        margin: distance beyond which different images are not pushed further apart.

    Returns:
        mean over the B^2 pairs; for a single image, d^2 alone.
    """
    squares = (student.float()[:, None] - teacher.float()[None]).square().sum(dim=2)
    apart = (margin - squares.clamp_min(NO_DISTANCE**2).sqrt()).relu().square()
    same = torch.eye(len(squares), dtype=torch.bool, device=squares.device)
    return torch.where(same, squares, apart).mean()


def halved(features: Tensor) -> Tensor:
    """Average-pool by 2 x 2 x 2 in float32, [B, C, K, J, I]; an axis of one voxel is kept."""
    return functional.avg_pool3d(features.float(), triple(min(2, size) for size in features.shape[2:]))
