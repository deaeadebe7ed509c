"""The guard of certificate requests: `python -m fedplane.authorizer.admission.main`, a process of its own.

It is no part of the authorizer's process, because it needs nothing of it: no bus, no log, no secret but its own certificate's key.
So it answers when the bus is away, and whoever takes it over gets no connection and no key of ours.
Replicas know nothing of each other.
"""

import asyncio
import signal
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import structlog

from fedplane.authorizer.admission.judging import Rules, judge
from fedplane.authorizer.admission.listening import listening
from fedplane.authorizer.admission.reviews import answer_to, parse_review
from fedplane.authorizer.admission.settings import GuardSettings
from fedplane.runtime.errors import FedplaneError
from fedplane.runtime.service import EXIT_FAILED, configure_logs
from fedplane.runtime.settings import read

__all__ = ["guard", "main"]


async def guard(settings: GuardSettings) -> None:
    """Answer an API server until cancelled."""
    rules = Rules(settings.guard_signer, settings.addon)
    files = settings.guard_certificate, settings.guard_key
    async with listening(settings.guard_host, settings.guard_port, *files, lambda body: _answer(body, rules)) as port:
        structlog.get_logger().info("ready", port=port, signer=rules.signer, addon=rules.addon)
        await asyncio.get_running_loop().create_future()


def _answer(body: bytes, rules: Rules) -> Mapping[str, Any]:
    review = parse_review(body)
    verdict = judge(review, rules)
    if verdict.refused:
        structlog.get_logger().warning("refused a certificate request", why=verdict.refused)
    elif verdict.cluster:
        structlog.get_logger().info("let a certificate request pass", cluster=verdict.cluster)
    return answer_to(review, verdict.refused)


async def _until_ended(settings: GuardSettings) -> None:
    guarding = asyncio.ensure_future(guard(settings))
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, guarding.cancel)
    try:
        await guarding
    except asyncio.CancelledError:
        structlog.get_logger().info("ended")


def main() -> None:
    """Run the guard until it is told to end."""
    settings = read(GuardSettings)
    configure_logs(settings.log_level)
    structlog.contextvars.bind_contextvars(service="guard")
    warnings.filterwarnings("ignore", "Attribute's length must be")  # OCM's names are longer than X.520 allows
    try:
        asyncio.run(_until_ended(settings))
    except FedplaneError as error:
        structlog.get_logger().error("stopped", why=str(error))
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
