"""Writes `docs/security.md` from the grants of the authorizer: every role, and every kind of subject, and whether it may.

    python docs/list_rights.py            writes the page
    python docs/list_rights.py --check    fails if the committed page is not what would be written

The words above the table stand here as well.
Each right is one subject that stands for its kind. The same table is tried on a real server, by tests/integration/test_authorizer.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedplane.authorizer import grants
from fedplane.authorizer import jetstream as js
from fedplane.authorizer.grants import Grant
from fedplane.authorizer.standing import GRACE_SECONDS
from fedplane.schemas.facts import (
    EVERYTHING,
    FACTS,
    Advertised,
    Bound,
    Closed,
    Contributed,
    Declined,
    Entrusted,
    Evaluated,
    Expired,
    Fact,
    Invited,
    Keyed,
    Lapsed,
    Paired,
    Rejected,
    Revealed,
    RoundFailed,
    Shared,
    Submitted,
    all_facts_of,
)
from fedplane.schemas.generate import keep
from fedplane.schemas.patterns import matches
from fedplane.schemas.roles import Role, inbox_of
from fedplane.schemas.subjects import (
    archive_piece,
    asked_piece,
    dead_letter,
    given_piece,
    listen,
    model_piece,
    reader_of,
    reply_piece,
    update_piece,
    work_on,
)

PAGE = Path(__file__).parent / "security.md"

CLUSTER, OTHER = "amsterdam", "berlin"
MINE, ANOTHERS = "mine-01234567", "theirs-01234567"

OWN, TO_ALL = (Contributed, Evaluated, Declined, Rejected, Keyed, Shared, Entrusted, Revealed), (Closed, RoundFailed, Paired, Bound)
MASKED = (Keyed, Shared, Revealed)
SENT = (js.FLEET, js.ACCESS, js.VIEWS, js.BULK)
QUEUES = {"lease work": (js.WORK, js.FOLDS), "keep timers": (js.TIMERS, js.KEPT_TIMERS)}
NAMES = {role: CLUSTER if role is Role.COLLABORATOR else "one" for role in Role}
TENANT = "tenant"

GRANTS: Mapping[str, Grant] = {
    **{
        "command line" if role is Role.OPERATOR else role: grants.of_role(role, NAMES[role])
        for role in Role
        if role not in (Role.COLLABORATOR, Role.SUBSCRIBER)
    },
    "collaborator": grants.collaborator(CLUSTER, [MINE]),
    "subscriber": grants.subscriber(NAMES[Role.SUBSCRIBER], [EVERYTHING]),
    "tenant": grants.subscriber(TENANT, [all_facts_of(MINE)]),
}
"""The columns, and what each of them was granted."""


@dataclass(frozen=True)
class Right:
    """A kind of subject in words, one of its subjects, and whether it is for hearing."""

    words: str
    subject: str
    hears: bool = False


def _word(fact: type[Fact]) -> str:
    return fact.type.split(".")[-2]


def _said(fact: type[Fact]) -> Right:
    named = {"run": MINE, "round": 1, "cluster": CLUSTER}
    given = {name: value for name, value in named.items() if f"{{{name}}}" in fact.template}
    subject = fact.pattern(**given).replace("*", "1")
    return Right(f"state `{fact.template}`", js.STATED + subject)


def _last(words: str, stream: str, subject: str) -> Right:
    return Right(f"read {words}", js.last(stream, subject))


RIGHTS: tuple[Right, ...] = (
    *(_said(fact) for fact in FACTS),
    Right("state `contributed` of another cluster", js.STATED + Contributed.pattern(run=MINE, round=1, cluster=OTHER)),
    Right("state `contributed` in a run without it", js.STATED + Contributed.pattern(run=ANOTHERS, round=1, cluster=CLUSTER)),
    *(Right(f"state `{_word(fact)}` of another cluster", js.STATED + fact.pattern(run=MINE, round=1, cluster=OTHER)) for fact in MASKED),
    Right("state `advertised` of another cluster", js.STATED + Advertised.pattern(cluster=OTHER)),
    Right("store its update", update_piece(MINE, 1, CLUSTER, "a", 0) + ".0"),
    Right("store another cluster's update", update_piece(MINE, 1, OTHER, "a", 0) + ".0"),
    Right("store its update in a run without it", update_piece(ANOTHERS, 1, CLUSTER, "a", 0) + ".0"),
    Right("store a model", model_piece(MINE, 1, "a", 0) + ".0"),
    Right("store the mean of replies", reply_piece(MINE, 1, "a", 0) + ".0"),
    Right("store what an app's server asks", asked_piece(MINE, 1, "a", 0) + ".0"),
    Right("store a model to start from", given_piece(MINE, "a", 0) + ".0"),
    Right("store an archive", archive_piece(MINE, "a") + ".0"),
    Right("set a timer", f"timer.{Expired.pattern(run=MINE, round=1)}"),
    Right("set a timer of a step", f"timer.{Lapsed.pattern(run=MINE, round=1, step='sharing')}"),
    Right("offer work", work_on("fold", MINE, 1, 0)),
    Right("show a run", js.view(MINE)),
    _last("a model of its run", js.BULK, model_piece(MINE, 1, "a", 0) + ".0"),
    _last("a model of another run", js.BULK, model_piece(ANOTHERS, 1, "a", 0) + ".0"),
    _last("what an app's server asks", js.BULK, asked_piece(MINE, 1, "a", 0) + ".0"),
    _last("a model to start from", js.BULK, given_piece(MINE, "a", 0) + ".0"),
    _last("an update", js.BULK, update_piece(MINE, 1, OTHER, "a", 0) + ".0"),
    _last("the mean of replies", js.BULK, reply_piece(MINE, 1, "a", 0) + ".0"),
    _last("an archive", js.BULK, archive_piece(MINE, "a") + ".0"),
    _last("its invitation", js.LOG, js.STATED + Invited.pattern(run=MINE, round=1, cluster=CLUSTER)),
    _last("another cluster's invitation", js.LOG, js.STATED + Invited.pattern(run=MINE, round=1, cluster=OTHER)),
    *(_last(f"its own `{_word(fact)}`", js.LOG, js.STATED + fact.pattern(run=MINE, round=1, cluster=CLUSTER)) for fact in OWN),
    *(_last(f"of a round of its run `{_word(fact)}`", js.LOG, js.STATED + fact.pattern(run=MINE, round=1)) for fact in TO_ALL),
    _last("another cluster's contribution", js.LOG, js.STATED + Contributed.pattern(run=MINE, round=1, cluster=OTHER)),
    *(
        _last(f"another cluster's `{_word(fact)}`", js.LOG, js.STATED + fact.pattern(run=MINE, round=1, cluster=OTHER))
        for fact in (*MASKED, Entrusted)
    ),
    _last("what its run is", js.LOG, js.STATED + Submitted.pattern(run=MINE)),
    _last("what another run is", js.LOG, js.STATED + Submitted.pattern(run=ANOTHERS)),
    _last("what it offers", js.FLEET, js.STATED + Advertised.pattern(cluster=CLUSTER)),
    _last("what another cluster offers", js.FLEET, js.STATED + Advertised.pattern(cluster=OTHER)),
    _last("how a run is shown", js.VIEWS, js.view(MINE)),
    Right("read the log by sequence", "$JS.API.DIRECT.GET.LOG"),
    Right("read chunks by sequence", "$JS.API.DIRECT.GET.BULK"),
    *(Right(f"read any message of {stream} from its leader", js.read_register(stream)) for stream in js.STREAMS),
    *(Right(f"make a consumer of {stream}, with any filter", js.read_any(stream)[0].replace("*", "reader-1")) for stream in js.STREAMS),
    *(Right(f"make a durable listener to {stream}", f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.somebody") for stream in js.FACT_STREAMS),
    *(Right(f"be done with what a listener to {stream} was handed", f"$JS.ACK.{stream}.somebody.1") for stream in js.FACT_STREAMS),
    *(Right(f"remove a consumer of {stream}", f"$JS.API.CONSUMER.DELETE.{stream}.somebody") for stream in js.FACT_STREAMS),
    Right("ask who reads a durable listener", reader_of("somebody")),
    Right("hear who asks for a durable listener", reader_of("*"), hears=True),
    Right("ask for a reader of its runs", listen(Role.COLLABORATOR, CLUSTER)),
    Right("ask for a reader of its run", listen(Role.COLLABORATOR, CLUSTER, MINE)),
    Right("ask for a reader of a run without it", listen(Role.COLLABORATOR, CLUSTER, ANOTHERS)),
    Right("ask for another cluster's reader", listen(Role.COLLABORATOR, OTHER)),
    Right("hear who asks for a reader", listen(Role.COLLABORATOR, ">"), hears=True),
    Right("be sent what its own reader has", js.next_messages(js.LOG, f"collaborator-{CLUSTER}")),
    Right("be sent what its reader of its run has", js.next_messages(js.LOG, f"collaborator-{CLUSTER}_{MINE}")),
    Right("be sent what its reader of another run has", js.next_messages(js.LOG, f"collaborator-{CLUSTER}_{ANOTHERS}")),
    Right("be sent what another's reader has", js.next_messages(js.LOG, f"collaborator-{OTHER}")),
    Right("keep a dead letter", dead_letter("somebody", 1)),
    Right("make the stream of dead letters", f"$JS.API.STREAM.CREATE.{js.LETTERS}"),
    Right("ask what dead letters there are", js.describe(js.LETTERS)),
    Right("make a consumer of dead letters", js.read_any(js.LETTERS)[0].replace("*", "reader-1")),
    Right("be sent dead letters", js.next_messages(js.LETTERS, "reader-1")),
    Right("remove dead letters", js.purge(js.LETTERS)),
    *(Right(f"be sent what a reader of {stream} has", js.next_messages(stream, "reader-1")) for stream in SENT),
    *(Right(f"{words} (find)", js.lease(*queue)[0]) for words, queue in QUEUES.items()),
    *(Right(f"{words} (take)", js.lease(*queue)[1]) for words, queue in QUEUES.items()),
    *(Right(f"{words} (finish)", js.lease(*queue)[2].replace(">", "1")) for words, queue in QUEUES.items()),
    *(Right(f"{words} (make the queue)", f"$JS.API.CONSUMER.DURABLE.CREATE.{'.'.join(queue)}") for words, queue in QUEUES.items()),
    *(Right(f"look for a reader of {stream}", js.inspect(stream)[0].replace("*", "1")) for stream in js.FACT_STREAMS),
    *(Right(f"list readers of {stream}", js.inspect(stream)[1]) for stream in js.FACT_STREAMS),
    *(Right(f"ask what is on {stream}", js.describe(stream)) for stream in js.STREAMS),
    Right("ask what the server has room for", "$JS.API.INFO"),
    *(Right(f"make the stream {stream}", f"$JS.API.STREAM.CREATE.{stream}") for stream in js.STREAMS),
    *(Right(f"change the stream {stream}", f"$JS.API.STREAM.UPDATE.{stream}") for stream in js.STREAMS),
    *(Right(f"remove the stream {stream}", f"$JS.API.STREAM.DELETE.{stream}") for stream in js.STREAMS),
    *(Right(f"purge {stream}", js.purge(stream)) for stream in js.STREAMS),
    Right("announce a fact that was not stored", Submitted.pattern(run=MINE)),
    Right("answer who may connect", "$SYS.REQ.USER.AUTH"),
    Right("hear all facts", EVERYTHING, hears=True),
    Right("hear its invitations", Invited.pattern(run=MINE, cluster=CLUSTER), hears=True),
    Right("hear another cluster's invitations", Invited.pattern(run=MINE, cluster=OTHER), hears=True),
    Right("hear all of its run", all_facts_of(MINE), hears=True),
    Right("hear all of another run", all_facts_of(ANOTHERS), hears=True),
    Right("hear what is stated before it is stored", "log.fed.v1.>", hears=True),
    Right("hear chunks", "bulk.fed.v1.>", hears=True),
    Right("hear everybody's answers", "_INBOX.>", hears=True),
    Right("hear another cluster's answers", f"{inbox_of(Role.COLLABORATOR, OTHER)}.>", hears=True),
    *(Right(f"hear what is answered to `{role}`", f"{inbox_of(role, name)}.>", hears=True) for role, name in NAMES.items()),
    Right("hear everything", ">", hears=True),
    Right("hear the server", "$SYS.>", hears=True),
)
"""Every right that there is, and beside each what is next to it."""

OPENING = f"""\
<!-- Generated by `python docs/list_rights.py`; do not edit. -->

