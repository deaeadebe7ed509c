"""What the ports of `runtime.nats` ask of a server, as subjects that a permission can name.

A request to JetStream is a message like any other, so what may be asked is decided by its subject, and nobody looks into its body.
Hence two kinds of functions are here. Those that take a subject give a right to just that.
Those that take no more than a stream give a right to the whole of it, because the body says which messages are meant.

Source: the JetStream API, as nats-server 2.15 serves it and nats-py 2.16 asks it; tests/integration/test_authorizer.py tries it.
"""

__all__ = [
    "ACCESS", "BULK", "FACT_STREAMS", "FLEET", "FOLDS", "KEPT_TIMERS", "LETTERS", "LOG", "STATED", "STREAMS", "TIMERS", "VIEWS", "WORK",
    "acknowledge", "bury", "declare", "describe", "examine", "inspect", "last", "lease", "next_messages", "purge", "read_any",
    "read_register", "remove", "subscribe", "view",
]  # fmt: skip

LOG, FLEET, ACCESS, TIMERS, WORK, BULK, VIEWS = STREAMS = ("LOG", "FLEET", "ACCESS", "TIMERS", "WORK", "BULK", "KV_runs")
FACT_STREAMS = (LOG, FLEET, ACCESS)
LETTERS = "LETTERS"
FOLDS, KEPT_TIMERS = "folds", "timers"
STATED = "log."
"""The names that `runtime.nats.streams` and `letters` declare. Those speak to servers and this one is pure; a test compares them."""


def last(stream: str, pattern: str) -> str:
    """Read the last message of subjects that match, and nothing else (direct get)."""
    return f"$JS.API.DIRECT.GET.{stream}.{pattern}"


def next_messages(stream: str, consumer: str = "*") -> str:
    """Have messages of a consumer sent that somebody made; it hears what its filters say. "*": of whatever consumer."""
    return f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"


def acknowledge(stream: str, consumer: str) -> str:
    """Say that messages of a consumer are done with."""
    return f"$JS.ACK.{stream}.{consumer}.>"


def lease(stream: str, consumer: str) -> tuple[str, ...]:
    """Take messages of a work queue, and give them back."""
    return (f"$JS.API.CONSUMER.INFO.{stream}.{consumer}", next_messages(stream, consumer), acknowledge(stream, consumer))


def read_any(stream: str) -> tuple[str, ...]:
    """Read a whole stream in order, as `pull` does. Its consumers have names of chance, and several filters, which stand in the body."""
    return (f"$JS.API.CONSUMER.CREATE.{stream}.*", next_messages(stream))


def read_register(stream: str) -> str:
    """Read any message from the stream's leader, by subject or by sequence: the body says which."""
    return f"$JS.API.STREAM.MSG.GET.{stream}"


def describe(stream: str) -> str:
    """Ask how full a stream is and how it is configured; the body may ask for the names of its subjects, too."""
    return f"$JS.API.STREAM.INFO.{stream}"


def purge(stream: str) -> str:
    """Remove whatever of a stream the body names."""
    return f"$JS.API.STREAM.PURGE.{stream}"


def inspect(stream: str) -> tuple[str, ...]:
    """Look for consumers, as durable listeners and `fedplane doctor` do."""
    return (f"$JS.API.CONSUMER.INFO.{stream}.*", f"$JS.API.CONSUMER.LIST.{stream}")


def examine() -> tuple[str, ...]:
    """Ask whether there is JetStream and who takes work, as `fedplane doctor` does; the rest of its look is asked for elsewhere."""
    return ("$JS.API.INFO", f"$JS.API.CONSUMER.INFO.{WORK}.{FOLDS}", f"$JS.API.CONSUMER.INFO.{TIMERS}.{KEPT_TIMERS}")


def remove(stream: str) -> str:
    """Remove consumers, whoever has made them."""
    return f"$JS.API.CONSUMER.DELETE.{stream}.*"


def subscribe(stream: str) -> tuple[str, ...]:
    """Make durable consumers, read them as `subscriptions` does, and remove them. `inspect` and the reading are given besides.

    Other clients name a single filter in the subject, behind the consumer's name.
    """
    return (
        f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.*", f"$JS.API.CONSUMER.CREATE.{stream}.>", acknowledge(stream, "*"), remove(stream),
    )  # fmt: skip


def bury() -> tuple[str, ...]:
    """Make the stream of dead letters when there is one, read it, and remove letters."""
    return (describe(LETTERS), f"$JS.API.STREAM.CREATE.{LETTERS}", *read_any(LETTERS), purge(LETTERS))


def declare() -> tuple[str, ...]:
    """Make the streams and the two queues' consumers that are missing: what `open_bus` does if it is given limits."""
    queues = ((WORK, FOLDS), (TIMERS, KEPT_TIMERS))
    return (
        *(describe(stream) for stream in STREAMS),
        *(f"$JS.API.STREAM.CREATE.{stream}" for stream in STREAMS),
        *(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}" for stream, consumer in queues),
        *(f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer}" for stream, consumer in queues),
    )


def view(run: str) -> str:
    """Write the view of a run."""
    return f"$KV.runs.{run}"
