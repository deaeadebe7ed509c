"""What the authorizer can be told. Secrets are in files, since what stands in an environment others may read."""

from pathlib import Path

from fedplane.runtime.settings import ServiceSettings

__all__ = ["AuthorizerSettings"]


class AuthorizerSettings(ServiceSettings):
    """Its own settings beside those of all services."""

    callout_seed: Path
    """A file with the seed of the account that signs answers to servers. Servers know its public key as the issuer of answers."""

    callout_password: Path
    """A file with the password of the user `authorizer`, to whom servers put their questions."""

    system_password: Path
    """A file with the password of the user `system`, who has connections ended."""

    services_authority: Path
    """The authorities of services, operators and subscribers, in PEM. Read anew when the file changes."""

    clusters_authority: Path
    """The authorities of clusters: those that sign for the add-on's agents, in PEM. Read anew when the file changes."""

    addon: str = "fedplane-collaborator"
    """The add-on of Open Cluster Management whose agents are collaborators."""