# Security: who may do what

The bus asks everyone for a certificate, and the authorizer what its holder may do.
Each connection may do what stands here and nothing else, and what it may do changes with the log.
A federation that was started with `--insecure` asks nobody, and then none of this holds.
How to set it up is in [secure](how-to/secure.md), what it protects from in [security](explanation/security.md).
Why it is done so is in [0019](adr/0019-rights-come-from-certificates-and-the-log.md), and for tenants in
[0020](adr/0020-rights-of-tenants-follow-the-log.md).

## Who is who

- **Scheduler, aggregator, status, authorizer and driver** have certificates of `fedplane:ROLE:NAME`, signed by the services' authority.
  They are in the account BUS, with the streams, and may do what their role needs.
- **The command line** has one of `fedplane:cli:NAME`, of the same authority and in the same account.
- **A collaborator** has the certificate of the add-on's agent on its cluster, signed by the clusters' authority.
  It is in the account CLUSTERS, which has no streams.
  It has rights in the runs that have the cluster among their participants, until {GRACE_SECONDS:g} s after their end.
- **A subscriber** has one of `fedplane:subscriber:NAME`, of the services' authority, and only the very certificate that was granted counts.
  It is in the account SUBSCRIBERS and hears what was granted: all announcements, some, or those of one namespace's runs, a *tenant*.

