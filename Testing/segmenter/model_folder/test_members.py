"""A pathway of several networks: what model.json may contain, and the check of every member's file."""

import hashlib
import json
import zipfile
from dataclasses import replace

import pytest
from models import write_brain_model

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.batch.finished import finished_report
from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.inference import load_model
from DanteSegmenterLib.model_folder import Member, read_spec, sha256_of, write_spec
from DanteSegmenterLib.model_folder.about import about
from DanteSegmenterLib.model_folder.checks import MAX_MEMBERS
from DanteSegmenterLib.model_folder.spec import weights_file
from DanteSegmenterLib.model_folder.zip_file import MAX_FILES, OTHER_FILES, unpack_model


@pytest.fixture
def folder(tmp_path):
    return write_brain_model(tmp_path / "model", more=(1, 2))


def edit(folder, change):
    path = folder / "model.json"
    plain = json.loads(path.read_text())
    change(plain["limited"])
    path.write_text(json.dumps(plain))


def test_model_with_one_member_does_not_mention_members(tmp_path):
    folder = write_brain_model(tmp_path)
    plain = json.loads((folder / "model.json").read_text())
    keys = "weights sha256 modalities architecture options calibration scaling"
    assert list(plain["limited"]) == keys.split() and plain["format_version"] == 1
    assert "networks" not in about(read_spec(folder))


def test_embedded_model_is_written_unchanged(brain_model_folder, tmp_path):
    write_spec(tmp_path, read_spec(brain_model_folder))
    assert (tmp_path / "model.json").read_bytes() == (brain_model_folder / "model.json").read_bytes()


def test_members_round_trip_and_are_reported(folder, tmp_path, capsys):
    spec = read_spec(folder)
    names = ("limited.safetensors", "limited-2.safetensors", "limited-3.safetensors")
    assert spec.limited.members == tuple(Member(name, sha256_of(folder / name)) for name in names)
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec and spec.limited.files == names
    assert about(spec) == "It averages 3 networks, which takes 3 times the time of one."
    assert main(["info", str(folder)]) == 0
    assert f"weights {', '.join(names)} (3 members)" in capsys.readouterr().out


def test_pathway_digest_covers_its_file_or_all_members(folder):
    pathway = read_spec(folder).limited
    assert replace(pathway, more=()).digest == pathway.sha256
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in pathway.files]
    assert pathway.digest == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    others = [replace(pathway, more=pathway.more[:1]), replace(pathway, more=(pathway.more[0], Member("a", "0" * 64)))]
    assert len({pathway.digest, *(other.digest for other in others)}) == 3


def test_batch_recomputes_cases_when_a_member_changes(folder, tmp_path, monkeypatch):
    from models import study

    from DanteSegmenterLib.inference import segment
    from DanteSegmenterLib.options import SegmentOptions

    spec, options = read_spec(folder), SegmentOptions()
    report = segment(load_model(folder, "cpu"), study(), options).report
    monkeypatch.setattr("DanteSegmenterLib.batch.finished.read_report", lambda path: report)
    (tmp_path / "result").touch()
    assert report.weights == spec.limited.digest[:12]
    assert finished_report(tmp_path / "result", spec, spec.limited, options) == report
    other = replace(spec.limited, more=spec.limited.more[:1])
    assert finished_report(tmp_path / "result", spec, other, options) is None


def first_again(pathway):
    pathway["more"][1] = dict(pathway["more"][0])


def in_other_letters(pathway):
    pathway["more"][0]["weights"] = "LIMITED.safetensors"


def the_same_content(pathway):
    pathway["more"][0]["sha256"] = pathway["sha256"]


def too_many(pathway):
    pathway["more"] = [{"weights": f"{n}.safetensors", "sha256": str(n)} for n in range(MAX_MEMBERS)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (first_again, "two members of a pathway are the same network"),
        (in_other_letters, "two members of a pathway are the same network, among limited.safetensors, LIMITED.saf"),
        (the_same_content, "two members of a pathway are the same network"),
        (too_many, "a pathway has 9 members, at most 8 are allowed"),
        (lambda p: p.update(more=[{"weights": str(n), "sha256": ""} for n in range(2000)]), "has 2001 members"),
        (lambda p: p["more"][1].update(weights="../../etc/passwd"), "inside the model folder"),
        (lambda p: p["more"][1].update(weights="nul.safetensors"), "inside the model folder"),
        (lambda p: p["more"][1].update(moer=1), r"more[1]: unknown key 'moer'"),
        (lambda p: p["more"][1].pop("sha256"), r"more[1]: the key 'sha256' is missing"),
        (lambda p: p.update(more="limited-2.safetensors"), "more: a list is needed"),
    ],
)
def test_untrustworthy_members_are_refused_with_the_reason(folder, change, reason):
    edit(folder, change)
    with pytest.raises(ModelError) as caught:
        read_spec(folder)
    assert reason in str(caught.value) and "model.json" in str(caught.value)


def test_million_members_are_refused_without_looking(folder):
    path = folder / "model.json"
    text = path.read_text().replace('"more": [', '"more": [' + '{"weights": "a", "sha256": ""},' * 10**6)
    path.write_text(text)
    with pytest.raises(ModelError, match="is larger than 1048576 bytes"):
        read_spec(folder)


def drop(path):
    path.unlink()


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def exchange(path):
    path.write_bytes(path.with_name("limited.safetensors").read_bytes())


@pytest.mark.parametrize(("damage", "reason"), [(drop, "missing"), (flip_a_bit, "SHA-256"), (exchange, "SHA-256")])
def test_missing_or_altered_member_file_is_refused(folder, tmp_path, damage, reason):
    load_model(folder, "cpu")
    damage(folder / "limited-3.safetensors")
    with pytest.raises(ModelError, match=f"limited-3.safetensors.*{reason}"):
        load_model(folder, "cpu")
    wanted = "holds no 'limited-3.safetensors'" if damage is drop else "SHA-256"
    with pytest.raises(ModelError, match=wanted):
        unpack_model(zipped(folder, tmp_path / "model.zip"), tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    return path


def test_zip_file_contains_all_members(folder, tmp_path):
    unpacked = unpack_model(zipped(folder, tmp_path / "mine.zip"), tmp_path / "models")
    assert {file.name: file.read_bytes() for file in unpacked.iterdir()} == {
        file.name: file.read_bytes() for file in folder.iterdir()
    }
    assert read_spec(unpacked) == read_spec(folder)


def test_maximum_members_of_two_pathways_fit_a_zip_file():
    assert 2 * MAX_MEMBERS + 1 + len(set(OTHER_FILES) - {"LICENSE.txt"}) <= MAX_FILES
    assert [weights_file("full", n) for n in (1, 2)] == ["full.safetensors", "full-2.safetensors"]
