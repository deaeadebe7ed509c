"""What pages tell a reader to type or write is understood by what it is meant for: programs, the resource's schema, facts, the image.

Nothing is run here; `test_pages` and `test_install_page` do that with what needs no cluster.
"""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import typer
import yaml
from page_story import PAGES, blocks, mentioned, typed
from sources import ROOT, tree

from fedplane.aggregator import private
from fedplane.aggregator.policies import check
from fedplane.aggregator.strategies import make
from fedplane.cli.main import app
from fedplane.runtime.nats.letters import LETTERS
from fedplane.runtime.nats.streams import ACCESS, BULK, FLEET, LOG, STATED, TIMERS, VIEWS, WORK
from fedplane.schemas.facts import FACTS
from fedplane.schemas.resources import API_VERSION, KIND, FederatedLearning

FEDPLANE: Any = typer.main.get_command(app)
STREAMS = {LOG, FLEET, ACCESS, TIMERS, WORK, BULK, LETTERS}
READERS_OWN = {"addon", "hub", "hub-keys", "laptop-keys", "look"}
"""Directories of manifests that a page has its readers write."""

APPS = ("docs/how-to/bring-an-app.md", "examples/06-lora/README.md")
"""Pages that show parts of apps, which name libraries of the app's own environment."""

HOW_TO = tuple(page for page in PAGES if page.startswith("docs/how-to/"))


def test_fedplane_understands_every_command_that_a_page_shows() -> None:
    shown = [command for page in PAGES for command in typed(page) if command.startswith("fedplane ")]

    taken = [understood(command) for command in shown]

    assert {"up", "submit", "get", "watch", "explain", "events", "model", "keep"} <= set(taken)


def understood(command: str) -> str:
    """Which command it is, once its own parser has taken all of its words, or raised what a person would read."""
    _, name, *words = shlex.split(re.split(r" (?:\||>>?) ", command)[0])
    named = FEDPLANE.commands[name]
    if hasattr(named, "commands"):
        of, name, *words = [name, *words]
        named, name = named.commands[name], f"{of} {name}"
    named.make_context(name, words)
    return name


def test_a_sentence_names_only_commands_and_options_that_there_are() -> None:
    named = [command.split()[1:] for page in PAGES for command in mentioned(page) if re.match("fedplane [a-z]", command)]
    unknown = [(name, word) for name, *words in named for word in words if word.startswith("-") and word not in options(name, *words)]

    assert len(named) > 10
    assert unknown == []


def options(name: str, *words: str) -> set[str]:
    named = FEDPLANE.commands[name]
    if hasattr(named, "commands") and words:
        named = named.commands[words[0]]
    return {word for option in named.params for word in (*option.opts, *option.secondary_opts)}


def test_a_mistaken_command_is_found() -> None:
    with pytest.raises(Exception, match="No such option: --until"):
        understood("fedplane events RUN --until")
    with pytest.raises(KeyError, match="'start'"):
        understood("fedplane start")
    assert "--until" not in options("events")


def test_the_nats_commands_of_the_pages_ask_for_facts_and_streams_that_there_are() -> None:
    commands = [command for page in PAGES for command in (*typed(page), *mentioned(page)) if command.startswith("nats ")]
    words = {word for command in commands for word in shlex.split(command)}
    subjects = {word.removeprefix(STATED) for word in words if word.removeprefix(STATED).startswith("fed.v1.")}
    streams = {word for word in words if word.isupper()} - {"NAME", "SECRET", "FILE", "RUN", "URL"}

    assert len(subjects) > 5
    assert [subject for subject in sorted(subjects) if not any(fits(subject, fact.pattern()) for fact in FACTS)] == []
    assert streams == STREAMS
    assert {bucket for command in commands for bucket in re.findall(r" kv \w+ (\w+)", command)} == {VIEWS.removeprefix("KV_")}


