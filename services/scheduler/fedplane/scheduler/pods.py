"""The pods in which a run works: one of our processes each, and beside it the user's own image, unchanged.

`pod` is a cluster's part of a run. `driver_pod` is the app's own server, on the hub: the same pod with a driver for a collaborator.

A user's image knows nothing of us, so what it needs of us is put beside it when the pod starts: the runner, which is a few plain files.
The two containers share a directory, an emptyDir at `SHARED`, under the same path in both:

    SHARED/runner      the runner; put there by the init container, which has the collaborator's image
    SHARED/app.sock    where the collaborator listens, and what the runner connects to
    SHARED/work        requests and their answers, as files

How they are started, said here and nowhere else:

    init container     python -m fedplane.collaborator.installing SHARED/runner
                       puts the runner there, so that a Python can be started with the directory
    collaborator       python -m fedplane.collaborator.main, told by FEDPLANE_ variables; see `_told`, and `credentials`
                       FEDPLANE_APP_SOCKET: it starts no app, but waits there for one
                       FEDPLANE_RUN: it answers the invitations of this run alone, advertises nothing, and ends with code 0 after the run
    app                python3 SHARED/runner --framework=NAME --app=. --socket=SHARED/app.sock [--data-path=PATH]
                       the app is the image's working directory; PATH is where the app sees its data, in place of what an invitation says
                       it waits for the socket to be there, for ten minutes at most, and ends with code 0 when the run has ended

In a driver's pod the collaborator is a driver, python -m fedplane.collaborator.driver.main, told the same but no cluster,
and the app has --drive besides: it runs the app's own server. It has nothing that is meant for clusters: no data, variables, resources.

The image decides which user the app is, and OpenShift which user everything is. So what the collaborator makes in `SHARED` is open to
every user, and what the runner leaves there can be read by every user; nobody but these containers sees it.

What comes from a cluster or a user is never part of a command line that a shell reads, nor expanded: see `literal`.
How the pod becomes a work is told in `works`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedplane.runtime.errors import BadInput
from fedplane.scheduler.credentials import Shown, check_address, of_cluster, of_driver
from fedplane.schemas.models import Chosen, Exposure
from fedplane.schemas.quantities import parse
from fedplane.schemas.resources import FederatedLearning
from fedplane.schemas.templates import ClusterTemplate, DataVolume, EnvironmentVariable, PullSecret, Resources

__all__ = ["SHARED", "Outfit", "driver_pod", "literal", "pod"]

SHARED = "/fedplane"
"""Where both containers see the directory that they share; no image that we know has one of that name."""

RUNNER, SOCKET, WORKDIR = f"{SHARED}/runner", f"{SHARED}/app.sock", f"{SHARED}/work"

SHARED_SIZE = "64Gi"
"""A model and an update of 16 GB, each twice, for a run that carries late work; a pod that fills more is ended by its node."""

SERVICE_ACCOUNT = "collaborator"
"""That of deploy/addon; it may do nothing."""

OUR_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
"""A collaborator moves bytes chunk by chunk and computes nothing, whatever the model's size."""

TLS_TYPES = ("Route", "Ingress")
"""Listeners behind what tells connections apart by the name in a TLS greeting, so that nothing else gets through."""

SHARED_VOLUME = {"name": "shared", "emptyDir": {"sizeLimit": SHARED_SIZE}}
SHARED_MOUNT = {"name": "shared", "mountPath": SHARED}

UNPRIVILEGED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

Part = dict[str, Any]
"""A part of an object of the API."""


@dataclass(frozen=True, slots=True)
class Outfit:
    """What every such pod is given, whatever its run and cluster.

    `image` is the collaborator's, `bus_url` the bus as the pod sees it where a run has no listener of its own.
    `telemetry` are the variables by which it is told where its traces and metrics go, if they go anywhere.
    `authority` is that of the bus's certificate, in PEM. Without one the pods are told that the bus asks nobody who he is.
    `peers` is that of clusters' certificates, by which clusters know each other.
    """

    image: str
    bus_url: str
    telemetry: Mapping[str, str] = field(default_factory=dict)
    authority: str = ""
    peers: str = ""

    @property
    def secure(self) -> bool:
        """Whether the bus asks for certificates."""
        return bool(self.authority)

    def by(self, listener: Exposure | None) -> "Outfit":
        """The same for clusters that reach the bus by a listener."""
        if listener is None:
            return self
        tls = self.secure or listener.type in TLS_TYPES or self.bus_url.startswith("tls://")
        return replace(self, bus_url=f"{'tls' if tls else 'nats'}://{listener.address}")


