"""The commands `fedplane access ...`: who may use the bus, said by those who run it.

A certificate says who somebody is, and the log says whether that counts. So letting somebody in is a certificate and a fact,
and throwing somebody out is a fact alone: it holds for all certificates of that name, those that nobody remembers included.
The authorizer does the rest within a second. Here nothing is decided but what may be stated.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fedplane.cli import access_files, access_log, runs
from fedplane.cli.access_log import Access
from fedplane.cli.accounts import callout_variables
from fedplane.cli.connection import HERE, StateOption, Where, addressed, call
from fedplane.cli.credentials import keep_secret, owner_of
from fedplane.cli.directory import DEFAULT, Directory
from fedplane.cli.keys import ADDON, Keys
from fedplane.cli.output import Output, OutputOption, show
from fedplane.runtime.errors import BadInput, Unavailable
from fedplane.runtime.nats import without_secrets
from fedplane.runtime.ports import Bus
from fedplane.schemas.facts import Completed, Granted, Revoked
from fedplane.schemas.roles import Role

__all__ = ["COMMANDS", "app", "grant", "init", "issue", "list_", "restore", "revoke"]

app = typer.Typer(help="Say who may use the bus: subscribers, services, operators, clusters.", no_args_is_help=True)

AuthorityOption = Annotated[
    Path | None,
    typer.Option("--authority", metavar="DIR", help="Where services.crt and services.key are; `keys` of `fedplane up` if not given."),
]
ExpiresOption = Annotated[str, typer.Option("--expires", metavar="DURATION", help="How long it holds: 90m, 12h, 30d; at most 366d.")]
BundleOption = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Where the bundle goes: key, certificate and authority in one file.")
]
RoleArgument = Annotated[Role, typer.Argument(metavar="ROLE", help=f"What it does there: {', '.join(Role)}.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Its name among those of its role; a cluster's is that of the cluster.")]


def grant(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the subscriber is called here: lower-case letters, digits, dashes.")],
    subscribe: Annotated[
        list[str], typer.Option("--subscribe", metavar="PATTERN", help=f"What it may hear, as {Completed.pattern()}; repeatable.")
    ],
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAMESPACE", help="Only of runs that are submitted from this namespace.")
    ] = None,
    expires: ExpiresOption = "30d",
    output: BundleOption = None,
    authority: AuthorityOption = None,
    where: Where = HERE,
) -> None:
    """Let somebody hear facts, and nothing else.

    A certificate is made and stated on the bus. The bundle with its key is the only copy; hand it over as you would a password.

    Granting the same name again makes a new certificate, and the one before counts no more.

    Example: fedplane access grant dashboard --subscribe 'fed.v1.run.*.completed' --subscribe 'fed.v1.run.*.failed'

    Example: fedplane access grant team-a --subscribe 'fed.v1.run.>' --namespace team-a --expires 90d --output team-a.pem
    """
    lasts, patterns = access_files.lasting(expires), access_files.checked_patterns(subscribe, namespace)
    for given in (name, namespace or name):
        access_files.checked_name(given)
    file = access_files.place(output or Path(f"{name}.pem"), Role.SUBSCRIBER, name)
    issued, text = access_files.issue(_authorities(authority, where.state), Role.SUBSCRIBER, name, ADDON, now := _now(), lasts)
    granted = Granted(
        role=Role.SUBSCRIBER, name=name, at=now, expires_at=issued.until, fingerprint=issued.fingerprint,
        namespace=namespace or None, patterns=patterns,
    )  # fmt: skip

    async def body(bus: Bus) -> Access | None:
        before = _of(await access_log.every(bus.log), Role.SUBSCRIBER, name)
        with access_files.kept(file, text):
            await bus.log.state(granted)
        return before

    before = call(where, body)
    typer.echo(file)
    of = f" of runs from {namespace}" if namespace else ""
    _say(f"{name} hears {', '.join(patterns)}{of} until {issued.until:%Y-%m-%d %H:%M %Z}")
    if before is not None:
        again = f"{name} was revoked, and is let in again; " if isinstance(before.last, Revoked) else ""
        _say(f"{again}the certificate that {name} had before counts no more")
    _say("\n".join(access_files.ways_to_listen(granted, file, without_secrets(where.server.url))))
    _warn(where)


def issue(
    role: RoleArgument,
    name: NameArgument,
    expires: ExpiresOption = "30d",
    output: BundleOption = None,
    addon: Annotated[str, typer.Option("--addon", metavar="NAME", help="A cluster's add-on, as the authorizer has it.")] = ADDON,
    authority: AuthorityOption = None,
    state: StateOption = DEFAULT,
) -> None:
    """Make a certificate for an operator, a service, or a cluster that no hub gives one.

    It counts at once and needs no fact; the bus is not asked. `fedplane access revoke` ends it before its time.

    Example: fedplane access issue cli anna --expires 12h

    Example: fedplane access issue collaborator amsterdam --authority hub-keys --output amsterdam.pem
    """
    if role is Role.SUBSCRIBER:
        raise BadInput(f"a subscriber is let in by what is stated about it; `fedplane access grant {name} --subscribe PATTERN` does both")
    lasts = access_files.lasting(expires)
    for given in (name, addon):
        access_files.checked_name(given)
    file = access_files.place(output or Path(f"{role}-{name}.pem"), role, name)
    issued, text = access_files.issue(_authorities(authority, state), role, name, addon, _now(), lasts)
    with access_files.kept(file, text):
        typer.echo(file)
    _say(f"whoever has it is {role} {name} until {issued.until:%Y-%m-%d %H:%M %Z}:")
    _say("\n".join(access_files.ways_to_connect(role, name, file)))


def revoke(
    role: RoleArgument,
    name: NameArgument,
    message: Annotated[str, typer.Option("--message", help="Why, for those who look later.")] = "",
    where: Where = HERE,
) -> None:
    """Throw somebody out: a subscriber, a cluster in the midst of its runs, an operator, a service.

    Its connections are ended within a second, and none of its certificates lets it in again. What it has stated stays on the log.

    Example: fedplane access revoke collaborator amsterdam --message "its disk was stolen"

    Example: fedplane access revoke subscriber dashboard
    """
    access_files.checked_name(name)
    if role is Role.AUTHORIZER:
        raise BadInput("an authorizer that is thrown out could never read that it is let in again; make its authority anew instead")
    ours = where.server.credentials
    if ours is not None and owner_of(ours.certificate) == (role, name):
        raise BadInput(f"that is you, who could not let himself in again; `fedplane access issue {role} NAME` makes another one, who can")
    revoked = Revoked(role=role, name=name, at=_now(), message=message)

    async def body(bus: Bus) -> bool:
        await bus.log.state(revoked)
        return await _is_known(bus, role, name)

    if not call(where, body):
        _say(f"nothing was ever heard of a {role} {name}; is the name right?")
    _say(f"{role} {name} is not let in any more; `fedplane access restore {role} {name}` lets it in again")
    _warn(where)


def restore(role: RoleArgument, name: NameArgument, where: Where = HERE) -> None:
    """Let somebody in again who was thrown out, with the certificate and the rights of before.

    Example: fedplane access restore collaborator amsterdam
    """
    access_files.checked_name(name)

    async def body(bus: Bus) -> Granted:
        said = access_log.restored(_of(await access_log.every(bus.log), role, name), role, name, _now())
        await bus.log.state(said)
        return said

    granted = call(where, body)
    end = "" if granted.expires_at is None else f" until {granted.expires_at:%Y-%m-%d %H:%M %Z}"
    _say(f"{role} {name} is let in again{end}")


def list_(output: OutputOption = Output.TABLE, where: Where = HERE) -> None:
    """Show who was granted something or thrown out, and until when it holds.

    Services, operators and clusters need no grant, so they are listed only once something was said about them.

    Example: fedplane access list

    Example: fedplane access list -o json
    """

    async def body(bus: Bus) -> list[Access]:
        return await access_log.every(bus.log)

    everyone, now = call(where, body), _now()
    if not everyone and output.is_for_people:
        _say("Nothing was said about anybody yet; `fedplane access grant NAME --subscribe PATTERN` lets a subscriber in.")
        return
    show(output, [access_log.document(each, now) for each in everyone], lambda wide: access_log.access_table(everyone, now, wide=wide))


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to make them; what is there and good stays as it is.")],
    server_name: Annotated[
        list[str] | None,
        typer.Option("--server-name", metavar="HOST", help="A name or address under which clients reach the server; repeatable."),
    ] = None,
    expires: ExpiresOption = "90d",
) -> None:
    """Make the keys of a bus: two authorities, a certificate for the server and one for each service, and the authorizer's secrets.

    For `docker compose` and for Kubernetes; `fedplane up` makes its own. A second time it renews what has less than ten days left.

    Example: fedplane access init hub-keys --server-name nats --server-name nats.fedplane --server-name bus.example.org
    """
    hosts = tuple(server_name or ("localhost", "127.0.0.1"))
    keys = Keys(directory, hosts, access_files.lasting(expires), for_hub=True)
    try:
        keys.server.unlink(missing_ok=True)  # its names may be others now, and a certificate costs nothing
    except OSError as error:
        raise Unavailable(f"cannot use {directory}: {error.strerror}; name a directory that is, or can be made, your own") from error
    keys.provide((), _now())
    keep_secret(directory / "callout.conf", callout_variables(keys))  # what deploy/'s configuration of servers includes
    typer.echo(directory)
    _say(f"whoever can read {directory} can be anybody on this bus; the server is known as {', '.join(hosts)}")
    _say("a server and services that run with certificates of before go on with them, and read new ones when they connect again")


COMMANDS: dict[str, Callable[..., None]] = {
    "grant": grant,
    "list": list_,
    "revoke": revoke,
    "restore": restore,
    "issue": issue,
    "init": init,
}
"""The commands of this group, in the order in which help lists them."""

for word, function in COMMANDS.items():
    app.command(word)(addressed(function))


def _authorities(given: Path | None, state: Path) -> Path:
    return given or Directory.at(state).keys


def _of(everyone: list[Access], role: Role, name: str) -> Access | None:
    return next((each for each in everyone if (each.last.role, each.last.name) == (role, name)), None)


async def _is_known(bus: Bus, role: Role, name: str) -> bool:
    """Whether anybody of that name was seen. Services and operators may have had no reason to be."""
    match role:
        case Role.COLLABORATOR:
            return any(fact.cluster == name for fact in await runs.fleet(bus))
        case Role.SUBSCRIBER:
            access = _of(await access_log.every(bus.log), role, name)
            return access is not None and access.grant is not None
    return True


def _warn(where: Where) -> None:
    if where.server.credentials is None:
        _say("this bus was reached without a certificate, so it asks nobody for one, and keeps nobody out")


def _say(words: str) -> None:
    typer.echo(words, err=True)


def _now() -> datetime:
    return datetime.now(UTC)