Nobody is let in whom somebody has revoked, whatever the certificate says, and whoever is connected then is cut off within a second.
A cluster that stores far more than it was asked for is revoked by the authorizer, and has as many connections as it can use at most.
A connection lasts an hour, or as long as the certificate and what was granted; whoever makes it anew is looked at anew.

## Each right of each role

The collaborator is that of the cluster `{CLUSTER}`, which takes part in one run ("its run").
The tenant is a subscriber who was granted the namespace from which that run was submitted.
What is empty is denied. Each cell is tried on a real server, both ways.

"""


def allows(grant: Grant, right: Right) -> bool:
    """Whether the grant has the right. A subscription has to lie in one of the patterns, and wildcards match only wildcards."""
    return any(matches(pattern, right.subject) for pattern in (grant.subscribe if right.hears else grant.publish))


def page() -> str:
    """The whole page."""
    return OPENING + "\n".join(_table()) + "\n"


def _table() -> Iterator[str]:
    yield f"| may | {' | '.join(GRANTS)} |"
    yield "|---" * (len(GRANTS) + 1) + "|"
    for right in RIGHTS:
        yield f"| {right.words} | {' | '.join('yes' if allows(grant, right) else '' for grant in GRANTS.values())} |"


def main() -> None:
    """See the module's description."""
    keep("docs/list_rights.py", "Write the page of rights.", {PAGE: page()})


if __name__ == "__main__":
    main()
