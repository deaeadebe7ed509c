"""What each header of a message means. `docs/events.md` and `schemas/asyncapi.yaml` tell it from this table; `envelope` writes them."""

from collections.abc import Mapping

__all__ = ["HEADERS"]

HEADERS: Mapping[str, str] = {
    "ce-specversion": "CloudEvents' version",
    "ce-id": "derived from subject and content",
    "ce-source": "which process states it",
    "ce-type": "which fact it is, and its version",
    "ce-subject": "the fact's identity, and the message's subject",
    "ce-time": "when it was stated, as the field `at`",
    "ce-datacontenttype": "always JSON",
    "Nats-Msg-Id": "the id again: the server drops a repetition that comes soon",
    "traceparent": "the trace of its run or round (W3C Trace Context); a fact of the fleet has none",
}
"""In the order in which a message has them."""
