"""`fedplane access` where no bus is needed: what is refused before anything is made, and the keys of a new bus."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedplane.cli.credentials import owner_of
from fedplane.cli.main import app
from fedplane.runtime.certificates import valid_until
from fedplane.runtime.errors import BadInput, FedplaneError, Unavailable
from fedplane.schemas.roles import Role

RUNNER = CliRunner()
HEARD = ("--subscribe", "fed.v1.fleet.*.advertised")


def types(*words: str) -> str:
    """What goes to standard output. Raises what the command raises."""
    done = RUNNER.invoke(app, ["access", *words])
    if isinstance(done.exception, FedplaneError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("grant", "Dash", *HEARD), "'Dash' is no name"),
        (("grant", "dash", "--subscribe", "fed.v1.run.>", "--namespace", "a.b"), "'a.b' is no name"),
        (("grant", "dash", "--subscribe", "fed.v1.access.>"), "are not announced"),
        (("grant", "dash", *HEARD, "--expires", "2y"), "--expires 2y: that is no duration"),
        (("grant", "dash", *HEARD, "--expires", "400d"), "between 60s and 366d"),
        (("grant", "dash", *HEARD), "--authority names the directory that `fedplane access init` made"),
        (("grant", "dash", *[word for n in range(21) for word in ("--subscribe", f"fed.v1.run.r-{n}.>")]), "at most 20"),
        (("issue", "subscriber", "dash"), "`fedplane access grant dash --subscribe PATTERN` does both"),
        (("issue", "cli", "Anna"), "'Anna' is no name"),
        (("revoke", "authorizer", "authorizer"), "could never read that it is let in again"),
        (("restore", "collaborator", "a b"), "'a b' is no name"),
    ],
)
def test_what_is_typed_wrong_is_said_before_anything_is_made(here: Path, words: tuple[str, ...], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        types(*words)

    assert list(here.iterdir()) == []


def test_the_keys_of_a_bus_are_made_once_and_the_servers_names_are_what_was_said_last(here: Path) -> None:
    types("init", "hub", "--server-name", "bus.example.org", "--expires", "90d")
    first = {path.name: path.read_bytes() for path in Path("hub").iterdir()}
    types("init", "hub", "--server-name", "nats.fedplane.svc")
    second = {path.name: path.read_bytes() for path in Path("hub").iterdir()}

    assert set(first) == {
        "authorities.crt", "services.crt", "services.key", "clusters.crt", "clusters.key", "nats.pem", "authorizer.pem", "scheduler.pem",
        "aggregator.pem", "status.pem", "driver.pem", "cli.pem", "callout.seed", "callout.conf", "callout.password", "system.password",
        "noise.secret",
    }  # fmt: skip
    assert {name for name in first if first[name] != second[name]} == {"nats.pem"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in Path("hub").glob("*.key")} == {0o600}
    assert (valid_until(first["status.pem"].decode()) - valid_until(first["nats.pem"].decode())).total_seconds() == pytest.approx(0, abs=60)


def test_an_authoritys_directory_makes_operators_services_and_clusters(here: Path) -> None:
    types("init", "hub")

    made = [types("issue", role, "b", "--authority", "hub", "--expires", "12h").strip() for role in (Role.OPERATOR, Role.COLLABORATOR)]

    assert made == ["cli-b.pem", "collaborator-b.pem"]
    assert [owner_of(Path(name)) for name in made] == [(Role.OPERATOR, "b"), (Role.COLLABORATOR, "b")]


def test_nobody_can_revoke_himself(here: Path) -> None:
    types("init", "hub")
    types("issue", "cli", "anna", "--authority", "hub")

    with pytest.raises(BadInput, match="that is you, who could not let himself in again; `fedplane access issue cli NAME` makes another"):
        types("revoke", "cli", "anna", "--url", "tls://127.0.0.1:1", "--credentials", "cli-anna.pem")


def test_keys_are_not_made_where_there_is_a_file(here: Path) -> None:
    (here / "hub").touch()

    with pytest.raises(Unavailable, match="cannot use hub: Not a directory; name a directory that is, or can be made, your own"):
        types("init", "hub")
