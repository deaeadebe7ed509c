"""The clusters of a federation on one machine, read from a YAML file.

    clusters:
      - name: hospital-a
        claims: {mnist.client-data: data/hospital-a}
        allocatable: {cpu: 4, memory: 8Gi}
        labels: {region: eu}

Each entry becomes a collaborator process, which advertises what stands here.
A claim that names a file or directory beside this file becomes an absolute path, since the app runs elsewhere.
Any other claim is passed as it is written.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fedplane.runtime.errors import BadInput
from fedplane.schemas.names import Name
from fedplane.schemas.quantities import Quantity
from fedplane.schemas.resources import explain_invalid

__all__ = ["CLUSTERS_MAX", "Allocatable", "Cluster", "parse", "read", "render", "resolved"]

CLUSTERS_MAX = 64
"""Each cluster is a process of about 50 MB: more of them and a machine's memory holds nothing else."""


class _Part(BaseModel):
    # A person writes `cpu: 4`, and YAML makes a number of it.
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class Allocatable(_Part):
    """What a cluster has for collaborators. None leaves it to the collaborator's own default."""

    cpu: Quantity | None = None
    memory: Quantity | None = None


class Cluster(_Part):
    """One entry of the file."""

    name: Name
    claims: dict[str, str] = {}
    allocatable: Allocatable = Allocatable()
    labels: dict[str, str] = {}


def read(path: Path) -> tuple[Cluster, ...]:
    """The clusters of a file, their claims as written. Raises BadInput when there is no such file or an entry is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput(f"cannot read the clusters file {path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the clusters file {path}: {error}") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> tuple[Cluster, ...]:
    """The clusters in a YAML document; `source` names it in errors. Raises BadInput with every entry that is wrong."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{source} is no YAML: {error}") from error
    entries = document.get("clusters") if isinstance(document, dict) and set(document) == {"clusters"} else None
    if not isinstance(entries, list):
        raise BadInput(f"{source} must have one field, `clusters`, with a list of clusters")
    if len(entries) > CLUSTERS_MAX:
        raise BadInput(f"{source} has {len(entries)} clusters; one machine takes {CLUSTERS_MAX}")
    return _clusters(entries, source)


def _clusters(entries: list[Any], source: str) -> tuple[Cluster, ...]:
    clusters: dict[str, Cluster] = {}
    problems = []
    for number, entry in enumerate(entries, 1):
        where = f"entry {number}" + (f" ({entry['name']})" if isinstance(entry, dict) and "name" in entry else "")
        try:
            cluster = Cluster.model_validate(entry)
        except ValidationError as error:
            problems += [f"{where}: {line}" for line in explain_invalid(error).splitlines()]
            continue
        if cluster.name in clusters:
            problems.append(f"{where}: an earlier entry has this name; every cluster needs its own")
        clusters.setdefault(cluster.name, cluster)
    if problems:
        raise BadInput("\n".join([f"{source} cannot be used:", *problems]))
    return tuple(clusters.values())


def resolved(cluster: Cluster, folder: Path) -> Cluster:
    """The cluster with every claim that names something in the folder as an absolute path."""
    return cluster.model_copy(update={"claims": {name: _path_if_any(value, folder) for name, value in cluster.claims.items()}})


def _path_if_any(value: str, folder: Path) -> str:
    try:
        path = (folder / value).resolve()
        return str(path) if value and path.exists() else value
    except (OSError, ValueError):  # too long for a path, or not possible in one: then it is no path
        return value


def render(clusters: tuple[Cluster, ...]) -> str:
    """The clusters as a document that `parse` reads."""
    return yaml.safe_dump({"clusters": [cluster.model_dump(exclude_defaults=True) for cluster in clusters]}, sort_keys=False)
