"""Taking part in a masked round, from the first key to the last share: what `participant` says is to be done, done here.

One function tells the whole protocol. Between two of its lines minutes may pass, until the hub has heard from everybody;
waiting ends when the round does, or a while after the time of the step, whichever comes first (`errands`).
Secrets are in this process's memory and nowhere else, and go with it: one that is restarted in the middle has lost them, and says so.
They go as well when the shares are given, since nothing here refers to them any more.
So a cluster's answer to the first `closed` is its last word in the round, whatever the bus may say later.

What goes wrong is an outcome, as in all work; who states it, and what a plain round does instead, is the business of `training`.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from secrets import token_bytes
from typing import Any

import structlog

from fedplane.collaborator.errands import Errand
from fedplane.collaborator.settings import Papers
from fedplane.collaborator.tasks import unless_closed
from fedplane.collaborator.transfers import Update, fresh_attempt, insist, mapped, overlapping, spans
from fedplane.collaborator.work import FAILURES, SECRETS_LOST, Done, Undone, about, failed
from fedplane.privacy.agreement import KEY_BYTES
from fedplane.privacy.masking import Masking, Noise, fixed_of, masked, shortened, tally
from fedplane.privacy.pairing import About, question
from fedplane.privacy.participant import SECRETS_BYTES, Participant, Secrets, Trustee, Withdrawn, counted, randomness_bytes
from fedplane.privacy.vouching import Peers, Voucher, words
from fedplane.runtime.errors import BadInput, BusFull, Unreachable
from fedplane.runtime.ports import Bus, Fence
from fedplane.runtime.telemetry import span
from fedplane.schemas.envelope import Unreadable
from fedplane.schemas.facts import Bound, Closed, Contributed, Entrusted, Fact, Keyed, Paired, Revealed, RoundFailed, Shared
from fedplane.schemas.layout import parse_header
from fedplane.schemas.models import Piece
from fedplane.schemas.privacy import STEP_SECONDS_MAX
from fedplane.schemas.privacy_terms import MaskingTerms
from fedplane.schemas.subjects import update_piece

__all__ = ["MaskedRound"]


class _TooLate(Exception):
    """The round has gone on without us."""


class MaskedRound:
    """This cluster's part in one masked round, once the app has trained."""

    def __init__(
        self, bus: Bus, errand: Errand, done: Done, papers: Papers | None, clock: Callable[[], datetime], traceparent: str | None
    ) -> None:
        assert errand.question.masking is not None, "whoever is asked to mask is told how"
        assert done.update is not None and done.model is not None, "what is masked is a change of a model"
        self._bus, self._errand, self._papers, self._clock, self._traceparent = bus, errand, papers, clock, traceparent
        self._answer, self._update = done.answer, done.update
        self._model = Update(done.model, done.update.header, done.update.bytes)
        self._invited = errand.question
        self._terms: MaskingTerms = errand.question.masking
        self._about = About(self._invited.run, self._invited.round, question(self._invited))
        self._whose: dict[str, Any] = {"run": self._invited.run, "round": self._invited.round, "cluster": self._invited.cluster}

    async def take_part(self) -> Undone | None:
        """Why it came to nothing; None if all that was to be said was said, or nobody waits for it any more."""
        try:
            await self._take_part()
        except _TooLate:
            structlog.get_logger().info("too late", why="the round has gone on without this cluster")
        except Withdrawn as why:
            return Undone(why.reason, str(why))
        except Unreadable as error:
            return Undone("bad-answer", f"the answer cannot be stated: {error}")
        except FAILURES as failure:
            return failed(failure)
        return None

    async def _take_part(self) -> None:
        invited, terms = self._invited, self._terms
        voucher, peers = await asyncio.to_thread(self._read_papers)
        participant = Participant(self._about, invited.cluster, Secrets.of(token_bytes(SECRETS_BYTES)))
        weight, metrics = 1.0 if terms.weights == "hidden" else self._answer.weight, self._answer.metrics
        said = words(participant.about, invited.cluster, participant.mask_key, participant.seal_key)
        keyed = Keyed(
            **self._whose, at=self._clock(), weight=weight, metrics=metrics, mask_key=participant.mask_key, seal_key=participant.seal_key,
            certificate=voucher.certificate if voucher else "", signature=voucher.sign(said) if voucher else "",
        )  # fmt: skip
        await self._state(keyed, Fence(Paired.pattern(run=invited.run, round=invited.round)))

        self._errand.lasts(invited.deadline)
        paired = await self._errand.heard(Paired)
        self._errand.lasts(paired.deadline)
        if peers is not None:
            await asyncio.to_thread(self._check, peers, paired)
        member, counts = participant.pair(paired, terms, weight), counted(terms, paired, self._answer.weight)
        sharing = await asyncio.to_thread(member.share, token_bytes(randomness_bytes(paired.threshold)))
        shared = Shared(**self._whose, at=self._clock(), sealed=sharing.sealed, commitments=sharing.commitments)
        await self._state(shared, Fence(Bound.pattern(run=invited.run, round=invited.round)))

        entrusted = await self._errand.heard(Entrusted)
        self._errand.lasts(entrusted.deadline)
        trustee = await asyncio.to_thread(member.bind, entrusted, sharing.kept)
        await self._send(trustee, paired, counts, weight)

        closed = await self._errand.heard(Closed)
        self._errand.lasts(closed.at + timedelta(seconds=min(terms.step_seconds, STEP_SECONDS_MAX)))
        revelation = trustee.reveal(closed.members or ())
        revealed = Revealed(**self._whose, at=self._clock(), seeds=revelation.seeds, keys=revelation.keys)
        await self._state(revealed, Fence(RoundFailed.pattern(run=invited.run, round=invited.round)))

    def _read_papers(self) -> tuple[Voucher | None, Peers | None]:
        """The files as they are now, since somebody replaces them while we run. Blocks."""
        if self._papers is None:
            return None, None
        try:
            voucher = Voucher.of(self._papers.certificate.read_bytes(), self._papers.key.read_bytes())
            return voucher, Peers.of(voucher.addon, self._papers.authority.read_bytes())
        except (OSError, BadInput) as error:
            raise Withdrawn("keys-unsigned", f"this cluster cannot say whose its keys are: {error}") from error

    def _check(self, peers: Peers, paired: Paired) -> None:
        for other in paired.members:
            if other.cluster != self._invited.cluster:  # our own keys are compared with what we have said
                peers.check(other, self._about, self._clock())

    async def _send(self, trustee: Trustee, paired: Paired, counts: float, weight: float) -> None:
        """Mask the update, store it shard by shard, and say so; with the masked weight, if nobody is to know that."""
        terms, update, model = self._terms, mapped(self._update), mapped(self._model)
        layout, fixed = parse_header(self._update.header), fixed_of(terms, paired)
        noise = None
        if terms.norm_max is not None and terms.deviation is not None:
            factor = await asyncio.to_thread(shortened, layout, update, model, terms.norm_max)
            noise = Noise(token_bytes(KEY_BYTES), terms.deviation / fixed.step, factor)
        how = Masking(fixed, counts, trustee.masks, noise)
        attempt, clipped = fresh_attempt(), list[int]()
        asked, chunk_bytes = self._invited, self._invited.chunk_bytes
        place = partial(update_piece, asked.run, asked.round, asked.cluster, attempt)

        async def send(shard: int, extent: tuple[int, int]) -> Piece:
            made = await asyncio.to_thread(masked, layout, extent, shard, update, model, how)
            clipped.append(made.clipped)
            return await insist(partial(self._bus.bulk.write, place(shard), made.data, chunk_bytes))

        sizes = {**about(asked), "fedplane.bytes": self._update.bytes}
        with span("upload update", parent=self._traceparent, attributes=sizes) as sent:
            extents = spans(self._update, asked)
            header = await insist(partial(self._bus.bulk.write, place("layout"), memoryview(self._update.header), chunk_bytes))
            pieces = await overlapping(partial(send, shard, extent) for shard, extent in enumerate(extents))
        if sum(clipped):
            structlog.get_logger().warning("changes were larger than the clip, and were shortened", numbers=sum(clipped), clip=terms.clip)
        contributed = Contributed(
            **self._whose, at=self._clock(), weight=weight, metrics=self._answer.metrics, attempt=attempt, layout=header,
            shards=tuple(pieces), tally=tally(how, counts) if terms.weights == "hidden" else (),
        )  # fmt: skip
        await self._state(contributed, unless_closed(asked.run, asked.round), sent.traceparent)

    async def _state(self, fact: Fact, fence: Fence, traceparent: str | None = None) -> None:
        """Raises _TooLate when the fence does not let it through, or the round has ended meanwhile."""
        async with self._errand.stating():
            state = partial(self._bus.log.state, fact, fence=fence, traceparent=traceparent or self._traceparent)
            outcome = await insist(state, on=(Unreachable, BusFull))
        structlog.get_logger().info("answered" if outcome.mine else "answered already, or too late", answer=type(fact).__name__)
        if outcome.record is None or self._errand.given_up:
            raise _TooLate
        if not outcome.mine:
            raise Withdrawn(SECRETS_LOST.reason, SECRETS_LOST.message)
