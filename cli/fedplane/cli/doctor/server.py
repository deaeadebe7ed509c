"""Is the server, with its streams, one that a federation can live on? Pure.

What is asked of it: a version with message schedules, JetStream, streams as this version declares them, with room left,
messages as large as a chunk, and the right to publish. Who lives on it is judged in `roles`.
"""

import re
from collections.abc import Iterator

from fedplane.cli.doctor.findings import Checks, Finding, listed, ok, problem, warning
from fedplane.runtime.headroom import NEW_RUNS_SHARE
from fedplane.runtime.observed import Access, BusSeen, StreamSeen

__all__ = ["CHECKS"]

OLDEST_VERSION = (2, 12)
"""Message schedules, by which deadlines are kept, came with it: ADR-51 of the NATS architecture repository."""

PAYLOAD_BYTES_MIN = 1_010_000
"""A chunk has a million bytes at most, a fact less; the rest is for headers."""

FULL_SHARE = 0.95
NEARLY_FULL_SHARE = 0.8
"""Of what a stream may hold: a round of updates may be a tenth of BULK, so a warning leaves the time for two of them."""

LOG, ACCESS = "LOG", "ACCESS"

DROPPING = frozenset({"FLEET", "TIMERS"})
"""Streams that make room by themselves, by dropping what is oldest."""

SURVIVING = 3
"""So many servers, and copies, outlive the loss of one."""

OWN_TRIALS = frozenset({"state facts of runs", "store models to begin with"})
"""What the command line itself does; the rest are other roles' rights, which may well be theirs alone."""

UNEDITABLE = frozenset({"retention", "storage", "deny_delete", "deny_purge", "allow_msg_schedules", "mirror"})
"""Fields that a server does not let anybody change, or not back, once a stream is made."""


def _version(seen: BusSeen) -> Iterator[Finding]:
    numbers = re.findall(r"\d+", seen.version)[:2]
    wanted = ".".join(map(str, OLDEST_VERSION))
    if len(numbers) < 2:
        yield warning(f"the server says that its version is {seen.version!r}", f"make sure that it is nats-server {wanted} or newer")
    elif (int(numbers[0]), int(numbers[1])) < OLDEST_VERSION:
        yield problem(
            f"nats-server {seen.version} has no message schedules, so no deadline of a round would ever come",
            f"upgrade it to {wanted} or newer; its store can stay",
        )
    else:
        yield ok(f"nats-server {seen.version}; message schedules need {wanted}")


def _jetstream(seen: BusSeen) -> Iterator[Finding]:
    if "jetstream" in seen.unseen:
        yield problem(f"JetStream cannot be asked: {seen.unseen['jetstream']}", "have these credentials allowed to publish `$JS.API.>`")
    elif seen.jetstream:
        yield ok("JetStream is on")
    else:
        yield problem(
            "JetStream is off, for this account at least, so nothing can be stored",
            "add `jetstream { store_dir: ... }` to the server's configuration, and enable it for the account",
        )


def _payload(seen: BusSeen) -> Iterator[Finding]:
    if seen.payload_bytes_max < PAYLOAD_BYTES_MIN:
        yield problem(
            f"the server takes messages of {seen.payload_bytes_max:,} bytes, and a chunk of a model with its headers has up to "
            f"{PAYLOAD_BYTES_MIN:,}",
            "set `max_payload: 1MB` in the server's configuration and reload it, or FEDPLANE_CHUNK_BYTES of the aggregators lower",
        )
    else:
        yield ok(f"messages may have {seen.payload_bytes_max:,} bytes")


def _streams(seen: BusSeen) -> Iterator[Finding]:
    if not seen.jetstream:
        return
    hidden = [name for name in seen.streams if f"stream {name}" in seen.unseen]
    for name in hidden:
        yield warning(f"{name} cannot be looked at: {seen.unseen[f'stream {name}']}", "look as somebody who may, or try again")
    missing = [name for name, stream in seen.streams.items() if stream is None and name not in hidden]
    if missing:
        yield problem(
            f"there is no {listed(missing)}",
            "start a scheduler, an aggregator or a status service with FEDPLANE_NATS_URL set to this server: it makes what is missing",
        )
    there = {name: stream for name, stream in seen.streams.items() if stream is not None}
    drifted = {name: stream for name, stream in there.items() if stream.drift}
    for name, stream in drifted.items():
        yield _drifted(name, stream)
    sound = [name for name in there if name not in drifted]
    if sound:
        yield ok(f"{', '.join(sound)} {'is' if len(sound) == 1 else 'are'} as this version declares")


def _drifted(name: str, stream: StreamSeen) -> Finding:
    said = "; ".join(f"{each.field} is {each.found!r} instead of {each.wanted!r}" for each in stream.drift)
    if any(each.field in UNEDITABLE for each in stream.drift):
        mend = f"no edit can mend all of it: when no run goes on, `nats stream rm {name}` and restart a service, which makes it anew, empty"
        if name == ACCESS:
            mend += "; read `fedplane access list` before, and revoke again at once whoever is not to be let in"
    else:
        mend = f"set it back with `nats stream edit {name}`; if nobody changed it, another version of fedplane made it"
    return problem(f"{name}: {said}", mend)


