"""When the training curves are drawn, and whether their texts have enough room."""

import numpy as np
from PIL import Image
from small_trainings import small, train

from DanteTrainerLib.loop import history, trainer
from DanteTrainerLib.loop.history import seconds_trained
from DanteTrainerLib.run import train as whole_run


def test_curves_are_drawn_at_the_end_and_at_checkpoints_a_minute_apart(data, tmp_path, monkeypatch):
    drawn = []
    for place in (trainer, whole_run):
        monkeypatch.setattr(place, "draw_history", lambda folder, rows: drawn.append([row["step"] for row in rows]))
    train(data, tmp_path / "short", small("lower"))
    assert drawn == [[5, 10]]  # only once: drawing a small network's curves takes longer than training it
    drawn.clear()
    monkeypatch.setattr(trainer, "DRAW_EVERY_SECONDS", 0)
    train(data, tmp_path / "long", small("lower"))
    assert drawn == [[5], [5, 10], [5, 10]]


def test_steps_restart_in_every_stage():
    rows = [{"stage": "a", "step": 10, "seconds_per_step": 1.0}, {"stage": "a", "step": 15, "seconds_per_step": 2.0}]
    rows += [{"stage": "b", "step": 20, "seconds_per_step": 3.0}]
    assert seconds_trained(rows) == 10 + 2 * 5 + 3 * 20


def test_panel_texts_are_neither_cut_off_nor_overlapping(tmp_path):
    """Nothing touches the edge; texts and panels are apart: a title, then three parts per row and column."""
    rows = [
        {"stage": stage, "step": step, "loss": 1e-4 / step, "dice_WT": 1 / step, "log_gap_1": -1000.0 * step}
        for stage in ("one", "two")
        for step in (1000, 50_000, 100_000)
    ]
    history.draw_history(tmp_path, rows)
    ink = np.asarray(Image.open(tmp_path / "curves.png").convert("L")) < 200
    assert not ink[[0, -1]].any() and not ink[:, [0, -1]].any()
    assert parts(ink.any(axis=1)) >= 1 + 3 * 3 and parts(ink.any(axis=0)) >= 2 * 3


def test_curve_of_a_long_training_is_thinned_and_ends_with_the_last_step():
    rows = [{"step": step, "loss": 1 / step} for step in range(1, 12_501)]
    rows[7]["dice_WT"], rows[11]["dice_WT"] = 0.5, 0.75
    points = history.curve(rows, "loss")
    assert 500 < len(points) <= history.MOST_POINTS and points[-1] == (12_500, 1 / 12_500)
    assert {b[0] - a[0] for a, b in zip(points, points[1:])} == {13}
    assert history.curve(rows, "dice_WT") == [(8, 0.5), (12, 0.75)]  # a rare value is not thinned away
    assert history.curve(rows[:5], "loss") == [(n, 1 / n) for n in range(1, 6)] and history.curve(rows, "none") == []


def parts(filled):
    """The number of consecutive runs of filled lines."""
    return int(np.count_nonzero(np.diff(filled.astype(int)) == 1))


def test_a_curve_of_one_point_is_seen(tmp_path):
    history.draw_history(tmp_path, [{"stage": "one", "step": 2, "loss": 1.0}])
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)
    rows, columns = picture.shape[:2]
    middle = picture[rows // 3 : 2 * rows // 3, columns // 3 : 2 * columns // 3]
    assert (np.ptp(middle, axis=2) > 60).any()  # a colour, in the middle of the panel
