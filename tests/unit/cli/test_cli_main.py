"""What holds for every command: its help, where its federation is, and how a failure ends."""

import inspect
import itertools
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from fedplane.cli import connection, demo, exits, main
from fedplane.cli.directory import Directory, Record
from fedplane.cli.output import Output
from fedplane.runtime import errors
from fedplane.runtime.errors import BadInput, FedplaneError, Unreachable

COMMANDS = [function for functions in main.COMMANDS.values() for function in functions]
GROUP: Any = get_command(main.app)
ERRORS = [error for error in vars(errors).values() if inspect.isclass(error) and issubclass(error, FedplaneError)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda it: it.__name__)
def test_help_teaches_by_an_example(command: Any) -> None:
    said = inspect.getdoc(command) or ""

    assert f"Example: fedplane {command.__name__}" in said or (command is demo.demo and "Example: make demo" in said)


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_every_example_of_the_help_is_understood(name: str) -> None:
    lines = GROUP.commands[name].help.splitlines()
    examples = [line.partition(": fedplane ")[2] for line in lines if line.startswith("Example: fedplane ")]

    for example in examples:
        words = list(itertools.takewhile(lambda word: word not in ("|", ">", ">>", "&&"), shlex.split(example)))
        assert words[0] == name
        GROUP.commands[name].make_context(name, words[1:])  # or it raises what a person would read


@pytest.mark.parametrize("name", ["get", "watch", "explain", "clusters", "doctor"])
def test_every_command_that_shows_something_shows_it_in_all_forms(name: str) -> None:
    run = ["mnist"] if name in ("watch", "explain") else []
    taken = [GROUP.commands[name].make_context(name, [*run, "-o", output]).params["output"] for output in ("table", "wide", "json", "yaml")]

    assert taken == list(Output)


def test_help_ends_with_the_exit_codes() -> None:
    said = (GROUP.epilog or "").split("\n\n")

    assert said[1:] == [f"{code:d}: {meaning}" for code, meaning in exits.MEANINGS.items()]
    assert set(exits.MEANINGS) == set(exits.Exit)


def test_every_error_that_fedplane_raises_has_an_exit_code_of_the_documentation() -> None:
    codes = {
        kind.__name__: exits.ending(kind("app-failed", "it raised") if kind is errors.AppFailed else kind("so")) for kind in ERRORS[1:]
    }

    assert {name: code for name, (code, _) in codes.items()} == {
        "BadInput": 2, "BusError": 3, "Unreachable": 3, "BusFull": 3, "Denied": 3, "Corrupt": 3, "AppFailed": 1, "Unavailable": 4,
        "ApiError": 3, "ApiUnreachable": 3, "ApiDenied": 3, "NotFound": 3, "Conflict": 3, "Invalid": 3,
    }  # fmt: skip
    assert {code for code, _ in codes.values()} <= set(exits.MEANINGS)
    assert codes["BadInput"][1] == "error: so"
    assert codes["Unreachable"][1].startswith("error: so\n`fedplane up` starts a federation")


def test_a_federation_is_where_the_url_says_else_where_up_recorded_it(tmp_path: Path) -> None:
    record = Record(pid=1, nats_url="nats://127.0.0.1:5000", started_at=datetime(2026, 3, 1, tzinfo=UTC), ready=True, processes={})

    with pytest.raises(Unreachable, match="no federation is up in"):
        connection.address(None, tmp_path)
    Directory.at(tmp_path).write_record(record)
    assert connection.address(None, tmp_path) == "nats://127.0.0.1:5000"
    assert connection.address("nats://elsewhere:4222", tmp_path) == "nats://elsewhere:4222"
    assert connection.address("elsewhere,tls://there", tmp_path) == "elsewhere,tls://there"
    with pytest.raises(BadInput, match="begins with nats, tls, ws, wss, not with http"):
        connection.address("http://elsewhere:4222", tmp_path)


@pytest.mark.parametrize(
    ("told", "url"), [("", "nats://from-a-variable:4222"), (" --state other", None), (" --state other --url nats://hub", "nats://hub")]
)
def test_a_directory_that_is_named_counts_more_than_a_variable(told: str, url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPLANE_NATS_URL", "nats://from-a-variable:4222")

    assert GROUP.commands["cancel"].make_context("cancel", ["mnist", *shlex.split(told)]).params["url"] == url


@pytest.mark.parametrize("url", ["nats://[", "nats://hub:port", "nats://me:secret/@hub:4222", "nats://me:secret,@hub:4222", "nats://", ","])
def test_what_is_no_address_is_said_to_be_none_and_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--url names no server: it is nats://HOST:PORT") as error:
        connection.address(url, tmp_path)

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("told", ["", " --url nats://hub:4222", " --state 'my federation'", " --url nats://hub:4222 --state other"])
def test_what_to_type_next_names_the_federation_as_this_command_was_told(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPLANE_NATS_URL", "nats://from-a-variable:4222")
    submit = GROUP.commands["submit"]

    context = submit.make_context("submit", ["mnist.yaml", *shlex.split(told)])

    assert connection.same(context, "watch mnist-1") == f"fedplane watch mnist-1{told}"


INTERRUPTED_WHILE_LOADING = """
import os, signal, sys
from fedplane.cli import start
class Loading:
    def __set_name__(self, owner, name): os.kill(os.getpid(), signal.SIGINT)
class Finder:
    def find_spec(name, path, target=None): name == "fedplane.cli.main" and type("Module", (), {"part": Loading()})
sys.meta_path.insert(0, Finder)
signal.signal(signal.SIGINT, signal.default_int_handler)
start.main()
"""


def test_ctrl_c_while_the_program_is_being_loaded_ends_it_without_a_traceback() -> None:
    told = subprocess.run([sys.executable, "-c", INTERRUPTED_WHILE_LOADING], capture_output=True, text=True, check=False)

    assert (told.returncode, told.stderr) == (130, "")
