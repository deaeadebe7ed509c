"""A cluster's part in a masked round, against a log on which a test plays the hub and the other clusters."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from authority_story import Authority
from collaborator_story import MODEL, NOW, TRAINED, Apps, asked_once, bytes_of, collaborating, invited, model_on, said, train, until
from masking_story import chance, entrusted, keyholder, participant
from safetensors.numpy import load, save

from fedplane.collaborator.apps import Answer
from fedplane.privacy.fixed import Fixed
from fedplane.privacy.keystream import apply_all
from fedplane.privacy.masking import fixed_of
from fedplane.privacy.pairing import About, Pairing, question
from fedplane.privacy.participant import Member, Participant, Sharing, randomness_bytes
from fedplane.privacy.recovering import left_on
from fedplane.privacy.vouching import Voucher, words
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import (
    Closed,
    Contributed,
    Declined,
    Entrusted,
    Evaluated,
    Fact,
    Invited,
    Keyed,
    Paired,
    Revealed,
    RoundFailed,
    Shared,
)
from fedplane.schemas.models import Task
from fedplane.schemas.privacy_terms import Keyholder, MaskingTerms

F = TypeVar("F", bound=Fact)

OTHERS = ("c2", "c3", "c4")
ALL = ("c1", *OTHERS)
SOON = NOW + timedelta(days=1)
TERMS = MaskingTerms(clip=8, bits=32, weights="public", step_seconds=60)


@dataclass
class Hub:
    """Says what the aggregator says, and knows the other clusters' secrets."""

    bus: MemoryBus
    invitation: Invited
    others: dict[str, Participant] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    sharings: dict[str, Sharing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.invitation.model is not None
        self.about = About("r1", 1, question(self.invitation))
        self.others = {name: participant(name, self.about) for name in OTHERS}

    async def said(self, kind: type[F]) -> F:
        """What our cluster says of that kind."""
        await until(lambda: any(isinstance(fact, kind) for fact in said(self.bus)))
        return next(fact for fact in said(self.bus) if isinstance(fact, kind))

    async def state(self, fact: Fact) -> None:
        assert (await self.bus.log.state(fact)).mine

    def paired(self, keyed: Keyed, **changed: Any) -> Paired:
        own = Keyholder(**keyed.model_dump(include=set(Keyholder.model_fields)))
        members = (own, *(keyholder(each, 20.0) for each in self.others.values()))
        told: dict[str, Any] = {
            "members": members,
            "degree": 3,
            "threshold": 3,
            "weight_scale": 20.0,
            "deadline": SOON,
            "reason": "",
            "question": self.about.question,
        }
        return Paired(run="r1", round=1, at=NOW, **{**told, **changed})

    async def pair(self, keyed: Keyed) -> Paired:
        paired = self.paired(keyed)
        await self.state(paired)
        self.members = {name: each.pair(paired, TERMS, 20.0) for name, each in self.others.items()}
        self.sharings = {name: each.share(chance(name, randomness_bytes(3))) for name, each in self.members.items()}
        return paired

    async def entrust(self, **changed: Any) -> None:
        told: dict[str, Any] = {
            "members": ALL, "deadline": SOON, "sealed": {name: each.sealed["c1"] for name, each in self.sharings.items()},
            "commitments": {name: each.commitments["c1"] for name, each in self.sharings.items()},
        }  # fmt: skip
        await self.state(Entrusted(run="r1", round=1, at=NOW, cluster="c1", **{**told, **changed}))

    async def close(self, *members: str) -> None:
        await self.state(Closed(run="r1", round=1, at=NOW, reason="", members=members))

    async def declined(self) -> str:
        """Why our cluster has declined."""
        return (await self.said(Declined)).reason

    def mean(self, paired: Paired, shared: Shared, revealed: Revealed, data: bytes) -> list[float]:
        """What comes out if the others have changed nothing: our cluster's change, divided by all weights."""
        fixed: Fixed = fixed_of(TERMS, paired)
        sharings = {**self.sharings, "c1": Sharing(shared.sealed, shared.commitments, self.sharings["c2"].kept)}
        total, seeds = np.frombuffer(bytearray(data), fixed.dtype), {owner: {"c1": share} for owner, share in revealed.seeds.items()}
        for name, member in self.members.items():
            trustee = member.bind(entrusted(member, sharings, ALL), self.sharings[name].kept)
            for shard, part in enumerate(PARTS):
                apply_all(total[part], trustee.masks, shard)
            for owner, share in trustee.reveal(ALL).seeds.items():
                seeds[owner][name] = share
        left = left_on(Pairing.of(paired), {each.cluster: each.mask_key for each in paired.members}, ALL, ALL, seeds, {})
        for shard, part in enumerate(PARTS):
            apply_all(total[part], left, shard)
        return [float(value) for value in fixed.mean(total, 1.0)]


PARTS = (slice(0, 3), slice(3, 7))
"""The numbers of each shard: the first 16 bytes are a float64 and two floats."""


@asynccontextmanager
async def asked(tmp_path: Path, work: Callable[[Path], Any] = train, terms: MaskingTerms = TERMS, **told: Any) -> AsyncIterator[Hub]:
    """A collaborator that is asked to train in a masked round."""
    bus = MemoryBus()
    invitation = invited(model=await model_on(bus), masking=terms)
    async with collaborating(bus, Apps(work), tmp_path / "work", **told):
        await bus.log.state(invitation)
        yield Hub(bus, invitation)


async def test_a_masked_round_from_the_first_key_to_the_last_share(tmp_path: Path) -> None:
    async with asked(tmp_path) as hub:
        keyed = await hub.said(Keyed)
        paired = await hub.pair(keyed)
        shared = await hub.said(Shared)
        await hub.entrust()
        contributed = await hub.said(Contributed)
        await hub.close(*ALL)
        revealed = await hub.said(Revealed)

    assert (keyed.weight, keyed.metrics, keyed.certificate, keyed.signature) == (10.0, {"loss": 0.5}, "", "")
    assert (set(shared.sealed), set(shared.commitments)) == (set(OTHERS), set(ALL))
    assert (contributed.weight, contributed.metrics, contributed.tally, contributed.origin) == (10.0, {"loss": 0.5}, (), None)
    assert await bytes_of(hub.bus, contributed.layout) == MODEL[: contributed.layout.bytes]
    sent = await bytes_of(hub.bus, *contributed.shards)
    change = [1.0, 0, -0.5, -1, -1.5, -2, -2.5]
    assert hub.mean(paired, shared, revealed, sent) == pytest.approx([each * 10 / 20 for each in change], abs=1e-6)
    assert (set(revealed.seeds), revealed.keys) == (set(ALL), {})


async def test_a_step_for_which_a_hub_gives_time_without_end_is_taken_like_any_other(tmp_path: Path) -> None:
    async with asked(tmp_path, terms=TERMS.model_copy(update={"step_seconds": 1e300})) as hub:
        await hub.pair(await hub.said(Keyed))
        await hub.said(Shared)
        await hub.entrust()
        await hub.said(Contributed)
        await hub.close(*ALL)

        assert set((await hub.said(Revealed)).seeds) == set(ALL)


async def test_of_a_cluster_that_did_not_send_its_update_the_mask_key_is_revealed_and_of_the_others_the_seeds(tmp_path: Path) -> None:
    async with asked(tmp_path) as hub:
        await hub.pair(await hub.said(Keyed))
        await hub.said(Shared)
        await hub.entrust()
        await hub.said(Contributed)
        await hub.close("c1", "c2", "c3")
        revealed = await hub.said(Revealed)

    assert (set(revealed.seeds), set(revealed.keys)) == ({"c1", "c2", "c3"}, {"c4"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"threshold": 2}, "threshold-too-low"),
        ({"weight_scale": 5.0}, "weight-too-large"),
        ({"degree": 2, "threshold": 2}, "neighbours-too-few"),
    ],
    ids=str,
)
async def test_members_that_break_the_rules_are_declined_with_the_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    async with asked(tmp_path) as hub:
        await hub.state(hub.paired(await hub.said(Keyed), **change))
        if reason == "weight-too-large":
            hub.members = {}
        assert await hub.declined() == reason


