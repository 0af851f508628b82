import pytest

from DanteSegmenterLib.errors import ConfigError
from DanteTrainerLib.study.plan import plan
from DanteTrainerLib.study.study_file import Entry, Size, Study, Sweep, read_study

LOWER = Entry("lower", "lower")
PUPIL = Entry("pupil", "mmanet", ("distillation.teacher={lower}",))


def study_of(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return read_study(path)


def by_name(study, folder):
    return {run.entry.name: run for run in plan(study, folder)}


def test_sweep_has_values_of_any_type_and_its_own_settings_and_seeds(tmp_path):
    study = study_of(
        tmp_path,
        """
        experiment = "brats-2mm"
        [[sweep]]
        method = "dante"
        key = "dante.align"
        values = ["l1", "infonce"]
        [[sweep]]
        name = "wide"
        method = "lower"
        key = "network.features"
        values = [[4, 8, 16, 32, 64], [8, 8, 8, 8, 8]]
        set = ["run.steps=7"]
        seeds = [3]
        [[sweep]]
        method = "lower"
        key = "optimiser.learning_rate"
        values = [0.1, 0.123456789]
        [[sweep]]
        method = "dante"
        key = "dante.naive"
        values = [true]
        """,
    )
    runs = by_name(study, tmp_path)
    assert list(runs) == [
        "dante align=l1", "dante align=infonce", "wide features=4-8-16-32-64", "wide features=8-8-8-8-8",
        "lower learning_rate=0.1", "lower learning_rate=0.123457", "dante naive=true",
    ]  # fmt: skip
    assert runs["dante align=infonce"].experiment.dante.align == "infonce"
    wide = runs["wide features=8-8-8-8-8"]
    assert (wide.experiment.network.features, wide.experiment.run.steps, wide.seed) == ((8,) * 5, 7, 3)
    assert runs["lower learning_rate=0.123457"].experiment.optimiser.learning_rate == 0.123456789
    assert runs["dante naive=true"].experiment.dante.naive is True


def test_string_that_looks_like_a_number_stays_a_string(tmp_path):
    sweep = Sweep("mmanet", "distillation.teacher", ("007", "true", "models/upper"))
    study = Study("brats-2mm", sweep=(sweep,))
    assert [run.experiment.distillation.teacher for run in plan(study, tmp_path)] == ["007", "true", "models/upper"]


def test_several_settings_are_multiplied_by_one_factor(tmp_path):
    keys = ("dante.compaction_weight", "dante.align_weight")
    study = Study("brats-2mm", ("dante.align_weight=0.4",), sweep=(Sweep("dante", keys=keys, factors=(0, 0.1, 1)),))
    runs = by_name(study, tmp_path)
    assert list(runs) == ["dante x0", "dante x0.1", "dante x1"]
    weights = [(r.experiment.dante.compaction_weight, r.experiment.dante.align_weight) for r in runs.values()]
    assert weights == [(0, 0), (0.03, 0.04), (0.3, 0.4)]


@pytest.mark.parametrize(
    ("sweep", "reason"),
    [
        ('key = "dante.align"', "needs key and values, or keys and factors"),
        ('key = "dante.align"\nvalues = ["l1"]\nfactors = [1]', "needs key and values, or keys and factors"),
        ('key = "dante.align"\nvalues = [1979-05-27]', "numbers, words or lists"),
        ('key = "dante.align"\nvalues = ["l1", "l1"]', "two rows"),
    ],
)
def test_incomplete_or_contradictory_sweep_is_refused(tmp_path, sweep, reason):
    with pytest.raises(ConfigError, match=reason):
        study_of(tmp_path, f'experiment = "brats-2mm"\n[[sweep]]\nmethod = "dante"\n{sweep}\n')


@pytest.mark.parametrize("key", ["align_weight", "dante.align", "dante.naive", "dante.weight"])
def test_non_numeric_setting_cannot_be_multiplied(tmp_path, key):
    study = Study("brats-2mm", sweep=(Sweep("dante", keys=(key,), factors=(0.1,)),))
    with pytest.raises(ConfigError, match="cannot be multiplied"):
        plan(study, tmp_path)


def teachers(study, folder):
    return {run.entry.name: run.experiment.distillation.teacher for run in plan(study, folder)}


def test_row_can_be_referenced_in_every_kind_of_setting(tmp_path):
    model = (tmp_path / "runs" / "lower-seed1" / "model").resolve().as_posix()
    value = Sweep("mmanet", "distillation.teacher", ("{lower}",), name="value")
    own = Sweep("mmanet", "mmanet.weak_weight", (0,), name="set", set=("distillation.teacher={lower}",))
    assert teachers(Study("brats-2mm", entry=(LOWER, PUPIL), sweep=(value, own)), tmp_path) == {
        "lower": "", "pupil": model, "value teacher=_lower_": model, "set weak_weight=0": model,
    }  # fmt: skip
    common = Study("brats-2mm", ("distillation.teacher={lower}",), entry=(LOWER, Entry("other", "mmanet")))
    assert teachers(common, tmp_path) == {"lower": "", "other": model}
    assert [run.needs for run in plan(common, tmp_path)] == [(), (tmp_path / "runs" / "lower-seed1" / "model",)]


def test_list_may_reference_a_row_and_a_name_may_contain_an_equals_sign(tmp_path):
    swept = Sweep("lower", "run.steps", (5,))
    folders = Entry("reader", "dante", ('data.pretrain_folders=["{lower steps=5}", "X"]',))
    run = by_name(Study("brats-2mm", entry=(folders,), sweep=(swept,)), tmp_path)["reader"]
    model = tmp_path / "runs" / "lower_steps=5-seed1" / "model"
    assert run.experiment.data.pretrain_folders == (model.resolve().as_posix(), "X") and run.needs == (model,)


@pytest.mark.parametrize("place", ["study", "entry", "sweep", "value"])
def test_reference_to_an_unknown_row_is_refused_anywhere(tmp_path, place):
    unknown = ("distillation.teacher={uper}",)
    study = {
        "study": Study("brats-2mm", unknown, entry=(LOWER,)),
        "entry": Study("brats-2mm", entry=(LOWER, Entry("pupil", "mmanet", unknown))),
        "sweep": Study("brats-2mm", sweep=(Sweep("mmanet", "run.steps", (1,), set=unknown),)),
        "value": Study("brats-2mm", sweep=(Sweep("mmanet", "distillation.teacher", ("{uper}",)),)),
    }[place]
    with pytest.raises(ConfigError, match=r"'\{uper\}' names no row of the study"):
        plan(study, tmp_path)


def test_quoted_row_has_no_model_to_reference(tmp_path):
    study = Study("brats-2mm", entry=(Entry("lower", "future", quoted=True), PUPIL))
    with pytest.raises(ConfigError, match="names no row"):
        plan(study, tmp_path)


def test_circular_references_of_rows_are_refused(tmp_path):
    first = Entry("first", "mmanet", ("distillation.teacher={second}",))
    second = Entry("second", "mmanet", ("distillation.teacher={first}",))
    with pytest.raises(ConfigError, match="first -> second -> first"):
        plan(Study("brats-2mm", entry=(first, second)), tmp_path)
    with pytest.raises(ConfigError, match="own -> own"):
        plan(Study("brats-2mm", entry=(Entry("own", "mmanet", ("distillation.teacher={own}",)),)), tmp_path)


SIZED = Study(
    set=("run.steps=9",),
    seeds=(1, 2),
    entry=(LOWER,),
    region="ET",
    size={
        "small": Size("brats-2mm", ("run.steps=5",), label="short"),
        "chest": Size("chest-small", seeds=(7,), region="PE"),
    },
)


def test_size_defines_experiment_settings_seeds_and_region(tmp_path):
    first, chest = SIZED.sized(), SIZED.sized("chest")
    assert [(run.seed, run.experiment.run.steps) for run in plan(first, tmp_path)] == [(1, 5), (2, 5)]
    assert (first.region, first.label, chest.region, chest.label) == ("ET", "small: short", "PE", "chest")
    assert [(run.seed, run.experiment.task) for run in plan(chest, tmp_path)] == [(7, "chest")]


def test_study_without_sizes_is_unchanged_and_an_unknown_size_refused():
    plain = Study("brats-2mm", entry=(LOWER,))
    assert plain.sized() == plain
    with pytest.raises(ConfigError, match="it has none"):
        plain.sized("smoke")
    with pytest.raises(ConfigError, match="its sizes are small, chest"):
        SIZED.sized("large")


ROW = '[[entry]]\nname = "x"\nmethod = "lower"\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("experiment = ", "not valid TOML"),
        ('experiment = "brats-2mm"', "nothing to train"),
        (f'experiment = "brats-2mm"\n{ROW}quoted = true', "nothing to train"),
        ('experiment = "brats-2mm"\nseedz = [1]', "seedz"),
        ('experiment = "brats-2mm"\n' + ROW.replace("x", "../x"), "cannot name a row"),
        ('experiment = "brats-2mm"\n' + ROW * 2, "two rows"),
        (
            'experiment = "brats-2mm"\n' + ROW.replace("x", "my row") + ROW.replace("x", "my_row"),
            "trained in one folder",
        ),
        ('experiment = "brats-2mm"\n' + ROW.replace("x", "ü" * 101), "too long to name a row"),
        (ROW, "'experiment' is missing"),
        (f"[size.small]\nseeds = [1]\n{ROW}", "'experiment' is missing"),
    ],
)
def test_bad_study_file_is_refused(tmp_path, text, reason):
    with pytest.raises(ConfigError, match=reason):
        study_of(tmp_path, text)


