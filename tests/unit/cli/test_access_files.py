"""Certificates for those who use the bus: what is made of an authority's directory, and what a person is told about it."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedplane.cli import access_files
from fedplane.cli.credentials import read_bundle
from fedplane.cli.keys import ADDON, Keys
from fedplane.runtime.errors import BadInput, Unreachable
from fedplane.schemas.facts import Granted
from fedplane.schemas.roles import Role, inbox_of

NOW = datetime.now(UTC)
MONTH = timedelta(days=30)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Keys(tmp_path_factory.mktemp("keys"), hosts=("bus.example.org",), lasts=timedelta(days=90))
    made.provide((), NOW)
    return made.path


@pytest.mark.parametrize(("text", "lasts"), [("60s", timedelta(minutes=1)), ("90m", timedelta(minutes=90)), ("366d", timedelta(days=366))])
def test_how_long_something_holds_is_said_as_people_say_it(text: str, lasts: timedelta) -> None:
    assert access_files.lasting(text) == lasts


@pytest.mark.parametrize(
    ("text", "why"), [("", "no duration, as 90m"), ("a day", "no duration"), ("59s", "between 60s and 366d"), ("367d", "between")]
)
def test_what_holds_too_long_or_not_at_all_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=f"--expires {text}: .*{why}"):
        access_files.lasting(text)


def test_patterns_are_those_under_which_something_is_announced() -> None:
    assert access_files.checked_patterns(["fed.v1.>", "fed.v1.run.*.completed", "fed.v1.>"]) == ("fed.v1.>", "fed.v1.run.*.completed")
    assert access_files.checked_patterns(["fed.v1.>"], "team-a") == ("fed.v1.>",)
    with pytest.raises(BadInput, match="is about no run, and with --namespace only facts of runs are heard"):
        access_files.checked_patterns(["fed.v1.fleet.>"], "team-a")
    for pattern, why in {
        "fed.v1.access.>": "are not announced",
        "fed.v1.run.*.finished": r"no fact has such a subject; docs/events.md lists them",
        "log.fed.v1.>": "no fact has such a subject",
        "": "no fact has such a subject",
    }.items():
        with pytest.raises(BadInput, match=why):
            access_files.checked_patterns([pattern])


@pytest.mark.parametrize("role", [Role.SUBSCRIBER, Role.OPERATOR, Role.COLLABORATOR])
def test_a_bundle_is_for_its_owner_and_every_program_reads_it_thrice(keys: Path, tmp_path: Path, role: Role) -> None:
    issued, text = access_files.issue(keys, role, "anna", ADDON, NOW, MONTH)
    file = access_files.place(tmp_path / "anna.pem", role, "anna")
    with access_files.kept(file, text):
        assert not file.exists()

    tls = ssl.create_default_context(cafile=str(file))
    tls.load_cert_chain(file, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_bundle(file).inbox == inbox_of(role, "anna")
    assert issued.until == NOW.replace(microsecond=0) + MONTH
    assert [path.name for path in tmp_path.iterdir()] == ["anna.pem"]


def test_a_bundle_does_not_appear_if_what_it_is_for_fails(keys: Path, tmp_path: Path) -> None:
    file, (_, text) = tmp_path / "anna.pem", access_files.issue(keys, Role.SUBSCRIBER, "anna", ADDON, NOW, MONTH)

    with pytest.raises(Unreachable), access_files.kept(file, text):
        raise Unreachable("no bus")

    assert list(tmp_path.iterdir()) == []


def test_only_the_same_clients_bundle_is_replaced(keys: Path, tmp_path: Path) -> None:
    file, (_, text) = tmp_path / "anna.pem", access_files.issue(keys, Role.SUBSCRIBER, "anna", ADDON, NOW, MONTH)
    file.write_text(text)

    assert access_files.place(file, Role.SUBSCRIBER, "anna") == file
    for role, name in ((Role.OPERATOR, "anna"), (Role.SUBSCRIBER, "ann")):
        with pytest.raises(BadInput, match=f"is there already and is no bundle of {role} {name}"):
            access_files.place(file, role, name)
    file.write_text("\n")
    with pytest.raises(BadInput, match="is there already"):
        access_files.place(file, Role.SUBSCRIBER, "anna")
    with pytest.raises(BadInput, match="there is no directory"):
        access_files.place(tmp_path / "nowhere" / "anna.pem", Role.SUBSCRIBER, "anna")


def test_without_an_authority_a_person_is_told_where_one_is(keys: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"services\.crt is missing; --authority names the directory"):
        access_files.issue(tmp_path, Role.OPERATOR, "anna", ADDON, NOW, MONTH)
    (tmp_path / "services.crt").write_text((keys / "services.crt").read_text())
    (tmp_path / "services.key").write_text((keys / "clusters.key").read_text())
    with pytest.raises(BadInput, match="are no authority: the key is not that of the authority's certificate"):
        access_files.issue(tmp_path, Role.OPERATOR, "anna", ADDON, NOW, MONTH)


def test_nothing_outlives_its_authority(keys: Path) -> None:
    with pytest.raises(BadInput, match="what it signs has to end before"):
        access_files.issue(keys, Role.OPERATOR, "anna", ADDON, NOW, timedelta(days=4000))


def test_it_is_said_what_to_type_with_names_that_a_shell_takes() -> None:
    granted = Granted(role="subscriber", name="anna", at=NOW, patterns=("fed.v1.run.*.completed",))

    said = list(access_files.ways_to_listen(granted, Path("my keys/anna.pem"), "tls://bus:4222"))

    assert said[1] == (
        "    nats --server tls://bus:4222 --tlscert 'my keys/anna.pem' --tlskey 'my keys/anna.pem' --tlsca 'my keys/anna.pem'"
        " subscribe 'fed.v1.run.*.completed'"
    )
    tenant = list(access_files.ways_to_listen(granted.model_copy(update={"namespace": "team-a"}), Path("a.pem"), "tls://bus:4222"))
    assert tenant[0] == "each run of team-a by its id, instead of RUN,"
    assert tenant[2].endswith("subscribe 'fed.v1.run.RUN.completed'")
    assert [list(access_files.ways_to_connect(role, "b", Path("b.pem"))) for role in (Role.SCHEDULER, Role.COLLABORATOR)] == [
        ["    FEDPLANE_TLS_CERTIFICATE=b.pem", "    FEDPLANE_TLS_NAME=b", "    FEDPLANE_NATS_URL=tls://HOST:4222"],
        ["    FEDPLANE_TLS_CERTIFICATE=b.pem", "    FEDPLANE_NATS_URL=tls://HOST:4222"],
    ]
