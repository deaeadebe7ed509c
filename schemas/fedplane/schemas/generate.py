"""Writes what is derived from the vocabulary: JSON Schemas and the page of events.

    python -m fedplane.schemas.generate            writes the files
    python -m fedplane.schemas.generate --check    says which committed files are not what would be written, and fails

The files are committed so that people find them without running anything, and a test runs the check so that they stay true.
This is a tool of the source tree and no part of a service.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from fedplane.schemas.facts import FACTS
from fedplane.schemas.json_schemas import fact_schema, resource_schema
from fedplane.schemas.reference import events_page
from fedplane.schemas.resources import FederatedLearning

__all__ = ["ROOT", "derived", "differences", "main"]

ROOT = Path(__file__).parents[3]
"""The source tree that this file is in."""

SCHEMAS = "schemas/json"


def derived() -> Iterator[tuple[str, str]]:
    """Every derived file: its path in the tree and its text."""
    for fact in FACTS:
        yield f"{SCHEMAS}/{fact.type}.json", json.dumps(fact_schema(fact), indent=2) + "\n"
    yield f"{SCHEMAS}/{FederatedLearning.__name__}.json", json.dumps(resource_schema(), indent=2) + "\n"
    yield "docs/events.md", events_page()


def differences(root: Path) -> list[str]:
    """What is wrong with the derived files of a tree, a sentence each."""
    wanted = dict(derived())
    found = {path: (root / path).read_text() if (root / path).is_file() else None for path in wanted}
    stale = [f"{path} is {'missing' if text is None else 'out of date'}" for path, text in found.items() if text != wanted[path]]
    kept = sorted(path.relative_to(root).as_posix() for path in (root / SCHEMAS).glob("*.json"))
    return stale + [f"{path} describes nothing that there is" for path in kept if path not in wanted]


def main() -> None:
    """See the module's description."""
    parser = argparse.ArgumentParser(prog="python -m fedplane.schemas.generate", description="Write JSON Schemas and docs/events.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a committed file differs")
    if parser.parse_args().check:
        if wrong := differences(ROOT):
            sys.exit("\n".join([*wrong, "run: python -m fedplane.schemas.generate"]))
        return
    (ROOT / SCHEMAS).mkdir(parents=True, exist_ok=True)
    for path, text in derived():
        (ROOT / path).write_text(text)


if __name__ == "__main__":
    main()
