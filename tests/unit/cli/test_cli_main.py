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
from fedplane.cli.connection import Server, Where
from fedplane.cli.credentials import render_bundle
from fedplane.cli.directory import Directory, Record
from fedplane.cli.output import Output
from fedplane.runtime import errors
from fedplane.runtime.errors import BadInput, FedplaneError, Unreachable
from fedplane.runtime.nats import Credentials
from fedplane.schemas.roles import Role

GROUP: Any = get_command(main.app)
EVERY: dict[str, Any] = {
    **{name: command for name, command in GROUP.commands.items() if not hasattr(command, "commands")},
    **{f"{name} {word}": command for name, _ in main.GROUPS.values() for word, command in GROUP.commands[name].commands.items()},
}
ERRORS = [error for error in vars(errors).values() if inspect.isclass(error) and issubclass(error, FedplaneError)]


@pytest.mark.parametrize("name", EVERY)
def test_help_teaches_by_an_example(name: str) -> None:
    assert f"Example: fedplane {name}" in EVERY[name].help or (name == demo.demo.__name__ and "Example: make demo" in EVERY[name].help)


@pytest.mark.parametrize("name", EVERY)
def test_every_example_of_the_help_is_understood(name: str) -> None:
    lines = EVERY[name].help.splitlines()
    examples = [line.partition(": fedplane ")[2] for line in lines if line.startswith("Example: fedplane ")]

    for example in examples:
        words = list(itertools.takewhile(lambda word: word not in ("|", ">", ">>", "&&"), shlex.split(example)))
        own = name.split()
        assert words[: len(own)] == own
        EVERY[name].make_context(name, words[len(own) :])  # or it raises what a person would read


@pytest.mark.parametrize(
    ("name", "given", "parameter"),
    [
        *((name, "-o", "output") for name in ("get", "watch mnist", "explain mnist", "clusters", "doctor", "access list")),
        *((name, "-o", "output") for name in ("submit mnist.yaml", "cancel mnist", "keep mnist --to models")),
        ("model mnist -o FILE", "--format", "form"),
    ],
)  # fmt: skip
def test_every_command_that_shows_something_shows_it_in_all_forms(name: str, given: str, parameter: str) -> None:
    command = max((each for each in EVERY if name.startswith(each)), key=len)
    words = [*name.removeprefix(command).split(), given]
    taken = [EVERY[command].make_context(command, [*words, output]).params[parameter] for output in ("table", "wide", "json", "yaml")]

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
    ann = bundle(tmp_path / "ann.pem")
    record = Record(pid=1, nats_url="tls://127.0.0.1:5000", started_at=datetime(2026, 3, 1, tzinfo=UTC), ready=True, processes={})

    with pytest.raises(Unreachable, match="no federation is up in"):
        _ = Where(state=tmp_path).server
    Directory.at(tmp_path).write_record(record.model_copy(update={"credentials": ann}))
    assert Where(state=tmp_path).server == Server("tls://127.0.0.1:5000", Credentials(ann, ann, ann, "_INBOX_cli_ann"))
    assert Where("elsewhere,tls://there", tmp_path, ann).server.url == "tls://elsewhere,tls://there"
    assert Where("tls://elsewhere", tmp_path).server == Server("tls://elsewhere")
    assert Where("nats://elsewhere", tmp_path, insecure=True).server == Server("nats://elsewhere")
    Directory.at(tmp_path).write_record(record.model_copy(update={"nats_url": "nats://127.0.0.1:5000", "insecure": True}))
    assert Where(state=tmp_path).server == Server("nats://127.0.0.1:5000")


@pytest.mark.parametrize("url", ["nats://elsewhere:4222", "elsewhere", "tls://one,two"])
def test_plain_text_is_spoken_only_by_who_says_so(url: str) -> None:
    with pytest.raises(BadInput, match=f"{url} is spoken to in plain text, and by anybody; --credentials FILE .* --insecure says that"):
        _ = Where(url).server


def test_credentials_are_shown_to_nobody_who_might_be_anybody(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="with credentials, a server's address begins with tls://"):
        _ = Where("nats://elsewhere", credentials=bundle(tmp_path / "ann.pem"), insecure=True).server


def test_another_bundle_than_that_of_up_is_shown_if_it_is_named(tmp_path: Path) -> None:
    own, ann = bundle(tmp_path / "cli.pem", "cli"), bundle(tmp_path / "ann.pem")
    Directory.at(tmp_path).write_record(
        Record(pid=1, nats_url="tls://x", credentials=own, started_at=datetime(2026, 3, 1, tzinfo=UTC), ready=True, processes={})
    )

    found = Where(state=tmp_path, credentials=ann).server.credentials

    assert found is not None
    assert found.inbox == "_INBOX_cli_ann"


def bundle(path: Path, name: str = "ann") -> Path:
    path.write_text(render_bundle(Role.OPERATOR, name, key="", certificate="", authority=""))
    return path


@pytest.mark.parametrize(
    ("told", "url"), [("", "nats://from-a-variable:4222"), (" --state other", None), (" --state other --url nats://hub", "nats://hub")]
)
def test_a_directory_that_is_named_counts_more_than_a_variable(told: str, url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPLANE_NATS_URL", "nats://from-a-variable:4222")
    monkeypatch.setenv("FEDPLANE_CREDENTIALS", "from-a-variable.pem")

    taken = GROUP.commands["cancel"].make_context("cancel", ["mnist", *shlex.split(told)]).params

    assert (taken["url"], taken["credentials"]) == (url, None if "state" in told else Path("from-a-variable.pem"))


def test_an_address_of_another_kind_of_server_is_none() -> None:
    with pytest.raises(BadInput, match="begins with nats, tls, ws, wss, not with http"):
        _ = Where("http://elsewhere:4222").server


@pytest.mark.parametrize("url", ["nats://[", "nats://hub:port", "nats://me:secret/@hub:4222", "nats://me:secret,@hub:4222", "nats://", ","])
def test_what_is_no_address_is_said_to_be_none_and_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--url names no server: it is tls://HOST:PORT") as error:
        _ = Where(url, tmp_path, insecure=True).server

    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "told",
    ["", " --url nats://hub:4222 --insecure", " --state 'my federation'", " --url tls://hub:4222 --state other --credentials ann.pem"],
)
def test_what_to_type_next_names_the_federation_as_this_command_was_told(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPLANE_NATS_URL", "nats://from-a-variable:4222")
    submit = GROUP.commands["submit"]

    context = submit.make_context("submit", ["mnist.yaml", *shlex.split(told)])

    assert connection.same(context, "watch mnist-1") == f"fedplane watch mnist-1{told}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nats://anna:s3cret@hub:4222", "nats://USER:PASSWORD@hub:4222"),
        ("tls://s3cret@one,tls://s3cret@two:4222", "tls://USER:PASSWORD@one,tls://USER:PASSWORD@two:4222"),
        ("anna:s3cret@hub", "USER:PASSWORD@hub"),
    ],
)
def test_what_to_type_next_does_not_repeat_a_password(url: str, said: str) -> None:
    context = GROUP.commands["submit"].make_context("submit", ["mnist.yaml", "--url", url])

    assert connection.same(context, "watch mnist-1") == f"fedplane watch mnist-1 --url {said}"


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
