"""Requests to an API server, and the one door through which the client library's exceptions and the server's refusals become ours.

The library makes the connection: kubeconfig, certificates, tokens that are renewed, the pool. We ask by path and read plain JSON:
its classes for objects are many, know no kinds of ours, and drop fields that are newer than they are.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import OpenApiException
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from fedplane.runtime.errors import ApiDenied, ApiError, ApiUnreachable, BadInput, Conflict, Invalid, NotFound
from fedplane.runtime.metrics import DENIALS
from fedplane.runtime.telemetry import tell

__all__ = ["Connection", "Gone", "Patience", "connect", "door", "refusal"]

USER_AGENT = "fedplane"
"""By which the server's audit log, and the holder of a field in a conflict, name us."""

CONNECT_SECONDS = 5.0
"""A server on the other side of the world shakes hands in one."""

SAID_CHARACTERS_MAX = 2_000
"""Of a server's refusal: a schema that is broken everywhere is told at length."""

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    connect: for a server that does not answer a first watch. request: for one answer.
    silence: between two signs of life of a watch; the server gives one each minute.
    refusal: for a server that refuses a watch. One that has just started knows no roles and no kinds for some seconds.
    pause_min, pause_max: between two attempts to watch, doubling from the one to the other.
    resync: between two comparisons of everything that is watched.
    """

    connect_seconds: float = 30.0
    request_seconds: float = 30.0
    silence_seconds: float = 90.0
    refusal_seconds: float = 30.0
    pause_min_seconds: float = 0.2
    pause_max_seconds: float = 10.0
    resync_seconds: float = 600.0


class Gone(ApiError):
    """The server no longer knows the version that we asked to go on from."""


REFUSALS: Mapping[int, type[ApiError]] = {
    400: Invalid, 401: ApiDenied, 403: ApiDenied, 404: NotFound, 405: Invalid, 409: Conflict, 410: Gone, 413: Invalid, 415: Invalid,
    422: Invalid, 429: ApiUnreachable, 500: ApiUnreachable, 502: ApiUnreachable, 503: ApiUnreachable, 504: ApiUnreachable,
}  # fmt: skip
"""What a status means to whoever asked. 500 is among those to try again: it is what a server says that cannot reach its store."""


@contextmanager
def door(what: str) -> Iterator[None]:
    """Run a block that uses the client library; whatever it raises leaves as one of our errors, with what was attempted in its message."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ApiUnreachable(f"could not {what}: {str(error) or type(error).__name__}") from error
    except (OpenApiException, ValueError, RecursionError) as error:  # the latter two for what is no JSON, endless, or nested too deep
        raise ApiError(f"could not {what}: {error}") from error


def refusal(what: str, status: int, said: Any) -> ApiError:
    """The error for a status that is no success; `said` is the server's own account, a Status object if it was able to make one."""
    message = said.get("message") if isinstance(said, dict) else said
    if REFUSALS.get(status) is ApiDenied:
        tell(DENIALS, 1, {"fedplane.server": "kubernetes"})
    return REFUSALS.get(status, ApiError)(f"could not {what}: {str(message)[:SAID_CHARACTERS_MAX]} ({status})")


class Connection:
    """A pool of connections to one server."""

    def __init__(self, client: ApiClient, patience: Patience) -> None:
        self.patience = patience
        self._client = client
        client.user_agent = USER_AGENT

    async def ask(self, what: str, method: str, path: str, query: Query | None = None, body: Any = None, media: str = "json") -> Any:
        """One request and its answer, parsed. Raises an ApiError that says what was attempted."""
        waits = aiohttp.ClientTimeout(total=self.patience.request_seconds, sock_connect=CONNECT_SECONDS)
        with door(what):
            response = await self._send(method, path, query or {}, body, media, waits)
            async with response:
                text = await response.text()
                return _read(what, response.status, text)

    async def stream(self, what: str, path: str, query: Query) -> aiohttp.ClientResponse:
        """An answer that goes on and on; whoever gets it closes it. Silence for too long ends it with an error."""
        waits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self.patience.silence_seconds)
        with door(what):
            response = await self._send("GET", path, query, None, "json", waits)
            if response.status != 200:
                async with response:
                    _read(what, response.status, await response.text())
        return response

    async def _send(
        self, method: str, path: str, query: Query, body: Any, media: str, waits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "Content-Type": f"application/{media}"}
        request = await self._client.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        answered = await self._client.call_api(*request, _request_timeout=waits)
        response: aiohttp.ClientResponse = answered.response
        return response

    async def close(self) -> None:
        """End all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]


def _read(what: str, status: int, text: str) -> Any:
    if 200 <= status < 300:
        return json.loads(text)
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = text  # a proxy's page, or a server that has not got as far as to speak JSON
    raise refusal(what, status, said)


async def connect(kubeconfig: str, context: str, patience: Patience) -> Connection:
    """A connection as a kubeconfig's context says; without one, as a pod is told. Nothing is asked of the server yet.

    Raises BadInput when there is no such file or context, or we are in no pod.
    """
    _insist_on_file(kubeconfig)
    configuration = Configuration()
    try:
        if kubeconfig:
            await load_kube_config(kubeconfig, context or None, configuration, persist_config=False)  # type: ignore[no-untyped-call]
        else:
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        return Connection(ApiClient(configuration), patience)
    except (ConfigException, OpenApiException, OSError, ValueError) as error:
        where = f"the kubeconfig {kubeconfig}" if kubeconfig else "a pod's service account; outside of a cluster, name a kubeconfig"
        raise BadInput(f"could not connect to Kubernetes by {where}: {error}") from error


def _insist_on_file(kubeconfig: str) -> None:
    """Without any file, the library complains of a field that is missing in it."""
    if kubeconfig and not any(Path(file).exists() for file in kubeconfig.split(os.pathsep)):
        raise BadInput(f"could not connect to Kubernetes by the kubeconfig {kubeconfig}: there is no such file")
