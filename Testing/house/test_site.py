"""docs/ as a site: outside files are included, and generated parts match the code."""

import ast
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import field_tables
import pytest
import site_hook
from conftest import REPOSITORY

from DanteSegmenterLib.model_folder.architectures import ARCHITECTURE_OPTIONS, ARCHITECTURE_TITLES

DOCS = REPOSITORY / "docs"


# --- links ---


@pytest.mark.parametrize(
    "page, link, wanted",
    [
        ("use.md", "../Resources/Pictures/demo.png", "pictures/demo.png"),
        ("methods/dante.md", "../../RESULTS.md#not-measured", "../results.md#not-measured"),
        ("methods/dante.md", "mmanet.md", "mmanet.md"),
        ("train.md", "methods", "methods/index.md"),
        ("results.md", "docs/train.md#studies", "train.md#studies"),
        ("results.md", "results/brats-mini-2mm.csv", "results/brats-mini-2mm.csv"),
        ("contributing.md", "Resources/Pictures/demo.png", "pictures/demo.png"),
        ("index.md", "../CITATION.cff", site_hook.SOURCE + "CITATION.cff"),
        ("index.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("index.md", "#three-doors", "#three-doors"),
    ],
)
def test_link_in_the_clone_becomes_a_link_on_the_site(page, link, wanted):
    assert site_hook.site_links(f"[words]({link})", page) == f"[words]({wanted})"


def test_source_url_is_the_one_named_by_the_extension():
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    homepage = re.search(r'EXTENSION_HOMEPAGE "(.+)"', text)[1]
    assert f"{homepage}/blob/main/" == site_hook.SOURCE


# --- navigation ---


def navigation():
    import yaml

    class Lenient(yaml.SafeLoader):
        pass

    Lenient.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)
    return yaml.load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), Lenient)["nav"]


def test_every_page_is_in_the_navigation_once():
    named = list(site_hook._pages_named(site_hook._filled(navigation())))
    brought = [*site_hook.TOP_PAGES.values(), *(place for place, _text in site_hook._reference())]
    own = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert len(named) == len(set(named))
    assert set(named) <= {*own, *brought} and set(brought) <= set(named)


def test_every_room_is_in_the_reference():
    places = {place for place, _text in site_hook._reference()}
    for library, folder in site_hook.LIBRARIES.items():
        rooms = (init.parent for init in (REPOSITORY / folder / library).rglob("__init__.py"))
        names = {".".join(room.relative_to(REPOSITORY / folder).parts) for room in rooms}
        assert {f"api/{name}.md" for name in names if not name.endswith(".command_line")} <= places


# --- parts generated from the code ---


@pytest.mark.parametrize("name", field_tables.PAGES)
def test_field_tables_match_the_docstrings(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert field_tables.with_tables(text) == text, "run `make field-tables`"


def test_every_field_of_a_model_description_is_documented():
    """Checked against a model.json rather than the source of the tables."""

    def keys(value):
        for key, part in value.items() if isinstance(value, dict) else ():
            yield key
            own = part.values() if key in ("normalisation", "calibration", "scaling") else [part]
            for item in own if key not in ("scores", "options") else ():
                yield from keys(item)
        for item in value if isinstance(value, list) else ():
            yield from keys(item)

    text = (DOCS / "model-folder.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(\w+)` \| .+ \| .+ \| .{4,} \|$", text, re.MULTILINE))
    for path in (REPOSITORY / "Resources" / "Models").glob("*/model.json"):
        assert set(keys(json.loads(path.read_text(encoding="utf-8")))) <= explained


def test_every_training_setting_is_documented():
    from DanteSegmenterLib.strict_dataclass import dotted, to_plain
    from DanteTrainerLib.settings.experiment import Experiment
    from DanteTrainerLib.settings.tables import OptimiserSettings

    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        explained = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
        table = re.search(r"^`(\w+)\.\*`", section, re.MULTILINE)
        if table and explained:
            settings = dotted(to_plain(Experiment(pretrain_optimiser=OptimiserSettings()), whole=True))
            assert explained == {key.split(".")[1] for key, _ in settings if key.split(".")[0] == table[1]}


def test_architecture_table_lists_the_readable_architectures():
    text = (DOCS / "model-folder.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (?:\[(\w+)\]\(#\w+\)|none) \|$", text, re.MULTILINE)
    assert {name: title for name, title, _options in rows} == ARCHITECTURE_TITLES
    own = {name: kind.__name__ for name, kind in ARCHITECTURE_OPTIONS.items() if kind.__name__ != "ArchitectureOptions"}
    assert {name: options for name, _title, options in rows if options} == own


# --- messages of the program ---


def sentences():
    """Every text of the code, with … for inserted values."""
    for folder in ("DanteSegmenter", "DanteTrainer"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                text = text_of(node)
                if text and " " in text:
                    yield re.sub(r"\{\w*\}", "…", text)


def text_of(node):
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "…"
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def test_messages_on_the_errors_page_exist_in_the_program():
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", text, re.MULTILINE)
    explained = [row for row in rows if row != "it says"]
    known = list(sentences())
    patterns = {row: ".*".join(re.escape(part) for part in row.replace(" …", "…").split("…")) for row in explained}
    unknown = [row for row, pattern in patterns.items() if not any(re.search(pattern, text) for text in known)]
    assert len(explained) > 40 and not unknown


# --- the built site ---


class Page(HTMLParser):
    """The resources that a page loads, and its links."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given["id"]} if given.get("id") else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "link", "img", "iframe", "source"):
            self.loads += [given[name] for name in ("src", "href") if name in given]


@pytest.mark.slow
def test_site_builds_without_warnings_or_network(tmp_path):
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in tmp_path.rglob("*.html")}
    assert len(pages) > 40 and tmp_path / "errors.html" in pages
    lost, foreign = [], []
    for path, page in pages.items():
        foreign += [f"{path.name}: {load}" for load in page.loads if re.match(r"(https?:)?//", load)]
        for link in [*page.links, *page.loads] if path.name != "404.html" else ():
            if not re.match(r"(https?:)?//|mailto:|data:|javascript:", link):
                file, _hash, anchor = link.partition("#")
                target = (path.parent / file.partition("?")[0]).resolve() if file else path
                target = target / "index.html" if target.is_dir() else target
                known = target.exists() and (not anchor or target.suffix != ".html" or anchor in pages[target].ids)
                lost += [] if known else [f"{path.relative_to(tmp_path)}: {link}"]
    assert not foreign and not lost
    scripts = [path.read_text(encoding="utf-8") for path in Path(tmp_path).rglob("*.css")]
    assert not any("url(http" in text or "@import" in text for text in scripts)
