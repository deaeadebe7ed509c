"""The pages, and what they tell a reader to type."""

import re
from collections.abc import Mapping

from sources import ROOT, tree

PAGES = tuple(source.path for source in tree() if source.path.endswith(".md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def text(page: str) -> str:
    return (ROOT / page).read_text()


def typed(page: str) -> list[str]:
    """The commands that stand by themselves, in their order and without the remarks behind them: indented, or behind a prompt."""
    prose = FENCED.sub("", text(page))
    lines = [line[4:] for line in prose.splitlines() if line.startswith("    ")]
    lines += [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    return [line.partition("  #")[0].strip() for line in lines]


def mentioned(page: str) -> list[str]:
    """What stands in the midst of a sentence or a table as code."""
    return re.findall(r"`([^`\n]+)`", FENCED.sub("", text(page)))


def blocks(page: str, kind: str) -> list[str]:
    """The files of a kind that a page shows, `yaml` or `python`."""
    return [block for of, block in FENCED.findall(text(page)) if of == kind]


def filled_in(command: str, places: Mapping[str, str]) -> str:
    """The command with what a reader has in place of the page's examples."""
    for place, value in places.items():
        command = re.sub(rf"(?<![\w-]){re.escape(place)}(?![\w-])", value, command)
    return command
