"""A Kubernetes API server's objects in one process, with the semantics that services rely on and none of its machinery.

It is product code, as `memory` is: simulations run services on it, and the tests that the client of a real server passes hold for it too.
Schemas, defaults, admission and permissions are not played: what a server would refuse for them is taken here.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fedplane.runtime.errors import ApiUnreachable, Conflict, Invalid, NotFound
from fedplane.runtime.mirror import Mirror
from fedplane.runtime.objects import Change, ChangeType, Key, Kind, Object, Subresource, half, key_of, locate
from fedplane.runtime.ownership import Owners, applied, conflicts, merged, taken

__all__ = ["MemoryCluster"]

HISTORY_MAX = 1_000
"""How many changes a watcher may be behind before it has to list anew; servers keep some minutes of them."""

RESYNC_SECONDS = 600.0
"""As the client of a real server."""

SET_BY_SERVER = (
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generateName", "generation", "managedFields", "name",
    "namespace", "resourceVersion", "uid",
)  # fmt: skip
"""Metadata that nobody else may write once an object is there."""

ANYONE = "whoever creates or patches"
"""One manager stands for all who do not apply."""


@dataclass(frozen=True, slots=True)
class _Stored:
    body: Object
    owners: Owners


@dataclass(frozen=True, slots=True)
class _Event:
    version: int
    kind: Kind
    deleted: bool
    body: Object


class MemoryCluster:
    """Objects by kind and key. See `Objects` for what its methods promise.

    While `reachable` is False everything raises ApiUnreachable and watchers hear nothing, as if the server were away.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC), resync_seconds: float = RESYNC_SECONDS) -> None:
        self.reachable = True
        self._now = now
        self._resync_seconds = resync_seconds
        self._objects: dict[Kind, dict[Key, _Stored]] = {}
        self._history: list[_Event] = []
        self._forgotten = 0
        self._version = 0
        self._made = 0
        self._changed = asyncio.Condition()

    def compact(self) -> None:
        """Forget what happened: a watcher that has not heard of it yet will have to list anew."""
        self._forgotten = self._version
        self._history.clear()

    async def reach(self, reachable: bool) -> None:
        """The server goes away, or is back."""
        async with self._changed:
            self.reachable = reachable
            self._changed.notify_all()

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """See `Objects.get`."""
        stored = self._find(kind, locate(kind, name, namespace))
        return deepcopy(stored.body) if stored else None

    async def all(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Object]:
        """See `Objects.all`."""
        self._answer()
        return deepcopy(self._all(kind, namespace, labels or {}))

    async def watch(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> AsyncIterator[Change]:
        """See `Objects.watch`."""
        self._answer()
        mirror, at, due = Mirror(), -1, 0.0
        while True:
            if at < self._forgotten or asyncio.get_running_loop().time() >= due:
                at, due = self._version, asyncio.get_running_loop().time() + self._resync_seconds
                for change in mirror.listed(self._all(kind, namespace, labels or {})):
                    yield change
                yield Change(ChangeType.SYNCED, {})
                continue
            news = [event for event in self._history if event.version > at]
            at = self._version
            for event in news:
                for change in _heard(mirror, event, kind, namespace, labels or {}):
                    yield change
            if not news:
                await self._news(at, due)

    async def _news(self, at: int, due: float) -> None:
        """Wait until there is something after a version, or it is time to compare everything."""
        try:
            async with asyncio.timeout_at(due), self._changed:
                await self._changed.wait_for(lambda: self.reachable and self._version > at)
        except TimeoutError:
            async with self._changed:
                await self._changed.wait_for(lambda: self.reachable)

    async def create(self, kind: Kind, body: Object) -> Object:
        """See `Objects.create`."""
        metadata = body["metadata"]
        self._made += 1
        named = metadata.get("name") or (metadata["generateName"] + f"{self._made:05d}" if metadata.get("generateName") else "")
        key = locate(kind, named, metadata.get("namespace", ""))
        if self._find(kind, key):
            raise Conflict(f"there is a {kind.kind} {named} already")
        return await self._make(kind, key, deepcopy(body), lambda made: taken({}, _owned(made), {}, ANYONE))

    async def apply(self, kind: Kind, body: Object, manager: str, *, subresource: Subresource = "", force: bool = False) -> Object:
        """See `Objects.apply`."""
        key = locate(kind, body["metadata"].get("name", ""), body["metadata"].get("namespace", ""))
        wanted = deepcopy(_owned(half(kind, body, subresource)))
        stored = self._find(kind, key)
        if stored is None and subresource:
            raise NotFound(f"there is no {kind.kind} {key[1]} whose {subresource} could be applied")
        if stored is None:
            return await self._make(kind, key, deepcopy(body), lambda _: applied({}, {}, manager, wanted)[1])
        if not force and (held := conflicts(stored.body, stored.owners, manager, wanted)):
            said = ", ".join(f"{'.'.join(path)} is held by {other}" for other, path in held)
            raise Conflict(f"could not apply the {kind.kind} {key[1]}: {said}")
        new, owners = applied(stored.body, stored.owners, manager, wanted)
        return await self._replace(kind, key, stored, new, owners)

    async def merge(self, kind: Kind, name: str, patch: Object, namespace: str = "", *, subresource: Subresource = "") -> Object:
        """See `Objects.merge`."""
        key = locate(kind, name, namespace)
        stored = self._find(kind, key)
        if stored is None:
            raise NotFound(f"there is no {kind.kind} {name}")
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, stored.body["metadata"]["resourceVersion"]):
            raise Conflict(f"the {kind.kind} {name} has changed since version {wanted}")
        new = merged(stored.body, deepcopy(_owned(half(kind, patch, subresource))))
        return await self._replace(kind, key, stored, new, taken(_owned(stored.body), _owned(new), stored.owners, ANYONE))

    async def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "", version: str = "") -> bool:
        """See `Objects.delete`."""
        key = locate(kind, name, namespace)
        stored = self._find(kind, key)
        if stored is None:
            return False
        metadata = stored.body["metadata"]
        if (uid and uid != metadata["uid"]) or (version and version != metadata["resourceVersion"]):
            raise Conflict(f"the {kind.kind} {name} is another one by now")
        if not metadata.get("finalizers"):
            await self._remove(kind, key, stored.body)
        elif "deletionTimestamp" not in metadata:
            marked = {"deletionTimestamp": self._time(), "deletionGracePeriodSeconds": 0}
            generation = {"generation": metadata["generation"] + 1} if "generation" in metadata else {}
            await self._store(kind, key, {**stored.body, "metadata": {**metadata, **marked, **generation}}, stored.owners)
        return True

    async def _make(self, kind: Kind, key: Key, body: Object, owners: Callable[[Object], Owners]) -> Object:
        self._made += 1
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        given = {name: value for name, value in body["metadata"].items() if name not in SET_BY_SERVER or name == "generateName"}
        body["metadata"] = {
            **given,
            "name": key[1],
            **({"namespace": key[0]} if kind.namespaced else {}),
            "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, str(self._made))),
            "creationTimestamp": self._time(),
            **({"generation": 1} if kind.has_status else {}),
        }
        if kind.has_status:
            body.pop("status", None)
        return await self._store(kind, key, body, owners(body))

    async def _replace(self, kind: Kind, key: Key, stored: _Stored, new: Object, owners: Owners) -> Object:
        old, metadata = stored.body, dict(new["metadata"])
        if "deletionTimestamp" in metadata:
            if not metadata.get("finalizers"):
                await self._remove(kind, key, new)
                return deepcopy(new)
            if set(metadata["finalizers"]) - set(old["metadata"]["finalizers"]):
                raise Invalid(f"the {kind.kind} {key[1]} is being deleted and takes no more finalizers")
        if kind.has_status and _asked(new) != _asked(old):
            metadata["generation"] += 1
        if {**new, "metadata": metadata} == old:
            self._objects[kind][key] = _Stored(old, owners)
            return deepcopy(old)
        return await self._store(kind, key, {**new, "metadata": metadata}, owners)

    async def _store(self, kind: Kind, key: Key, body: Object, owners: Owners) -> Object:
        self._version += 1
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        self._objects.setdefault(kind, {})[key] = _Stored(body, owners)
        await self._tell(_Event(self._version, kind, False, body))
        return deepcopy(body)

    async def _remove(self, kind: Kind, key: Key, body: Object) -> None:
        self._version += 1
        del self._objects[kind][key]
        await self._tell(_Event(self._version, kind, True, body))

    async def _tell(self, event: _Event) -> None:
        self._history.append(event)
        if len(self._history) > HISTORY_MAX:
            self._forgotten = self._history.pop(0).version
        async with self._changed:
            self._changed.notify_all()

    def _answer(self) -> None:
        if not self.reachable:
            raise ApiUnreachable("no API server answers")

    def _find(self, kind: Kind, key: Key) -> _Stored | None:
        self._answer()
        return self._objects.get(kind, {}).get(key)

    def _all(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        stored = self._objects.get(kind, {})
        return [stored[key].body for key in sorted(stored) if _matches(stored[key].body, namespace, labels)]

    def _time(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _heard(mirror: Mirror, event: _Event, kind: Kind, namespace: str, labels: Mapping[str, str]) -> Iterator[Change]:
    if event.kind == kind and (not namespace or key_of(event.body)[0] == namespace):
        wanted = not event.deleted and _matches(event.body, namespace, labels)
        yield from mirror.stored(event.body) if wanted else mirror.removed(event.body)


def _matches(body: Object, namespace: str, labels: Mapping[str, str]) -> bool:
    metadata = body["metadata"]
    held: dict[str, str] = metadata.get("labels", {})
    return namespace in ("", metadata.get("namespace")) and labels.items() <= held.items()


def _owned(body: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an object whose fields have owners."""
    metadata = {name: value for name, value in body.get("metadata", {}).items() if name not in SET_BY_SERVER}
    rest = {name: value for name, value in body.items() if name not in ("apiVersion", "kind", "metadata")}
    return rest | ({"metadata": metadata} if metadata else {})


def _asked(body: Object) -> dict[str, Any]:
    """What counts as a new generation when it changes."""
    return {name: value for name, value in body.items() if name not in ("metadata", "status")}
