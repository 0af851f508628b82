"""The catalogue entry satisfies Slicer's index, and docs/extensions-index.md describes it correctly."""

import json
import re
import struct

import pytest
from conftest import REPOSITORY

from DanteSegmenterLib.options import DEEPBET

ENTRY = REPOSITORY / "Resources" / "ExtensionsIndex" / "DANTE.json"
RAW = "https://raw.githubusercontent.com/SlicerDANTE/SlicerDANTE/main/"
# Schema 1.0.1: fields and their types; no others are allowed.
REQUIRED = {"$schema", "category", "scm_url"}
FIELDS = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
TIERS, SCM_TYPES = {1, 3, 5}, {"git", "local"}


@pytest.fixture(scope="module")
def entry():
    return json.loads(ENTRY.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cmake():
    """The variables of the top CMakeLists.txt, and the project's name."""
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    # The index reads it with such patterns: values must be quoted.
    return dict(re.findall(r'set\((EXTENSION_\w+) "([^"]+)"\)', text)) | {
        "project": re.search(r"project\((\w+)\)", text)[1]
    }


@pytest.fixture(scope="module")
def page():
    return (REPOSITORY / "docs" / "extensions-index.md").read_text(encoding="utf-8")


def test_entry_has_the_fields_of_the_schema(entry):
    assert set(entry) >= REQUIRED and set(entry) <= set(FIELDS)
    assert all(type(value) is FIELDS[key] for key, value in entry.items())
    assert all(isinstance(name, str) for name in entry["build_dependencies"])
    assert entry["tier"] in TIERS and entry["scm_type"] in SCM_TYPES
    schema = "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#"
    assert entry["$schema"] == schema


def test_entry_is_formatted_like_the_index(entry):
    """Two spaces, sorted keys, one array item per line, a final newline."""
    assert ENTRY.read_text(encoding="utf-8") == json.dumps(entry, indent=2, sort_keys=True) + "\n"


def test_entry_agrees_with_cmake(entry, cmake):
    assert cmake["project"] == ENTRY.stem
    assert entry["scm_url"] == cmake["EXTENSION_HOMEPAGE"]
    assert entry["category"] == cmake["EXTENSION_CATEGORY"] == "Segmentation"  # a category of the index
    assert entry["build_dependencies"] == cmake["EXTENSION_DEPENDS"].split()
    assert entry["scm_url"].rpartition("/")[2] == "Slicer" + cmake["project"]
    assert not cmake["project"].startswith("Slicer")


def test_icon_is_a_png_of_128_by_128(cmake):
    content = (REPOSITORY / cmake["EXTENSION_ICONURL"].removeprefix(RAW)).read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", content[16:24]) == (128, 128)


def test_screenshots_exist(cmake, page):
    urls = cmake["EXTENSION_SCREENSHOTURLS"].split()
    assert urls
    for path in (url.removeprefix(RAW) for url in urls):
        assert (REPOSITORY / path).read_bytes()[:4] == b"\x89PNG" and path in page


def test_description_has_one_or_two_sentences(cmake):
    assert 1 <= len(re.findall(r"\.(?: |$)", cmake["EXTENSION_DESCRIPTION"])) <= 2


def test_licence_is_in_the_root_and_on_the_homepage(page):
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert "Apache License" in (REPOSITORY / "LICENSE.txt").read_text(encoding="utf-8")
    assert "Licence: Apache-2.0" in readme and "Apache-2.0, named in the README" in page
    for model in (REPOSITORY / "Resources" / "Models").glob("*/model.json"):
        licence = json.loads(model.read_text(encoding="utf-8"))["licence"].partition(" (")[0]
        assert licence in page, model


def test_homepage_has_name_picture_publication_and_sample_data():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("# SlicerDANTE") and "](Resources/Pictures/" in readme
    assert "https://doi.org/10.1609/aaai.v40i15.38305" in readme and "*Sample Data* > *DANTE*" in readme
    assert "DANTE Segmenter" in readme


def test_downloads_match_the_page(page):
    asked = (REPOSITORY / "DanteSegmenter" / "Resources" / "requirements.txt").read_text(encoding="utf-8")
    installing = (REPOSITORY / "DanteSegmenter" / "DanteSlicerLib" / "installing.py").read_text(encoding="utf-8")
    batch = re.search(r"BATCH_PACKAGES = \[(.*?)\]", installing)[1]
    packages = re.findall(r"^([a-z]\w*)", asked, re.MULTILINE) + re.findall(r'"(\w+)', batch)
    table = page.partition("| what | from |")[2].partition("\n\n")[0]
    packages.append(DEEPBET.partition(">")[0])
    wanted = {"safetensors", "scipy", "pynrrd", "matplotlib", "deepbet"}
    assert set(packages) == wanted and all(name in table for name in packages)


def test_only_models_and_pictures_are_shipped_as_binaries():
    shipped = [REPOSITORY / name for name in ("DanteSegmenter", "DanteTrainer", "Resources")]
    files = [
        file for folder in shipped for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts
    ]
    endings = {file.suffix for file in files}
    assert endings <= {".py", ".txt", ".png", ".ui", ".toml", ".json", ".md", ".safetensors"}