@pytest.mark.parametrize(
    ("entry", "reason"), [(Entry("x", "lowest"), "lowest"), (Entry("x", "lower", ("run.stepz=1",)), "stepz")]
)
def test_bad_row_is_refused_before_any_run(tmp_path, entry, reason):
    with pytest.raises(ConfigError, match=reason):
        plan(Study("brats-2mm", entry=(entry,)), tmp_path)


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        (Study("brats-2mm", entry=(LOWER,), seeds=(1, 2, 1)), "'lower': each seed is trained once, got 1, 2, 1"),
        (Study("brats-2mm", entry=(Entry("lower", "lower", seeds=(3, 3)),)), "each seed is trained once"),
        (Study("brats-2mm", entry=(LOWER,)).changed(["seed=7"]), "'seed' is no setting of a study.* --seeds 1"),
        (Study("brats-2mm", sweep=(Sweep("lower", "seed", (1, 2)),)), "'seed' is no setting"),
        (Study("brats-2mm", sweep=(Sweep("lower", keys=("seed",), factors=(1, 2)),)), "'seed' is no setting"),
        (Study("brats-2mm", entry=(LOWER,), set=("method=upper",)), "'method' is no setting of a study's rows"),
    ],
)
def test_run_is_identified_by_row_and_seed_alone(tmp_path, study, reason):
    with pytest.raises(ConfigError, match=reason):
        plan(study, tmp_path)


def test_externally_changed_study_says_so_in_its_label(tmp_path):
    text = 'experiment = "brats-2mm"\nlabel = "small"\nseeds = [1, 2]\n'
    text += '[[entry]]\nname = "lower"\nmethod = "lower"\nseeds = [3]\n'
    path = tmp_path / "study.toml"
    path.write_text(text)
    study = read_study(path)
    changed = study.changed(["run.steps=7"], [5])
    assert changed.label == "small; but for this: run.steps=7, seeds 5"
    assert changed.set == ("run.steps=7",) and changed.seeds == (5,) and changed.entries()[0].seeds == ()
    assert study.changed() == study and study.changed(["run.steps=7"]).entries()[0].seeds == (3,)
