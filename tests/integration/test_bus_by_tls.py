"""The bus behind what tells services apart by the name in a TLS greeting, as a Route does, and an Ingress that passes TLS through."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import NatsServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedplane.runtime.errors import Unreachable
from fedplane.runtime.nats import Limits, Patience, open_bus
from fedplane.schemas.facts import Advertised
from fedplane.schemas.subjects import model_piece

HANDSHAKE = 0x16
"""The first byte of a TLS greeting (RFC 8446, section 5.1: a record of type handshake)."""


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NatsServer]:
    """A server that is configured as deploy/components/route has it, whose certificate this process trusts."""
    certificate(tmp_path / "tls.crt", tmp_path / "tls.key")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.crt"))
    files = f'cert_file: "{tmp_path / "tls.crt"}", key_file: "{tmp_path / "tls.key"}"'
    server = NatsServer(tmp_path / "bus", further=f"tls {{ {files}, handshake_first: auto }}\nallow_non_tls: true")
    server.start()
    yield server
    server.kill()


def certificate(file: Path, key_file: Path) -> None:
    """Of localhost, by itself."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))


@asynccontextmanager
async def router(to: int) -> AsyncIterator[int]:
    """Opens the way to that port for who greets by TLS with the name localhost; the port at which it does."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = await reader.read(4096)
        if not greeting or greeting[0] != HANDSHAKE or b"localhost" not in greeting:
            writer.close()
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", to)
        inner_writer.write(greeting)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    serving = await asyncio.start_server(admit, "127.0.0.1", 0)
    try:
        yield serving.sockets[0].getsockname()[1]
    finally:
        serving.close()


async def test_facts_and_models_pass_a_router_that_reads_only_the_greeting(tls_server: NatsServer) -> None:
    fact = Advertised(at=datetime(2026, 1, 2, tzinfo=UTC), cluster="a", lease_seconds=15)
    async with router(tls_server.port) as port:
        async with open_bus(f"tls://localhost:{port}", name="outside", source="/test", limits=Limits()) as outside:
            await outside.log.state(fact)
            piece = await outside.bulk.write(model_piece("r-1", 0, "a1", 0), memoryview(bytes(2_500_000)), 1_000_000)
        async with open_bus(tls_server.url, name="inside", source="/test", limits=Limits()) as inside:
            heard = await inside.log.read(Advertised.pattern(cluster="a"))
            chunks = [(offset, len(chunk)) async for offset, chunk in inside.bulk.read(piece)]

    assert heard is not None
    assert heard.fact == fact
    assert chunks == [(0, 1_000_000), (1_000_000, 1_000_000), (2_000_000, 500_000)]


async def test_who_does_not_greet_or_has_another_name_gets_nowhere(tls_server: NatsServer) -> None:
    quick = Patience(connect_seconds=1.5)
    async with router(tls_server.port) as port:
        for url in (f"nats://localhost:{port}", f"tls://127.0.0.1:{port}"):
            with pytest.raises(Unreachable):
                async with open_bus(url, name="outside", source="/test", limits=Limits(), patience=quick):
                    pass
