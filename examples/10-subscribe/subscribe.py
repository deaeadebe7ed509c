"""Writes down the accuracy of each aggregated round, once, however often this program ends and is started again."""

import asyncio
import json
import ssl
import sys
from pathlib import Path

import nats

FILE = Path("accuracy.csv")


def written() -> set[str]:
    return {line.partition(",")[0] for line in FILE.read_text().splitlines()} if FILE.exists() else set()


def write(line: str) -> None:
    with FILE.open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)


def known_by(bundle: str) -> dict[str, object]:
    """What shows the server who we are. The bundle's first line says where it answers us: below an inbox of our own."""
    tls = ssl.create_default_context(cafile=bundle)
    tls.load_cert_chain(bundle)
    _, role, name = Path(bundle).read_text().splitlines()[0].split(":")
    return {"tls": tls, "tls_handshake_first": True, "inbox_prefix": f"_INBOX_{role}_{name}"}


async def main(url: str = "tls://127.0.0.1:4222", bundle: str = "") -> None:
    connection = await nats.connect(url, **(known_by(bundle) if bundle else {}))
    facts = await connection.jetstream().pull_subscribe("log.fed.v1.run.*.round.*.aggregated", durable="accuracy", stream="LOG")
    done = written()
    while True:
        try:
            (fact,) = await facts.fetch(1, timeout=60)
        except nats.errors.TimeoutError:
            continue  # nothing was said for a minute
        event, said = fact.headers["ce-id"], json.loads(fact.data)
        if event not in done and "accuracy" in said["metrics"]:
            write(f"{event},{said['run']},{said['training_round']},{said['metrics']['accuracy']:.4f}")
            done.add(event)
        await fact.ack()


try:
    asyncio.run(main(*sys.argv[1:]))
except KeyboardInterrupt:
    sys.exit(130)