def _queues(seen: BusSeen) -> Iterator[Finding]:
    hidden = [name for name in seen.queues if f"consumer {name}" in seen.unseen]
    missing = [name for name, queue in seen.queues.items() if queue is None and name not in hidden]
    for name in hidden:
        yield warning(
            f"the consumer {name} cannot be looked at: {seen.unseen[f'consumer {name}']}", "look as somebody who may, or try again"
        )
    if missing:
        yield problem(
            f"there is no consumer {listed(missing)}, so {'deadlines do not come' if 'timers' in missing else 'nothing is folded'}",
            "restart an aggregator, which makes it",
        )
    elif seen.queues and not hidden:
        yield ok(f"the consumers {' and '.join(seen.queues)} are there")


def _copies(seen: BusSeen) -> Iterator[Finding]:
    there = {name: stream for name, stream in seen.streams.items() if stream is not None}
    behind = {name: stream.behind for name, stream in there.items() if stream.behind}
    for name, late in behind.items():
        yield warning(
            f"{name} has copies that are offline or behind, on {listed(late)}",
            "start those servers, or wait until they have caught up; another one lost now stops the federation",
        )
    single = [name for name, stream in there.items() if stream.copies == 1]
    even = [name for name, stream in there.items() if stream.copies % 2 == 0]
    if seen.servers >= SURVIVING and single:
        yield warning(
            f"the cluster has {seen.servers} servers, and {listed(single)} one copy: the loss of one server stops the federation",
            f"`nats stream edit NAME --replicas {SURVIVING}` for each, and FEDPLANE_STREAM_REPLICAS={SURVIVING} for stores to come",
        )
    if even:
        yield warning(
            f"{listed(even)} {'has' if len(even) == 1 else 'have'} an even number of copies, which survives no more than one less",
            "`nats stream edit NAME --replicas N` with an odd N",
        )
    if there and not (behind or even or (seen.servers >= SURVIVING and single)):
        copies = sorted({stream.copies for stream in there.values()})
        servers = "one server" if seen.servers == 1 else f"a cluster of {seen.servers} servers"
        yield ok(f"copies of streams: {', '.join(map(str, copies))}, on {servers}")


def _room(seen: BusSeen) -> Iterator[Finding]:
    there = {name: stream for name, stream in seen.streams.items() if stream is not None}
    bounded = [(name, stream.bytes, stream.bytes_max) for name, stream in there.items() if stream.bytes_max]
    for name, used, most in bounded:
        share, said = used / most, f"{name} holds {used / 1e6:,.1f} of {most / 1e6:,.1f} MB"
        mend = f"raise its limit, `nats stream edit {name} --max-bytes N`, or have less kept: docs/how-to/keep-the-log-small.md"
        if name in DROPPING and share >= FULL_SHARE:
            yield problem(f"{said} and drops what is oldest", mend)
        elif name == LOG and share >= NEW_RUNS_SHARE:
            yield problem(f"{said}: it takes no new run", mend)
        elif share >= FULL_SHARE:
            yield problem(f"{said} and is about to refuse more", mend)
        elif share >= NEARLY_FULL_SHARE:
            yield warning(said, mend)
    if bounded and all(used < most * NEARLY_FULL_SHARE for _, used, most in bounded):
        name, used, most = max(bounded, key=lambda each: each[1] / each[2])
        yield ok(f"every stream has room; the fullest is {name}, {used / most:.0%} of {most / 1e6:,.0f} MB")


def _letters(seen: BusSeen) -> Iterator[Finding]:
    letters = seen.letters
    if "letters" in seen.unseen:
        yield warning(f"dead letters cannot be looked at: {seen.unseen['letters']}", "look as somebody who may, or try again")
    elif letters is None or not letters.by_reader:
        yield ok("no webhook has left dead letters")
    else:
        counts = listed([f"{count} of {reader}" for reader, count in letters.by_reader.items()])
        mend = "`fedplane forward --dead NAME` says why, and `fedplane forward ADDRESS --again NAME` sends them once more"
        if letters.bytes_max and letters.bytes >= letters.bytes_max * FULL_SHARE:
            yield problem(f"dead letters: {counts}, and there is room for no more, so forwarders wait", mend)
        else:
            yield warning(f"dead letters: {counts}", mend)


def _permissions(seen: BusSeen) -> Iterator[Finding]:
    if "permissions" in seen.unseen:
        yield warning(f"permissions could not be tried: {seen.unseen['permissions']}", "try again when the server has less to do")
    by_access = {access: [trial.what for trial in seen.trials if trial.access is access] for access in Access}
    for what in by_access[Access.DENIED]:
        if what in OWN_TRIALS:
            yield problem(
                f"these credentials may not {what}", "ask whoever runs the server for permission, or name other credentials: an operator's"
            )
    for what in by_access[Access.STORED]:
        yield problem(
            f"something that stands between us and the server took the attempt to {what}, which JetStream must refuse",
            "publish to nats-server itself; facts are no facts without its fences",
        )
    if by_access[Access.SILENT]:
        yield warning(
            f"no usable answer came to the attempt to {listed(by_access[Access.SILENT])}", "look again; if it stays, read the server's log"
        )
    others = [what for what in by_access[Access.DENIED] if what not in OWN_TRIALS]
    if by_access[Access.ALLOWED]:
        but = f"; not, as the command line need not: {listed(others)}" if others else ""
        yield ok(f"these credentials may {', '.join(by_access[Access.ALLOWED])}{but}, and fences hold")


CHECKS: Checks[BusSeen] = {
    "version": _version,
    "jetstream": _jetstream,
    "payload": _payload,
    "streams": _streams,
    "consumers": _queues,
    "copies": _copies,
    "room": _room,
    "letters": _letters,
    "permissions": _permissions,
}
"""What is asked of a server, in the order in which one mends it."""
