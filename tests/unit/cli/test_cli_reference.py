"""The reference page is made of the commands, so it says what they say, and all of it."""

import re
import runpy
from typing import Any

from sources import ROOT
from typer.main import get_command

from fedplane.cli.exits import MEANINGS
from fedplane.cli.main import COMMANDS, GROUPS, app

SCRIPT = runpy.run_path(str(ROOT / "docs/list_commands.py"))
GROUP: Any = get_command(app)
LISTED = SCRIPT["page"](GROUP.commands)
EVERY: dict[str, Any] = {
    **{function.__name__: GROUP.commands[function.__name__] for functions in COMMANDS.values() for function in functions},
    **{f"{name} {word}": command for name, _ in GROUPS.values() for word, command in GROUP.commands[name].commands.items()},
}
"""Every command that a person can type, in the order of the page."""


def test_the_page_is_the_one_that_the_commands_make() -> None:
    assert (ROOT / "docs/reference/cli.md").read_text() == LISTED, "run: make schemas"


def test_it_has_every_command_and_every_option_once() -> None:
    chapters = {chapter.partition("\n")[0]: chapter for chapter in LISTED.split("\n### fedplane ")[1:]}

    assert list(chapters) == list(EVERY)
    for name, chapter in chapters.items():
        rows = [line for line in chapter.splitlines() if line.startswith("| `")]
        own = [parameter for parameter in EVERY[name].params if parameter.help not in SCRIPT["SHARED"]]
        assert len(rows) == len(own)
        for parameter in own:
            named = [
                row for row in rows if re.search(f"`{parameter.opts[0] if parameter.opts[0][0] == '-' else parameter.metavar}[ `]", row)
            ]
            assert len(named) == 1, f"{name} {parameter.name}"


def test_options_that_every_command_has_are_told_once() -> None:
    told = {parameter.help for command in EVERY.values() for parameter in command.params}

    assert told >= SCRIPT["SHARED"]
    assert "`--url URL`" in LISTED.partition("## Exit codes")[0]


def test_it_has_every_exit_code() -> None:
    assert all(f"| {code:d} | {meaning} |" in LISTED for code, meaning in MEANINGS.items())
