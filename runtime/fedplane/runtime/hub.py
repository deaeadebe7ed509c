"""Opening the hub's API server if a service was told of one.

The client library is large, and one machine needs none of it. So it is loaded here and only then, and may be missing otherwise.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from fedplane.runtime.errors import Unavailable
from fedplane.runtime.objects import Kind, Objects
from fedplane.runtime.observed import HubSeen, Right
from fedplane.runtime.settings import HubSettings

__all__ = ["IN_CLUSTER", "look_at_hub", "open_hub"]

IN_CLUSTER = "in-cluster"
"""The setting for a service that is a pod of the hub."""


@asynccontextmanager
async def open_hub(settings: HubSettings) -> AsyncIterator[Objects | None]:
    """The hub's objects; None if the service works without a hub. Raises BadInput when there is no such file or context."""
    if not settings.kubernetes:
        yield None
        return
    try:
        from fedplane.runtime.kubernetes import open_cluster  # noqa: PLC0415 -- see above
    except ModuleNotFoundError as error:
        raise Unavailable(f"FEDPLANE_KUBERNETES is set, and {error.name} is not installed: pip install 'fedplane[hub]'") from error
    kubeconfig = "" if settings.kubernetes == IN_CLUSTER else settings.kubernetes
    async with open_cluster(kubeconfig, context=settings.kubernetes_context) as cluster:
        yield cluster


async def look_at_hub(
    kubeconfig: str, context: str, kinds: Iterable[Kind], definition: str, rights: Mapping[str, Iterable[Right]], namespace: str = ""
) -> HubSeen:
    """What a hub's API server shows; see `runtime.kubernetes.looking`. Raises Unavailable when the client library is not installed."""
    try:
        from fedplane.runtime.kubernetes.looking import look  # noqa: PLC0415 -- see above
    except ModuleNotFoundError as error:
        raise Unavailable(f"to look at a hub, {error.name} is needed, and not installed: pip install 'fedplane[hub]'") from error
    return await look("" if kubeconfig == IN_CLUSTER else kubeconfig, context, kinds, definition, rights, namespace)