async def test_members_that_were_asked_something_else_are_declined(tmp_path: Path) -> None:
    async with asked(tmp_path) as hub:
        await hub.state(hub.paired(await hub.said(Keyed), question="blake3:" + "0" * 64))

        assert await hub.declined() == "question-differs"


async def test_keys_that_are_not_ours_are_declined(tmp_path: Path) -> None:
    async with asked(tmp_path) as hub:
        fact = hub.paired(await hub.said(Keyed))
        own = fact.members[0].model_copy(update={"seal_key": participant("mallory").seal_key})
        await hub.state(fact.model_copy(update={"members": (own, *fact.members[1:])}))

        assert await hub.declined() == "keys-replaced"


async def test_a_share_that_was_changed_on_its_way_is_declined(tmp_path: Path) -> None:
    async with asked(tmp_path) as hub:
        await hub.pair(await hub.said(Keyed))
        await hub.said(Shared)
        await hub.entrust(sealed={name: each.sealed["c1"][::-1].replace("=", "A") for name, each in hub.sharings.items()})

        assert await hub.declined() == "share-tampered"


async def test_an_update_that_is_not_finite_is_declined_and_nothing_of_it_is_stated(tmp_path: Path) -> None:
    async def diverge(directory: Path) -> Answer:
        tensors = load(TRAINED) | {"b": np.array([np.nan])}
        (directory / "update.safetensors").write_bytes(save(tensors, {"order": '["w", "b"]'}))
        return Answer(weight=10.0, metrics={})

    async with asked(tmp_path, diverge) as hub:
        await hub.pair(await hub.said(Keyed))
        await hub.said(Shared)
        await hub.entrust()

        assert await hub.declined() == "update-not-finite"
        assert not any(isinstance(fact, Contributed) for fact in said(hub.bus))


