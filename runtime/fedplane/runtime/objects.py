"""What services need of a Kubernetes API server: objects of a kind, and every change to them.

Two implementations pass the same tests (`tests/contract/test_kubernetes.py`):
`fedplane.runtime.kubernetes`, on a real server, and `fedplane.runtime.memory_cluster`, for simulations.
An object is a plain dict, as the API's JSON has it, without `metadata.managedFields`, which nobody here reads.
Whoever is handed one must not change it: a watch gives the same dict to say later what was deleted.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

from fedplane.runtime.errors import Invalid

__all__ = ["Change", "ChangeType", "Key", "Kind", "Object", "Objects", "Subresource", "half", "key_of", "locate"]

Object = dict[str, Any]
"""An object of the API."""

Key = tuple[str, str]
"""Namespace and name, which tell an object from others of its kind; the namespace is empty where there are none."""

Subresource = Literal["", "status"]
"""Which half of an object is written: `status` takes nothing but the status, and the object itself takes everything else."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects. `has_status`: its status is a subresource, as that of all kinds of ours and of Open Cluster Management."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    has_status: bool = True

    @property
    def api_version(self) -> str:
        """As an object says it."""
        return f"{self.group}/{self.version}" if self.group else self.version


class ChangeType(StrEnum):
    """What happened to an object. SYNCED has none: everything that the server had when it was last asked for all has been handed over."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    SYNCED = "SYNCED"


@dataclass(frozen=True, slots=True)
class Change:
    """A change, and the object after it; what was deleted is as it was last seen."""

    type: ChangeType
    object: Object


class Objects(Protocol):
    """Objects of a Kubernetes API server.

    Everything raises ApiUnreachable, ApiDenied or ApiError, and waits for a bounded time.
    After ApiUnreachable it is unknown whether something was written; each way of writing is safe to repeat.
    """

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """One object; None if there is none."""
        ...

    async def all(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Object]:
        """All objects that have the labels, of a namespace or of all, by key."""
        ...

    def watch(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> AsyncIterator[Change]:
        """All objects as ADDED, then SYNCED, then every change, for ever; across restarts of the server nothing is missed.

        What changed several times while the server was away is told once, as it is now; what was deleted meanwhile is told as DELETED.
        An object that was deleted and made anew under its name is DELETED, then ADDED. An object that loses the labels is DELETED.
        From time to time everything is compared with the server again; then SYNCED comes again, after what differed.
        Raises ApiUnreachable when no server answers at first, and ApiDenied or NotFound when it refuses for longer than a start takes.
        """
        ...

    async def create(self, kind: Kind, body: Object) -> Object:
        """Make an object. Raises Conflict when there is one of that name; with `generateName` there is none."""
        ...

    async def apply(self, kind: Kind, body: Object, manager: str, *, subresource: Subresource = "", force: bool = False) -> Object:
        """Make the object have these fields, and not those which this manager applied before and leaves out now (server-side apply).

        Makes the object if there is none; a status is only applied to what there is: raises NotFound.
        Who applies both halves of an object takes two names: old servers hold what a manager left out of one half against the other.
        Raises Conflict, with the fields, when another manager holds a different value; `force` takes it over. Raises Invalid.
        """
        ...

    async def merge(self, kind: Kind, name: str, patch: Object, namespace: str = "", *, subresource: Subresource = "") -> Object:
        """Change fields of an object (merge patch: null removes, a list replaces). For finalizers and the like.

        A `metadata.resourceVersion` in the patch is a condition: raises Conflict when the object has changed since.
        Raises NotFound, Invalid.
        """
        ...

    async def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "", version: str = "") -> bool:
        """Delete an object, or mark it if it has finalizers; say whether there was one.

        With `uid` or `version` (its `resourceVersion`), only that object: raises Conflict when it is another one by now.
        """
        ...


def key_of(body: Object) -> Key:
    """An object's key."""
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def locate(kind: Kind, name: str, namespace: str) -> Key:
    """The key of what is to be found or written. Raises Invalid when it cannot be one: it would address something else, or all there is."""
    if not name:
        raise Invalid(f"a {kind.kind} without a name")
    if kind.namespaced and not namespace:
        raise Invalid(f"the {kind.kind} {name} is in no namespace, and objects of that kind are in one")
    return (namespace if kind.namespaced else "", name)


def half(kind: Kind, body: Object, subresource: Subresource) -> Object:
    """The part of an object that is written under a subresource. Old servers take the other part for wanted, too, and give it an owner."""
    if subresource:
        return {"status": body.get("status", {})}
    return {name: value for name, value in body.items() if name != "status" or not kind.has_status}