def pod(run: str, resource: FederatedLearning, chosen: Chosen, outfit: Outfit) -> Part:
    """The pod's spec. Raises BadInput when there cannot be one for this cluster, with what to change."""
    special = resource.spec.client.template.per_cluster.get(chosen.cluster, ClusterTemplate())
    image = special.image or resource.spec.client.image
    if not image:
        raise BadInput("spec.client.image names no image, and a cluster of a hub has no other way to get the app")
    if not outfit.image or not outfit.bus_url:
        raise BadInput("the scheduler does not know what to send: set its FEDPLANE_COLLABORATOR_IMAGE and FEDPLANE_OUTSIDE_URL")
    check_address("FEDPLANE_OUTSIDE_URL", outfit.bus_url, secure=outfit.secure)
    template = resource.spec.client.template
    data = special.data or template.data
    shown = of_cluster(run, secure=outfit.secure, knows_peers=bool(outfit.peers))
    volumes = [SHARED_VOLUME, *shown.volumes, *_data(data, chosen)]
    collaborator = _told(_ours("collaborator", outfit, ["python", "-m", "fedplane.collaborator.main"]), run, outfit, shown, chosen.cluster)
    parts = [collaborator, _app(resource, special, image, data, chosen)]
    return {
        "serviceAccountName": SERVICE_ACCOUNT,
        **_frame(outfit, parts, volumes, special.image_pull_secrets or template.image_pull_secrets),
    }


def driver_pod(run: str, resource: FederatedLearning, image: str, outfit: Outfit) -> Part:
    """The spec of the pod that runs the app's own server, which is in the image. It needs to be nobody, so it has no account of its own."""
    shown = of_driver(resource.metadata.namespace, secure=outfit.secure)
    driver = _told(_ours("driver", outfit, ["python", "-m", "fedplane.collaborator.driver.main"]), run, outfit, shown)
    parts = [driver, _runner(image, resource, "--drive")]
    return _frame(outfit, parts, [SHARED_VOLUME, *shown.volumes], resource.spec.client.template.image_pull_secrets)


def _frame(outfit: Outfit, containers: Sequence[Part], volumes: Sequence[Part], secrets: Sequence[PullSecret]) -> Part:
    return {
        "restartPolicy": "OnFailure",  # an app that crashes comes back beside a process of ours that has kept the run's files
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        **({"imagePullSecrets": [secret.model_dump(by_alias=True) for secret in secrets]} if secrets else {}),
        "volumes": list(volumes),
        "initContainers": [_ours("install", outfit, ["python", "-m", "fedplane.collaborator.installing", RUNNER])],
        "containers": list(containers),
    }


def literal(text: str) -> str:
    """The text as Kubernetes has to be told it in arguments and variables: there `$(NAME)` would be expanded, and `$$` is a dollar."""
    return text.replace("$", "$$")


def _data(data: DataVolume | None, chosen: Chosen) -> Iterator[Part]:
    if data is None:
        return
    parts = _parts(data.mount_path)
    if not parts or ".." in parts or ":" in data.mount_path or parts[0] == SHARED.removeprefix("/"):
        raise BadInput(f"spec.client.template mounts the data at {data.mount_path!r}; name a directory that is neither / nor in {SHARED}")
    if data.source == "PersistentVolumeClaim":
        yield {"name": "data", "persistentVolumeClaim": {"claimName": _claim_name(chosen.data), "readOnly": data.read_only}}
    else:
        yield {"name": "data", "hostPath": {"path": _host_path(chosen.data), "type": "Directory"}}


