"""A masked round among clusters in this process, step by step, without a bus: what each of them says, and what is made of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import shake_256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplane.privacy import graph
from fedplane.privacy.fixed import Fixed
from fedplane.privacy.keystream import apply_all
from fedplane.privacy.pairing import About, Pairing
from fedplane.privacy.participant import SECRETS_BYTES, Member, Participant, Revelation, Secrets, Sharing, Trustee, randomness_bytes
from fedplane.privacy.recovering import left_on
from fedplane.schemas.facts import Entrusted, Paired
from fedplane.schemas.privacy_terms import Keyholder, MaskingTerms

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ABOUT = About("r1", 3)
SHARD = 5


def chance(of: str, size: int) -> bytes:
    """Bytes that differ from test to test only if they are asked to."""
    return shake_256(of.encode()).digest(size)


def participant(cluster: str, about: About = ABOUT) -> Participant:
    return Participant(about, cluster, Secrets.of(chance(f"secrets of {cluster}", SECRETS_BYTES)))


def terms(**changed: Any) -> MaskingTerms:
    return MaskingTerms(**{"clip": 8.0, "bits": 32, "weights": "public", "step_seconds": 60, **changed})


def keyholder(of: Participant, weight: float = 1.0) -> Keyholder:
    return Keyholder(cluster=of.cluster, mask_key=of.mask_key, seal_key=of.seal_key, weight=weight)


def paired(clusters: Iterable[Participant], weights: Mapping[str, float] | None = None, **changed: Any) -> Paired:
    members = tuple(keyholder(each, (weights or {}).get(each.cluster, 1.0)) for each in clusters)
    degree, threshold = graph.chosen(len(members), None, None) if len(members) >= graph.MEMBERS_MIN else (2, 2)
    told = {
        "run": "r1", "round": 3, "at": NOW, "members": members, "degree": degree, "threshold": threshold, "reason": "everyone answered",
        "weight_scale": max(member.weight for member in members), "deadline": NOW + timedelta(seconds=60),
    }  # fmt: skip
    return Paired(**{**told, **changed})


def entrusted(member: Member, sharings: Mapping[str, Sharing], bound: Iterable[str], **changed: Any) -> Entrusted:
    """What the hub hands to a member."""
    bound, whose = tuple(sorted(bound)), member.cluster
    senders = [other for other in member.pairing.neighbours[whose] if other in bound]
    told = {
        "run": "r1", "round": 3, "at": NOW, "cluster": whose, "members": bound, "deadline": NOW + timedelta(seconds=120),
        "sealed": {sender: sharings[sender].sealed[whose] for sender in senders},
        "commitments": {sender: sharings[sender].commitments[whose] for sender in senders},
    }  # fmt: skip
    return Entrusted(**{**told, **changed})


@dataclass
class Round:
    """A round as far as it has gone; each step is taken by those who are named, and the others have dropped out."""

    fact: Paired
    members: dict[str, Member]
    sharings: dict[str, Sharing] = field(default_factory=dict)
    trustees: dict[str, Trustee] = field(default_factory=dict)
    masked: dict[str, NDArray[np.uint32]] = field(default_factory=dict)
    revealed: dict[str, Revelation] = field(default_factory=dict)

    @classmethod
    def of(cls, clusters: Iterable[str], weights: Mapping[str, float] | None = None, **changed: Any) -> "Round":
        able = [participant(cluster) for cluster in clusters]
        fact = paired(able, weights, **changed)
        asked = terms(neighbours=fact.degree, threshold=fact.threshold)
        return cls(fact, {each.cluster: each.pair(fact, asked, (weights or {}).get(each.cluster, 1.0)) for each in able})

    @property
    def pairing(self) -> Pairing:
        return Pairing.of(self.fact)

    @property
    def fixed(self) -> Fixed:
        return Fixed(8.0, 32, len(self.fact.members))

    def share(self, clusters: Iterable[str]) -> None:
        self.sharings = {
            name: self.members[name].share(chance(f"shares of {name}", randomness_bytes(self.fact.threshold))) for name in clusters
        }

    def bind(self) -> None:
        """Everyone who has shared is bound."""
        for name, sharing in self.sharings.items():
            self.trustees[name] = self.members[name].bind(entrusted(self.members[name], self.sharings, self.sharings), sharing.kept)

    def mask(self, changes: Mapping[str, NDArray[np.float64]]) -> None:
        for name, change in changes.items():
            share = next(member.weight for member in self.fact.members if member.cluster == name) / self.fact.weight_scale
            self.masked[name], _ = self.fixed.quantized(change, share)
            apply_all(self.masked[name], self.trustees[name].masks, SHARD)

    def reveal(self, clusters: Iterable[str]) -> None:
        self.revealed = {name: self.trustees[name].reveal(self.masked) for name in clusters}

    def mean(self) -> NDArray[np.float64]:
        """What the hub makes of it. Raises BadInput if there are too few shares."""
        seeds, keys = dict[str, dict[str, str]](), dict[str, dict[str, str]]()
        for holder, revelation in self.revealed.items():
            for known, told in ((seeds, revelation.seeds), (keys, revelation.keys)):
                for owner, share in told.items():
                    known.setdefault(owner, {})[holder] = share
        public = {member.cluster: member.mask_key for member in self.fact.members}
        left = left_on(self.pairing, public, self.sharings.keys(), self.masked.keys(), seeds, keys)
        total = np.zeros(len(next(iter(self.masked.values()))), np.uint32)
        for masked in self.masked.values():
            total += masked
        apply_all(total, left, SHARD)
        assert self.fixed.in_range(total)
        return self.fixed.mean(
            total, sum(member.weight for member in self.fact.members if member.cluster in self.masked) / self.fact.weight_scale
        )


def changes_of(clusters: Iterable[str], elements: int = 7) -> dict[str, NDArray[np.float64]]:
    """Some change for each cluster, within the clip."""
    return {name: np.frombuffer(chance(f"change of {name}", elements), np.uint8) / 256 - 0.5 for name in clusters}