@pytest.mark.parametrize("other", [{"appends": True}, {"task": Task.REPLY}], ids=["appended", "a reply"])
async def test_what_is_not_laid_out_as_the_model_is_cannot_be_masked(tmp_path: Path, other: dict[str, Any]) -> None:
    async def grow(directory: Path) -> Answer:
        (directory / "update.safetensors").write_bytes(save({"w": np.zeros(9)}))
        return Answer(weight=10.0, metrics={})

    bus = MemoryBus()
    async with collaborating(bus, Apps(grow), tmp_path / "work"):
        await bus.log.state(invitation := invited(model=await model_on(bus), masking=TERMS, **other))
        reason = await Hub(bus, invitation).declined()

    assert reason == "wrong-layout"


async def test_a_collaborator_that_is_restarted_after_it_has_said_its_keys_says_that_the_secrets_are_lost(tmp_path: Path) -> None:
    apps = Apps(train)
    async with asked(tmp_path) as hub:
        await hub.pair(await hub.said(Keyed))
    async with collaborating(hub.bus, apps, tmp_path / "work"):
        declined = await hub.said(Declined)

    assert (declined.reason, apps.asked) == ("secrets-lost", [])


async def test_keys_that_come_after_the_members_are_named_are_said_to_nobody(tmp_path: Path) -> None:
    async with asked(tmp_path) as hub:
        await hub.state(hub.paired(Keyed.model_construct(**keyholder(participant("c5")).model_dump())))
        await asyncio.sleep(0.1)

        assert [type(fact) for fact in said(hub.bus)] == [Invited, Paired]


@pytest.mark.parametrize(
    "end", [RoundFailed(run="r1", round=1, at=NOW, reason="too-few-shares", message=""), None], ids=["failed", "closed"]
)
async def test_a_round_that_goes_on_without_us_is_given_up(tmp_path: Path, end: Fact | None) -> None:
    async with asked(tmp_path) as hub:
        await hub.pair(await hub.said(Keyed))
        await hub.said(Shared)
        await hub.state(end or Closed(run="r1", round=1, at=NOW, reason="", members=OTHERS))
        await until(lambda: not (tmp_path / "work/r1/round-1").exists())

        assert isinstance(said(hub.bus)[-1], RoundFailed | Closed)


