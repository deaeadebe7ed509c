"""What nobody, the user whose token every test has, may do on a real API server for as long as a test lets them."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from apiserver import Server
from manifest_story import Manifest, of_kind

__all__ = ["granted", "granted_as_deployed"]

GROUP = "rbac.authorization.k8s.io"
PATH = f"/apis/{GROUP}/v1"


@contextmanager
def granted(server: Server, rules: Sequence[Manifest], namespace: str = "") -> Iterator[None]:
    """These rights in every namespace, or in one. The role's name is new each time: tests of several files share a server."""
    head = {"metadata": {"name": f"granted-{uuid.uuid4().hex[:8]}"}}
    kind = "Role" if namespace else "ClusterRole"
    path = f"{PATH}/namespaces/{namespace}" if namespace else PATH
    role = {"apiGroup": GROUP, "kind": kind, "name": head["metadata"]["name"]}
    binding = head | {"roleRef": role, "subjects": [{"apiGroup": GROUP, "kind": "User", "name": "nobody"}]}
    server.request("POST", f"{path}/{kind.lower()}s", head | {"rules": rules})
    server.request("POST", f"{path}/{kind.lower()}bindings", binding)
    try:
        yield
    finally:
        for plural in (f"{kind.lower()}bindings", f"{kind.lower()}s"):
            server.request("DELETE", f"{path}/{plural}/{role['name']}")


@contextmanager
def granted_as_deployed(server: Server, service: str, home: str = "", without: str = "") -> Iterator[None]:
    """What deploy/ lets a service do, and nothing else; with `home`, also what it may do in the namespace that the bus is in.

    `without` names a resource that was forgotten.
    """
    (role,) = (each for each in of_kind("base", "ClusterRole") if each["metadata"]["name"] == f"fedplane-{service}")
    with ExitStack() as rights:
        rights.enter_context(granted(server, [rule for rule in role["rules"] if without not in rule["resources"]]))
        if home:
            for each in of_kind("base", "Role"):
                rights.enter_context(granted(server, each["rules"], home))
        yield
