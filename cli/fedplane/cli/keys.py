"""The keys of a federation on one machine: who is let in, and by what they are known.

    keys/
      services.crt, .key       the authority of servers, services and operators
      clusters.crt, .key       that of clusters; with one for both, a cluster could be a service
      authorities.crt          both, by which the server knows its clients
      nats.pem, scheduler.pem  ... a bundle for the server and for each role
      collaborator-NAME.pem    a bundle for each cluster, with the subject that Open Cluster Management gives it
      callout.seed             what the authorizer signs its answers with
      callout.password         by which the authorizer answers, ...
      system.password          ... and ends connections
      noise.secret             what aggregators draw noise from, for runs with differential privacy

They are made when the federation is first started, readable for its owner alone. Bundles are renewed in time; authorities and secrets stay.
Whoever may read these files may do everything, as whoever may write the server's stores.
Others on the machine may do nothing but look at the page of runs.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fedplane.cli.credentials import keep_secret, read_bundle, render_bundle
from fedplane.runtime.certificates import Authority, Subject, of_agent, of_client, of_server, valid_until
from fedplane.runtime.errors import BadInput, Unavailable
from fedplane.runtime.nats import Credentials
from fedplane.runtime.nkeys import KEY_BYTES, Account, seed_of
from fedplane.schemas.roles import Role

__all__ = ["ADDON", "LASTS", "RENEWED_BEFORE", "Keys"]

LASTS = timedelta(days=30)
"""How long what somebody has copied of these files is of use to him."""

RENEWED_BEFORE = timedelta(days=10)
"""How long before its end a certificate is made anew: a machine may be switched off over a holiday."""

ADDON = "fedplane-collaborator"
"""The add-on whose agents are collaborators; the authorizer's own default."""

HOSTS = ("localhost", "127.0.0.1", "::1")
"""Under which names the server may be reached: it listens to this machine alone."""

PASSWORD_BYTES = 32
"""As many as the keys have."""

SERVICES = (Role.AUTHORIZER, Role.SCHEDULER, Role.AGGREGATOR, Role.STATUS, Role.DRIVER, Role.OPERATOR)
"""Who gets a bundle from the first authority, under the role's own name. Replicas share one."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The paths, and what can be done with them. `hosts` are the server's, and `lasts` says how long certificates count.

    `for_hub` is whether Open Cluster Management is to sign with the clusters' authority.
    """

    path: Path
    hosts: tuple[str, ...] = HOSTS
    lasts: timedelta = LASTS
    for_hub: bool = False

    @property
    def server(self) -> Path:
        return self.path / "nats.pem"

    @property
    def authorities(self) -> Path:
        return self.path / "authorities.crt"

    @property
    def seed(self) -> Path:
        return self.path / "callout.seed"

    @property
    def callout_password(self) -> Path:
        return self.path / "callout.password"

    @property
    def system_password(self) -> Path:
        return self.path / "system.password"

    @property
    def noise(self) -> Path:
        return self.path / "noise.secret"

    def bundle(self, role: Role, cluster: str = "") -> Path:
        """The bundle of a role; a collaborator's has the name of its cluster."""
        return self.path / (f"{role}-{cluster}.pem" if cluster else f"{role}.pem")

    def authority(self, name: str) -> Path:
        """The certificate of an authority, `services` or `clusters`; its key is beside it."""
        return self.path / f"{name}.crt"

    @property
    def credentials(self) -> Credentials:
        """Those of the command line on this machine."""
        return read_bundle(self.bundle(Role.OPERATOR))

    @property
    def issuer(self) -> str:
        """By which the server knows the authorizer's answers."""
        return Account(self.seed.read_text()).public

    def provide(self, clusters: Iterable[str], now: datetime) -> bool:
        """Make what is missing or about to end; whether a certificate was made that somebody may have read before.

        Raises Unavailable when the files cannot be written, BadInput when one is there that is not what it is to be.
        """
        try:
            self.provide_secrets(self.callout_password, self.system_password, self.noise)
            if not self.seed.exists():
                keep_secret(self.seed, seed_of(secrets.token_bytes(KEY_BYTES)))
            return self._certify(clusters, now)
        except OSError as error:
            raise Unavailable(f"cannot use the keys in {self.path}: {error.strerror}") from error

    def provide_secrets(self, *paths: Path) -> None:
        """Make those of these files that are missing, each with a word that nobody can guess. Raises as `provide` does."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise Unavailable(f"cannot use the keys in {self.path}: {error.strerror}") from error
        for path in paths:
            if not path.exists():
                keep_secret(path, secrets.token_urlsafe(PASSWORD_BYTES))

    def _certify(self, clusters: Iterable[str], now: datetime) -> bool:
        services, of_clusters = self._authority("services", now), self._authority("clusters", now)
        both = services.certificate + of_clusters.certificate
        if not self.authorities.exists() or self.authorities.read_text() != both:
            keep_secret(self.authorities, both)
        wanted = (
            _Wanted(self.server, services, of_server(self.hosts), None, self.hosts[0]),
            *(_Wanted(self.bundle(role), services, of_client(role, role), role, role) for role in SERVICES),
            *(
                _Wanted(self.bundle(Role.COLLABORATOR, name), of_clusters, of_agent(name, ADDON), Role.COLLABORATOR, name)
                for name in clusters
            ),
        )
        overdue = [each for each in wanted if not each.is_good(now)]
        for each in overdue:
            each.write(services.certificate, now, self.lasts)
        return bool(overdue)

    def _authority(self, name: str, now: datetime) -> Authority:
        certificate, key = self.authority(name), self.authority(name).with_suffix(".key")
        if certificate.exists() and key.exists():
            try:
                authority = Authority.read(certificate.read_text(), key.read_text())
            except (BadInput, UnicodeDecodeError) as error:
                raise BadInput(
                    f"{certificate} and {key} are no authority: {error}; remove {self.path}, and all of it is made anew"
                ) from error
            if authority.until - now > self.lasts:
                return authority
        authority = Authority.new(f"fedplane {name}", now, for_hub=self.for_hub and name == "clusters")
        keep_secret(key, authority.key)
        keep_secret(certificate, authority.certificate)
        return authority


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A bundle that has to be there."""

    path: Path
    authority: Authority
    subject: Subject
    role: Role | None
    name: str

    def is_good(self, now: datetime) -> bool:
        """Whether it is there, of this authority, and counts long enough."""
        if not self.path.exists():
            return False
        held = self.path.read_text(errors="replace")
        return self.authority.has_issued(held) and valid_until(held) - now > RENEWED_BEFORE

    def write(self, servers: str, now: datetime, lasts: timedelta) -> None:
        """Make it; `servers` is the authority by which its holder knows the server."""
        issued = self.authority.issue(self.subject, now, lasts)
        keep_secret(self.path, render_bundle(self.role, self.name, key=issued.key, certificate=issued.certificate, authority=servers))
