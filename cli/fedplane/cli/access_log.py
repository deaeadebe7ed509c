"""Who was let in and who was thrown out, as the log says: of the two facts about a client, the later one counts.

The authorizer goes by the same facts. What is decided here is only how they look to a person, and what may be stated next.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from rich.table import Table
from rich.text import Text

from fedplane.cli.display import plain, table
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Log, Recorded
from fedplane.schemas.facts import Granted, Revoked
from fedplane.schemas.roles import Role

__all__ = ["Access", "Standing", "access_table", "document", "every", "folded", "restored", "standing"]

CLOCK = "%Y-%m-%d %H:%M:%S"


class Standing(StrEnum):
    """Whether a client is let in."""

    GRANTED = "granted"
    EXPIRED = "expired"
    REVOKED = "revoked"


STYLES = {Standing.EXPIRED: "yellow", Standing.REVOKED: "red"}


@dataclass(frozen=True, slots=True)
class Access:
    """What was said of one client last, and the last grant, which a revocation does not undo: it can be stated again."""

    last: Granted | Revoked
    grant: Granted | None


def folded(records: Iterable[Recorded]) -> list[Access]:
    """Everybody about whom something was said, by role and name."""
    said: dict[tuple[str, str], Access] = {}
    for record in sorted(records, key=lambda record: record.sequence):
        match record.fact:
            case Granted(role=role, name=name) as granted:
                said[role, name] = Access(granted, granted)
            case Revoked(role=role, name=name) as revoked:
                before = said.get((role, name))
                said[role, name] = Access(revoked, before.grant if before else None)
    return [said[who] for who in sorted(said)]


async def every(log: Log) -> list[Access]:
    """The same of what the log has now."""
    records: list[Recorded] = []
    async for batch in log.tail([Granted.pattern(), Revoked.pattern()]):
        records += batch.records
        if batch.live:
            break
    return folded(records)


def standing(access: Access, now: datetime) -> Standing:
    """Whether the client is let in now, as far as facts go."""
    match access.last:
        case Revoked():
            return Standing.REVOKED
        case Granted(expires_at=end) if end is not None and end <= now:
            return Standing.EXPIRED
    return Standing.GRANTED


def restored(access: Access | None, role: Role, name: str, now: datetime) -> Granted:
    """The fact that lets a client in again, as it was before. Raises BadInput if that would let nobody in."""
    again = f"`fedplane access grant {name}` lets it in with a new certificate"
    if access is None or standing(access, now) is Standing.GRANTED:
        raise BadInput(f"{role} {name} was not revoked; `fedplane access list` says who was")
    if access.grant is None:
        if role is Role.SUBSCRIBER:
            raise BadInput(f"the subscriber {name} was never granted anything; {again}")
        return Granted(role=role, name=name, at=now)
    end = access.grant.expires_at
    if end is not None and end <= now:
        raise BadInput(f"what {role} {name} was granted has expired at {end:{CLOCK} %Z}; {again}")
    return access.grant.model_copy(update={"at": now})


def document(access: Access, now: datetime) -> dict[str, Any]:
    """Everything that is known of a client's access, for programs."""
    grant, last = access.grant, access.last
    known = {} if grant is None else grant.model_dump(mode="json", exclude={"role", "name", "at"})
    return {
        "role": last.role,
        "name": last.name,
        "standing": standing(access, now).value,
        "said_at": last.at.isoformat(),
        "message": last.message if isinstance(last, Revoked) else "",
        **known,
    }


def access_table(everyone: Sequence[Access], now: datetime, *, wide: bool = False) -> Table:
    """Clients, one a line; `wide` adds when it was said and which certificate counts."""
    more = ("SAID", "CERTIFICATE") if wide else ()
    rows = table("NAME", "ROLE", "ACCESS", "UNTIL", "NAMESPACE", *more, "HEARS")
    for access in everyone:
        grant, stands = access.grant, standing(access, now)
        why = f": {plain(access.last.message)}" if isinstance(access.last, Revoked) and access.last.message else ""
        rows.add_row(
            access.last.name,
            access.last.role,
            Text(f"{stands}{why}", STYLES.get(stands, "")),
            f"{grant.expires_at:{CLOCK}}" if grant and grant.expires_at else "",
            (grant and grant.namespace) or "",
            *((f"{access.last.at:{CLOCK}}", grant.fingerprint if grant else "") if wide else ()),
            ", ".join(grant.patterns) if grant else "",
        )
    return rows
