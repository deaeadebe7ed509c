"""A look at an API server, for `fedplane doctor`: its version, the kinds that it serves, our definition, and who may do what.

It changes nothing.
Rights are asked for with the server's own reviews: about whoever asks, or about a service account, which only some may ask about.
What the look finds is data of `fedplane.runtime.observed`; what to think of it is not said here.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from fedplane.runtime.errors import ApiDenied, ApiError, NotFound
from fedplane.runtime.kubernetes.connection import Connection, Patience, connect
from fedplane.runtime.objects import Kind
from fedplane.runtime.observed import HubSeen, Right

__all__ = ["look"]

T = TypeVar("T")

PATIENCE = Patience(connect_seconds=3.0, request_seconds=5.0)
"""A person waits."""

AT_ONCE_MAX = 8
"""How many questions are under way at a time; servers slow down who asks more."""

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
REVIEWS = "/apis/authorization.k8s.io/v1"


async def look(
    kubeconfig: str, context: str, kinds: Iterable[Kind], definition: str, rights: Mapping[str, Iterable[Right]], namespace: str = ""
) -> HubSeen:
    """What the API server shows. Raises BadInput for a kubeconfig that cannot be used, and ApiError when no server answers.

    With a `namespace`, each service's rights are those of its service account there; without one they are those of whoever looks.
    """
    connection = await connect(kubeconfig, context, PATIENCE)
    try:
        version = await connection.ask("ask for the version", "GET", "/version")
        unseen: dict[str, str] = {}
        served = await _served(connection, {kind.api_version for kind in kinds}, unseen)
        path = f"{DEFINITIONS}/{quote(definition, safe='')}"
        found = await _part("definition", _if_any(connection, "get our definition", path), None, unseen)
        allowed = await _part("rights", _allowed(connection, rights, namespace), {}, unseen)
        return HubSeen(str(version["gitVersion"]), served, found, allowed, unseen)
    finally:
        await connection.close()


async def _part(name: str, looking: Awaitable[T], otherwise: T, unseen: dict[str, str]) -> T:
    try:
        return await looking
    except ApiError as error:
        unseen[name] = str(error)
        return otherwise


async def _served(connection: Connection, versions: set[str], unseen: dict[str, str]) -> Mapping[str, frozenset[str]]:
    """Which plurals there are, subresources included, of each group and version."""

    async def ask(version: str) -> tuple[str, frozenset[str]]:
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        said = await _part(version, _if_any(connection, f"ask for the kinds of {version}", path), None, unseen)
        return version, frozenset(each["name"] for each in (said or {}).get("resources", ()))

    return dict(await _few_at_once([ask(version) for version in sorted(versions)]))


async def _if_any(connection: Connection, what: str, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = await connection.ask(what, "GET", path)
    except NotFound:
        return None
    return found


async def _allowed(connection: Connection, rights: Mapping[str, Iterable[Right]], namespace: str) -> Mapping[tuple[str, Right], bool]:
    async def ask(service: str, right: Right) -> tuple[tuple[str, Right], bool]:
        attributes = {
            "verb": right.verb, "group": right.group, "resource": right.resource, "subresource": right.subresource,
            "namespace": right.namespace,
        }  # fmt: skip
        kind, about = "SelfSubjectAccessReview", {}
        if namespace:
            kind, about = "SubjectAccessReview", _account(service, namespace)
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": {"resourceAttributes": attributes, **about}}
        what = f"ask whether {service} may {right.spoken}"
        said = await connection.ask(what, "POST", f"{REVIEWS}/{kind.lower()}s", body=body)
        return (service, right), bool(said["status"].get("allowed"))

    try:
        return dict(await _few_at_once([ask(service, right) for service, needed in rights.items() for right in needed]))
    except ApiDenied as error:
        raise ApiDenied(f"{error}; ask as somebody who may, or without a namespace about yourself") from error


def _account(service: str, namespace: str) -> dict[str, Any]:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    return {"user": f"system:serviceaccount:{namespace}:{service}", "groups": groups}


async def _few_at_once(questions: Iterable[Awaitable[T]]) -> list[T]:
    slots = asyncio.Semaphore(AT_ONCE_MAX)

    async def asked(question: Awaitable[T]) -> T:
        async with slots:
            return await question

    return await asyncio.gather(*(asked(question) for question in questions))
