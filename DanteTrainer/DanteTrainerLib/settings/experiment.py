"""An experiment: all settings that a training depends on. Defaults are the paper's; files hold only differences."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.networks.unet import brats_1mm

from .method_settings import MethodSettings
from .methods.cmfd import CmfdSettings
from .methods.cpmn import CpmnSettings
from .methods.dante import DanteSettings
from .methods.mmanet import MmanetSettings
from .methods.mmformer import MmformerSettings
from .methods.pmkl import PmklSettings
from .methods.robustseg import RobustSegSettings
from .methods.shaspec import ShaSpecSettings
from .methods.vit import VitSettings
from .ranges import check
from .tables import DataSettings, DistillationSettings, DroppingSettings, OptimiserSettings, RunSettings


@dataclass(frozen=True)
class Experiment:
    """All settings of a run."""

    method: str = "lower"
    """Name of the method, a key of `DanteTrainerLib.methods.METHODS`."""
    task: str = "brain"
    """"brain" or "chest"; must match the dataset."""
    seed: int = 12345
    """Random seed of initial weights, patches and augmentation."""
    begin_with: str = ""
    """Fine-tuning of "lower" or "upper": model folder whose U-Net of the same modalities is the starting point."""
    weight_average: float = 0.0
    """Decay, e.g. 0.999, of an exponential moving average of the weights over the last stage's steps. The averaged
    weights are the ones deployed; the pseudo-Dice in the log is still that of the current weights. 0 turns it off."""
    data: DataSettings = field(default_factory=DataSettings)
    """How training patches are drawn and augmented."""
    network: NetworkSpec = field(default_factory=brats_1mm)
    """The U-Net backbone's size."""
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    """Optimiser and learning-rate schedule."""
    pretrain_optimiser: OptimiserSettings | None = None
    """Optimiser of the pre-training stage, where it differs from `optimiser`, e.g. AdamW."""
    run: RunSettings = field(default_factory=RunSettings)
    """Training length, checkpoints, validation and precision."""
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    """Only read by methods with a teacher."""
    dropping: DroppingSettings = field(default_factory=DroppingSettings)
    """Only read by methods that drop the privileged modality."""
    cmfd: CmfdSettings = field(default_factory=CmfdSettings)
    cpmn: CpmnSettings = field(default_factory=CpmnSettings)
    dante: DanteSettings = field(default_factory=DanteSettings)
    mmanet: MmanetSettings = field(default_factory=MmanetSettings)
    mmformer: MmformerSettings = field(default_factory=MmformerSettings)
    pmkl: PmklSettings = field(default_factory=PmklSettings)
    robustseg: RobustSegSettings = field(default_factory=RobustSegSettings)
    shaspec: ShaSpecSettings = field(default_factory=ShaSpecSettings)
    vit: VitSettings = field(default_factory=VitSettings)

    def __post_init__(self) -> None:
        check(self)

    @property
    def supervised_steps(self) -> int:
        """Steps of the last stage: `run.steps`, or more for `dropping.equal_views` and a method that drops."""
        own = self.method_settings.get(self.method)
        share = self.dropping.probability * own.dropping_share if own is not None else 0.0
        return round(self.run.steps / share) if self.dropping.equal_views and share else self.run.steps

    @property
    def mature_steps(self) -> int:
        """Steps of DANTE's stage that trains f_F alone; 0 without that stage."""
        share = self.dante.mature_teacher if self.method == "dante" else 0
        return max(1, round(share * self.run.steps)) if share else 0

    @property
    def own(self) -> Experiment:
        """A copy with the settings of all other methods at their defaults, to compare what affects the training."""
        others = {name: type(table)() for name, table in self.method_settings.items() if name != self.method}
        tables: dict[str, Any] = others
        return replace(self, **tables)

    def with_absolute_paths(self) -> Experiment:
        """A copy whose folders are the same from any working directory, as a run must store them to be resumed."""
        return replace(
            self,
            begin_with=_absolute(self.begin_with),
            data=replace(self.data, pretrain_folders=tuple(map(_absolute, self.data.pretrain_folders))),
            distillation=replace(self.distillation, teacher=_absolute(self.distillation.teacher)),
        )

    @property
    def method_settings(self) -> dict[str, MethodSettings]:
        """The method-specific tables, by method name."""
        tables = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: table for name, table in tables if isinstance(table, MethodSettings)}


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if path else ""


RENAMED = {"feature_weight": "kd_weight", "weak_weight": "weak_weight"}
"""Settings that older versions kept in `distillation` -> their names in `mmanet` now."""


def upgraded(plain: Any) -> Any:
    """Convert an experiment's plain values, as stored by this or an older version, to the current names."""
    if not isinstance(plain, dict) or not isinstance(plain.get("distillation"), dict):
        return plain
    kept = {key: value for key, value in plain["distillation"].items() if key not in RENAMED}
    moved = {RENAMED[key]: value for key, value in plain["distillation"].items() if key in RENAMED}
    return {**plain, "distillation": kept, **({"mmanet": moved} if moved else {})}