def fits(subject: str, pattern: str) -> bool:
    """Whether a message could be under both, each of which may have wildcards."""
    pairs = list(zip(subject.split("."), pattern.split("."), strict=False))
    open_ended = subject.endswith(".>") and len(pairs) == subject.count(".") + 1
    return (open_ended or subject.count(".") == pattern.count(".")) and all(a == b or {a, b} & {"*", ">"} for a, b in pairs)


def test_a_subject_that_no_fact_has_is_found() -> None:
    pattern = "fed.v1.run.*.round.*.closed"

    assert [fits(subject, pattern) for subject in ("fed.v1.>", "fed.v1.run.RUN.>", "fed.v1.run.*.round.7.closed")] == [True, True, True]
    assert [fits(subject, pattern) for subject in ("fed.v2.>", "fed.v1.run.RUN.closed", "fed.v1.run.RUN.round.7.open")] == [False] * 3


@pytest.mark.parametrize("page", HOW_TO)
def test_what_a_page_puts_into_a_resource_is_taken(page: str) -> None:
    for block in blocks(page, "yaml"):
        document = yaml.safe_load(block)
        spec = document.get("spec", document)
        if spec.keys() & {"server", "rounds", "strategy", "privacy"}:
            spec = {"framework": "flower", **spec, "server": {"rounds": 10, "minAvailableClients": 60, **spec.get("server", {})}}
            wanted = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "mnist"}, "spec": spec}
            resource = FederatedLearning.model_validate(wanted, by_alias=True, by_name=False)
            check(resource.spec)
            private.check(resource.spec, make(resource.spec.strategy))
        else:
            assert {"kind", "configMapGenerator", "components", "resources"} & document.keys(), f"{page} shows what nobody checks:\n{block}"


def test_what_a_page_shows_of_an_app_is_as_in_the_examples_that_are_run() -> None:
    run = set(said_of_apps(source.text for source in tree() if re.fullmatch(r"examples/.*/federated\.py", source.path)))
    shown = [said for page in APPS for said in said_of_apps(blocks(page, "python"))]

    assert {name for name, _ in shown} == {"initial", "train", "evaluate", "TRAVELS"}
    assert [said for said in shown if said not in run] == []


def said_of_apps(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The parameters of each function that we call, and the tensors that travel."""
    for statement in (each for text in texts for each in ast.parse(text).body):
        match statement:
            case ast.FunctionDef(name="initial" | "train" | "evaluate"):
                yield statement.name, ast.unparse(statement.args)
            case ast.Assign(targets=[ast.Name(id="TRAVELS")]):
                yield "TRAVELS", ast.unparse(statement.value)


def test_directories_of_manifests_that_pages_apply_are_there() -> None:
    commands = [command for page in PAGES for command in typed(page) if command.startswith("kubectl ")]
    named = {directory for command in commands for directory in re.findall(r" (?:-k|kustomize) (\S+)", command)}

    assert len(named) > 3
    assert [each for each in sorted(named - READERS_OWN) if not (ROOT / each / "kustomization.yaml").is_file()] == []


def test_images_are_built_for_roles_and_with_targets_that_there_are() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    stages = set(re.findall(r"^FROM .* AS (\w+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE))
    commands = [command for page in PAGES for command in (*typed(page), *mentioned(page)) if "docker build" in command]
    roles = {role for command in commands for role in roles_of(command)}

    assert {"scheduler", "aggregator", "status", "collaborator", "cli", "hub", "s3"} <= roles <= extras.keys()
    assert {target for command in commands for target in re.findall(r"--target (\S+)", command)} == {"notebook"} & stages


def roles_of(command: str) -> set[str]:
    """A loop names several, and each with the further extras that it needs."""
    loop = re.match(r"for role in (.*?);", command)
    named = loop[1].split() if loop else re.findall(r"ROLE=(\S+)", command)
    return {extra for each in named for extra in each.split(",")}
