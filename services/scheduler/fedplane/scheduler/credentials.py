"""By what a pod of a run shows the bus who it is, and knows the bus: volumes, mounts and variables, as parts of its spec.

A cluster has a certificate already, by Open Cluster Management; what it lacks is the authority of the bus, which comes with its work.
Jobs on the hub are in the namespaces of their resources, where nobody else's Secrets may be. So each such namespace has Secrets of its own,
made by an operator, in the name of the namespace: `fedplane:driver:TEAM` and `fedplane:cli:TEAM`. The bus knows whose a Job is by that,
and can refuse it. But such a Job is among the services, and not confined to its run: docs/how-to/install-on-kubernetes.md says so.

A bus without certificates (FEDPLANE_INSECURE) asks nobody who he is, and has no authority.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedplane.runtime.errors import BadInput

__all__ = [
    "AUTHORITY_FILE", "BUNDLE", "CERTIFICATE_SECRET", "DRIVER_SECRET", "KEEPER_SECRET", "PEERS_FILE", "Shown", "certificates",
    "check_address", "of_cluster", "of_driver", "of_keeper",
]  # fmt: skip

CERTIFICATE, CERTIFICATE_SECRET = "/certificate", "fedplane-collaborator-fedplane.io-collaborator-client-cert"
"""Where the collaborator sees the cluster's certificate, and the Secret that Open Cluster Management keeps it in (deploy/addon)."""

AUTHORITY, AUTHORITY_FILE = "/authority", "services.crt"
"""Where it sees the authority of the bus, and in which file: that of the ConfigMap that comes with the work, under the run's id."""

PEERS_FILE = "clusters.crt"
"""There as well: the authority of clusters, by which those that mask their updates know each other's keys."""

CREDENTIALS, BUNDLE = "/credentials", "credentials.pem"
"""Where a Job on the hub sees its bundle, and the key of the Secret that has it."""

DRIVER_SECRET, KEEPER_SECRET = "fedplane-driver", "fedplane-keeper"
"""In a namespace whose resources have servers of apps, or storage. Without it a Job's pod waits for it."""

CERTIFICATES = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a pod and its one container of ours have in addition."""

    variables: Mapping[str, str]
    volumes: tuple[Part, ...] = ()
    mounts: tuple[Part, ...] = ()


NOTHING = Shown({"FEDPLANE_INSECURE": "true"})
"""For a bus that asks for nothing; a process has to be told so, or it does not start."""


def of_cluster(run: str, *, secure: bool, knows_peers: bool) -> Shown:
    """A collaborator's, on its cluster. The add-on renews the certificate while the pod runs, and the collaborator reads it anew.

    `knows_peers` is whether the authority of clusters is sent to it, too.
    """
    if not secure:
        return NOTHING
    told = {
        "FEDPLANE_TLS_CERTIFICATE": f"{CERTIFICATE}/tls.crt",
        "FEDPLANE_TLS_KEY": f"{CERTIFICATE}/tls.key",
        "FEDPLANE_TLS_AUTHORITY": f"{AUTHORITY}/{AUTHORITY_FILE}",
        **({"FEDPLANE_PEERS_AUTHORITY": f"{AUTHORITY}/{PEERS_FILE}"} if knows_peers else {}),
    }
    # Not optional: a pod that comes before the certificate waits for it.
    secret = {"name": "certificate", "secret": {"secretName": CERTIFICATE_SECRET}}
    return Shown(
        told,
        (secret, {"name": "authority", "configMap": {"name": run}}),
        (_mount("certificate", CERTIFICATE), _mount("authority", AUTHORITY)),
    )


def of_driver(namespace: str, *, secure: bool) -> Shown:
    """That of a driver on the hub."""
    told = {"FEDPLANE_TLS_CERTIFICATE": f"{CREDENTIALS}/{BUNDLE}", "FEDPLANE_TLS_NAME": namespace}
    return _of_tenant(DRIVER_SECRET, told) if secure else NOTHING


def of_keeper(*, secure: bool) -> Shown:
    """That of a Job that keeps a model. It is the command line, which reads in the bundle who it is."""
    return _of_tenant(KEEPER_SECRET, {"FEDPLANE_CREDENTIALS": f"{CREDENTIALS}/{BUNDLE}"}) if secure else NOTHING


def check_address(setting: str, url: str, *, secure: bool) -> None:
    """Raises BadInput for an address at which every process would be turned away."""
    if secure and not all(each.startswith("tls://") for each in url.split(",")):
        raise BadInput(f"the scheduler's {setting} is {url!r}, and a bus that asks for certificates is reached by tls://HOST:PORT")


def certificates(pem: str) -> str:
    """The certificates in a text, and nothing else: a bundle has a key as well, which stays here. Raises BadInput if there are none."""
    found = CERTIFICATES.findall(pem)
    if not found:
        raise BadInput("there is no certificate in it; it begins with -----BEGIN CERTIFICATE-----")
    return "".join(f"{each}\n" for each in found)


def _of_tenant(secret: str, told: Mapping[str, str]) -> Shown:
    volume = {"name": "credentials", "secret": {"secretName": secret, "items": [{"key": BUNDLE, "path": BUNDLE}]}}
    return Shown(told, (volume,), (_mount("credentials", CREDENTIALS),))


def _mount(name: str, path: str) -> Part:
    return {"name": name, "mountPath": path, "readOnly": True}
