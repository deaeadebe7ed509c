"""Certificates for those who use the bus: made by an authority that lies in a directory, and handed on as one file.

That directory is `keys` of `fedplane up`, or what `fedplane access init` made for a hub. Whoever has it can be anybody on that bus.
Whether a certificate counts is for the log and the authorizer to say; here it is only made.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from fedplane.cli.credentials import keep_secret, render_bundle
from fedplane.runtime.certificates import Authority, Issued, of_agent, of_client
from fedplane.runtime.errors import BadInput, Unavailable
from fedplane.schemas.access_facts import PATTERNS_MAX
from fedplane.schemas.facts import EVERYTHING, Completed, Granted, all_facts_of
from fedplane.schemas.names import is_name
from fedplane.schemas.patterns import facts_under, overlap
from fedplane.schemas.roles import Role

__all__ = [
    "LASTING_MAX",
    "LASTING_MIN",
    "checked_name",
    "checked_patterns",
    "issue",
    "kept",
    "lasting",
    "place",
    "ways_to_connect",
    "ways_to_listen",
]

LASTING_MIN, LASTING_MAX = timedelta(minutes=1), timedelta(days=366)
"""How long a certificate is good for. What nobody renews for a year is forgotten, and then it is found by a stranger."""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

SERVICES, CLUSTERS = "services", "clusters"
"""The two authorities of a directory: with one for both a cluster could be a service."""


def lasting(text: str) -> timedelta:
    """How long a person says that something is to hold, as 30d. Raises BadInput if that is no duration, too short or too long."""
    said = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if said is None:
        raise BadInput(f"--expires {text}: that is no duration, as 90m, 12h or 30d")
    held = timedelta(**{UNITS[said[2]]: int(said[1])})
    if not LASTING_MIN <= held <= LASTING_MAX:
        raise BadInput(f"--expires {text}: it is between {LASTING_MIN.seconds}s and {LASTING_MAX.days}d; grant it again when it ends")
    return held


def checked_name(name: str) -> str:
    """The name. Raises BadInput if it is none by our grammar, since it becomes part of subjects."""
    if not is_name(name):
        raise BadInput(f"{name!r} is no name: it has lower-case letters, digits and dashes, and at most 63 of them")
    return name


def checked_patterns(patterns: Sequence[str], namespace: str | None = None) -> tuple[str, ...]:
    """The patterns of subjects. Raises BadInput for one under which nothing is announced, and for too many of them.

    Whoever hears of one namespace hears of runs alone.
    """
    if len(patterns) > PATTERNS_MAX:
        raise BadInput(f"--subscribe is given {len(patterns)} times, and at most {PATTERNS_MAX} patterns are granted; take wider ones")
    for pattern in patterns:
        under = facts_under(pattern)
        if under and not any(fact.is_announced for fact in under):
            raise BadInput(f"--subscribe {pattern}: facts of access are not announced, so nobody can hear them")
        if not under:
            known = f"docs/events.md lists them, as {Completed.pattern()}, {all_facts_of()} or {EVERYTHING}"
            raise BadInput(f"--subscribe {pattern}: no fact has such a subject; {known}")
        if namespace and overlap(pattern, all_facts_of()) is None:
            raise BadInput(f"--subscribe {pattern} is about no run, and with --namespace only facts of runs are heard")
    return tuple(dict.fromkeys(patterns))


def issue(directory: Path, role: Role, name: str, addon: str, now: datetime, lasts: timedelta) -> tuple[Issued, str]:
    """A certificate for this client, and the text of its bundle.

    Raises BadInput if there is no authority in the directory, or it ends before.
    """
    services = _authority(directory, SERVICES)
    signer = _authority(directory, CLUSTERS) if role is Role.COLLABORATOR else services
    if signer.until < now + lasts:
        raise BadInput(f"the authority in {directory} ends at {signer.until:%Y-%m-%d %H:%M %Z}, and what it signs has to end before")
    issued = signer.issue(of_agent(name, addon) if role is Role.COLLABORATOR else of_client(role, name), now, lasts)
    text = render_bundle(role, name, key=issued.key, certificate=issued.certificate, authority=services.certificate)
    return issued, text


def _authority(directory: Path, name: str) -> Authority:
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    try:
        return Authority.read(certificate.read_text(encoding="ascii"), key.read_text(encoding="ascii"))
    except FileNotFoundError as error:
        raise BadInput(
            f"there is no authority in {directory}: {error.filename} is missing;"
            " --authority names the directory that `fedplane access init` made, or `keys` of `fedplane up`"
        ) from error
    except (BadInput, UnicodeDecodeError) as error:
        raise BadInput(f"{certificate} and {key} are no authority: {error}") from error
    except OSError as error:
        raise Unavailable(f"cannot read {error.filename}: {error.strerror}") from error


def place(output: Path, role: Role, name: str) -> Path:
    """Where the bundle goes. Raises BadInput if another file is there, which is never replaced, except by the same client's next bundle."""
    try:
        with output.open(encoding="ascii", errors="replace") as file:
            first = file.readline().strip()
    except FileNotFoundError:
        if output.parent.is_dir():
            return output
        raise BadInput(f"there is no directory {output.parent} for {output.name}; --output names another place") from None
    except OSError as error:
        raise BadInput(f"cannot look at {output}: {error.strerror}; --output names another place") from error
    if not render_bundle(role, name, key="", certificate="", authority="").startswith(f"{first}\n"):
        raise BadInput(f"{output} is there already and is no bundle of {role} {name}; --output names another place")
    return output


@contextmanager
def kept(output: Path, text: str) -> Iterator[None]:
    """Write the bundle, readable for its owner alone. It appears when the block is done, and not at all if that fails.

    Whether it can be written is known before, so nothing is granted to a key that is lost.
    """
    part = output.with_name(f"{output.name}.part")
    keep_secret(part, text)
    try:
        yield
        part.replace(output)
    except BaseException:  # Ctrl-C included: a key that counts for nothing should not lie about
        part.unlink(missing_ok=True)
        raise


def ways_to_listen(granted: Granted, output: Path, url: str) -> Iterator[str]:
    """What a subscriber types, or writes into a program."""
    file, pattern = shlex.quote(str(output)), granted.patterns[0]
    if granted.namespace is not None:  # a server refuses a subscription that reaches further than what is granted
        pattern = overlap(pattern, all_facts_of("RUN")) or pattern
        yield f"each run of {granted.namespace} by its id, instead of RUN,"
    yield "with the NATS command line:"
    yield f"    nats --server {url} --tlscert {file} --tlskey {file} --tlsca {file} subscribe '{pattern}'"
    yield "in Python, with nats-py:"
    yield f"    tls = ssl.create_default_context(cafile={str(output)!r})"
    yield f"    tls.load_cert_chain({str(output)!r})"
    yield f"    bus = await nats.connect({url!r}, tls=tls)"
    yield f"    await bus.subscribe({pattern!r}, cb=heard)"


def ways_to_connect(role: Role, name: str, output: Path) -> Iterator[str]:
    """What an operator types, or what a service's or a cluster's process has to have in its environment."""
    if role is Role.OPERATOR:
        yield f"    fedplane get --url tls://HOST:4222 --credentials {shlex.quote(str(output))}"
        return
    yield f"    FEDPLANE_TLS_CERTIFICATE={shlex.quote(str(output))}"
    if role is not Role.COLLABORATOR and name != role:
        yield f"    FEDPLANE_TLS_NAME={name}"
    yield "    FEDPLANE_NATS_URL=tls://HOST:4222"
