"""Everything that fedplane raises, in one tree.

    FedplaneError
    ├── BadInput           what a person or a file gave us cannot be used; the message says what to change
    ├── BusError           the bus did not do what was asked
    │   ├── Unreachable    no server answers; trying again later is right
    │   ├── BusFull        the server has no room for it; nothing that was accepted is lost
    │   ├── Denied         the server knows us and does not allow it
    │   └── Corrupt        bytes came back that are not what was stored under their name
    ├── ApiError           a Kubernetes API server did not do what was asked
    │   ├── ApiUnreachable no API server answers, or it has too much to do; trying again later is right
    │   ├── ApiDenied      the API server knows us and does not allow it
    │   ├── NotFound       there is no such object, or no such kind
    │   ├── Conflict       somebody else has changed the object, or holds a field of it
    │   └── Invalid        the object is not what its schema or an admission rule wants
    ├── AppFailed          the user's own code crashed, hung, or returned what cannot be used
    └── Unavailable        this machine cannot do it: a port in use, no disk, a program missing

Operating failures of a run are no exceptions but facts: `declined`, `failed`.
An exception of this tree reaches the person at the command line, or the shell that caught it turns it into such a fact.
Foreign exceptions are translated at the door of the module that imports their library, and chained; those of Python itself pass through.
"""

__all__ = [
    "ApiDenied", "ApiError", "ApiUnreachable", "AppFailed", "BadInput", "BusError", "BusFull", "Conflict", "Corrupt", "Denied",
    "FedplaneError", "Invalid", "NotFound", "Unavailable", "Unreachable",
]  # fmt: skip


class FedplaneError(Exception):
    """The root; never raised itself. The message is for a person."""


class BadInput(FedplaneError):
    """What was given cannot be used."""


class BusError(FedplaneError):
    """The bus did not do what was asked."""


class Unreachable(BusError):
    """No server answers."""


class BusFull(BusError):
    """The server has no room."""


class Denied(BusError):
    """The server does not allow it."""


class Corrupt(BusError):
    """Bytes are not what they were stored as."""


class ApiError(FedplaneError):
    """A Kubernetes API server did not do what was asked."""


class ApiUnreachable(ApiError):
    """No API server answers."""


class ApiDenied(ApiError):
    """The API server does not allow it."""


class NotFound(ApiError):
    """There is no such object."""


class Conflict(ApiError):
    """Somebody else was first."""


class Invalid(ApiError):
    """The object is refused."""


class AppFailed(FedplaneError):
    """The user's code failed. `reason` is one word for a machine, `detail` the app's last words."""

    def __init__(self, reason: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.detail = detail


class Unavailable(FedplaneError):
    """This machine cannot do it."""
