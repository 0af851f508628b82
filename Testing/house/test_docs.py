"""The README and the pages: short enough to be read, and no link that leads nowhere."""

import re

import pytest
from conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "RESULTS.md", REPOSITORY / "CONTRIBUTING.md"]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#]*)(#[^)]*)?\)")


def anchors_of(page):
    """Of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_link_inside_leads_somewhere(page):
    lost = []
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor[1:] not in anchors_of(target)):
            lost.append(path + anchor)
    assert not lost


def test_the_readme_is_read_in_three_minutes():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    words, numbers = len(text.split()), len(re.findall(r"(?<![\w.])\d[\d.,]*", text))
    assert words <= 800 and numbers <= 4 * words / 100


def test_every_method_that_is_not_explained_in_the_readme_has_a_page():
    from DanteTrainerLib.methods import METHODS

    pages = {page.stem for page in (REPOSITORY / "docs" / "methods").glob("*.md")}
    assert pages == set(METHODS) - {"lower", "upper", "dante"}