def _host_path(said: str) -> str:
    if not said.startswith("/") or ".." in _parts(said) or not said.isprintable():
        raise BadInput(f"the data claim's value {_shown(said)} is no absolute path that a node could mount")
    return said


def _claim_name(said: str) -> str:
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    if not said or len(said) > 253 or not set(said) <= allowed or {said[0], said[-1]} & {"-", "."}:
        raise BadInput(f"the data claim's value {_shown(said)} is no name of a PersistentVolumeClaim")
    return said


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _shown(said: str) -> str:
    return repr(said if len(said) <= 100 else said[:99] + "…")


def _ours(name: str, outfit: Outfit, command: list[str]) -> Part:
    """A container of the collaborator's image. Its user is a number in the image (deploy/Dockerfile), and on OpenShift the namespace's."""
    return {
        "name": name,
        "image": outfit.image,
        "command": command,
        "securityContext": {**UNPRIVILEGED, "runAsNonRoot": True, "readOnlyRootFilesystem": True},
        "resources": OUR_RESOURCES,
        "volumeMounts": [SHARED_MOUNT],
    }


def _told(container: Part, run: str, outfit: Outfit, shown: Shown, cluster: str = "") -> Part:
    """The container of a process that waits for an app beside it: what it is told, and by what it is known."""
    told = {
        "FEDPLANE_RUN": run,
        **({"FEDPLANE_CLUSTER": cluster} if cluster else {}),
        "FEDPLANE_NATS_URL": outfit.bus_url,
        **shown.variables,
        "FEDPLANE_APP_SOCKET": SOCKET,
        "FEDPLANE_WORKDIR": WORKDIR,
        **outfit.telemetry,
    }
    environment: list[Part] = [{"name": name, "value": literal(value)} for name, value in told.items()]
    replica = {"name": "FEDPLANE_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return {**container, "env": [*environment, replica], "volumeMounts": [*container["volumeMounts"], *shown.mounts]}


def _app(resource: FederatedLearning, special: ClusterTemplate, image: str, data: DataVolume | None, chosen: Chosen) -> Part:
    template = resource.spec.client.template
    seen = data.mount_path if data else chosen.data
    container = _runner(image, resource, *([f"--data-path={literal(seen)}"] if seen else []))
    mounts: list[Part] = [*container["volumeMounts"]]
    if data:
        mounts.append({"name": "data", "mountPath": data.mount_path, "readOnly": data.read_only})
    return {
        **container,
        "env": _variables({variable.name: variable for variable in (*template.env, *special.env)}),
        "resources": _resources(special.resources or resource.spec.resources),
        "volumeMounts": mounts,
    }


def _runner(image: str, resource: FederatedLearning, *besides: str) -> Part:
    """The container of the user's image."""
    return {
        "name": "app",
        "image": image,
        "command": ["python3", RUNNER],
        "args": [f"--framework={literal(resource.spec.framework)}", "--app=.", f"--socket={SOCKET}", *besides],
        "securityContext": UNPRIVILEGED,  # which user it is, root included, is for the image to say: it is the user's, unchanged
        "volumeMounts": [SHARED_MOUNT],
    }


def _variables(variables: Mapping[str, EnvironmentVariable]) -> list[Part]:
    """As the user wrote them: these may refer to each other, as in any pod."""
    return [
        {"name": name, "value": variable.value} if variable.value_from is None else {"name": name, "valueFrom": variable.value_from}
        for name, variable in variables.items()
    ]


def _resources(asked: Resources) -> Part:
    """Requests and limits without what is zero anyway. Of a device, as `nvidia.com/gpu`, Kubernetes wants both, and both the same."""
    requests = {name: amount for name, amount in asked.requests.by_name.items() if parse(amount)}
    limits = dict(asked.limits)
    for name in sorted({*requests, *limits}):
        if "/" in name or name.startswith("hugepages-"):
            requests[name] = limits[name] = limits.get(name, requests.get(name, "0"))
    return {kind: amounts for kind, amounts in (("requests", requests), ("limits", limits)) if amounts}
