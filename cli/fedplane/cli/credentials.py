"""Bundles: one file with everything by which a client is let in, made to be handed to a person or a program.

It holds the client's key, its certificate and the authority by which it knows the server, all in PEM, so any program can read it thrice.
The first line says whose it is, in front of all PEM, where readers of PEM skip it: from it follows where the client is answered.
What the certificate says, and not that line, decides who its holder is; a wrong line makes a client that hears no answers.
"""

import os
import re
from datetime import datetime
from pathlib import Path

from fedplane.runtime.errors import BadInput, Unavailable
from fedplane.runtime.nats import Credentials
from fedplane.schemas.names import is_name
from fedplane.schemas.roles import Role, inbox_of

__all__ = ["check_lasts", "keep_secret", "owner_of", "read_bundle", "render_bundle"]

SECRET = 0o600
"""What everyone but the owner may do with a key: nothing."""

_OWNER = re.compile(r"# fedplane:(?P<role>[a-z]+):(?P<name>[-a-z0-9]+)")


def render_bundle(role: Role | None, name: str, *, key: str, certificate: str, authority: str) -> str:
    """The text of a bundle, of three texts in PEM. Without a role it is a server's."""
    return f"# fedplane:{role or 'server'}:{name}\n{key}{certificate}{authority}"


def read_bundle(path: Path) -> Credentials:
    """The credentials that are in a bundle. Raises BadInput when there is none, or it does not say whose it is."""
    return Credentials(path, path, path, inbox_of(*owner_of(path)))


def owner_of(path: Path) -> tuple[Role, str]:
    """The role and the name of whose bundle it is. Raises BadInput as `read_bundle` does."""
    try:
        with path.open(encoding="ascii") as file:
            first = file.readline().strip()
    except FileNotFoundError as error:
        raise BadInput(f"there is no bundle {path}; `fedplane up` and `fedplane access` make such files") from error
    except PermissionError as error:
        raise BadInput(
            f"the bundle {path} is for its owner alone; ask that person for one of your own, which `fedplane access issue cli NAME` makes,"
            " and name it with --credentials"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the bundle {path}: {error}") from error
    said = _OWNER.fullmatch(first)
    if said is None or said["role"] not in set(Role) or not is_name(said["name"]):
        raise BadInput(
            f"{path} is no bundle: its first line is not `# fedplane:ROLE:NAME`, as `# fedplane:cli:ann`, which says whose it is"
        )
    return Role(said["role"]), said["name"]


def check_lasts(path: Path, now: datetime) -> None:
    """Raise BadInput if the certificate in a bundle has ended."""
    from fedplane.runtime.certificates import valid_until  # noqa: PLC0415 -- it loads a library for which no other command should wait

    until = valid_until(path.read_text())
    if until < now:
        raise BadInput(
            f"the certificate in {path} ended on {until:%Y-%m-%d at %H:%M} UTC;"
            " `fedplane up` renews those of its own when it starts, and whoever gave you another one can make it anew"
        )


def keep_secret(path: Path, text: str) -> None:
    """Write a file that nobody else may read, and replace an old one at once. Raises Unavailable when that cannot be done."""
    new = path.with_name(path.name + ".new")
    try:
        new.unlink(missing_ok=True)  # one of an earlier try, which others might be reading
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET), "w", encoding="utf-8") as file:
            file.write(text)
        new.replace(path)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error
