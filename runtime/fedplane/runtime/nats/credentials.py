"""Who we are, to a server that asks for certificates: files in PEM, which somebody replaces while we run.

OCM renews a cluster's certificate every few hours, and a connection outlives it: servers look at certificates only when one is made.
So the files are read anew whenever a connection is made anew, and all of them into a new context.
One that has taken the new certificate and not its key would be of no use, and an authority is not forgotten by one that knows it.
Whoever replaces three files cannot do so at once, so what does not fit together at that moment is no reason to forget what did.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from fedplane.runtime.errors import BadInput

__all__ = ["Credentials", "Reread"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Our certificate, its key, and the authority by which we know the server; all three may be one file.

    `inbox` is the only subject below which the server lets us hear answers.
    `listening` is where we ask for a reader of the log, if we may make none; see `guarded`. Empty: we make our own.
    `user` and `password` are those of a user whom the server's configuration names; it lets others in by their certificate.
    `user` and `password` are for the few whom the server's own configuration names, beside their certificate.
    """

    certificate: Path
    key: Path
    authority: Path
    inbox: str
    listening: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)


class Reread:
    """The files as they are when they are asked for; as they were, as long as they cannot be used."""

    def __init__(self, credentials: Credentials) -> None:
        """Raises BadInput when the files cannot be used at first."""
        self._credentials = credentials
        self._context = _context(credentials)
        self._complained = False

    def context(self) -> ssl.SSLContext:
        """What to greet a server with now. It says once that the files cannot be used, and not at each attempt to connect."""
        try:
            self._context = _context(self._credentials)
            self._complained = False
        except BadInput as error:
            if not self._complained:
                structlog.get_logger().warning("going on with the credentials that were read before", why=str(error))
            self._complained = True
        return self._context


def _context(credentials: Credentials) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=credentials.authority)
        # A key that wants a password would be asked of a terminal; an empty one makes it an error.
        context.load_cert_chain(credentials.certificate, credentials.key, password="")
    except OSError as error:  # SSLError is one
        files = f"{credentials.certificate}, {credentials.key} and {credentials.authority}"
        raise BadInput(f"{files} are no certificate, its key and an authority: {error}") from error
    return context
