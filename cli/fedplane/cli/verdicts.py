"""What becomes of a fact that was sent to a webhook, after an answer or a failure. Pure: time and chance are arguments.

What is decided here can be looked up in the CloudEvents webhook specification, where that says something; the rest is what senders do.

| what came of it | verdict |
|---|---|
| 2xx | delivered |
| 410 (`GONE`) | dead, and nothing more should be sent: the receiver says that it is gone for good |
| 408, 425, 429, 5xx, no answer in time | again later, until it was tried often enough; then dead |
| any other 4xx | dead: the same again would be answered the same |
| 3xx | dead: a sender must not follow a redirect, and the headers may be secrets that are not for another host |

Sources: CloudEvents 1.0.2, "HTTP 1.1 Web Hooks for Event Delivery", 2.2; RFC 9110, 10.2.3 (Retry-After); RFC 6585 (429).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

__all__ = ["GONE", "Again", "Answered", "Dead", "Delivered", "Outcome", "Patience", "Unanswered", "Verdict", "judge"]

RETRY_AFTER_SECONDS_MAX = 3600.0
"""What a receiver may ask us to wait; one that says next year has made a mistake, or is gone."""

TRIED_AGAIN = frozenset({408, 425, 429})
"""Of the client's errors, those that time mends: the request came too slowly, too early, too often."""

HOLDS_ALL = frozenset({429, 503})
"""The answers whose Retry-After speaks of the receiver and not of one event, so that everything waits."""

GONE = 410
"""The status of a receiver that has been retired; to it, nothing should be sent any more."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The receiver answered: the status, its Retry-After if it gave one, and the beginning of what it said."""

    status: int
    retry_after: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nothing was answered, and why: no connection, a wrong certificate, silence."""

    why: str


Outcome = Answered | Unanswered


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try it again at that time, and nothing else before then if it is `for_all`."""

    at: datetime
    for_all: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Trying again is of no use."""

    reason: str


Verdict = Delivered | Again | Dead


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a fact is tried, and how long to wait in between: the first wait, doubled each time up to the longest."""

    attempts_max: int = 20
    """With the waits below, about an hour: longer than a receiver needs to be deployed anew."""

    first_seconds: float = 1.0
    longest_seconds: float = 300.0
    """A receiver that is back gets the next attempt within five minutes."""


def judge(outcome: Outcome, attempts: int, now: datetime, chance: float, patience: Patience) -> Verdict:
    """What to do after that many attempts. `chance` is from [0, 1): what failed together does not come back together.

    A wait is between half of the doubled time and all of it, and never shorter than what the receiver asks for.
    """
    reason = _reason(outcome)
    status = outcome.status if isinstance(outcome, Answered) else 0
    if 200 <= status < 300:
        return Delivered()
    if 300 <= status < 500 and status not in TRIED_AGAIN:
        return Dead(reason)
    if attempts >= patience.attempts_max:
        return Dead(f"{reason}; tried {attempts} times")
    doubled = min(patience.longest_seconds, patience.first_seconds * 2.0 ** min(attempts - 1, 60))
    asked = _seconds_asked(outcome.retry_after, now) if isinstance(outcome, Answered) else None
    wait = max(doubled * (1 + chance) / 2, asked or 0.0)
    return Again(now + timedelta(seconds=wait), asked is not None and status in HOLDS_ALL, reason)


def _reason(outcome: Outcome) -> str:
    if isinstance(outcome, Unanswered):
        return outcome.why
    said = f": {outcome.said}" if outcome.said else ""
    redirected = " (redirects are not followed; give the address that it names)" if 300 <= outcome.status < 400 else ""
    return f"answered {outcome.status}{redirected}{said}"


def _seconds_asked(retry_after: str, now: datetime) -> float | None:
    """How long the receiver wants us to wait: a number of seconds or a date. None if it does not say, or nothing that is understood."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, OverflowError):  # a number in it may be of any length
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
