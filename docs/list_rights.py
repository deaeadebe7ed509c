"""Writes `docs/reference/permissions.md` from the grants of the authorizer: every role, and every kind of subject, and whether it may.

    python docs/list_rights.py            writes the page
    python docs/list_rights.py --check    fails if the committed page is not what would be written

Each right is one subject that stands for its kind. The same table is tried on a real server, by tests/integration/test_authorizer.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedplane.authorizer import grants
from fedplane.authorizer import jetstream as js
from fedplane.authorizer.grants import Grant, Role
from fedplane.runtime.memory import matches
from fedplane.schemas.facts import (
    EVERYTHING,
    FACTS,
    Advertised,
    Closed,
    Contributed,
    Declined,
    Evaluated,
    Expired,
    Fact,
    Invited,
    Rejected,
    RoundFailed,
    Submitted,
    all_facts_of,
)
from fedplane.schemas.generate import keep
from fedplane.schemas.subjects import archive_piece, asked_piece, given_piece, model_piece, reply_piece, update_piece, work_on

PAGE = Path(__file__).parent / "reference" / "permissions.md"

CLUSTER, OTHER = "amsterdam", "berlin"
MINE, ANOTHERS = "mine-01234567", "theirs-01234567"

OWN, ENDS = (Contributed, Evaluated, Declined, Rejected), (Closed, RoundFailed)
QUEUES = {"lease work": (js.WORK, js.FOLDS), "keep timers": (js.TIMERS, js.KEPT_TIMERS)}
ASKING = {role: CLUSTER if role is Role.COLLABORATOR else "one" for role in Role if role is not Role.SUBSCRIBER}


@dataclass(frozen=True)
class Right:
    """A kind of subject in words, one of its subjects, and whether it is for hearing."""

    words: str
    subject: str
    hears: bool = False


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
    *(_last(f"its own `{fact.type.split('.')[-2]}`", js.LOG, js.STATED + fact.pattern(run=MINE, round=1, cluster=CLUSTER)) for fact in OWN),
    *(_last(f"of a round of its run `{fact.type.split('.')[-2]}`", js.LOG, js.STATED + fact.pattern(run=MINE, round=1)) for fact in ENDS),
    _last("another cluster's contribution", js.LOG, js.STATED + Contributed.pattern(run=MINE, round=1, cluster=OTHER)),
    _last("what its run is", js.LOG, js.STATED + Submitted.pattern(run=MINE)),
    _last("what another run is", js.LOG, js.STATED + Submitted.pattern(run=ANOTHERS)),
    _last("what it offers", js.FLEET, js.STATED + Advertised.pattern(cluster=CLUSTER)),
    _last("what another cluster offers", js.FLEET, js.STATED + Advertised.pattern(cluster=OTHER)),
    Right("read the log by sequence", "$JS.API.DIRECT.GET.LOG"),
    Right("read chunks by sequence", "$JS.API.DIRECT.GET.BULK"),
    *(Right(f"read any message of {stream} from its leader", js.read_register(stream)) for stream in js.STREAMS),
    *(Right(f"make a consumer of {stream}, with any filter", js.read_any(stream)[0].replace("*", "reader-1")) for stream in js.STREAMS),
    Right("make a durable listener", "$JS.API.CONSUMER.DURABLE.CREATE.LOG.somebody"),
    Right("remove a consumer", "$JS.API.CONSUMER.DELETE.LOG.somebody"),
    Right("be sent what its own consumer has", js.next_messages(js.LOG, f"collaborator-{CLUSTER}")),
    Right("be sent what another's consumer has", js.next_messages(js.LOG, f"collaborator-{OTHER}")),
    *(Right(f"be sent what a reader of {stream} has", js.next_messages(stream, "reader-1")) for stream in (js.FLEET, js.VIEWS)),
    *(Right(f"{words} (find)", js.lease(*queue)[0]) for words, queue in QUEUES.items()),
    *(Right(f"{words} (take)", js.lease(*queue)[1]) for words, queue in QUEUES.items()),
    *(Right(f"{words} (finish)", js.lease(*queue)[2].replace(">", "1")) for words, queue in QUEUES.items()),
    *(Right(f"{words} (make the queue)", f"$JS.API.CONSUMER.DURABLE.CREATE.{'.'.join(queue)}") for words, queue in QUEUES.items()),
    *(Right(f"look for a reader of {stream}", js.inspect(stream)[0].replace("*", "1")) for stream in (js.LOG, js.FLEET)),
    *(Right(f"list readers of {stream}", js.inspect(stream)[1]) for stream in (js.LOG, js.FLEET)),
    *(Right(f"ask what is on {stream}", js.describe(stream)) for stream in js.STREAMS),
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
    Right("hear what is stated before it is stored", "log.fed.v1.>", hears=True),
    Right("hear chunks", "bulk.fed.v1.>", hears=True),
    Right("hear everybody's answers", "_INBOX.>", hears=True),
    Right("hear another cluster's answers", f"{grants.inbox_of(Role.COLLABORATOR, OTHER)}.>", hears=True),
    *(Right(f"hear what is answered to `{role}`", f"{grants.inbox_of(role, name)}.>", hears=True) for role, name in ASKING.items()),
    Right("hear everything", ">", hears=True),
    Right("hear the server", "$SYS.>", hears=True),
)
"""Every right that there is, and beside each what is next to it."""

OPENING = f"""\
<!-- Generated by `python docs/list_rights.py`; do not edit. -->

# Permissions

Who may do what on the bus, as the authorizer grants it.
No federation has an authorizer yet: what holds today is in [secure](../how-to/secure.md).
Why it is done so, and what is missing, is in [0019](../adr/0019-rights-come-from-certificates-and-the-log.md).

The collaborator is that of the cluster `{CLUSTER}`, which takes part in one run ("its run").
What is empty is denied. Each cell is tried on a real server, both ways.

"""


def allows(grant: Grant, right: Right) -> bool:
    """Whether the grant has the right. A subscription has to lie in one of the patterns, and wildcards match only wildcards."""
    return any(matches(pattern, right.subject) for pattern in (grant.subscribe if right.hears else grant.publish))


def page() -> str:
    """The whole page."""
    return OPENING + "\n".join(_table()) + "\n"


def _table() -> Iterator[str]:
    granted = [grants.collaborator(CLUSTER, [MINE]) if role is Role.COLLABORATOR else grants.of_role(role, "one") for role in Role]
    yield f"| may | {' | '.join('command line' if role is Role.OPERATOR else role for role in Role)} |"
    yield "|---" * (len(granted) + 1) + "|"
    for right in RIGHTS:
        yield f"| {right.words} | {' | '.join('yes' if allows(grant, right) else '' for grant in granted)} |"


def main() -> None:
    """See the module's description."""
    keep("docs/list_rights.py", "Write the page of permissions.", {PAGE: page()})


if __name__ == "__main__":
    main()
