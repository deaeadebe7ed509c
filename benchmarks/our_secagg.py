"""Our side of the secure-aggregation benchmark: what a collaborator computes in a masked round, and what takes the masks off the sum.

Facts go from hand to hand. Left out are therefore the bus, digests of what is stored, the log's signatures (Flower's keys have none either)
and the model's download; the bytes that a client would send are counted afterwards, facts as they are on the wire.
Everything runs in one thread, as Flower's does, though a collaborator masks several shards at a time.
Clients that are not measured mask nothing, and the sum takes a measured client's masked update for theirs.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import urandom

import numpy as np
from aggregation import SHARD_BYTES, layout_of
from cohort import EXAMPLES, Answer, Case, Stopwatch, answer, mean, update
from numpy.typing import NDArray

from fedplane.privacy import keystream, recovering
from fedplane.privacy.masking import Masking, fixed_of, masked
from fedplane.privacy.pairing import About, Pairing
from fedplane.privacy.participant import SECRETS_BYTES, Member, Participant, Revelation, Secrets, Sharing, Trustee, randomness_bytes
from fedplane.schemas.envelope import write
from fedplane.schemas.facts import Contributed, Entrusted, Fact, Keyed, Paired, Revealed, Shared
from fedplane.schemas.layout import cut
from fedplane.schemas.models import Piece
from fedplane.schemas.privacy_terms import Keyholder, MaskingTerms
from fedplane.schemas.subjects import update_piece

__all__ = ["main"]

CLIP = 8.0
"""Our default for a model of weights below 1, and Flower's for all."""

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
WHOSE = {"run": "masked-01234567", "round": 2}


