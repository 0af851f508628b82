import numpy as np
import pandas as pd
import pytest
from sklearn.manifold import TSNE
from torch.nn.modules.module import register_module_forward_hook

from DanteSegmenterLib.networks.unet import Encoder
from DanteTrainerLib.__main__ import main

SMALL = ["--set", "run.steps=1", "--set", "run.pretrain_steps=0", "--smoke", "--quiet", "--device", "cpu"]


def run_of(method, data, folder):
    assert main(["train", method, "--data", str(data), "--out", str(folder), *SMALL]) == 0
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return run_of("dante", data, tmp_path_factory.mktemp("run") / "run")


def test_every_patch_of_every_encoder_is_mapped_reproducibly(data, run, tmp_path):
    tables = []
    for name in ("one", "two"):
        out = tmp_path / name
        assert main(["features", str(run), "--data", str(data), "--out", str(out), "--device", "cpu"]) == 0
        assert (out / "feature_map.png").stat().st_size > 5000
        tables.append(pd.read_csv(out / "feature_map.csv"))
    assert tables[0].groupby("pathway").patch.nunique().to_dict() == {"Z^L": 31, "Z^A": 31, "Z^P": 31}
    pd.testing.assert_frame_equal(*tables)


def test_map_shows_bottleneck_means_with_the_perplexity_of_the_paper(data, run, tmp_path, monkeypatch):
    mapped, bottlenecks = [], []

    class Recording(TSNE):
        def fit_transform(self, rows, *arguments):
            mapped.append((self.perplexity, rows))
            return super().fit_transform(rows, *arguments)

    monkeypatch.setattr("sklearn.manifold.TSNE", Recording)
    hook = register_module_forward_hook(
        lambda module, _, maps: bottlenecks.append(maps[-1][0].numpy()) if isinstance(module, Encoder) else None
    )
    assert main(["features", str(run), "--data", str(data), "--out", str(tmp_path), "--device", "cpu"]) == 0
    hook.remove()
    [(perplexity, rows)] = mapped
    assert perplexity == 30
    # Z^L, Z^A, Z^P of each patch in turn; the rows are ordered by encoder.
    wanted = [z.reshape(len(z), -1).mean(axis=1) for n in range(3) for z in bottlenecks[n::3]]
    np.testing.assert_allclose(rows, wanted, atol=1e-5)


def test_model_without_full_network_is_refused(data, tmp_path, capsys):
    run = run_of("lower", data, tmp_path / "run")
    assert main(["features", str(run), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "holds no E_A and E_P" in capsys.readouterr().err
