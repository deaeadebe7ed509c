"""The keys of a federation on one machine: made once, for their owner alone, renewed in time, and known to the authorizer."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedplane.authorizer import grants
from fedplane.authorizer.certificates import parse
from fedplane.authorizer.identity import Identity, Trust, identify
from fedplane.cli.accounts import ACCOUNT, guarded
from fedplane.cli.keys import ADDON, LASTS, RENEWED_BEFORE, Keys
from fedplane.cli.server import Configuration
from fedplane.runtime.errors import BadInput
from fedplane.runtime.nats.callouts import AUTHORIZER, SYSTEM
from fedplane.runtime.nkeys import Account
from fedplane.schemas.roles import Role

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LONGEST = "c" * 63


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path / "keys")
    assert keys.provide(["amsterdam"], NOON)
    return keys


def written(keys: Keys) -> dict[str, str]:
    return {path.name: path.read_text() for path in keys.path.iterdir()}


def test_there_is_a_bundle_for_everybody_and_nobody_else_may_read_any(keys: Keys) -> None:
    assert sorted(written(keys)) == [
        "aggregator.pem", "authorities.crt", "authorizer.pem", "callout.password", "callout.seed", "cli.pem", "clusters.crt",
        "clusters.key", "collaborator-amsterdam.pem", "driver.pem", "nats.pem", "noise.secret", "scheduler.pem", "services.crt",
        "services.key", "status.pem", "system.password",
    ]  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in keys.path.iterdir()} == {0o600}
    assert keys.path.stat().st_mode & 0o777 == 0o700
    assert keys.credentials.inbox == "_INBOX_cli_cli"


def test_the_authorizer_takes_everybody_for_who_he_is(keys: Keys) -> None:
    keys.provide(["amsterdam", LONGEST], NOON)
    authorities = {name: parse(keys.authority(name).read_text()) for name in ("services", "clusters")}
    trust = Trust(ADDON, frozenset({authorities["clusters"].fingerprint}), frozenset({authorities["services"].fingerprint}))

    def who(bundle: Path, authority: str) -> object:
        return identify([parse(bundle.read_text()), authorities[authority]], trust)

    services = [role for role in Role if role not in (Role.COLLABORATOR, Role.SUBSCRIBER)]
    assert [who(keys.bundle(role), "services") for role in services] == [Identity(role, role) for role in services]
    for cluster in ("amsterdam", LONGEST):
        assert who(keys.bundle(Role.COLLABORATOR, cluster), "clusters") == Identity(Role.COLLABORATOR, cluster)


def test_a_second_start_finds_everything_and_a_later_one_renews_the_certificates_alone(keys: Keys) -> None:
    before = written(keys)
    in_time, late = NOON + LASTS - RENEWED_BEFORE - timedelta(hours=1), NOON + LASTS - RENEWED_BEFORE + timedelta(hours=1)

    assert not keys.provide(["amsterdam"], in_time)
    assert written(keys) == before
    assert keys.provide(["amsterdam"], late)
    assert {name for name, text in written(keys).items() if before[name] != text} == {name for name in before if name.endswith(".pem")}


def test_a_bundle_that_is_gone_or_of_another_authority_is_made_anew(keys: Keys, tmp_path: Path) -> None:
    before, others = written(keys), Keys(tmp_path / "others")
    others.provide([], NOON)
    keys.bundle(Role.STATUS).unlink()
    keys.bundle(Role.DRIVER).write_text(others.bundle(Role.DRIVER).read_text())
    keys.bundle(Role.SCHEDULER).write_text("half of i")

    assert keys.provide(["amsterdam"], NOON)
    assert {name for name, text in written(keys).items() if before[name] != text} == {"status.pem", "driver.pem", "scheduler.pem"}


def test_an_authority_whose_key_is_gone_is_replaced_with_all_that_it_has_signed(keys: Keys) -> None:
    before = written(keys)
    keys.authority("clusters").with_suffix(".key").unlink()

    assert keys.provide(["amsterdam"], NOON)
    assert {name for name, text in written(keys).items() if before[name] != text} == {
        "clusters.key", "clusters.crt", "authorities.crt", "collaborator-amsterdam.pem",
    }  # fmt: skip


def test_an_authority_that_is_none_is_told_of_and_not_replaced(keys: Keys) -> None:
    keys.authority("services").write_text("nothing")

    with pytest.raises(BadInput, match=r"services.crt and .*services.key are no authority: .*; remove .*keys, and all of it is made anew"):
        keys.provide([], NOON)


def test_the_server_is_told_of_the_accounts_that_the_authorizer_grants(keys: Keys) -> None:
    told = guarded(keys)
    callout = told["authorization"]["auth_callout"]
    users = [user["user"] for account in told["accounts"].values() for user in account.get("users", ())]

    assert (set(told["accounts"]), ACCOUNT) == ({grants.SERVERS, grants.CLUSTERS, grants.SUBSCRIBERS, "AUTH", "SYS"}, grants.SERVERS)
    assert sorted(users) == sorted(callout["auth_users"]) == sorted([AUTHORIZER, SYSTEM])
    assert callout["issuer"] == Account(keys.seed.read_text()).public
    assert told["tls"]["verify"] is True


def test_what_the_server_was_told_is_read_back_when_it_is_guarded(keys: Keys, tmp_path: Path) -> None:
    configuration = Configuration(port=4300, store_bytes=2_000_000_000)
    (tmp_path / "nats-server.conf").write_text(configuration.render(tmp_path, guarded(keys)))

    assert Configuration.read(tmp_path / "nats-server.conf") == configuration