async def test_with_hidden_weights_nothing_says_how_many_examples_there_are(tmp_path: Path) -> None:
    async with asked(tmp_path, terms=TERMS.model_copy(update={"weights": "hidden", "weight_max": 20.0})) as hub:
        keyed = await hub.said(Keyed)
        hiding = tuple(each.model_copy(update={"weight": 1.0}) for each in hub.paired(keyed).members)
        await hub.state(fact := hub.paired(keyed, members=hiding))
        hub.members = {name: each.pair(fact, TERMS, 1.0) for name, each in hub.others.items()}
        hub.sharings = {name: each.share(chance(name, randomness_bytes(3))) for name, each in hub.members.items()}
        await hub.said(Shared)
        await hub.entrust()
        contributed = await hub.said(Contributed)
        await hub.bus.log.state(invited(2, Task.EVALUATE, hub.invitation.model, hides_weight=True))
        evaluated = await hub.said(Evaluated)

    assert (keyed.weight, contributed.weight, len(contributed.tally), evaluated.weight) == (1.0, 1.0, 1, 1.0)


class Signed:
    """Clusters with certificates, by an authority that our cluster is told of."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.authority, self.known = Authority(directory, "clusters"), {}
        self.known = {name: self.authority.agent(name) for name in ALL}
        own = self.known["c1"]
        self.told = {"tls_certificate": own.certificate, "tls_key": own.key, "peers_authority": self.authority.file}

    def paired(self, hub: Hub, keyed: Keyed, *, forged: str = "") -> Paired:
        fact = hub.paired(keyed)
        return fact.model_copy(update={"members": (fact.members[0], *(self._signed(hub, each, forged) for each in fact.members[1:]))})

    def _signed(self, hub: Hub, member: Keyholder, forged: str) -> Keyholder:
        known = self.known[member.cluster]
        voucher = Voucher.of(known.certificate.read_bytes(), known.key.read_bytes())
        if member.cluster == forged:
            member = member.model_copy(update={"mask_key": participant("mallory").mask_key})
        signature = voucher.sign(words(hub.about, member.cluster, "" if member.cluster == forged else member.mask_key, member.seal_key))
        return member.model_copy(update={"certificate": voucher.certificate, "signature": signature})


async def test_who_has_a_certificate_signs_its_keys_and_masks_with_others_who_do(tmp_path: Path) -> None:
    signed = Signed(tmp_path / "known")
    async with asked(tmp_path, **signed.told) as hub:
        keyed = await hub.said(Keyed)
        await hub.state(signed.paired(hub, keyed))
        shared = await hub.said(Shared)

    assert keyed.certificate == signed.known["c1"].pem
    assert set(shared.sealed) == set(OTHERS)


@pytest.mark.parametrize(("forged", "reason"), [("c3", "keys-unvouched"), (None, "keys-unsigned")], ids=["forged", "unsigned"])
async def test_who_has_a_certificate_masks_with_nobody_whose_keys_are_not_its_own(tmp_path: Path, forged: str | None, reason: str) -> None:
    signed = Signed(tmp_path / "known")
    async with asked(tmp_path, **signed.told) as hub:
        keyed = await hub.said(Keyed)
        await hub.state(signed.paired(hub, keyed, forged=forged) if forged else hub.paired(keyed))

        assert await hub.declined() == reason


async def test_a_certificate_that_cannot_be_read_is_declined_before_anything_is_said(tmp_path: Path) -> None:
    async with asked(tmp_path, tls_certificate=tmp_path / "none") as hub:
        declined = await hub.said(Declined)

    assert (declined.reason, "cannot say whose its keys are" in declined.message) == ("keys-unsigned", True)


@pytest.mark.parametrize("task", [Task.TRAIN, Task.REPLY])
async def test_a_cluster_that_sends_only_masked_updates_trains_in_no_other_round(tmp_path: Path, task: Task) -> None:
    bus, apps = MemoryBus(), Apps(train)

    declined = await asked_once(bus, invited(1, task, await model_on(bus)), apps, tmp_path, masked_only=True)

    assert isinstance(declined, Declined)
    assert (declined.reason, apps.asked) == ("not-masked", [])


async def test_a_cluster_that_sends_only_masked_updates_evaluates_and_takes_part_in_masked_rounds(tmp_path: Path) -> None:
    async with asked(tmp_path, masked_only=True) as hub:
        await hub.said(Keyed)
        await hub.bus.log.state(invited(2, Task.EVALUATE, hub.invitation.model))

        assert (await hub.said(Evaluated)).weight == 10.0


def test_what_masking_needs_is_loaded_only_when_a_round_is_masked() -> None:
    code = "import sys, fedplane.collaborator.main; print([each for each in ('numpy', 'cryptography', 'ml_dtypes') if each in sys.modules])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
