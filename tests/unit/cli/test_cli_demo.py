"""A demo says which of its clusters keep silent instead of waiting for them for ever."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedplane.cli import demo
from fedplane.runtime.errors import Unavailable
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.facts import Advertised


async def test_clusters_that_do_not_say_what_they_have_are_named_with_the_place_of_their_logs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "ADVERTISED_SECONDS", 0.05)
    bus = MemoryBus()
    await bus.log.state(Advertised(cluster="a", at=datetime.now(UTC), lease_seconds=15, claims={}, allocatable={}, labels={}))

    await demo._until_advertised(bus, {"a"}, tmp_path)
    with pytest.raises(Unavailable, match=f"^b, c did not say within 0.05 s what they have; their collaborators' logs in {tmp_path}/logs"):
        await demo._until_advertised(bus, {"a", "b", "c"}, tmp_path)
