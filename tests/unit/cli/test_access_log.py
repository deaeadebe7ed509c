"""Who was let in and who was thrown out, as the log says it and as a person reads it."""

from datetime import UTC, datetime, timedelta

import pytest
from view_story import shown

from fedplane.cli.access_log import Standing, access_table, document, every, folded, restored, standing
from fedplane.runtime.errors import BadInput
from fedplane.runtime.memory import MemoryLog
from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Advertised, Granted, Revoked
from fedplane.schemas.roles import Role

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
END = NOON + timedelta(days=30)

DASHBOARD = Granted(
    role="subscriber", name="dashboard", at=NOON, expires_at=END, fingerprint="5e" * 32, namespace="team-a", patterns=("fed.v1.run.>",)
)
STOLEN = Revoked(role="collaborator", name="amsterdam", at=NOON, message="stolen")
REVOKED = Revoked(role="subscriber", name="dashboard", at=LATER)


def said(*facts: Granted | Revoked) -> list[Recorded]:
    return [Recorded(fact, sequence) for sequence, fact in enumerate(facts, 1)]


def test_of_what_was_said_about_a_client_the_later_counts_in_whatever_order_it_is_read() -> None:
    told = said(DASHBOARD, STOLEN, REVOKED)

    assert folded(told) == folded(reversed(told))
    assert [(each.last, each.grant) for each in folded(told)] == [(STOLEN, None), (REVOKED, DASHBOARD)]
    assert [standing(each, LATER) for each in folded(told)] == [Standing.REVOKED] * 2


def test_a_grant_holds_until_it_expires() -> None:
    (access,) = folded(said(REVOKED, DASHBOARD))

    assert [standing(access, at) for at in (NOON, END - timedelta(seconds=1), END)] == [
        Standing.GRANTED,
        Standing.GRANTED,
        Standing.EXPIRED,
    ]


async def test_it_is_read_from_a_log_that_has_other_facts_too() -> None:
    log = MemoryLog("/test")
    for fact in (DASHBOARD, Advertised(cluster="amsterdam", at=NOON, lease_seconds=9), STOLEN):
        await log.state(fact)

    assert [each.last for each in await every(log)] == [STOLEN, DASHBOARD]


def test_whoever_is_let_in_again_gets_what_it_had() -> None:
    thrown_out = folded(said(DASHBOARD, STOLEN, REVOKED))

    assert restored(thrown_out[1], Role.SUBSCRIBER, "dashboard", LATER) == DASHBOARD.model_copy(update={"at": LATER})
    assert restored(thrown_out[0], Role.COLLABORATOR, "amsterdam", LATER) == Granted(role="collaborator", name="amsterdam", at=LATER)


@pytest.mark.parametrize(
    ("facts", "role", "now", "why"),
    [
        ((), Role.OPERATOR, LATER, "cli dashboard was not revoked; `fedplane access list` says who was"),
        ((DASHBOARD,), Role.SUBSCRIBER, LATER, "subscriber dashboard was not revoked"),
        ((REVOKED,), Role.SUBSCRIBER, LATER, "was never granted anything; `fedplane access grant dashboard` lets it in"),
        ((DASHBOARD, REVOKED), Role.SUBSCRIBER, END, "has expired at 2026-04-01 12:00:00 UTC; `fedplane access grant dashboard`"),
    ],
)
def test_whoever_cannot_be_let_in_again_is_told_what_can_be_done(facts: tuple, role: Role, now: datetime, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        restored(next(iter(folded(said(*facts))), None), role, "dashboard", now)


def test_a_table_has_a_line_for_each_and_a_document_has_everything() -> None:
    everyone = folded(said(DASHBOARD, STOLEN))

    assert shown(access_table(everyone, NOON), width=200).splitlines() == [
        "NAME       ROLE          ACCESS           UNTIL                NAMESPACE  HEARS",
        "amsterdam  collaborator  revoked: stolen",
        "dashboard  subscriber    granted          2026-04-01 12:00:00  team-a     fed.v1.run.>",
    ]
    assert "5e5e" in shown(access_table(everyone, NOON, wide=True), width=300)
    assert [document(each, NOON) for each in everyone] == [
        {"role": "collaborator", "name": "amsterdam", "standing": "revoked", "said_at": "2026-03-02T12:00:00+00:00", "message": "stolen"},
        {
            "role": "subscriber", "name": "dashboard", "standing": "granted", "said_at": "2026-03-02T12:00:00+00:00", "message": "",
            "expires_at": "2026-04-01T12:00:00Z", "fingerprint": "5e" * 32, "namespace": "team-a", "patterns": ["fed.v1.run.>"],
        },
    ]  # fmt: skip
