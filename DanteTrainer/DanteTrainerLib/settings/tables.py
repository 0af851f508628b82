"""Settings tables shared by all methods."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSettings:
    """How training patches are drawn and augmented."""

    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Voxel size of the network's grid, along K, J, I."""
    patch: tuple[int, int, int] = (128, 128, 128)
    """Patch size in voxels along K, J, I; divisible by the network's strides."""
    batch_size: int = 2
    """Patches per step, over all processes."""
    foreground_share: float = 0.33
    """Share of each batch that is forced to contain a region, in whole samples; of batches of 1, of the steps."""
    augment: bool = True
    """Whether to augment (see `augment_strength`)."""
    augment_values: bool = True
    """Whether augmentation also changes brightness, contrast and gamma; turn off for calibrated values such as HU."""
    augment_strength: str = "nnunet"
    """"nnunet", its default augmentation; or "strong", more frequent and with wider ranges, for few cases."""
    workers: int = -1
    """Processes that prepare batches; -1 chooses by the number of processor cores that the run may use."""
    split_seed: int = 12345
    """Random seed of the 70/10/20 split, used where the dataset has none of its own."""
    pretrain_folders: tuple[str, ...] = ()
    """Additional dataset folders whose images Stage 1 reads, without masks. Patients of the split's val and test parts
    are excluded, even under other names."""
    pretrain_on_val: bool = False
    """Stage 1 also reads the validation cases' images, without masks."""
    include_downstream_test_in_pretrain: bool = False
    """Exclude no patient from `pretrain_folders`. Only to compare with published figures: test scores leak."""
    strict_leak_guard: bool = False
    """Refuse to train, instead of warning, where case names cannot rule out that a validation or test patient is also
    used in training, or was used to train a model that this run learns from."""


@dataclass(frozen=True)
class OptimiserSettings:
    """SGD with Nesterov momentum and a polynomial schedule, as in nnU-Net; or AdamW."""

    kind: str = "sgd"
    """"sgd" or "adamw"."""
    learning_rate: float = 0.01
    """Peak learning rate: at the first step, or after the warm-up."""
    momentum: float = 0.99
    """Nesterov momentum; SGD only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW only."""
    weight_decay: float = 3e-5
    """Applied to all parameters."""
    warm_up: float = 0.0
    """Share of the stage's steps over which the learning rate rises linearly to its peak."""
    schedule: str = "poly"
    """"poly" or "cosine", over the steps after the warm-up."""
    clip_norm: float = 12.0
    """Maximum gradient norm, over the trainable parameters."""
    exponent: float = 0.9
    """Exponent of the polynomial schedule."""


@dataclass(frozen=True)
class RunSettings:
    """Training length, checkpoints, validation and precision."""

    steps: int = 125_000
    """Steps of the (last) supervised stage; the default is 500 epochs of 250 steps."""
    pretrain_steps: int = 125_000
    """Steps of the pre-training stage, for methods that have one."""
    checkpoint_every: int = 250
    """Steps between checkpoints."""
    validate_every: int = 250
    """Steps between validations; 0 for none."""
    validation_batches: int = 10
    """Number of fixed, unaugmented batches per validation."""
    precision: str = "auto"
    """"fp32", "bf16" or "fp16"; "auto" chooses the fastest that is safe on the device."""
    compile: bool = False
    """Use torch.compile: slower start, faster steps. Stage 1's sparse encoders are not compiled."""


@dataclass(frozen=True)
class DistillationSettings:
    """Settings of methods that learn from a frozen teacher."""

    teacher: str = ""
    """Model folder whose full-modality network is the teacher: from `upper`, or a method with a full pathway."""


@dataclass(frozen=True)
class DroppingSettings:
    """Settings of methods that drop the privileged modality per sample in training; no other modality is dropped."""

    probability: float = 0.5
    """Probability that a sample is seen without the privileged modality."""
    equal_views: bool = False
    """Train for more than `run.steps`, until as many samples lacked the privileged modality as the lower bound sees."""
