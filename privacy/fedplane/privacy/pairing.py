"""What follows from the keys of a masked round, for clusters and hub alike: who is whose neighbour, and which key makes which mask.

`paired` names the members and their public keys. Everything else is computed from that, by everybody in the same way and here alone:
the neighbourhoods, the number of each holder of a cluster's shares, the arithmetic of the round, and the keys of the masks.
A cluster's secrets are held by itself and its neighbours, by the order of their names; the first holder has number 0.
The graph is drawn by a digest of all keys: nobody knows it before all of them are on the log, and nobody has to be asked for it.
Keys are for those alone who were asked the same and told the same: else a hub could ask or tell each cluster something of its own,
so that what the others send is zero, or so that few shares are enough to unmask one of them.

Two neighbours mask with the stream of a key that they have in common; of the two, the one whose name comes first adds it.
Each adds the stream of its own seed besides. Which secrets are whose, and who may learn them, is the business of `participant`.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from fedplane.privacy import agreement
from fedplane.privacy.agreement import purpose
from fedplane.privacy.graph import neighbourhoods
from fedplane.runtime.errors import BadInput
from fedplane.schemas.digests import digest, digest_of_digests
from fedplane.schemas.facts import Invited, Paired
from fedplane.schemas.models import model_digest

__all__ = ["ASKED", "About", "Pairing", "commitment", "pair_key", "question", "raw", "self_key", "subtracts", "text"]


@dataclass(frozen=True, slots=True)
class About:
    """Which round it is, what its clusters were asked (`question`), and who masks: a key is good for no other ones.

    A hub that has all clusters but one train a model of which nothing can be learnt would see that one's change in the sum (Pasquini,
    Francati and Ateniese 2022, "Eluding Secure Aggregation in Federated Learning via Model Inconsistency"). A clip of a billion for the
    others, or a learning rate of zero, does the same. So masks of clusters that were asked different things do not cancel.
    """

    run: str
    round: int
    question: str = ""
    members: str = ""

    def of(self, what: bytes, *further: str) -> bytes:
        """A purpose of this round."""
        return purpose(what, *(each.encode() for each in (self.run, str(self.round), self.question, self.members, *further)))


@dataclass(frozen=True, slots=True)
class Pairing:
    """The members of a round by name, the neighbours of each by name, and how many holders' shares tell a secret."""

    about: About
    neighbours: Mapping[str, tuple[str, ...]]
    threshold: int

    @classmethod
    def of(cls, paired: Paired) -> "Pairing":
        """What follows from the fact."""
        asked = About(paired.run, paired.round, paired.question or "")
        members = sorted((each.cluster, each.mask_key, each.seal_key, str(each.weight)) for each in paired.members)
        told = (str(paired.degree), str(paired.threshold), str(paired.weight_scale), *(word for member in members for word in member))
        about = replace(asked, members=text(sha256(asked.of(b"fedplane members", *told)).digest()))
        seed = sha256(about.of(b"fedplane graph")).digest()
        return cls(about, neighbourhoods([cluster for cluster, *_ in members], paired.degree, seed), paired.threshold)

    @property
    def members(self) -> tuple[str, ...]:
        """All of them, by name."""
        return tuple(sorted(self.neighbours))

    def holders(self, cluster: str) -> tuple[str, ...]:
        """Who has a share of the cluster's secrets, in the order of their numbers: the cluster itself and its neighbours."""
        return tuple(sorted((cluster, *self.neighbours[cluster])))

    def number(self, cluster: str, holder: str) -> int:
        """The number of a holder among those of the cluster's secrets."""
        return self.holders(cluster).index(holder)


ASKED: dict[str, Any] = {
    **dict.fromkeys((
        "task", "training_round", "framework", "app", "configuration", "run_configuration", "shard_bytes", "fold", "appends", "masking",
        "hides_weight", "local_privacy",
    ), True),
    "instruction": {"kind", "group"},
}  # fmt: skip
"""Of an invitation what decides which numbers a cluster sends, the model besides. Times, and what is the cluster's own, do not."""


def question(invited: Invited) -> str:
    """What a cluster was asked, as a digest. Of the model it is that of the bytes that are fetched, whatever they are called."""
    asked = json.dumps(invited.model_dump(mode="json", include=ASKED), sort_keys=True)
    model = [model_digest(invited.model.layout, invited.model.shards)] if invited.model else []
    return digest_of_digests([digest(asked.encode()), *model])


def self_key(seed: bytes, about: About) -> bytes:
    """The key of the mask that a cluster puts on by itself."""
    return agreement.derived(seed, about.of(b"fedplane self mask"))


def pair_key(private: bytes, public: bytes, about: About) -> bytes:
    """The key of the mask that two clusters have in common, for whoever has the mask key of one of them."""
    return agreement.shared_secret(private, public, about.of(b"fedplane pair mask"))


def subtracts(cluster: str, other: str) -> bool:
    """Whether the cluster subtracts the mask that it has in common with the other one, who then adds it."""
    return cluster > other


def commitment(share: bytes) -> str:
    """What a share is known by when it is revealed. It hides the share, which is as good as chance: nobody can try them all."""
    return text(sha256(share).digest())


def text(data: bytes) -> str:
    """Bytes as facts have them: base64 for URLs (RFC 4648, section 5)."""
    return urlsafe_b64encode(data).decode()


def raw(written: str) -> bytes:
    """The bytes of such a text. Raises BadInput for what is none."""
    try:
        return urlsafe_b64decode(written)
    except (Error, ValueError) as error:
        raise BadInput(f"that is no base64: {error}") from error
