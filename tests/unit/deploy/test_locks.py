"""What images install is pinned: each lock has what its extras ask for, and every file of it is known by its digest.

Whether the versions work together is seen by whoever builds an image, since pip then refuses what a lock does not have.
"""

import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from page_story import PAGES, mentioned, typed
from sources import ROOT

FOLDER = ROOT / "deploy/locks"
BUILD = "build"
LOCKS = sorted(path.stem for path in FOLDER.glob("*.txt") if path.stem != BUILD)
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)(?: ; [^\\]+)? \\((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


class Pin(NamedTuple):
    """A library in a lock."""

    version: Version
    hashes: int


def locked(text: str) -> dict[str, list[Pin]]:
    """What a lock pins, by name; a library may have a version for each Python."""
    held: dict[str, list[Pin]] = {}
    for name, version, hashes in PIN.findall(text):
        held.setdefault(canonicalize_name(name), []).append(Pin(Version(version), hashes.count("--hash=")))
    return held


def asked(extras: Mapping[str, list[str]], names: list[str]) -> Iterator[Requirement]:
    """What extras of ours ask for themselves, on Linux."""
    for line in (line for name in names for line in extras[name]):
        requirement = Requirement(line)
        if requirement.name == "fedplane":
            yield from asked(extras, sorted(requirement.extras))
        elif requirement.marker is None or requirement.marker.evaluate({"sys_platform": "linux"}):
            yield requirement


def missing(text: str, wanted: list[Requirement]) -> list[str]:
    """What is asked for and is not in a lock, or in a version that was not asked for."""
    held = locked(text)
    return [
        str(each)
        for each in wanted
        if not (pins := held.get(canonicalize_name(each.name))) or not all(each.specifier.contains(pin.version) for pin in pins)
    ]


def wanted_by(lock: str) -> list[Requirement]:
    if lock == BUILD:
        return list(map(Requirement, PROJECT["build-system"]["requires"]))
    own = list(map(Requirement, PROJECT["project"]["dependencies"]))
    return [*own, *asked(PROJECT["project"]["optional-dependencies"], lock.split("-"))]


def text_of(lock: str) -> str:
    return (FOLDER / f"{lock}.txt").read_text()


@pytest.mark.parametrize("lock", [*LOCKS, BUILD])
def test_a_lock_has_what_its_extras_ask_for_in_versions_that_they_take(lock: str) -> None:
    wanted = wanted_by(lock)

    assert wanted
    assert missing(text_of(lock), wanted) == [], "say `make locks`"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_nothing_that_its_extras_no_longer_ask_for(lock: str) -> None:
    pins = re.split(r"^(?=[A-Za-z0-9])", text_of(lock), flags=re.MULTILINE)
    ours = {canonicalize_name(pin.partition("==")[0]) for pin in pins if "fedplane (pyproject.toml)" in pin}

    assert ours == {canonicalize_name(each.name) for each in wanted_by(lock)}, "say `make locks`"


@pytest.mark.parametrize("lock", [*LOCKS, BUILD])
def test_every_line_of_a_lock_is_a_version_with_digests_and_names_no_place(lock: str) -> None:
    text = text_of(lock)
    rest = PIN.sub("", text)

    assert all(pin.hashes for pins in locked(text).values() for pin in pins)
    assert [line for line in rest.splitlines() if line.strip() and not line.lstrip().startswith("#")] == []
    assert re.findall(r"\S*(?:://|--(?!hash=)|@ )\S*", text) == [], "the only option is a digest"


def test_a_dependency_that_is_not_in_a_lock_is_found() -> None:
    held = text_of("collaborator")
    without_hash = "numpy==2.0.0\n"

    assert missing(held, [Requirement("torch>=1")]) == ["torch>=1"]
    assert missing(held, [Requirement("nats-py>=99")]) == ["nats-py>=99"]
    assert missing(without_hash, [Requirement("numpy>=1")]) == ["numpy>=1"]


def test_there_is_a_lock_for_every_image_that_is_built_anywhere() -> None:
    commands = [command for page in PAGES for command in (*typed(page), *mentioned(page)) if "docker build" in command]
    files = [
        path.read_text() for path in (*ROOT.glob("compose*.yaml"), ROOT / "deploy/Dockerfile", *ROOT.glob("deploy/**/kustomization.yaml"))
    ]
    looped = [role for command in commands for found in re.findall(r"for role in (.*?);", command) for role in found.split()]
    named = re.findall(r"ROLE[=:] ?([a-z][a-z0-9,]*)", "\n".join([*commands, *files]))
    made = re.search(r"^LOCKS = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert {role.replace(",", "-") for role in (*looped, *named)} <= {*LOCKS}
    assert made is not None
    assert sorted(made[1].split()) == LOCKS


def test_a_services_image_installs_what_is_locked_and_nothing_else() -> None:
    stage = DOCKERFILE.partition(" AS build")[2].partition("\nFROM ")[0].replace("\\\n", " ")
    installing = re.findall(r"pip (?:install|wheel) [^&\n]*", stage)

    assert len(installing) == 4
    assert [each for each in installing if "--require-hashes" not in each and "--no-index --no-deps" not in each] == []
    assert "deploy/locks" in (ROOT / ".dockerignore").read_text()


def test_the_page_about_the_supply_chain_has_its_readers_make_what_can_be_made() -> None:
    made = [command for command in typed("docs/how-to/check-the-supply-chain.md") if command.startswith("make ")]
    tried = [subprocess.run(["make", "--dry-run", *command.split()[1:]], cwd=ROOT, capture_output=True, check=False) for command in made]

    assert made == ["make locks", "make locks UPGRADE=--upgrade", "make audit"]
    assert [each.returncode for each in tried] == [0, 0, 0]
