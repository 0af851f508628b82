import json
from dataclasses import dataclass, replace

import pytest
import torch
from conftest import REPOSITORY
from models import TINY_NETWORK, brain_spec, write_brain_model
from safetensors.torch import save_file

from DanteSegmenterLib.errors import ConfigError, ModelError
from DanteSegmenterLib.inference import load_model
from DanteSegmenterLib.model_folder import Normalisation, check_weights_file, read_spec, write_spec
from DanteSegmenterLib.model_folder.read_write import spec_text
from DanteSegmenterLib.networks.unet import UNet
from DanteSegmenterLib.networks.weights import load_weights, save_weights
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain


def edit(folder, change):
    """Edit model.json by hand, like a foreign tool."""
    path = folder / "model.json"
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))


def test_description_round_trips(tmp_path):
    write_spec(tmp_path, brain_spec())
    assert read_spec(tmp_path) == brain_spec()


@pytest.mark.parametrize("name", ["brats-without-t1ce", "embolism-without-contrast"])
def test_older_model_is_written_byte_for_byte_unchanged(name):
    folder = REPOSITORY / "Resources" / "Models" / name
    assert spec_text(read_spec(folder)) == (folder / "model.json").read_text(encoding="utf-8")


def test_terminology_entry_has_seven_fields():
    fields = brain_spec().regions[0].terminology.entry().split("~")
    assert len(fields) == 7
    assert fields[1:4] == ["SCT^49755003^Morphologically Altered Structure", "SCT^108369006^Neoplasm", "^^"]
    assert fields[5:] == ["SCT^12738006^Brain", "^^"]


WINDOW = {"kind": "ct_window", "low": -160.0, "high": 240.0, "mean": 40.0, "std": 60.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(format_version=2), "Update SlicerDANTE"),
        (lambda m: m.update(format_version="1"), "no valid format_version"),
        (lambda m: m.update(pach=[1, 2, 3]), "unknown key 'pach'. Did you mean 'patch'"),
        (lambda m: m.pop("regions"), "'regions' is missing"),
        (lambda m: m.update(patch=[16, 16]), "3 values are needed, got 2"),
        (lambda m: m.update(patch=[16, 16, 15]), "must be divisible"),
        (lambda m: m.update(patch=[16, 16, 0]), "must be divisible"),
        (lambda m: m.update(patch=[1 << 20] * 3), "larger than"),
        (lambda m: m["network"].update(features=[10**9, 10**9]), "not within 1 to 2048"),
        (lambda m: m["network"].update(features=[2, True]), "int is needed, got True"),
        (lambda m: m["limited"].update(weights="../../etc/passwd"), "inside the model folder"),
        (lambda m: m["limited"].update(weights="model.pt"), "inside the model folder"),
        (lambda m: m["limited"].update(modalities=["pet"]), "the model knows"),
        (lambda m: m["preprocessing"].update(orientation="LRS"), "three letters"),
        (lambda m: m["preprocessing"]["normalisation"].pop("t2"), "has no normalisation"),
        (lambda m: m["preprocessing"].update(spacing_mm=[0, 1, 1]), "not within"),
        (lambda m: m["preprocessing"]["normalisation"].update(t2={**WINDOW, "std": 1e-9}), "holds numbers beyond"),
        (lambda m: m["preprocessing"]["normalisation"].update(t2={**WINDOW, "low": 240}), "needs low < high"),
        (lambda m: m["limited"].update(scaling={"WT": {"temperature": 0.001}}), "a temperature of 0.01 to 100"),
        (lambda m: m["limited"].update(scaling={"WT": {"range_margin": -1.0}}), "a range_margin of 0 to 100"),
        (lambda m: m["regions"][0].update(label_value=0), "label_value 0 of region 'WT' is not within 1 to 255"),
        (lambda m: m["regions"][0].update(label_value=4), "two regions have the same label_value"),
        (lambda m: m["regions"][0].update(color=[2, 0, 0]), "colour"),
        (lambda m: m.update(output="both"), "neither"),
        (lambda m: m.update(privileged="pet"), "privileged"),
        (lambda m: m["regions"][0]["terminology"]["type"].update(meaning="a~b"), "without '~'"),
    ],
)
def test_untrustworthy_description_is_refused_with_the_reason(tmp_path, change, reason):
    edit(write_brain_model(tmp_path), change)
    with pytest.raises(ModelError) as caught:
        read_spec(tmp_path)
    assert reason in str(caught.value) and "model.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_invalid_description_is_refused(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ModelError):
        read_spec(tmp_path)


def test_another_folder_is_no_model_folder(tmp_path):
    with pytest.raises(ModelError, match="is no model folder: it has no model.json. Choose one that holds that file."):
        read_spec(tmp_path)


def test_of_a_run_the_folder_of_its_model_is_named(tmp_path):
    write_brain_model(tmp_path / "model")
    with pytest.raises(ModelError) as refusal:
        read_spec(tmp_path)
    assert str(refusal.value).endswith(f"Choose '{tmp_path / 'model'}'.")


