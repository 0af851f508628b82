"""The cheap commands of the pages are run as they stand there, in a folder that has what they name."""

import ast
import shutil

import pytest
from conftest import REPOSITORY
from dicom_files import whole, write_study
from page_commands import blocks_of, commands_of

from DanteSegmenterLib.__main__ import main as segmenter
from DanteSegmenterLib.files import read_volume
from DanteTrainerLib.__main__ import main as trainer

PAGES = [REPOSITORY / "README.md", REPOSITORY / "RESULTS.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
MAINS = {"DanteSegmenterLib": segmenter, "DanteTrainerLib": trainer}
RUN = {"DanteSegmenterLib": {"segment", "batch", "info", "sample"}, "DanteTrainerLib": {"list"}}
# Of these verbs, what is not run; the other verbs train or score, and Testing/trainer has every one at a tiny size.
NOT_RUN = {
    "--cluster": "needs a Dask cluster",
    "--host": "needs another computer; Testing/segmenter/command_line/test_host_cli.py has one",
    "CHEST": "generates dozens of chests, for a study of hours",
}
# Names that stand for a reader's own files -> what they are here.
SCANS = {"A.nii.gz": "t1", "B.nii.gz": "t2", "C.nii.gz": "flair"}


def cheap_commands():
    for page in PAGES:
        for command in commands_of(page):
            words = command.words
            cheap = command.whole and words[:2] == ("python", "-m") and words[3] in RUN.get(words[2], ())
            if cheap and not set(words) & set(NOT_RUN):
                yield words


@pytest.fixture
def place(tmp_path, data, monkeypatch):
    """A reader's current folder: Resources, MODEL, a dataset FOLDER, scans of a patient, and a DICOM STUDY of them."""
    (tmp_path / "Resources").symlink_to(REPOSITORY / "Resources")
    (tmp_path / "MODEL").symlink_to(REPOSITORY / "Resources" / "Models" / "brats-without-t1ce")
    (tmp_path / "FOLDER").symlink_to(data)
    for file, modality in SCANS.items():
        shutil.copy(data / "A" / f"A_{modality}.nii.gz", tmp_path / file)
    volumes = {modality: whole(read_volume(tmp_path / file)) for file, modality in SCANS.items()}
    write_study(tmp_path / "STUDY", volumes)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cases():
    """Generating patients takes seconds, and others test that: it is run with what is slow."""
    for words in dict.fromkeys(cheap_commands()):
        marks = [pytest.mark.slow] if words[3] == "sample" else []
        yield pytest.param(words, marks=marks, id=" ".join(words[2:])[:60])


@pytest.mark.parametrize("words", list(cases()))
def test_a_cheap_command_does_what_the_page_says(words, place, capsys):
    if words[3] == "batch" and words[4] == "PATIENTS":  # the page has generated them just before
        assert segmenter(["sample", "PATIENTS", "--cases", "2", "--spacing-mm", "8"]) == 0
    assert MAINS[words[2]](list(words[3:])) == 0
    output = [words[words.index(option) + 1] for option in ("--output", "--out") if option in words]
    output += [words[4]] if words[3] == "sample" else []
    assert capsys.readouterr().out or output
    assert "--list" in words or all((place / name).exists() for name in output)


def python_blocks():
    for page in PAGES:
        for block in blocks_of(page):
            if block.language == "python" and "DanteSegmenterLib" in block.text:
                yield block


@pytest.mark.parametrize("block", list(python_blocks()), ids=lambda block: block.page.name)
def test_a_page_that_speaks_python_is_run(block, place, capsys):
    exec(compile(ast.parse(block.text), block.page.name, "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3 and (place / "tumour.seg.nrrd").exists()


@pytest.mark.slow
def test_the_tutorial_on_training_works_without_data(tmp_path, monkeypatch):
    """Its first block, as it stands: patients are generated and a training goes through all of its stages."""
    monkeypatch.chdir(tmp_path)
    page = REPOSITORY / "docs" / "tutorial-training.md"
    generate, train = [command.words for command in commands_of(page)][:2]
    assert segmenter(list(generate[3:])) == 0 and trainer(list(train[3:])) == 0
    assert (tmp_path / "TRIED" / "model" / "model.json").is_file()
