"""DANTE's settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class DanteSettings(MethodSettings):
    """What is particular to DANTE; the defaults are the paper's method, every ablation is a line here."""

    LIMITS: ClassVar = {
        "freeze_share": (0, 1),
        "auxiliary_from": (0, 1),
        "align_ramp": (0, 1),
        "anchors": (1, 10**6),
        "mature_teacher": (0, 10),
    }
    POSITIVE: ClassVar = ("temperature", "fusion_init")
    WORDS: ClassVar = {
        "masking": ("sparse", "dense"),
        "align": ("l1", "l2", "infonce"),
        "align_grad": ("both", "to_L", "to_A"),
        "align_norm": ("none", "channel_l2"),
        "limited_decoder": ("D_L", "D_F"),
        "reduction": ("mean", "sum"),
        "level_reduction": ("mean", "sum"),
    }

    mask_ratio: float = 0.75
    """Share of blocks that Stage 1 hides."""
    masking: str = "sparse"
    """"sparse": hidden voxels reach no feature; "dense": they are zeroed and convolved over."""
    per_modality_masks: bool = False
    """Ablation: each channel hides its own blocks (needs dense masking)."""
    naive: bool = False
    """Ablation: three independent masked autoencoders instead of cross-modal reconstruction."""
    freeze_share: float = 0.1
    """Of Stage 2, the part during which the pre-trained encoders rest; ignored without Stage 1."""
    auxiliary_from: float = 0.2
    """Share of Stage 2 from which alignment and compaction count."""
    align: str = "l1"
    """"l1", "l2" or "infonce"."""
    align_weight: float = 0.5
    """lambda_2."""
    align_grad: str = "both"
    """Which pathway alignment moves: "both", "to_L" or "to_A"."""
    align_norm: str = "none"
    """"channel_l2" aligns directions only, blind to the features' scale."""
    align_levels: tuple[int, ...] = ()
    """Ablation: the encoder stages that are aligned, 1 the finest; none named is all, the bottleneck too."""
    reduction: str = "mean"
    """Of both L1 terms and of "l2", inside a level. "sum" is eq. 3 and 4 word for word: the finest level then outweighs
    all others, and the weights want to be smaller by millions."""
    level_reduction: str = "sum"
    """Of the same over the levels: "sum" or "mean"."""
    temperature: float = 0.1
    """Of InfoNCE."""
    anchors: int = 512
    """Of InfoNCE, at most so many a level."""
    infonce_both_ways: bool = False
    """Of InfoNCE: Z^L must find its own Z^A among the others too; eq. 5 asks Z^A alone."""
    compaction_weight: float = 0.3
    """lambda_1, of L_PIB."""
    common_start: bool = False
    """E_A and D_F begin with the random weights of E_L and D_L, and E_A blind to the privileged channel: the features
    of both pathways mean the same at first, and alignment need not match their channels."""
    carry_fusion: bool = False
    """Begin Stage 2's psi with Stage 1's Psi_1 instead of anew."""
    fusion_init: float = 1.0
    """Of He's random weights, what psi's projections begin with. At 1 the privileged correction is about twice as large
    as Z^A at first; a tenth makes Z^A the primary pathway from the beginning (eq. 2)."""
    align_ramp: float = 0.0
    """Share of Stage 2, counted from `auxiliary_from`, over which lambda_1 and lambda_2 rise evenly from 0."""
    mature_teacher: float = 0.0
    """Ablation: for so many times Stage 2's steps f_F learns alone before it, so that there is something to align with;
    0 for not at all."""

    limited_decoder: str = "D_L"
    """Ablation: what reads Z^L in the deployed network, its own "D_L", or "D_F", which has learned on Z^A and knows Z^L
    by alignment alone. Nothing is trained otherwise."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if not 0 < self.mask_ratio < 1:
            yield f"mask_ratio must lie between 0 and 1, got {self.mask_ratio:g}"
        if self.per_modality_masks and self.masking != "dense":
            yield "per_modality_masks needs dante.masking = 'dense': sparse has one mask a sample"
