"""When the log takes a new run."""

import pytest

from fedplane.runtime.errors import BusFull
from fedplane.runtime.headroom import NEW_RUNS_SHARE, check_room
from fedplane.runtime.ports import Usage
from fedplane.schemas.examples import EXAMPLES
from fedplane.schemas.facts import Submitted

(SUBMITTED,) = (fact for fact in EXAMPLES if isinstance(fact, Submitted))
SHARE = int(1_000_000 * NEW_RUNS_SHARE)


@pytest.mark.parametrize("usage", [Usage(0, 1_000_000), Usage(SHARE - 1, 1_000_000), Usage(1 << 50, None)])
def test_a_log_with_room_takes_a_new_run(usage: Usage) -> None:
    assert check_room(SUBMITTED, usage) is None


@pytest.mark.parametrize("used", [SHARE, 1_000_000])
def test_the_last_part_of_the_log_is_not_for_new_runs_and_the_error_says_what_to_do(used: int) -> None:
    with pytest.raises(BusFull) as refused:
        check_room(SUBMITTED, Usage(used, 1_000_000))

    assert str(refused.value) == (
        f"the run mnist-5f3a9c1e was not taken: {used} of the log's 1000000 bytes are used, and the last 20% are for runs that go on; "
        "raise the limit of the stream LOG, "
        "or shorten FEDPLANE_RETENTION_SECONDS of the status service so that ended runs leave the log sooner"
    )
