"""Answering a server: a signed question in, a signed answer out.

What it knows of the log is handed in at each question, so that an answer is about the participants of this moment.
Who carries questions and answers is `fedplane.runtime.nats.callouts`.
"""

from collections.abc import Callable
from datetime import datetime

import structlog

from fedplane.authorizer.callout import asked, decide, refusal, response, user
from fedplane.authorizer.identity import Refused, Trust
from fedplane.authorizer.participants import Participants
from fedplane.authorizer.tokens import Signer, read
from fedplane.runtime.errors import BadInput

__all__ = ["Answering"]


class Answering:
    """One replica's answers. Two replicas say the same of the same log."""

    def __init__(self, signer: Signer, trust: Trust, participants: Callable[[], Participants], clock: Callable[[], datetime]) -> None:
        self._signer, self._trust = signer, trust
        self._participants, self._clock = participants, clock

    def __call__(self, token: bytes) -> bytes | None:
        """The answer, or None to what is no question: nobody is let in then, because a server that hears nothing refuses."""
        logger = structlog.get_logger()
        try:
            question = asked(read(token.decode(errors="replace")))
        except BadInput as error:
            logger.warning("left a request for authorization without an answer", why=str(error))
            return None
        now = self._clock()
        decided = decide(question, self._participants(), self._trust)
        if isinstance(decided, Refused):
            logger.warning("refused a connection", why=decided.reason, server=question.server)
            return self._signer.sign(refusal(question, decided, now)).encode()
        if decided.left_out:
            logger.warning("a cluster takes part in more runs than a grant has room for", name=decided.name, left_out=decided.left_out)
        logger.info("let a connection in", role=str(decided.role), name=decided.name, server=question.server)
        return self._signer.sign(response(question, self._signer.sign(user(question, decided, now)), now)).encode()
