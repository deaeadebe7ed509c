"""Who a client is, by the certificates that the server has verified: a cluster of Open Cluster Management, or one of ours.

A collaborator has the certificate of an OCM add-on's agent, by whose grammar (`schemas.agents`) we know its cluster.

Each kind of client has an authority of its own. OCM's signer signs whatever subject an add-on's agent asks for.
So with one authority for all a cluster could be a service; whether it can be another cluster is decided on the hub (ADR 0019).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fedplane.authorizer.certificates import Certificate
from fedplane.schemas.agents import NoAgent, cluster_of
from fedplane.schemas.names import is_name
from fedplane.schemas.roles import Role

__all__ = ["SERVICE", "Because", "Identity", "Refused", "Trust", "identify"]

SERVICE = "fedplane"
"""What the common name of everyone begins with who is no cluster: `fedplane:ROLE:NAME`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is: a role, and its name among those of that role."""

    role: Role
    name: str

    def __str__(self) -> str:
        return f"{self.role} {self.name}"


class Because(StrEnum):
    """The kinds of reasons for which somebody is not let in, as they are counted."""

    CERTIFICATE = "certificate"
    """There is none that was verified, or it cannot be read."""

    AUTHORITY = "authority"
    """Whose signature it has is not for clients of this kind."""

    SUBJECT = "subject"
    """It names nobody whom we know."""

    NOT_GRANTED = "not-granted"
    """Nobody has granted it anything, or it was granted to another certificate."""

    EXPIRED = "expired"
    """What was granted is over."""

    REVOKED = "revoked"
    """Somebody has thrown it out."""

    CROWDED = "crowded"
    """It has as many connections as it can use."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a client is not let in: a sentence for the log, and for whoever looks why a connection fails, and its kind."""

    reason: str
    because: Because


@dataclass(frozen=True, slots=True)
class Trust:
    """Which add-on's agents are collaborators, and by which authorities: SHA-256 fingerprints, in lower-case hexadecimal digits."""

    addon: str
    clusters: frozenset[str]
    services: frozenset[str]


def identify(chain: Sequence[Certificate], trust: Trust) -> Identity | Refused:
    """Whose chain this is. It begins with the client's certificate and ends with the authority's, and the server has verified it."""
    if not chain:
        return Refused("there is no certificate that the server could verify; connect with one", Because.CERTIFICATE)
    leaf, authority = chain[0], chain[-1].fingerprint
    if len(leaf.common_names) != 1:
        return Refused(f"the certificate has {len(leaf.common_names)} common names, and one is wanted", Because.SUBJECT)
    (name,) = leaf.common_names
    if authority in trust.services and name.startswith(f"{SERVICE}:"):
        return _service(name)
    if authority in trust.clusters:
        return _cluster(name, leaf.groups, trust.addon)
    return Refused(f"the authority of {name!r} is not one for clients of this kind", Because.AUTHORITY)


def _service(name: str) -> Identity | Refused:
    _, *words = name.split(":")
    roles = [role for role in Role if role is not Role.COLLABORATOR and words[:1] == [role]]
    if len(words) != 2 or not roles or not is_name(words[1]):
        wanted = f"{SERVICE}:ROLE:NAME with a role that we know and a name in lower-case letters, digits and dashes"
        return Refused(f"{name!r} is not {wanted}", Because.SUBJECT)
    return Identity(roles[0], words[1])


def _cluster(name: str, groups: frozenset[str], addon: str) -> Identity | Refused:
    try:
        return Identity(Role.COLLABORATOR, cluster_of(name, groups, addon))
    except NoAgent as problem:
        return Refused(str(problem), Because.SUBJECT)
