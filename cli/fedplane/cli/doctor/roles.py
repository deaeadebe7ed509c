"""Does everybody live whom a federation needs, and do their clocks agree? Pure.

The bus tells: a reader of the log carries the name of its process, a cluster's advertisement a lease,
and each fact the time at which it was stated beside the time at which the server stored it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from fedplane.cli.display import span
from fedplane.cli.doctor.findings import Checks, Finding, listed, ok, problem, warning
from fedplane.runtime.observed import BusSeen, QueueSeen, SubscriptionSeen
from fedplane.runtime.subscribing import DURABLES_MAX
from fedplane.schemas.facts import Advertised

__all__ = ["CHECKS"]

SKEW_WARNING_SECONDS = 2.0
"""More than any line's delay, and less than what breaks something."""

SKEW_PROBLEM_SECONDS = 10.0
"""A cluster advertises every 5 seconds for 15: whose clock is 10 seconds behind counts as gone from time to time."""

RECENT = timedelta(hours=1)
"""How old a fact may be and still tell of a clock: one that was set right since is none to complain of."""

FOLDS, TIMERS = "folds", "timers"


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of process: what does not happen without it, and how to start it where there is no `fedplane up`."""

    missing: str
    module: str


ROLES = {
    "scheduler": Role("no run is given clusters", "fedplane.scheduler.main"),
    "aggregator": Role("no round is opened, closed or folded", "fedplane.aggregator.main"),
    "status": Role("`get`, `watch` and `explain` show what was, and ended runs stay on the log", "fedplane.status.main"),
}
"""The services that every federation needs. A driver is needed by runs with `strategy: {name: app}` alone."""


def _services(seen: BusSeen) -> Iterator[Finding]:
    if "readers" in seen.unseen:
        yield warning(f"who reads the log cannot be seen: {seen.unseen['readers']}", "look as somebody who may list the consumers of LOG")
        return
    asking = {reader.name for reader in seen.readers if reader.asking}
    for name, role in ROLES.items():
        alive = sorted(reader for reader in asking if reader.partition(" ")[0] == name)
        silent = sorted({reader.name for reader in seen.readers if reader.name.partition(" ")[0] == name} - asking)
        if alive:
            count = "one replica" if len(alive) == 1 else f"{len(alive)} replicas"
            yield ok(f"{name}: {count}, {listed([_replica(each) for each in alive])}")
        else:
            gone = f"; {listed(silent)} was there within the last minute" if silent else ""
            mend = f"start one: `fedplane up` does, or `python -m {role.module}`; on Kubernetes see `kubectl get deployment {name}`"
            yield problem(f"no {name} reads the log, so {role.missing}{gone}", mend)


def _replica(name: str) -> str:
    return name.partition(" ")[2] or name


def _driver(seen: BusSeen) -> Iterator[Finding]:
    if "readers" not in seen.unseen:
        drivers = sorted(reader.name for reader in seen.readers if reader.asking and reader.name.startswith("driver"))
        yield ok(f"drivers: {listed(drivers)}" if drivers else "no driver runs; only runs with `strategy: {name: app}` need one")


def _subscriptions(seen: BusSeen) -> Iterator[Finding]:
    if "subscriptions" in seen.unseen:
        yield warning(f"durable subscriptions cannot be seen: {seen.unseen['subscriptions']}", "look as somebody who may list consumers")
        return
    said = [f"{each.name} of {each.owner} {_distance(each)}" for each in seen.subscriptions]
    yield ok(f"durable subscriptions: {listed(said)}" if said else "no durable subscriptions")
    if len(said) >= DURABLES_MAX:
        yield warning(f"there are {len(said)} durable subscriptions, and no more are taken", "`fedplane events --forget NAME` removes one")


def _distance(subscription: SubscriptionSeen) -> str:
    return f"is {subscription.behind:,} facts behind" if subscription.behind else "has heard everything"


def _work(seen: BusSeen) -> Iterator[Finding]:
    folds, timers = seen.queues.get(FOLDS), seen.queues.get(TIMERS)
    if folds is not None and folds.waiting and not folds.idle and not folds.under_way:
        yield problem(
            f"{_tasks(folds)} to fold, and no aggregator takes any", "start or restart an aggregator; its log says why it stopped"
        )
    elif folds is not None:
        yield ok(f"folding: {folds.idle} wait for work, {folds.under_way} tasks are under way, {folds.waiting} wait")
    if timers is not None and not timers.idle and not timers.under_way:
        yield problem("nobody keeps the timers, so no deadline comes", "start or restart an aggregator: it keeps them")
    elif timers is not None:
        yield ok(f"timers: kept by {timers.idle + timers.under_way}")


def _tasks(queue: QueueSeen) -> str:
    return f"{queue.waiting} task{' waits' if queue.waiting == 1 else 's wait'}"


def _clusters(seen: BusSeen) -> Iterator[Finding]:
    if "clusters" in seen.unseen:
        yield warning(f"the clusters cannot be seen: {seen.unseen['clusters']}", "look as somebody who may read the stream FLEET")
        return
    if seen.now is None:
        return
    if not seen.advertised:
        yield warning(
            "no cluster has ever advertised itself, so every run waits",
            "start collaborators: `fedplane up --clusters FILE`, or one on each cluster with FEDPLANE_NATS_URL and FEDPLANE_CLUSTER",
        )
        return
    lapsed = [each for each in seen.advertised if not _holds(each, seen.now)]
    for each in lapsed[: len(lapsed) if len(lapsed) == 1 else 0]:
        yield warning(f"{each.cluster} has not been heard of for {span((seen.now - each.at).total_seconds())}", _start_again(each.cluster))
    if len(lapsed) > 1:
        names = listed([f"{each.cluster} ({span((seen.now - each.at).total_seconds())})" for each in lapsed])
        yield warning(f"{len(lapsed)} of {len(seen.advertised)} clusters have not been heard of: {names}", _start_again("each"))
    closed = [each for each in seen.advertised if _holds(each, seen.now) and each.unavailable]
    if closed:
        yield warning(
            f"{len(closed)} cluster{'' if len(closed) == 1 else 's'} can take no run: "
            + listed([f"{each.cluster}: {each.unavailable}" for each in closed]),
            "mend what each of them says",
        )
    alive = [each.cluster for each in seen.advertised if _holds(each, seen.now) and not each.unavailable]
    if alive:
        yield ok(f"{len(alive)} cluster{'' if len(alive) == 1 else 's'} can take runs: {listed(alive)}")


def _holds(fact: Advertised, now: datetime) -> bool:
    return now < fact.at + timedelta(seconds=fact.lease_seconds)


def _start_again(cluster: str) -> str:
    return f"if {cluster} should take part, start its collaborator again and see that it reaches the server; else leave it"


def _own_clock(seen: BusSeen) -> Iterator[Finding]:
    if "clock" in seen.unseen:
        yield warning(f"the server's clock could not be asked: {seen.unseen['clock']}", "try again")
    elif seen.now is not None:
        said = f"this machine's clock is {_offset(seen.ahead_seconds)} the server's (give or take {seen.doubt_seconds:.3f} s)"
        certain = max(0.0, abs(seen.ahead_seconds) - seen.doubt_seconds)
        yield _judged(certain, said, "set this machine's clock by NTP, or the server's: `timedatectl` says whether it is")


def _other_clocks(seen: BusSeen) -> Iterator[Finding]:
    """A fact takes time to arrive, so a source is as far ahead as its quickest fact says, at least; and is no further behind than that."""
    ahead: dict[str, float] = {}
    for stamp in seen.stamps:
        if seen.now is not None and seen.now - stamp.stored_at > RECENT:
            continue
        seconds = (stamp.at - stamp.stored_at).total_seconds()
        ahead[stamp.source] = max(seconds, ahead.get(stamp.source, seconds))
    wrong = {source: seconds for source, seconds in sorted(ahead.items()) if abs(seconds) >= SKEW_WARNING_SECONDS}
    for source, seconds in sorted(wrong.items(), key=lambda each: (-abs(each[1]), each[0]))[:3]:
        said = f"the clock of {source} is {_offset(seconds)} the server's, by the facts that it stated"
        yield _judged(abs(seconds), said, "set the clock of its machine by NTP; leases and deadlines compare clocks")
    if len(wrong) > 3:
        yield warning(
            f"the clocks of {len(wrong) - 3} others differ as well", "look at the server's clock first: it is what they have in common"
        )
    if ahead and not wrong:
        by_role = Counter(source.strip("/").split("/")[1] if source.count("/") > 1 else source for source in ahead)
        said = ", ".join(f"{role} ({count})" for role, count in sorted(by_role.items()))
        yield ok(f"the clocks of those who stated facts agree with the server's: {said}")


def _offset(seconds: float) -> str:
    return f"{abs(seconds):.3f} s {'ahead of' if seconds > 0 else 'behind'}"


def _judged(seconds: float, said: str, mend: str) -> Finding:
    if seconds >= SKEW_PROBLEM_SECONDS:
        return problem(said, mend)
    return warning(said, mend) if seconds >= SKEW_WARNING_SECONDS else ok(said)


CHECKS: Checks[BusSeen] = {
    "services": _services,
    "driver": _driver,
    "subscriptions": _subscriptions,
    "work": _work,
    "clusters": _clusters,
    "clock": _own_clock,
    "other clocks": _other_clocks,
}
"""Who must live, and by which time."""
