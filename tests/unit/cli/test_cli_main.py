"""What holds for every command: its help, where its federation is, and how a failure ends."""

import inspect
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from fedplane.cli import commands, connection, main
from fedplane.cli.directory import Directory, Record
from fedplane.runtime import errors
from fedplane.runtime.errors import FedplaneError, Unreachable

COMMANDS = [function for functions in main.COMMANDS.values() for function in functions]
ERRORS = [error for error in vars(errors).values() if inspect.isclass(error) and issubclass(error, FedplaneError)]


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if command.__module__ == commands.__name__], ids=lambda it: it.__name__
)
def test_help_teaches_by_an_example(command: object) -> None:
    said = inspect.getdoc(command) or ""

    assert f"Example: fedplane {command.__name__}" in said  # type: ignore[attr-defined]


def test_every_error_that_fedplane_raises_has_an_exit_code_of_the_documentation() -> None:
    codes = {kind.__name__: main.ending(kind("app-failed", "it raised") if kind is errors.AppFailed else kind("so")) for kind in ERRORS[1:]}
    documented = {int(line.split("|")[1]) for line in (main.__doc__ or "").splitlines() if line[:3].strip("| ").isdigit()}

    assert {name: code for name, (code, _) in codes.items()} == {
        "BadInput": 2, "BusError": 3, "Unreachable": 3, "BusFull": 3, "Denied": 3, "Corrupt": 3, "AppFailed": 1, "Unavailable": 4,
        "ApiError": 3, "ApiUnreachable": 3, "ApiDenied": 3, "NotFound": 3, "Conflict": 3, "Invalid": 3,
    }  # fmt: skip
    assert documented == {0, 1, 2, 3, 4, 130}
    assert codes["BadInput"][1] == "error: so"
    assert codes["Unreachable"][1].startswith("error: so\n`fedplane up` starts a federation")


def test_a_federation_is_where_the_url_says_else_where_up_recorded_it(tmp_path: Path) -> None:
    record = Record(pid=1, nats_url="nats://127.0.0.1:5000", started_at=datetime(2026, 3, 1, tzinfo=UTC), ready=True, processes={})

    with pytest.raises(Unreachable, match="no federation is up in"):
        connection.address(None, tmp_path)
    Directory.at(tmp_path).write_record(record)
    assert connection.address(None, tmp_path) == "nats://127.0.0.1:5000"
    assert connection.address("nats://elsewhere:4222", tmp_path) == "nats://elsewhere:4222"


@pytest.mark.parametrize("told", ["", " --url nats://hub:4222", " --state 'my federation'", " --url nats://hub:4222 --state other"])
def test_what_to_type_next_names_the_federation_as_this_command_was_told(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPLANE_NATS_URL", "nats://from-a-variable:4222")
    submit: Any = get_command(main.app).commands["submit"]  # type: ignore[attr-defined]  # a group has commands

    context = submit.make_context("submit", ["mnist.yaml", *shlex.split(told)])

    assert connection.same(context, "watch mnist-1") == f"fedplane watch mnist-1{told}"
