"""Answering a server: a signed question in, a signed answer out.

What it knows of the log is handed in at each question, so that an answer is about the rights of this moment.
Who carries questions and answers is `fedplane.runtime.nats.callouts`.
"""

from collections.abc import Callable
from datetime import datetime

import structlog

from fedplane.authorizer.callout import asked, decide, refusal, response, user
from fedplane.authorizer.crowds import Crowd
from fedplane.authorizer.grants import Grant
from fedplane.authorizer.identity import Because, Refused, Trust
from fedplane.authorizer.standing import Known
from fedplane.authorizer.tokens import Signer, read
from fedplane.runtime.errors import BadInput
from fedplane.runtime.metrics import CONNECTIONS_REFUSED
from fedplane.runtime.telemetry import tell

__all__ = ["Answering"]


class Answering:
    """One replica's answers. Two replicas say the same of the same log. `known` is None until the log was read."""

    def __init__(
        self, signer: Signer, trust: Callable[[], Trust], known: Callable[[], Known | None], crowd: Crowd, clock: Callable[[], datetime]
    ) -> None:
        self._signer, self._trust, self._crowd = signer, trust, crowd
        self._known, self._clock = known, clock

    def __call__(self, token: bytes) -> bytes | None:
        """The answer; nothing yet (b"") to what cannot be answered before the log was read; None to what is no question.

        A server that hears nothing lets nobody in.
        """
        logger = structlog.get_logger()
        try:
            question = asked(read(token.decode(errors="replace")))
        except BadInput as error:
            logger.warning("left a request for authorization without an answer", why=str(error))
            return None
        now = self._clock()
        decided = decide(question, self._known(), self._trust(), now)
        if decided is None:
            logger.debug("a request for authorization has to wait", why="the log was not read yet")
            return b""
        if isinstance(decided, Grant) and not self._crowd.let_in(f"{decided.role}:{decided.name}", decided.limits.connections):
            said = f"{decided.role} {decided.name} has {decided.limits.connections} connections, which are all that it may have"
            decided = Refused(said, Because.CROWDED)
        if isinstance(decided, Refused):
            logger.warning("refused a connection", why=decided.reason, kind=str(decided.because), server=question.server)
            tell(CONNECTIONS_REFUSED, 1, {"error.type": decided.because})
            return self._signer.sign(refusal(question, decided, now)).encode()
        if decided.left_out:
            logger.warning("there is more than a grant has room for", role=str(decided.role), name=decided.name, left_out=decided.left_out)
        logger.info("let a connection in", role=str(decided.role), name=decided.name, server=question.server)
        return self._signer.sign(response(question, self._signer.sign(user(question, decided, now)), now)).encode()