@dataclass
class Clients:
    """All clients of a round, by name, and what the measured ones took."""

    case: Case
    watch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        self.names = [f"c{number:03}" for number in range(self.case.clients)]
        self.terms = MaskingTerms(
            clip=CLIP, bits=32, weights="public", step_seconds=60, neighbours=self.case.neighbours, threshold=self.case.threshold
        )
        self.layout = layout_of(self.case.elements)

    def keyed(self) -> tuple[list[Participant], Paired]:
        """Keys are made, and everybody hears of everybody's."""
        participants, holders = [], []
        for number, name in enumerate(self.names):
            with self.watch.working(number):
                participants.append(Participant(About(*WHOSE.values()), name, Secrets.of(urandom(SECRETS_BYTES))))
                keys = {"mask_key": participants[-1].mask_key, "seal_key": participants[-1].seal_key}
            holders.append(Keyholder(cluster=name, weight=EXAMPLES, **keys))
            self._sends(number, Keyed(**WHOSE, cluster=name, at=NOON, weight=EXAMPLES, metrics={}, **keys))
        paired = Paired(
            **WHOSE, at=NOON, members=tuple(holders), degree=self.case.neighbours, threshold=self.case.threshold, weight_scale=EXAMPLES,
            deadline=NOON, reason="everyone answered",
        )  # fmt: skip
        return participants, paired

    def shared(self, participants: Sequence[Participant], paired: Paired) -> tuple[list[Member], dict[str, Sharing]]:
        """Secrets are cut into shares and sealed."""
        members, sharings = [], {}
        for number, name in enumerate(self.names):
            with self.watch.working(number):
                members.append(participants[number].pair(paired, self.terms, EXAMPLES))
                sharings[name] = members[-1].share(urandom(randomness_bytes(paired.threshold)))
            sealed = {"sealed": sharings[name].sealed, "commitments": sharings[name].commitments}
            self._sends(number, Shared(**WHOSE, cluster=name, at=NOON, **sealed))
        return members, sharings

    def bound(self, members: Sequence[Member], sharings: Mapping[str, Sharing]) -> list[Trustee]:
        """Shares are opened and compared with what was committed to; the keys of the masks are computed."""
        trustees = []
        for number, (name, member) in enumerate(zip(self.names, members, strict=True)):
            senders = member.pairing.neighbours[name]
            entrusted = Entrusted(
                **WHOSE, cluster=name, at=NOON, members=tuple(self.names), deadline=NOON,
                sealed={sender: sharings[sender].sealed[name] for sender in senders},
                commitments={sender: sharings[sender].commitments[name] for sender in senders},
            )  # fmt: skip
            with self.watch.working(number):
                trustees.append(member.bind(entrusted, sharings[name].kept))
        return trustees

    def masked(self, paired: Paired, trustees: Sequence[Trustee]) -> NDArray[np.uint32]:
        """The sum of the masked updates of those who stay. A client holds one masked shard at a time, and the hub their sum."""
        total, model = np.zeros(self.case.elements, np.uint32), memoryview(np.zeros(self.case.elements, np.float32)).cast("B")
        spans = cut(self.layout.bytes, SHARD_BYTES)
        for number in range(self.case.measured):
            flat = memoryview(update(number, self.case.elements)).cast("B")
            for shard, span in enumerate(spans):
                with self.watch.working(number):
                    how = Masking(fixed_of(self.terms, paired), 1.0, trustees[number].masks)
                    data = masked(self.layout, span, shard, flat, model, how).data
                times = (
                    1 if number else 1 + self.case.clients - self.case.missing - self.case.measured
                )  # the first one's for the unmeasured
                part = total[span[0] // 4 : span[1] // 4]
                part += np.frombuffer(data, "<u4") * np.uint32(times)
                self.watch.sends(number, data.nbytes)
            self._sends(number, self._contributed(number, spans))
        return total

    def _contributed(self, number: int, spans: Sequence[tuple[int, int]]) -> Contributed:
        place = (*WHOSE.values(), self.names[number], "a")
        shards = tuple(
            Piece(subject=update_piece(*place, shard), bytes=end - begin, chunk_bytes=1_000_000, digest="blake3:" + 64 * "0")
            for shard, (begin, end) in enumerate(spans)
        )
        layout = Piece(subject=update_piece(*place, "layout"), bytes=100, chunk_bytes=1_000_000, digest="blake3:" + 64 * "0")
        return Contributed(**WHOSE, cluster=place[2], at=NOON, weight=EXAMPLES, metrics={}, attempt="a", layout=layout, shards=shards)

    def revealed(self, trustees: Sequence[Trustee]) -> dict[str, Revelation]:
        """Those who stay give what takes the masks off."""
        found, stay = {}, self.names[: self.case.clients - self.case.missing]
        for number, name in enumerate(stay):
            with self.watch.working(number):
                found[name] = trustees[number].reveal(stay)
            self._sends(number, Revealed(**WHOSE, cluster=name, at=NOON, seeds=found[name].seeds, keys=found[name].keys))
        return found

    def _sends(self, number: int, fact: Fact) -> None:
        wire = write(fact, "/bench")
        self.watch.sends(number, len(wire.subject) + sum(len(name) + len(value) for name, value in wire.headers.items()) + len(wire.body))


def unmask(
    case: Case, paired: Paired, sharings: Mapping[str, Sharing], revealed: Mapping[str, Revelation], total: NDArray[np.uint32]
) -> None:
    """Compare the shares with what was committed to, join them, and take what is left of the masks off the sum, shard by shard."""
    seeds, keys = ({owner: _true_shares(owner, sharings[owner], revealed, kind) for owner in sharings} for kind in ("seeds", "keys"))
    publics = {member.cluster: member.mask_key for member in paired.members}
    masks = recovering.left_on(Pairing.of(paired), publics, list(sharings), list(revealed), seeds, keys)
    for shard, (begin, end) in enumerate(cut(4 * case.elements, SHARD_BYTES)):
        keystream.apply_all(total[begin // 4 : end // 4], masks, shard)


def _true_shares(owner: str, sharing: Sharing, revealed: Mapping[str, Revelation], kind: str) -> dict[str, str]:
    given = {holder: shares[owner] for holder, each in revealed.items() if owner in (shares := getattr(each, kind))}
    committed = {holder: each[("seeds", "keys").index(kind)] for holder, each in sharing.commitments.items()}
    return {holder: share for holder, share in given.items() if recovering.is_true(share, committed[holder])}


def play(case: Case) -> Answer:
    """One masked round; the mean is computed from its sum."""
    clients = Clients(case)
    participants, paired = clients.keyed()
    members, sharings = clients.shared(participants, paired)
    trustees = clients.bound(members, sharings)
    total = clients.masked(paired, trustees)
    revealed = clients.revealed(trustees)
    begun = time.perf_counter()
    unmask(case, paired, sharings, revealed, total)
    found = fixed_of(clients.terms, paired).mean(total, float(len(revealed)))
    server = time.perf_counter() - begun
    apart = float(np.abs(found - mean(case)).max()) if case.whole else None
    return clients.watch.answer(case.measured, server, apart)


def main() -> None:
    answer(play)


if __name__ == "__main__":
    main()
