"""What a collaborator can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from fedplane.runtime.settings import ServiceSettings
from fedplane.schemas.names import Name
from fedplane.schemas.quantities import Quantity

__all__ = ["AppSettings", "CollaboratorSettings", "Papers"]

SOCKET_PATH_BYTES_MAX = 107
"""What the kernel takes as a socket's path (unix(7)); 103 on macOS."""


@dataclass(frozen=True, slots=True)
class Papers:
    """The files with this cluster's certificate, its key, and the authority of the other clusters; all three may be one."""

    certificate: Path
    key: Path
    authority: Path


class AppSettings(ServiceSettings):
    """The shared settings, and whose apps are run, where and with what."""

    run: Name | Literal[""] = ""
    """The one run that is served, by a process that was started for it; it ends when the run has ended.
    A collaborator then advertises nothing: who started it knows the cluster. Empty: every run's.
    """

    app_socket: str = ""
    """Where the runner in a container of its own connects, a path in a directory that both containers see. FEDPLANE_WORKDIR has to be in
    such a directory as well, under the same path in both. It is for one run, FEDPLANE_RUN. Empty: the app is a child of this process.
    """

    app: Path | None = None
    """The app's directory, instead of the one that the run names. Set it where the image holds the app. None: as the run says."""

    python: Path | None = None
    """The Python of the app's environment. None: the one of the app's own virtual environment, .venv, and without that one made here."""

    environments: Path = Path(".fedplane/environments")
    """Where environments are made for apps that have none, of their pyproject.toml or requirements.txt; below the current directory.
    The collaborators of a machine may share it. pip heeds its own variables: PIP_NO_INDEX and PIP_FIND_LINKS let it work offline.
    """

    environments_python: Path | None = None
    """The Python that they are made with. None: the one that runs this. OpenFL needs one before 3.13."""

    environments_max: int = Field(default=8, ge=1)
    """How many there may be. Apps that ask for the same packages share one; of the others, the one unused longest makes room."""

    environments_bytes_max: int = Field(default=50_000_000_000, gt=0)
    """What they may take together, on disk. One with PyTorch for graphics cards has 6 GB."""

    environments_seconds_max: float = Field(default=1_800.0, gt=0)
    """How long making one may take; PyTorch for graphics cards over a slow line is a quarter of an hour."""

    @field_validator("app_socket")
    @classmethod
    def _is_for_one_run(cls, path: str, info: ValidationInfo) -> str:
        if path and not info.data.get("run"):
            raise ValueError("an app in a container of its own serves one run; set FEDPLANE_RUN")
        if len(path.encode()) > SOCKET_PATH_BYTES_MAX:
            raise ValueError(f"a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes")
        return path


class CollaboratorSettings(AppSettings):
    """The shared settings, what this cluster offers, and what work on it may take."""

    cluster: Name
    """The cluster that this process speaks for. No default: two collaborators of one name would answer for each other."""

    claims: dict[str, str] = Field(default={})
    """What the cluster claims to have, as a JSON object of names to values; a run looks for its data among them."""

    labels: dict[str, str] = Field(default={})
    """What runs may select clusters by, as a JSON object. Data is announced by claims, so none are needed."""

    cpu: Quantity | None = None
    """Cores that work may use, as a Kubernetes quantity. None: those of the machine. In a container, set the container's limit."""

    memory: Quantity | None = None
    """Memory that work may use, as a Kubernetes quantity. None: that of the machine. In a container, set the container's limit."""

    lease_seconds: float = Field(default=15.0, ge=1)
    """How long an advertisement counts. It is renewed three times as often, so after 15 seconds of silence no run is placed here."""

    workdir: Path = Path(".fedplane/work")
    """Where models, updates and apps' own files are while their run lasts, one model and one update per run; below the current directory.
    No two collaborators may share it. All of it can be fetched or made again, so it need not outlive the machine.
    """

    apps_max: int = Field(default=2, ge=1, le=64)
    """How many apps may be loaded at a time, one per run. Two let one run train while another does; each takes a framework's memory."""

    update_bytes_max: int = Field(default=16_000_000_000, gt=0)
    """The largest update that is sent. Four billion parameters of 32 bits are 16 GB; a larger file is more likely a mistake."""

    peers_authority: Path | None = None
    """The authority that has signed the other clusters' certificates, by which this one knows whose keys it masks with.
    None: that of the bus (FEDPLANE_TLS_AUTHORITY). Only runs with spec.privacy.secureAggregation need it.
    """

    masked_only: bool = False
    """Whether this cluster trains only where updates are masked (spec.privacy.secureAggregation), whatever it is asked.
    Initial models and what an evaluation measured are sent in any case.
    """

    @property
    def papers(self) -> Papers | None:
        """What shows other clusters who this one is, and whom it believes; None without a certificate."""
        one = self.tls_certificate
        if one is None:
            return None
        return Papers(one, self.tls_key or one, self.peers_authority or self.tls_authority or one)
