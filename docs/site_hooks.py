"""Lets the pages be a site of MkDocs as they stand, though they are written to be read in the repository.

There a link may lead out of `docs/`, to an example, a schema or a folder. A site has only what is in it.
So whatever a page links to comes into the site: a page as a page, any other file as it is, a folder as its README or as a list.
What lies in `docs/` is at the top of the site, what lies elsewhere at its place in the tree, and links are rewritten for that.
In this way the site is whole without knowing where the repository is published.

Pictures in Mermaid are drawn by GitHub. Here Mermaid itself draws them, in the browser, and it is a part of the site.
A package from PyPI has its file, byte for byte as Mermaid's authors have released it. A digest says so, whoever packs it.
It is three and a half megabytes, so only pages with a picture load it. The theme would load one from elsewhere, but for one that is there.

MkDocs calls the functions with the names that it prescribes. Links that lead nowhere are left as they are, for MkDocs to complain about.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

__all__ = ["mermaid", "on_config", "on_files", "on_page_markdown", "rewritten", "site_uri"]

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

MERMAID = "mermaid.min.js"
MERMAID_DIGEST = "74d7c46dabca328c2294733910a8aa1ed0c37451776e8d5295da38a2b758fb9b"
"""SHA-256 of `dist/mermaid.min.js` in Mermaid's own package on npm, version 11.16.0. A newer one draws pictures anew: look at them."""

FENCED = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of a folder in its place in the navigation."""
    config.nav = [_unfolded(item) for item in config.nav or []]


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Add what pages and navigation lead to and what is not in `docs/`, and what that leads to."""
    files.append(File.generated(config, MERMAID, abs_src_path=str(mermaid(MERMAID_DIGEST))))
    there = {file.src_uri for file in files}
    waiting = [_source(uri) for uri in [*there, *_named(config.nav)] if uri.endswith(".md")]
    while waiting:
        place = waiting.pop()
        uri = site_uri(place)
        if uri not in there:
            there.add(uri)
            files.append(_file(config, uri, place))
        waiting += [each for each in _places(ROOT / uri if place.is_dir() else place) if site_uri(each) not in there]


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn each link to a place of the tree into one to the same thing in the site."""
    return rewritten(markdown, page.file.src_uri)


def rewritten(markdown: str, uri: str) -> str:
    """The page's text, as it has to be at a place of the site."""
    folder = _source(uri).parent

    def link(found: re.Match[str]) -> str:
        place = _place(folder, found[2])
        return f"{found[1]}{os.path.relpath(site_uri(place), Path(uri).parent)}{found[3]}" if place else found[0]

    parts = FENCED.split(markdown)
    linked = "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)
    drawn = any(part.startswith("```mermaid\n") for part in parts)
    return f'{linked}\n<script src="{os.path.relpath(MERMAID, Path(uri).parent)}"></script>\n' if drawn else linked


def mermaid(digest: str) -> Path:
    """Where Mermaid is installed. It must be the very file."""
    package = find_spec("mermaidx")
    if package is None or package.origin is None:
        raise PluginError("there is no mermaidx, which brings Mermaid; pip install 'fedplane[docs]'")
    file = Path(package.origin).with_name("assets") / "mermaid.js"
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != digest:
        raise PluginError(f"{file} is not Mermaid as its authors have released it: its SHA-256 is {found}, not {digest}")
    return file


def site_uri(place: Path) -> str:
    """Where a file or a folder of the tree is in the site."""
    if place.is_dir():
        place = next((place / name for name in ("README.md", "index.md") if (place / name).is_file()), place / "index.md")
    return place.relative_to(DOCS if place.is_relative_to(DOCS) else ROOT).as_posix()


def _source(uri: str) -> Path:
    return DOCS / uri if (DOCS / uri).is_file() else ROOT / uri


def _place(folder: Path, link: str) -> Path | None:
    """The place of the tree that a link leads to; None if it leads to another site, or nowhere."""
    place = Path(os.path.normpath(folder / link))
    return place if ":" not in link and place.is_relative_to(ROOT) and place.exists() else None


def _places(page: Path) -> Iterator[Path]:
    """What a page leads to; what is no page leads nowhere, and a folder without one to its files."""
    if page.suffix == ".md" and page.is_file():
        yield from (place for _, link, _ in LINK.findall(FENCED.sub("", page.read_text())) if (place := _place(page.parent, link)))
    elif page.name == "index.md":
        yield from _files_of(page.parent)


def _files_of(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))


def _file(config: MkDocsConfig, uri: str, place: Path) -> File:
    """What lies outside `docs/` need not be in the navigation."""
    source = ROOT / uri
    if place.is_dir() and not source.is_file():
        listed = "\n".join(f"- [{each.name}]({each.name})" for each in _files_of(place))
        text = f"# {place.relative_to(ROOT)}\n\n{listed}\n"
        return File.generated(config, uri, content=text, inclusion=InclusionLevel.NOT_IN_NAV)
    return File.generated(config, uri, abs_src_path=str(source), inclusion=InclusionLevel.NOT_IN_NAV)


def _unfolded(item: Any) -> Any:
    match item:
        case {**titled}:
            return {title: _unfolded(under) for title, under in titled.items()}
        case [*several]:
            return [_unfolded(each) for each in several]
        case str() if item.endswith("/"):
            pages = DOCS.glob(f"{item}*.md") if (DOCS / item).is_dir() else ROOT.glob(f"{item}*/README.md")
            return sorted(site_uri(page) for page in pages)
        case _:
            return item


def _named(nav: Any) -> Iterator[str]:
    """The pages of the navigation."""
    if isinstance(nav, str):
        yield nav
    for each in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _named(each)
