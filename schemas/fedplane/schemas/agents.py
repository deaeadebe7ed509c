"""Whose certificate it is that an agent of an Open Cluster Management add-on shows: a cluster's, by a grammar that leaves no doubt.

Our collaborator is such an agent. The certificate's subject names cluster and add-on twice: as a user and as groups.
All of it has to fit, from the first character to the last, and the cluster's name has to be a name by our grammar.
A name with a dot or a wildcard would otherwise become part of subjects, and of permissions.
Source: OCM's registration of add-ons, `pkg/registration/register/csr` and `pkg/addon/templateagent/registration.go`.
"""

from collections.abc import Collection

from fedplane.schemas.names import is_name

__all__ = ["PREFIX", "NoAgent", "addon_of", "cluster_of"]

PREFIX = "system:open-cluster-management"
"""What OCM's names of users and groups begin with."""

_WORDS = ("cluster", "addon", "agent")


class NoAgent(ValueError):
    """A subject that is no agent's: the sentence says why."""


def cluster_of(name: str, groups: Collection[str], addon: str) -> str:
    """The cluster on which the agent of that add-on has this common name and these organizations. Raises NoAgent."""
    words = _words(name)
    if not words or words[3] != addon:
        raise NoAgent(f"{name!r} is no agent of the add-on {addon}")
    cluster, agent = words[1], words[5]
    if not is_name(cluster) or not is_name(agent):
        raise NoAgent(f"{name!r} names a cluster or an agent by what is no DNS label (RFC 1123)")
    wanted = {f"{PREFIX}:cluster:{cluster}:addon:{addon}", f"{PREFIX}:addon:{addon}"}
    if missing := sorted(wanted.difference(groups)):
        raise NoAgent(f"{name!r} is not in the group {missing[0]}")
    if others := sorted(group for group in groups if group not in wanted and group.startswith(f"{PREFIX}:")):
        raise NoAgent(f"{name!r} is in the group {others[0]}, which is another one's")
    return cluster


def addon_of(name: str) -> str:
    """The add-on whose agent has this common name. Raises NoAgent if it is that of none."""
    words = _words(name)
    if not words:
        raise NoAgent(f"{name!r} is no agent of an add-on")
    return words[3]


def _words(name: str) -> list[str]:
    """What stands between the colons; nothing unless a name of an agent has so many words."""
    words = name.removeprefix(f"{PREFIX}:").split(":") if name.startswith(f"{PREFIX}:") else []
    return words if len(words) == 6 and tuple(words[::2]) == _WORDS else []
