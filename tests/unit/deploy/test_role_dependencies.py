"""A role needs its own extra and nothing else: what other roles, or only tests, need is taken away before its `main` is imported.

Which libraries belong to which role is read from the installed metadata, so this follows pyproject.toml.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires

import pytest
from packaging.requirements import Requirement

IMPORT = """
import json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"{name} is not in this role's image", name=name)

missing = set(json.loads(sys.argv[2]))
sys.meta_path.insert(0, Missing())
__import__(sys.argv[1])
"""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(requirement: Requirement, seen: set[tuple[str, str]]) -> Iterator[str]:
    """The distributions that pip would install for a requirement."""
    name = canonical(requirement.name)
    yield name
    for extra in ("", *sorted(requirement.extras)):
        if (name, extra) not in seen:
            seen.add((name, extra))
            for line in requires(name) or ():
                further = Requirement(line)
                if further.marker is None or further.marker.evaluate({"extra": extra}):
                    yield from needed(further, seen)


def missing_in(role: str) -> list[str]:
    """Every importable name that is installed here and would not be in the role's image."""
    there = set(needed(Requirement(f"fedplane[{role}]"), set()))
    return sorted(name for name, owners in packages_distributions().items() if not there & {canonical(owner) for owner in owners})


@pytest.mark.parametrize("main", ["scheduler", "aggregator", "status", "authorizer", "authorizer.admission", "collaborator", "cli"])
def test_a_role_starts_with_its_own_libraries_only(main: str) -> None:
    missing = missing_in(main.partition(".")[0])

    imported = subprocess.run(
        [sys.executable, "-c", IMPORT, f"fedplane.{main}.main", json.dumps(missing)], capture_output=True, text=True, check=False
    )

    assert imported.returncode == 0, imported.stderr


@pytest.mark.parametrize(
    ("role", "without"),
    [
        ("scheduler", {"numpy", "typer", "rich", "yaml"}),
        ("status", {"numpy", "typer", "rich", "yaml"}),
        ("aggregator", {"typer", "rich", "yaml", "safetensors"}),
        ("collaborator", {"kubernetes", "typer", "rich", "yaml"}),
        ("cli", {"numpy", "pytest", "hypothesis"}),
    ],
)
def test_what_other_roles_need_is_really_taken_away(role: str, without: set[str]) -> None:
    assert without <= set(missing_in(role))


def test_a_library_that_is_taken_away_cannot_be_imported() -> None:
    imported = subprocess.run([sys.executable, "-c", IMPORT, "numpy", '["numpy"]'], capture_output=True, text=True, check=False)

    assert "numpy is not in this role's image" in imported.stderr
