"""What is written for people stays true: generated pages, links, and the commands they are told to run."""

import re
import runpy
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import pytest
from pydantic.alias_generators import to_camel
from sources import ROOT, Source, tree

from fedplane.aggregator.rounds import TRANSITIONS, Phase
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import Parameter
from fedplane.schemas.facts import Closed, Expired, Opened, RoundFailed
from fedplane.schemas.resources import RoundPolicy, Stop

PAGES = [source for source in tree() if source.path.endswith(".md")]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MAKE = re.compile(r"`make ([a-z]+)`|^\s*(?:\$ )?make ([a-z]+)\s*(?:#.*)?$", re.MULTILINE)

page: Callable[[Mapping[Phase, Mapping[type[Any], Phase]]], str] = runpy.run_path(str(ROOT / "docs/draw_rounds.py"))["page"]


def test_the_picture_of_a_round_is_drawn_from_the_table_that_runs_it() -> None:
    assert (ROOT / "docs/rounds.md").read_text() == page(TRANSITIONS), "run: make schemas"


def test_a_picture_shows_every_transition_once() -> None:
    table: dict[Phase, dict[type[Any], Phase]] = {
        Phase.COLLECTING: {Opened: Phase.COLLECTING, Expired: Phase.FAILED, RoundFailed: Phase.FAILED, Closed: Phase.FOLDING},
        Phase.FAILED: {},
    }

    assert [line.strip() for line in page(table).partition("stateDiagram-v2\n")[2].partition("```")[0].splitlines()] == [
        "[*] --> collecting: Opened",
        "collecting: collecting",
        "collecting: Opened",
        "collecting --> failed: Expired, RoundFailed",
        "collecting --> folding: Closed",
        "failed --> [*]",
    ]


@pytest.mark.parametrize("source", PAGES, ids=lambda source: source.path)
def test_links_lead_somewhere(source: Source) -> None:
    broken = [link for link in LINK.findall(source.text) if not leads_somewhere(source, link)]

    assert broken == []


def leads_somewhere(source: Source, link: str) -> bool:
    path, _, heading = link.partition("#")
    if re.match("[a-z]+:", link):
        return True  # another site, which a test does not visit
    target = (ROOT / source.path).parent / path if path else ROOT / source.path
    return target.exists() and (not heading or heading in headings(target.read_text()))


def headings(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines() if line.startswith("#")}


def test_every_make_target_that_a_page_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {(source.path, first or second) for source in PAGES for first, second in MAKE.findall(source.text)}

    assert {(path, target) for path, target in named if target not in targets} == set()


def test_every_field_of_a_round_policy_has_a_line_in_the_table() -> None:
    lines = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs/how-to/tune-rounds.md").read_text(), re.MULTILINE)
    fields = [to_camel(name) for name in RoundPolicy.model_fields]

    assert sorted(lines) == sorted(fields + [f"stop.{to_camel(name)}" for name in Stop.model_fields])


def test_every_strategy_and_every_parameter_of_it_has_its_place_in_the_table() -> None:
    lines = re.findall(r"^\| `(\w+)` \| ([^|]*)\|", (ROOT / "docs/how-to/choose-a-strategy.md").read_text(), re.MULTILINE)
    told = {name: {parameter: float(value) for parameter, value in re.findall(r"`(\w+)` ([\w.-]+)", cell)} for name, cell in lines}

    assert told == {name: defaults(name) for name in STRATEGIES}


def defaults(strategy: str) -> dict[str, float]:
    """The parameters that its module declares."""
    module = import_module(f"fedplane.aggregator.strategies.{strategy}")
    declared: Mapping[str, Parameter] = getattr(module, "PARAMETERS", {})
    return {name: parameter.default for name, parameter in declared.items()}


def test_a_broken_link_is_found() -> None:
    here = Source("docs/events.md", "# A heading, or two\n")

    assert [leads_somewhere(here, link) for link in ("rounds.md", "#submitted", "https://nats.io")] == [True, True, True]
    assert [leads_somewhere(here, link) for link in ("nowhere.md", "#nothing", "events.md#nothing")] == [False, False, False]
