"""Room on the log for the runs that go on: a new one is refused before the log is full.

A full log refuses every fact, and a run that cannot say what happened stands still.
So the last part of it is not for new runs.
This is only the rule; every `Log` keeps it when it is asked to state `submitted`, whoever asks.
"""

from fedplane.runtime.errors import BusFull
from fedplane.runtime.ports import Usage
from fedplane.schemas.facts import Submitted

__all__ = ["NEW_RUNS_SHARE", "check_room"]

NEW_RUNS_SHARE = 0.8
"""Up to this share the log takes new runs. Of the default limit, a fifth is 51 MB: 50,000 facts for those that go on.
A run on ten clusters states about fifty facts for each training round, its evaluation included.
"""


def check_room(submitted: Submitted, usage: Usage) -> None:
    """Raises BusFull, with what can be done, if the log has no room for a new run."""
    if usage.bytes_max is None or usage.bytes < usage.bytes_max * NEW_RUNS_SHARE:
        return
    raise BusFull(
        f"the run {submitted.run} was not taken: {usage.bytes} of the log's {usage.bytes_max} bytes are used, and the last "
        f"{1 - NEW_RUNS_SHARE:.0%} are for runs that go on; raise the limit of the stream LOG, "
        "or shorten FEDPLANE_RETENTION_SECONDS of the status service so that ended runs leave the log sooner"
    )
