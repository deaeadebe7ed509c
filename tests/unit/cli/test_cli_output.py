"""`-o`: the same words mean the same for whatever a command has found."""

import json

import pytest
import yaml
from rich.console import Group
from rich.text import Text

from fedplane.cli import display
from fedplane.cli.output import Output, document, show

FOUND = [{"run": "mnist-1", "metrics": {"loss": 0.25}, "message": "größer"}]


@pytest.mark.parametrize(("output", "read"), [(Output.JSON, json.loads), (Output.YAML, yaml.safe_load)])
def test_a_document_says_all_there_is(output: Output, read: object, capsys: pytest.CaptureFixture[str]) -> None:
    show(output, FOUND, lambda wide: Text("a picture"))

    said = capsys.readouterr().out
    assert read(said) == FOUND  # type: ignore[operator]
    assert said == document(FOUND, output) + "\n"
    assert "größer" in said


@pytest.mark.parametrize(("output", "said"), [(Output.TABLE, "narrow\n"), (Output.WIDE, "wide\n")])
def test_a_person_gets_a_picture_that_may_be_wide(output: Output, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(output, FOUND, lambda wide: Text("wide" if wide else "narrow"))

    assert capsys.readouterr().out == said


def test_a_line_that_is_longer_than_the_screen_is_not_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "COLUMNS_WITHOUT_TERMINAL", 40)

    show(Output.TABLE, FOUND, lambda wide: Group(display.columns([("x" * 50, "last")])))

    assert capsys.readouterr().out == "x" * 50 + "  last\n"


def test_a_wide_picture_is_not_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(Output.WIDE, FOUND, lambda wide: Text("x" * 399))

    assert capsys.readouterr().out == "x" * 399 + "\n"