def test_edited_weights_are_refused_by_digest(tmp_path):
    folder = write_brain_model(tmp_path)
    content = bytearray((folder / "limited.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "limited.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(folder, "cpu")


def test_missing_weights_and_links_are_refused(tmp_path):
    folder = write_brain_model(tmp_path / "model")
    weights = folder / "limited.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ModelError, match="missing"):
        check_weights_file(folder, read_spec(folder).limited.members[0])
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ModelError, match="link"):
        check_weights_file(folder, read_spec(folder).limited.members[0])


def tensors_of(network):
    return {name: t.clone() for name, t in network.state_dict().items()}


def drop(tensors):
    tensors.pop("decoder.heads.0.bias")


def add(tensors):
    tensors["extra"] = torch.zeros(1)


def reshape(tensors):
    tensors["decoder.heads.0.bias"] = torch.zeros(7)


def spoil(tensors):
    tensors["decoder.heads.0.bias"][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "reason"), [(drop, "missing"), (add, "unknown"), (reshape, "shape"), (spoil, "not finite")]
)
def test_weights_must_match_the_network_exactly(tmp_path, change, reason):
    tensors = tensors_of(UNet(3, 3, TINY_NETWORK))
    change(tensors)
    save_file(tensors, str(tmp_path / "w.safetensors"))
    with pytest.raises(ModelError, match=reason):
        load_weights(UNet(3, 3, TINY_NETWORK), tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95pickled",  # torch.save output starts like this
        (10).to_bytes(8, "little") + b"not json!!",
        (1 << 62).to_bytes(8, "little"),
        (2).to_bytes(8, "little") + b"[]",
    ],
)
def test_non_safetensors_file_is_refused_unread(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load_weights(UNet(3, 3, TINY_NETWORK), path)


def test_header_claiming_ten_gigabytes_is_refused_before_allocating(tmp_path):
    header = json.dumps({"encoder.huge": {"dtype": "F32", "shape": [50_000, 50_000], "data_offsets": [0, 10**10]}})
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(ModelError, match="does not fit the network"):
        load_weights(UNet(3, 3, TINY_NETWORK), path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e7])
def test_non_finite_or_absurd_weights_are_neither_written_nor_loaded(tmp_path, value):
    network, path = UNet(3, 3, TINY_NETWORK), tmp_path / "w.safetensors"
    name = next(iter(network.state_dict()))
    network.state_dict()[name].view(-1)[0] = value
    with pytest.raises(ModelError, match=f"not finite, or beyond .* '{name}'"):
        save_weights(network, path)
    assert not path.exists()
    save_file(network.state_dict(), str(path))
    with pytest.raises(ModelError, match=f"not finite, or beyond .* '{name}'"):
        load_weights(UNet(3, 3, TINY_NETWORK), path)


def test_loaded_network_does_not_keep_its_file_open(tmp_path):
    """On Windows a file that is mapped into memory, as safetensors does, can be neither replaced nor deleted."""
    path = tmp_path / "w.safetensors"
    save_weights(UNet(3, 3, TINY_NETWORK), path)
    network = UNet(3, 3, TINY_NETWORK)
    load_weights(network, path)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    path.write_bytes(bytes(path.stat().st_size))  # would change mapped memory
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_weights_round_trip_exactly(tmp_path):
    network, other = UNet(3, 3, TINY_NETWORK), UNet(3, 3, TINY_NETWORK)
    save_weights(network, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner = Inner()
    names: tuple[str, ...] = ()
    limit: int | None = None


def test_dataclasses_round_trip_through_plain_values():
    outer = Outer(3, Inner(2.0), ("a", "b"), None)
    assert from_plain(Outer, to_plain(outer), "x", ConfigError) == outer
    assert from_plain(Outer, {"count": 1, "inner": {"rate": 2}}, "x", ConfigError).inner.rate == 2.0


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        ({"count": 1, "inner": {"rat": 1}}, "x: inner: unknown key 'rat'. Did you mean 'rate'"),
        ({"count": 1.5}, "x: count: int is needed, got 1.5"),
        ({"count": True}, "int is needed"),
        ({"count": 1, "inner": {"rate": float("nan")}}, "finite"),
        ({"count": 1, "names": "ab"}, "list is needed"),
        ({"count": 1, "limit": "many"}, "int is needed"),
        ([], "table of keys"),
    ],
)
def test_wrong_types_are_reported_with_place_and_expected_type(plain, reason):
    with pytest.raises(ConfigError) as caught:
        from_plain(Outer, plain, "x", ConfigError)
    assert reason in str(caught.value)


def test_writing_refuses_what_reading_would_refuse(tmp_path):
    spec = brain_spec()
    broken = replace(spec.preprocessing, normalisation={"t1": Normalisation("minmax")})
    with pytest.raises(ModelError):
        write_spec(tmp_path, replace(spec, preprocessing=broken))
    assert not list(tmp_path.iterdir())
