"""What a collaborator's pod has on a cluster: resources, environment, the cluster's data, and what is different on some clusters.

Ours: upstream's client is an image and nothing else. The words are Kubernetes' own, and what is handed on to a pod as it is has its schema.
Every part is optional. How a pod is made of it is the scheduler's business.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from fedplane.schemas.names import Name
from fedplane.schemas.parts import Open, Part
from fedplane.schemas.quantities import Quantity, parse

__all__ = ["Amount", "ClusterTemplate", "DataVolume", "EnvironmentVariable", "Limits", "PullSecret", "Requests", "Resources", "Template"]

RESOURCES_MAX = 32
"""Kinds of resources one pod may name; nodes have a handful."""

ENVIRONMENT_MAX = 200
"""Variables one pod may have. Together with `CLUSTERS_MAX` it keeps a resource far below the megabyte that a fact may have."""

CLUSTERS_MAX = 1_000
"""Clusters that may have a template of their own; as many as a run has participants."""


def _not_negative(given: str) -> str:
    if parse(given) < 0:
        raise ValueError(f"{given!r} is less than nothing")
    return given


Amount = Annotated[Quantity, AfterValidator(_not_negative)]
"""How much of a resource: a quantity that is not negative."""


class Requests(Part):
    """What a collaborator needs at least. Resources besides CPU and memory have the names that nodes give them, as `nvidia.com/gpu`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Amount] = Field(init=False)

    cpu: Amount = "0"
    """Cores."""
    memory: Amount = "0"
    """Bytes."""

    @property
    def by_name(self) -> dict[str, str]:
        """Every resource that is asked for, as a pod names it."""
        return {"cpu": self.cpu, "memory": self.memory, **self.__pydantic_extra__}


Limits = Annotated[dict[str, Amount], Field(max_length=RESOURCES_MAX)]
"""What a collaborator may take at most, by the resource's name."""


class Resources(Part):
    """Ours: resources per collaborator."""

    requests: Requests = Requests()
    """What a cluster must be able to give, as quantities by name; a cluster that has less is not chosen."""
    limits: Limits = {}
    """What the collaborator may take, as quantities by name; none: what its node has."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        asked = self.requests.by_name
        if len(asked) > RESOURCES_MAX:
            raise ValueError(f"{len(asked)} kinds of resources are requested, and a collaborator may ask for {RESOURCES_MAX}")
        for name, limit in sorted(self.limits.items()):
            if parse(limit) < parse(asked.get(name, "0")):
                raise ValueError(f"the limit of {name} is {limit} and the request {asked[name]}; a limit is at least the request")
        return self


class EnvironmentVariable(Part):
    """A variable of the collaborator's container."""

    name: str = Field(min_length=1)
    """The variable's name."""
    value: str = ""
    """Its value."""
    value_from: dict[str, Any] | None = None
    """Where its value comes from instead, such as a Secret's key; as in a pod."""


class DataVolume(Part):
    """How the cluster's data becomes a directory of the container. The value of the cluster's data claim says what is mounted."""

    source: Literal["HostPath", "PersistentVolumeClaim"] = "HostPath"
    """What the data claim's value is: a path on the node, or the name of a PersistentVolumeClaim."""
    mount_path: str = Field(default="/data", pattern="^/")
    """Where the container sees it."""
    read_only: bool = True
    """Whether the container may only read it."""


class PullSecret(Open):
    """A Secret with which the image is fetched."""

    name: str
    """The Secret's name, in the namespace of the pod."""


class ClusterTemplate(Part):
    """What is different on one cluster."""

    image: str = ""
    """Another image."""
    env: tuple[EnvironmentVariable, ...] = Field(default=(), max_length=ENVIRONMENT_MAX)
    """Variables in addition to those of all clusters; one of the same name replaces theirs."""
    data: DataVolume | None = None
    """Another way to mount the data."""
    image_pull_secrets: tuple[PullSecret, ...] = ()
    """Secrets in place of those of all clusters."""
    resources: Resources | None = None
    """Resources in place of those of all clusters."""


class Template(Part):
    """Ours: the collaborator's pod beyond its image."""

    env: tuple[EnvironmentVariable, ...] = Field(default=(), max_length=ENVIRONMENT_MAX)
    """Variables of the collaborator's container."""
    data: DataVolume | None = None
    """How the cluster's data is mounted; none: the data claim's value is handed to the app as it is."""
    image_pull_secrets: tuple[PullSecret, ...] = ()
    """Secrets with which the image is fetched."""
    per_cluster: Annotated[dict[Name, ClusterTemplate], Field(max_length=CLUSTERS_MAX)] = {}
    """What is different on some clusters, by the cluster's name."""
