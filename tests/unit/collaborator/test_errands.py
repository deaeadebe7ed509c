"""When the answer to a question is wanted, and when no more."""

import asyncio

from collaborator_story import NOW, invited

from fedplane.collaborator.errands import Errand


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
