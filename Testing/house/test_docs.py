"""The README and the pages are short and contain no broken links."""

import re

import pytest
from conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "RESULTS.md", REPOSITORY / "CONTRIBUTING.md"]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#]*)(#[^)]*)?\)")


def anchors_of(page):
    """The anchors of a page's headings, as created by GitHub."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_internal_links_resolve(page):
    lost = []
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor[1:] not in anchors_of(target)):
            lost.append(path + anchor)
    assert not lost


def test_readme_can_be_read_in_three_minutes():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    words, numbers = len(text.split()), len(re.findall(r"(?<![\w.])\d[\d.,]*", text))
    assert words <= 800 and numbers <= 4 * words / 100


def test_every_method_has_a_page():
    from DanteTrainerLib.methods import METHODS

    pages = {page.stem for page in (REPOSITORY / "docs" / "methods").glob("*.md")}
    assert pages == set(METHODS) - {"lower", "upper"} | {"bounds", "index"}


# --- pages are read by GitHub and by mkdocs, which parse lists differently ---


def lines_outside_code(page):
    """Line number and text of the lines outside fenced blocks."""
    fenced = False
    for n, line in enumerate(page.read_text(encoding="utf-8").split("\n"), 1):
        fenced ^= line.strip().startswith("```")
        if not fenced:
            yield n, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_content_of_list_items_is_indented_by_four(page):
    lines = [(0, ""), *lines_outside_code(page)]
    paragraphs = [(n, line) for (_n, before), (n, line) in zip(lines, lines[1:]) if not before.strip() and line.strip()]
    assert [line for line in paragraphs if re.match(r" {1,3}\S", line[1])] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_lists_and_tables_are_surrounded_by_empty_lines(page):
    lost, before, inside = [], "", False
    for n, line in lines_outside_code(page):
        begins = re.match(r"[*-] |\d+\. |\|", line)
        if begins and before.strip() and not inside:
            lost.append((n, line))
        if before.startswith("|") and line.strip() and not line.startswith("|"):
            lost.append((n, line))
        inside = bool(begins) or (inside and bool(line.strip()))
        before = line
    assert not lost
