"""An experiment: every number a training depends on. Defaults are the paper's; files hold differences."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
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
    """One of DanteTrainerLib.methods.METHODS."""
    task: str = "brain"
    """"brain" or "chest"; must be the dataset's."""
    seed: int = 12345
    """Of initial weights, patches and augmentation."""
    begin_with: str = ""
    """Fine-tuning: the model folder whose network for the same modalities a bound begins with."""
    weight_average: float = 0.0
    """Decay, e.g. 0.999, of an exponential average of the last stage's weights over its steps, which is deployed in
    their place; 0 for none. The pseudo-Dice in the log is of the last weights all the same."""
    data: DataSettings = field(default_factory=DataSettings)
    """How patches are made."""
    network: NetworkSpec = field(default_factory=brats_1mm)
    """The backbone's numbers."""
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    """How weights move."""
    pretrain_optimiser: OptimiserSettings | None = None
    """The same for a pre-training stage, where it is to be another, e.g. AdamW."""
    run: RunSettings = field(default_factory=RunSettings)
    """How long and how often."""
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    """Only methods with a teacher read these."""
    dropping: DroppingSettings = field(default_factory=DroppingSettings)
    """Only methods that drop the privileged modality read these."""
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
        """Steps of the last stage: `run.steps`, or with `dropping.equal_views` what a method that drops needs."""
        own = self.method_settings.get(self.method)
        share = self.dropping.probability * own.dropping_share if own is not None else 0.0
        return round(self.run.steps / share) if self.dropping.equal_views and share else self.run.steps

    @property
    def mature_steps(self) -> int:
        """Steps of DANTE's stage in which f_F learns alone; 0 without that stage."""
        share = self.dante.mature_teacher if self.method == "dante" else 0
        return max(1, round(share * self.run.steps)) if share else 0

    @property
    def own(self) -> Experiment:
        """The same with the tables of other methods at their defaults: what decides the training, for comparisons."""
        others = {name: type(table)() for name, table in self.method_settings.items() if name != self.method}
        tables: dict[str, Any] = others
        return replace(self, **tables)

    @property
    def method_settings(self) -> dict[str, MethodSettings]:
        """The tables that are a method's own, by name."""
        tables = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: table for name, table in tables if isinstance(table, MethodSettings)}


MOVED = {"feature_weight": "kd_weight", "weak_weight": "weak_weight"}
"""Settings of `distillation` in runs of older versions -> what they are called in `mmanet` now."""


def of_this_version(plain: Any) -> Any:
    """An experiment's plain values as a run or a model folder keeps them, of this version or an older one."""
    if not isinstance(plain, dict) or not isinstance(plain.get("distillation"), dict):
        return plain
    kept = {key: value for key, value in plain["distillation"].items() if key not in MOVED}
    moved = {MOVED[key]: value for key, value in plain["distillation"].items() if key in MOVED}
    return {**plain, "distillation": kept, **({"mmanet": moved} if moved else {})}
