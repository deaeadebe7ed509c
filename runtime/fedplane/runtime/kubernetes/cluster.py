"""The port to Kubernetes objects, on a real server: paths, parameters and pages."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote

from fedplane.runtime.errors import ApiError, ApiUnreachable, NotFound
from fedplane.runtime.kubernetes.connection import Connection, Gone, Patience, connect
from fedplane.runtime.kubernetes.watching import Watched
from fedplane.runtime.objects import Change, Kind, Object, Subresource, half, key_of, locate

__all__ = ["KubernetesCluster", "open_cluster"]

PAGE_OBJECTS = 500
"""How many objects a list asks for at a time; the number that kubectl asks for."""

LIST_ATTEMPTS = 3
"""A list whose pages have gone stale between two of them begins again. It takes minutes for that, so twice is bad luck enough."""

OBJECTS_MAX = 100_000
"""More objects of one kind than a hub can have; of 10 KB each they would be a gigabyte."""

PATIENCE = Patience()


class KubernetesCluster:
    """The objects of one API server. See `Objects` for what its methods promise."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """See `Objects.get`."""
        locate(kind, name, namespace)
        try:
            return _plain(kind, await self._connection.ask(f"get the {kind.kind} {name}", "GET", _path(kind, namespace, name)))
        except NotFound:
            return None

    async def all(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Object]:
        """See `Objects.all`."""
        bodies, _ = await self.listed(kind, namespace, labels or {})
        return sorted(bodies, key=key_of)

    async def listed(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> tuple[list[Object], str]:
        """All objects, and the version of the list, from which a watch can go on. Raises ApiUnreachable when they change too fast."""
        for _ in range(LIST_ATTEMPTS):
            try:
                return await self._pages(kind, namespace, labels)
            except Gone:
                continue  # the pages that are left belong to a list that the server no longer has
        raise ApiUnreachable(f"could not list objects of kind {kind.kind}: the list went stale {LIST_ATTEMPTS} times while it was read")

    async def _pages(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> tuple[list[Object], str]:
        query = {"limit": str(PAGE_OBJECTS), **_selected(labels)}
        bodies: list[Object] = []
        while True:
            page = await self._connection.ask(f"list objects of kind {kind.kind}", "GET", _path(kind, namespace), query)
            bodies += [_plain(kind, body) for body in page["items"]]
            if len(bodies) > OBJECTS_MAX:
                raise ApiError(f"there are more than {OBJECTS_MAX} objects of kind {kind.kind}; ask for a namespace or for labels")
            if not (rest := page["metadata"].get("continue")):
                return bodies, page["metadata"]["resourceVersion"]
            query["continue"] = rest

    async def watch(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> AsyncIterator[Change]:
        """See `Objects.watch`."""
        query = {"watch": "true", "allowWatchBookmarks": "true", **_selected(labels or {})}

        async def listing() -> tuple[list[Object], str]:
            return await self.listed(kind, namespace, labels or {})

        watched = Watched(self._connection, f"watch objects of kind {kind.kind}", _path(kind, namespace), query, listing)
        try:
            while True:
                for change in await watched.step():
                    yield Change(change.type, _plain(kind, change.object)) if change.object else change
        finally:
            watched.close()

    async def create(self, kind: Kind, body: Object) -> Object:
        """See `Objects.create`."""
        metadata = body["metadata"]
        name, namespace = metadata.get("name") or metadata.get("generateName", ""), metadata.get("namespace", "")
        locate(kind, name, namespace)
        made = await self._connection.ask(f"create the {kind.kind} {name}", "POST", _path(kind, namespace), body=_named(kind, body))
        return _plain(kind, made)

    async def apply(self, kind: Kind, body: Object, manager: str, *, subresource: Subresource = "", force: bool = False) -> Object:
        """See `Objects.apply`."""
        name, namespace = body["metadata"].get("name", ""), body["metadata"].get("namespace", "")
        locate(kind, name, namespace)
        path, query = _path(kind, namespace, name, subresource), {"fieldManager": manager, "force": str(force).lower()}
        what = f"apply the {subresource or 'fields'} of the {kind.kind} {name}"
        address = {"name": name, **({"namespace": namespace} if kind.namespaced else {})}
        wanted = _named(kind, {"metadata": address, **half(kind, body, subresource)})
        return _plain(kind, await self._connection.ask(what, "PATCH", path, query, wanted, "apply-patch+yaml"))

    async def merge(self, kind: Kind, name: str, patch: Object, namespace: str = "", *, subresource: Subresource = "") -> Object:
        """See `Objects.merge`."""
        locate(kind, name, namespace)
        path, what = _path(kind, namespace, name, subresource), f"patch the {kind.kind} {name}"
        return _plain(kind, await self._connection.ask(what, "PATCH", path, body=patch, media="merge-patch+json"))

    async def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "", version: str = "") -> bool:
        """See `Objects.delete`."""
        locate(kind, name, namespace)
        only = {word: value for word, value in (("uid", uid), ("resourceVersion", version)) if value}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", "preconditions": only}
        try:
            await self._connection.ask(f"delete the {kind.kind} {name}", "DELETE", _path(kind, namespace, name), body=body)
        except NotFound:
            return False
        return True


def _path(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    parts = ["apis", kind.group, kind.version] if kind.group else ["api", kind.version]
    parts += ["namespaces", namespace] if kind.namespaced and namespace else []
    return "/" + "/".join(quote(part, safe="") for part in (*parts, kind.plural, name, subresource) if part)


def _selected(labels: Mapping[str, str]) -> dict[str, str]:
    return {"labelSelector": ",".join(f"{name}={value}" for name, value in sorted(labels.items()))} if labels else {}


def _named(kind: Kind, body: Object) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.kind, **body}


def _plain(kind: Kind, body: Object) -> Object:
    """The object without what nobody reads, and with its kind, which servers leave out of lists of their own kinds."""
    body["metadata"].pop("managedFields", None)
    return _named(kind, body)


@asynccontextmanager
async def open_cluster(kubeconfig: str = "", *, context: str = "", patience: Patience = PATIENCE) -> AsyncIterator[KubernetesCluster]:
    """The cluster that the kubeconfig's context names, or without one the cluster that this process is a pod of.

    Raises BadInput when that cannot be found out. The server is not asked anything before the first use.
    """
    connection = await connect(kubeconfig, context, patience)
    try:
        yield KubernetesCluster(connection)
    finally:
        await connection.close()
