"""What is learned from a teacher, as pure functions in float32: its soft labels, its maps, which images are the same.

Logits are [B, R, K, J, I] where regions overlap (output "regions": a probability a region) and [B, 1+R, K, J, I] where
labels exclude each other (output "labels"). What is said of every voxel has R channels for regions and 1 for labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from DanteSegmenterLib.volume import triple

from ..segmentation_loss import labels_of

# Weights that add up to less are none: the student knows everything that the teacher knows.
NO_WEIGHT = 1e-8
# Below this distance the slope of the root is not followed: it is infinite at 0.
NO_DISTANCE = 1e-6


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float, output: str) -> Tensor:
    """-sum_c p^t_c log p^s_c of every voxel, with p = sigmoid(z / T) of each region, or softmax(z / T) over the labels.

    Args:
        student, teacher: logits z.
        temperature: T; the higher, the softer.
        output: "regions" or "labels".
    """
    student, teacher = student.float() / temperature, teacher.float() / temperature
    if output == "labels":
        return -(teacher.softmax(dim=1) * student.log_softmax(dim=1)).sum(dim=1, keepdim=True)
    return functional.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none")


def entropy(logits: Tensor, output: str, temperature: float = 1.0) -> Tensor:
    """Of every voxel's probabilities: how unsure the network is."""
    return soft_cross_entropy(logits, logits, temperature, output)


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float, output: str) -> Tensor:
    """T^2 KL(teacher || student) at temperature T, mean over samples, voxels and regions (Hinton et al. 2015).

    The T^2 keeps the gradient's size whatever the temperature.
    """
    crossed = soft_cross_entropy(student, teacher, temperature, output)
    return temperature**2 * (crossed - entropy(teacher, output, temperature)).mean()


def hard_cross_entropy(logits: Tensor, regions: Tensor, output: str) -> Tensor:
    """Cross-entropy of every voxel against the truth, regions 0/1 [B, R, K, J, I]."""
    if output == "labels":
        return functional.cross_entropy(logits.float(), labels_of(regions), reduction="none")[:, None]
    return functional.binary_cross_entropy_with_logits(logits.float(), regions, reduction="none")


def is_right(logits: Tensor, regions: Tensor, output: str) -> Tensor:
    """Whether the most probable answer is the true one, of every voxel; bool."""
    if output == "labels":
        return (logits.argmax(dim=1) == labels_of(regions))[:, None]
    return (logits > 0) == (regions > 0.5)


@torch.no_grad()
def better_known(student: Tensor, teacher: Tensor, regions: Tensor, output: str) -> Tensor:
    """w = relu(CE_s - CE_t) [teacher right] of every voxel, a constant: by how much the teacher knows better (PMKL)."""
    ahead = hard_cross_entropy(student, regions, output) - hard_cross_entropy(teacher, regions, output)
    return ahead.relu() * is_right(teacher, regions, output)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """sum(w v) / sum(w); 0, with a gradient of 0, where there are no weights."""
    return (weights * values).sum() / weights.sum().clamp_min(NO_WEIGHT)


def contrast(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Same images together, others apart: d^2 of the same image's two embeddings, relu(margin - d)^2 of two images'.

    Args:
        student, teacher: embeddings [B, D]; each of one is paired with each of the other.
        margin: how far apart is far enough.

    Returns:
        mean over the B^2 pairs; of one image, which has none to be told apart from, d^2 alone.
    """
    squares = (student.float()[:, None] - teacher.float()[None]).square().sum(dim=2)
    apart = (margin - squares.clamp_min(NO_DISTANCE**2).sqrt()).relu().square()
    same = torch.eye(len(squares), dtype=torch.bool, device=squares.device)
    return torch.where(same, squares, apart).mean()


def halved(features: Tensor) -> Tensor:
    """Means over 2 x 2 x 2 voxels in float32, [B, C, K, J, I]; an axis of one voxel stays."""
    return functional.avg_pool3d(features.float(), triple(min(2, size) for size in features.shape[2:]))
