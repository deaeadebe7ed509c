"""When the answer to a question is wanted, and when no more."""

import asyncio
from datetime import timedelta

from collaborator_story import NOW, invited

from fedplane.collaborator.errands import GRACE_SECONDS, STEP_GRACE_SECONDS, Errand
from fedplane.schemas.facts import Closed, Paired


async def test_an_answer_that_is_wanted_and_at_once_unwanted_is_waited_for_until_a_later_round_wants_it() -> None:
    async with asyncio.timeout(None) as scope:
        errand = Errand(invited(1), scope, lambda: NOW)
        waiting = asyncio.create_task(errand.wanted())
        await asyncio.sleep(0)
        errand.want(invited(2), None)
        errand.unwant(3)
        await asyncio.sleep(0)
        errand.want(invited(4), "trace")

        assert await waiting == (invited(4), "trace")


def closed(reason: str) -> Closed:
    return Closed(run="r1", round=1, at=NOW, reason=reason, members=("a",))


async def test_a_step_is_heard_of_whether_it_is_done_before_or_after_it_is_waited_for_and_its_first_word_counts() -> None:
    async with asyncio.timeout(None) as scope:
        errand = Errand(invited(1), scope, lambda: NOW)
        waiting = asyncio.create_task(errand.heard(Closed))
        await asyncio.sleep(0)
        errand.hear(Paired(run="r1", round=1, at=NOW, members=(), degree=2, threshold=2, weight_scale=1, deadline=NOW, reason=""))
        await asyncio.sleep(0)
        errand.hear(closed("first"))
        errand.hear(closed("second"))

        assert await waiting == await errand.heard(Closed) == closed("first")


async def test_a_step_is_waited_for_until_a_while_after_its_time_and_no_longer() -> None:
    async with asyncio.timeout(None) as scope:
        errand = Errand(invited(1), scope, lambda: NOW)
        errand.lasts(NOW + timedelta(seconds=60))
        await asyncio.sleep(0)
        left = (scope.when() or 0) - asyncio.get_running_loop().time()

    assert 60 + STEP_GRACE_SECONDS < left <= 60 + STEP_GRACE_SECONDS + GRACE_SECONDS
