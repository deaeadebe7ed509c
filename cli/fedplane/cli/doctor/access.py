"""Do our own credentials hold, and whose access ends, or was ended? Pure.

What the credentials may do is tried on the bus, and judged in `server`. What facts mean is said in `access_log`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from fedplane.cli.access_log import Access, Standing, standing
from fedplane.cli.display import span
from fedplane.cli.doctor.findings import Checks, Finding, listed, ok, problem, warning
from fedplane.schemas.facts import Revoked
from fedplane.schemas.roles import Role

__all__ = ["BUNDLE_CHECKS", "CHECKS", "AccessSeen", "BundleSeen"]

SOON = timedelta(days=7)
"""How long before its end something is worth a warning: whoever looks once a week has been told once."""


@dataclass(frozen=True, slots=True)
class BundleSeen:
    """Whose bundle we come with, and until when its certificate counts; none of it when we come as nobody."""

    now: datetime
    path: str = ""
    role: Role | None = None
    name: str = ""
    until: datetime | None = None
    renewed: bool = False
    """Whether `fedplane up` keeps it, and makes it anew in time."""


@dataclass(frozen=True, slots=True)
class AccessSeen:
    """What the log says of everybody, or why it could not be read."""

    now: datetime
    everyone: tuple[Access, ...] = ()
    unseen: str = ""


def _certificate(seen: BundleSeen) -> Iterator[Finding]:
    if seen.until is None:
        yield warning(
            "we come without a certificate: whoever reaches this bus, or knows its password, can say and read everything",
            "leave --insecure away where it is started: docs/how-to/secure.md",
        )
        return
    left, whose = (seen.until - seen.now).total_seconds(), f"{seen.role} {seen.name}"
    mend = f"`fedplane access issue {seen.role} {seen.name}` makes another one, for whoever has the authority's keys"
    if seen.renewed:
        mend = "`fedplane down` and `fedplane up` make another one; one that runs for long does so by itself"
    if left <= 0:
        yield problem(f"the certificate of {whose} in {seen.path} ended {span(-left)} ago", mend)
    elif left < SOON.total_seconds():
        yield warning(f"the certificate of {whose} in {seen.path} ends in {span(left)}", mend)
    else:
        yield ok(f"we are {whose}, until {seen.until:%Y-%m-%d}")


def _role(seen: BundleSeen) -> Iterator[Finding]:
    if seen.role not in (None, Role.OPERATOR):
        yield warning(
            f"{seen.path} is for a {seen.role}, which may not do what the command line does",
            "name the bundle of an operator with --credentials; `fedplane access issue cli NAME` makes one",
        )


def _granted(seen: AccessSeen) -> Iterator[Finding]:
    if seen.unseen:
        yield warning(f"who was let in cannot be seen: {seen.unseen}", "look as somebody who may read the stream ACCESS")
        return
    subscribers = [each for each in seen.everyone if each.last.role == Role.SUBSCRIBER]
    holding = [each for each in subscribers if standing(each, seen.now) is Standing.GRANTED]
    ending = [each for each in holding if _left(each, seen.now) is not None and (_left(each, seen.now) or 0) < SOON.total_seconds()]
    if ending:
        said = listed([f"{each.last.name} in {span(_left(each, seen.now) or 0)}" for each in ending])
        yield warning(f"what subscribers were granted ends: {said}", "`fedplane access grant NAME` with a new certificate, or let it end")
    lasting = [each.last.name for each in holding if each not in ending]
    if lasting or not ending:
        yield ok(f"subscribers: {listed(lasting)}" if lasting else "nobody was granted a subscription")


def _left(access: Access, now: datetime) -> float | None:
    end = access.grant.expires_at if access.grant else None
    return None if end is None else (end - now).total_seconds()


def _revoked(seen: AccessSeen) -> Iterator[Finding]:
    if seen.unseen:
        return
    out = [each.last for each in seen.everyone if isinstance(each.last, Revoked)]
    ours = [each for each in out if each.role not in (Role.SUBSCRIBER, Role.COLLABORATOR, Role.OPERATOR)]
    if ours:
        said = listed([f"{each.role} {each.name}" for each in ours])
        yield problem(f"services are not let in any more: {said}", "`fedplane access restore ROLE NAME` lets one in again")
    others = [f"{each.role} {each.name}" for each in out if each not in ours]
    if others or not ours:
        yield ok(f"thrown out: {listed(others)}" if others else "nobody was thrown out")


BUNDLE_CHECKS: Checks[BundleSeen] = {"certificate": _certificate, "role": _role}
"""What is asked of what we come with."""

CHECKS: Checks[AccessSeen] = {"granted": _granted, "revoked": _revoked}
"""What is asked of everybody else."""
