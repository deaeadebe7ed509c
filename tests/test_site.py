"""The pages make a whole site: every link and anchor in it leads somewhere, every page is in its navigation, and it needs no network."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser_story import browser
from mkdocs.exceptions import PluginError
from sources import ROOT, tree

CONFIGURATION = ROOT / "mkdocs.yml"
PAGES = [source for source in tree() if source.path.endswith(".md")]
LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
ELSEWHERE = re.compile(r"\]\(([a-z]+:[^)\s]+)\)")

PICTURED = {
    "rounds": ("collecting", "Invited", "aggregated", "RoundFailed"),
    "architecture": ("a person", "aggregator", "command line"),
    "explanation/privacy": ("amsterdam, and the others", "entrusted: to each what the others sealed for it", "forgets everything"),
}
"""Pages with a picture, and words that can be read in it."""

HOOKS = runpy.run_path(str(ROOT / "docs/site_hooks.py"))
rewritten: Callable[[str, str], str] = HOOKS["rewritten"]
mermaid: Callable[[str], Path] = HOOKS["mermaid"]


def built(configuration: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(configuration), "--site-dir", str(site)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = built(CONFIGURATION, place)
    wrong = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
    assert done.returncode == 0, "\n".join(wrong)
    return place


def test_every_page_of_the_docs_and_of_the_examples_is_in_the_site(site: Path) -> None:
    sources = [Path(page.path) for page in PAGES if page.path.startswith(("docs/", "examples/"))]
    wanted = {Path(*path.parts[path.parts[0] == "docs" :]).with_suffix(".html") for path in sources}
    wanted = {path.with_name("index.html") if path.stem == "README" else path for path in wanted}

    assert wanted <= {path.relative_to(site) for path in site.rglob("*.html")}


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loaded = {address for page in site.rglob("*.html") for address in LOADED.findall(page.read_text())}

    assert any(address.endswith(".css") for address in loaded)
    assert [address for address in loaded if "//" in address] == []


def test_a_broken_anchor_and_a_page_that_nobody_finds_are_mistakes(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Home\n\n[nowhere](#nothing), [nothing](nothing.md)\n")
    (docs / "lost.md").write_text("# Lost\n")
    settings, _, _ = CONFIGURATION.read_text().partition("\nnav:")
    settings = re.sub(r"^(hooks|docs_dir|exclude_docs|site_dir):.*$", "", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(f"{settings}\nnav: [index.md]\n")

    done = built(tmp_path / "mkdocs.yml", tmp_path / "site")

    assert done.returncode != 0
    for said in ("lost.md", "'#nothing'", "'nothing.md'"):
        assert said in done.stderr


def test_a_link_out_of_the_docs_leads_to_the_same_thing_in_the_site() -> None:
    assert rewritten("[a](../../examples/01-mnist), [b](../events.md#opened)", "how-to/subscribe.md") == (
        "[a](../examples/01-mnist/README.md), [b](../events.md#opened)"
    )
    assert rewritten("[a](../../docs/events.md), [b](https://nats.io), [c](nowhere.md)", "examples/10-subscribe/README.md") == (
        "[a](../../events.md), [b](https://nats.io), [c](nowhere.md)"
    )
    assert rewritten("[all](../schemas/json)\n```\n[code](../schemas/json)\n```\n", "events.md") == (
        "[all](schemas/json/index.md)\n```\n[code](../schemas/json)\n```\n"
    )


def test_a_page_with_a_picture_brings_what_draws_it() -> None:
    picture = "```mermaid\na --> b\n```\n"

    assert rewritten(picture, "how-to/subscribe.md") == picture + '\n<script src="../mermaid.min.js"></script>\n'
    assert rewritten("```text\n" + picture, "rounds.md") == "```text\n" + picture


def test_pictures_are_drawn_in_a_browser_and_need_nobody_else(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as tab:
        for page, words in PICTURED.items():
            tab.open((site / page).with_suffix(".html").as_uri())
            tab.until("document.querySelector('div.mermaid')?.clientHeight > 100")
            drawn = tab.inmost_text("div.mermaid")
            assert [word for word in words if word not in drawn] == []
            assert [address for address in tab.asked if not address.startswith(("file:", "data:"))] == []


def test_a_file_that_is_not_mermaids_own_does_not_come_into_the_site() -> None:
    with pytest.raises(
        PluginError, match=r"mermaid\.js is not Mermaid as its authors have released it: its SHA-256 is [0-9a-f]{64}, not 0"
    ):
        mermaid("0" * 64)


def test_addresses_of_other_sites_are_well_formed() -> None:
    addresses = {address for page in PAGES for address in ELSEWHERE.findall(page.text)}
    odd = [address for address in addresses if urlsplit(address).scheme != "https" or "." not in (urlsplit(address).hostname or "")]

    assert len(addresses) > 1
    assert odd == []
