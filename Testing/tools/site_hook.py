"""Hook of mkdocs for `make docs`: adds files from outside docs/ and writes the pages of the reference.

A page is read in two places. In a clone and on GitHub `docs/use.md` shows `../Resources/Pictures/demo.png`, but the
site has nothing above docs/. So pictures, raw results and the pages at the repository's top are copied into the site,
and links to them are rewritten; links to other files of the repository lead to GitHub.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = "https://github.com/SlicerDANTE/SlicerDANTE/blob/main/"
TOP_PAGES = {"RESULTS.md": "results.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
FOLDERS = {"Resources/Pictures": "pictures", "results": "results"}
ICON = "Resources/Icons/SlicerDANTE.png"
LIBRARIES = {"DanteSegmenterLib": "DanteSegmenter", "DanteTrainerLib": "DanteTrainer"}
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> None:
    """Expand navigation entries that are folders, and add pages that are not listed."""
    config.nav = [_filled(item) for item in config.nav or []]
    named = set(_pages_named(config.nav))
    left = sorted(page for page in _own_pages() if page not in named)
    if left:
        config.nav.append({"More": left})


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add files from outside docs/."""
    for source, place in _outside():
        files.append(File.generated(config, place, abs_src_path=str(REPOSITORY / source)))
    for place, text in _reference():
        files.append(File.generated(config, place, content=text))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Rewrite links of a clone to links of the site."""
    return site_links(markdown, page.file.src_uri)


def site_links(markdown: str, page: str) -> str:
    """
    Args:
        page: its path in the site, e.g. "methods/dante.md".
    """
    tops = {place: source for source, place in TOP_PAGES.items()}
    folder = posixpath.dirname(tops.get(page, f"docs/{page}"))

    def turned(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        place = site_place(target)
        return match[1] + (posixpath.relpath(place, posixpath.dirname(page) or ".") if place else SOURCE + target)

    return LINK.sub(turned, markdown)


def site_place(path: str) -> str | None:
    """The path in the site of a repository file; None if it is not part of the site."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        place = path.removeprefix("docs/")
        return f"{place}/index.md" if (REPOSITORY / path).is_dir() else place
    folder, name = posixpath.split(path)
    return TOP_PAGES.get(path) or (f"{FOLDERS[folder]}/{name}" if folder in FOLDERS else None)


def _outside() -> Iterator[tuple[str, str]]:
    yield from TOP_PAGES.items()
    yield ICON, "icon.png"
    for folder, place in FOLDERS.items():
        for path in sorted((REPOSITORY / folder).iterdir()):
            if path.suffix in (".png", ".csv"):
                yield f"{folder}/{path.name}", f"{place}/{path.name}"


def _own_pages() -> list[str]:
    docs = REPOSITORY / "docs"
    return [path.relative_to(docs).as_posix() for path in docs.rglob("*.md")]


def _filled(item: Any) -> Any:
    """The same part of the navigation, with "folder/" replaced by the folder's pages."""
    if isinstance(item, list):
        return [_filled(part) for part in item]
    if isinstance(item, dict):
        return {title: _filled(part) for title, part in item.items()}
    if item == "api/":
        return [{library: list(_nav_of(library))} for library in LIBRARIES]
    if item.endswith("/"):
        pages = sorted(page for page in _own_pages() if page.startswith(item))
        index = f"{item}index.md"
        return [
            *(page for page in pages if page == index),
            *({Path(page).stem: page} for page in pages if page != index),
        ]
    return item


def _nav_of(library: str) -> Iterator[Any]:
    for place, _text in _reference():
        name = place.removeprefix("api/").removesuffix(".md")
        if name.split(".")[0] == library:
            yield {name.partition(".")[2] or library: place}


def _pages_named(item: Any) -> Iterator[str]:
    if isinstance(item, str):
        yield item
    for part in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from _pages_named(part)


def _reference() -> Iterator[tuple[str, str]]:
    """A page for each room of the two libraries: its `__all__` if defined, else the public parts of its files."""
    for library, module in LIBRARIES.items():
        root = REPOSITORY / module / library
        for init in sorted(root.rglob("__init__.py")):
            name = ".".join(init.parent.relative_to(root.parent).parts)
            if not name.endswith("command_line"):
                yield f"api/{name}.md", _room_page(name, init)


def _room_page(name: str, init: Path) -> str:
    tree = ast.parse(init.read_text(encoding="utf-8"))
    about = ast.get_docstring(tree) or ""
    files = sorted(path.stem for path in init.parent.glob("*.py") if not path.stem.startswith("__"))
    parts = "\n\n".join(f"::: {name}.{part}" for part in _face_of(tree) or files)
    return f"# {name}\n\n{about}\n\n{parts}\n"


def _face_of(tree: ast.Module) -> list[str]:
    """The names in `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []
