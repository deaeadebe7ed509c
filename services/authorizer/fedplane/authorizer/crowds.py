"""How many connections each client has, so that none takes the places of all the others.

A server bounds the connections of an account, and all clusters are in one. Who may open a thousand keeps everybody else out.
So a replica counts those that it has let in since it last saw all connections of all servers, on top of what it saw then.
Who has as many as he can use is not let in, and what replicas have let in beyond that, side by side, ends when one of them looks.
"""

from collections import Counter
from collections.abc import Mapping

__all__ = ["Crowd"]


class Crowd:
    """The connections of each client, by the client's own name, as one replica knows them.

    `refused` is how often there was no room: a reason to look again, since connections may have ended meanwhile.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._seen: Counter[str] = Counter()

    def let_in(self, client: str, most: int) -> bool:
        """Whether there is room for another connection of the client, which counts from now on."""
        if self._seen[client] >= most:
            self.refused += 1
            return False
        self._seen[client] += 1
        return True

    def saw(self, connections: Mapping[str, int]) -> None:
        """All connections that there are."""
        self._seen = Counter(connections)
