"""How a command shows what it found, or what came of it: `-o`, the same for every command but those that listen.

A table is for people, and `wide` has columns that only some look for. JSON and YAML have all there is, with fields that keep their names.
What is for a person goes through `display`; what is for a program is printed as it is, so that it can be piped.
"""

import json
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.console import RenderableType

from fedplane.cli import display, outcomes

__all__ = ["FormatOption", "Output", "OutputOption", "ResultOption", "document", "show", "tell"]


class Output(StrEnum):
    """How to write what was found."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"

    @property
    def is_for_people(self) -> bool:
        """Whether it is a table."""
        return self in (Output.TABLE, Output.WIDE)


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="A table for people, or a wide one with more columns; all there is to know for programs.")
]

ResultOption = Annotated[
    Output,
    typer.Option("--output", "-o", help="What came of it as words for people, a line of a table (wide), or a document for programs."),
]
"""Of a command that does something: without it, a sentence says what."""

FormatOption = Annotated[Output, typer.Option("--format", help="What -o is elsewhere; here, -o is the file.")]
"""The same where `-o` is taken."""


def document(found: Any, output: Output) -> str:
    """What was found, as a program reads it."""
    if output is Output.YAML:
        return yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip("\n")
    return json.dumps(found, indent=2, ensure_ascii=False)


def tell(output: Output, found: dict[str, Any], said: str) -> None:
    """Say what came of a command: the sentence to a person, on standard error, or what was found to a program, as `show` does."""
    if output is Output.TABLE:
        typer.echo(said, err=True)
    else:
        show(output, found, lambda wide: outcomes.row(found))


def show(output: Output, found: Any, picture: Callable[[bool], RenderableType]) -> None:
    """Print what was found: the document, or the picture, which is told whether it may be wide. A long line is the terminal's to wrap."""
    if output.is_for_people:
        display.console(wide=output is Output.WIDE).print(picture(output is Output.WIDE), crop=False)
    else:
        typer.echo(document(found, output))
