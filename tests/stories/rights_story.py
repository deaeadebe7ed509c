"""What nobody, the user whose token every test has, may do on a real API server for as long as a test lets them."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from apiserver import Server
from manifest_story import Manifest, of_kind

__all__ = ["granted", "granted_as_deployed"]

GROUP = "rbac.authorization.k8s.io"
PATH = f"/apis/{GROUP}/v1"


@contextmanager
def granted(server: Server, rules: Sequence[Manifest]) -> Iterator[None]:
    """These rights in every namespace. The role's name is new each time: tests of several files share a server."""
    head = {"metadata": {"name": f"granted-{uuid.uuid4().hex[:8]}"}}
    role = {"apiGroup": GROUP, "kind": "ClusterRole", "name": head["metadata"]["name"]}
    binding = head | {"roleRef": role, "subjects": [{"apiGroup": GROUP, "kind": "User", "name": "nobody"}]}
    server.request("POST", f"{PATH}/clusterroles", head | {"rules": rules})
    server.request("POST", f"{PATH}/clusterrolebindings", binding)
    try:
        yield
    finally:
        for plural in ("clusterrolebindings", "clusterroles"):
            server.request("DELETE", f"{PATH}/{plural}/{role['name']}")


@contextmanager
def granted_as_deployed(server: Server, service: str) -> Iterator[None]:
    """What deploy/ lets a service do, and nothing else."""
    (role,) = (each for each in of_kind("base", "ClusterRole") if each["metadata"]["name"] == f"fedplane-{service}")
    with granted(server, role["rules"]):
        yield
