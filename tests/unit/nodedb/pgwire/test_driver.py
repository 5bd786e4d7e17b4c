"""The driver with real clients on a free port: psql, psycopg, and a raw one."""

import asyncio
import datetime
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pgwire_fakes import FakeFactory, describe, query, startup

from nodedb.pgwire.config import PgWireSettings
from nodedb.pgwire.driver import PgWireServer
from sql.errors import AdminShutdown

LOOPBACK = PgWireSettings(insecure_networks=("127.0.0.0/8",))
needs_psql = pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    return asyncio.run if request.param == "asyncio" else uvloop.run


@asynccontextmanager
async def serving(
    settings: PgWireSettings = LOOPBACK, tls: Path | None = None
) -> AsyncIterator[PgWireServer]:
    server = PgWireServer(FakeFactory(), settings)
    context, der = None, b""
    if tls is not None:
        context, der = make_certificate(tls)
    await server.start("127.0.0.1", 0, context, der)
    try:
        yield server
    finally:
        await server.close()
    assert server.connection_count == 0


def make_certificate(folder: Path) -> tuple[ssl.SSLContext, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1)
    ).sign(key, hashes.SHA256())
    path = folder / "server.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, certificate.public_bytes(serialization.Encoding.DER)


async def psql(server: PgWireServer, options: str, *commands: str) -> tuple[int, str, str]:
    arguments = [word for command in commands for word in ("-c", command)]
    process = await asyncio.create_subprocess_exec(
        "psql",
        "-XAt",
        f"host=127.0.0.1 port={server.port} user=alice dbname=shop password=secret {options}",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(b"1\tone\n2\ttwo\n")
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


class Client:
    """A raw client: sends bytes, reads until the answer ends as expected."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def login(cls, server: PgWireServer) -> "Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", server.port))
        client.writer.write(startup(user="alice"))
        await client.until_ready()
        return client

    async def until_ready(self, status: bytes = b"I") -> list[str]:
        data = b""
        while not data.endswith(b"Z\0\0\0\x05" + status):
            chunk = await self.reader.read(1 << 20)
            assert chunk, "closed"
            data += chunk
        return describe(data)

    async def until_closed(self) -> list[str]:
        return describe(await self.reader.read())

    async def ask(self, text: str, status: bytes = b"I") -> list[str]:
        self.writer.write(query(text))
        return await self.until_ready(status)


async def soon(condition: Callable[[], bool]) -> None:
    """Poll, with the test's own timeout as the bound."""
    while not condition():  # noqa: ASYNC110  what is awaited tells nobody
        await asyncio.sleep(0.001)


@needs_psql
def test_psql_over_plain_text(run: Callable[[Awaitable[None]], None]) -> None:
    async def main() -> None:
        async with serving() as server:
            code, output, errors = await psql(
                server, "sslmode=disable", "select 1; notice look", "fail", "numbers 3", "copy in"
            )
            assert (code, output) == (0, "1\nNOTICE\n0|word 0\n1|word 1\n2|word 2\nCOPY 2\n")
            assert errors.splitlines() == [
                "NOTICE:  look",
                "HINT:  A hint.",
                "ERROR:  division by zero",
            ]
            _, output, _ = await psql(server, "sslmode=disable", "copy out 2", "numbers 20000")
            lines = output.splitlines()
            assert lines[:2] == ["0\tx0", "1\tx1"]
            assert len(lines) == 20_002

    run(main())


@needs_psql
def test_psql_over_tls_with_channel_binding(
    run: Callable[[Awaitable[None]], None], tmp_path: Path
) -> None:
    async def main() -> None:
        settings = PgWireSettings(require_tls=True)
        async with serving(settings, tmp_path) as server:
            options = "sslmode=require channel_binding=require"
            assert await psql(server, options, "numbers 2") == (0, "0|word 0\n1|word 1\n", "")
            code, _, errors = await psql(server, "sslmode=require password=wrong", "select 1")
            assert code == 2
            assert 'password authentication failed for user "alice"' in errors
            code, _, errors = await psql(server, "sslmode=disable", "select 1")
            assert code == 2
            assert "connections without TLS are not accepted" in errors

    run(main())


def test_psycopg_pipeline_and_copy(run: Callable[[Awaitable[None]], None]) -> None:
    async def main() -> None:
        settings = PgWireSettings()
        async with serving(settings) as server:
            connection = await psycopg.AsyncConnection.connect(
                f"host=127.0.0.1 port={server.port} user=alice password=secret sslmode=disable",
                autocommit=True,
            )
            async with connection, connection.pipeline():
                cursors = [await connection.execute("numbers 3", prepare=True) for _ in range(20)]
                for cursor in cursors:
                    assert await cursor.fetchone() == (0, "word 0")
            assert server.factory.sessions[0].is_closed or connection.closed

    run(main())


def test_many_clients_and_a_limit(run: Callable[[Awaitable[None]], None]) -> None:
    async def main() -> None:
        settings = PgWireSettings(insecure_networks=("127.0.0.1/32",), max_connections=3)
        async with serving(settings) as server:
            clients = [await Client.login(server) for _ in range(3)]
            refused = Client(*await asyncio.open_connection("127.0.0.1", server.port))
            refused.writer.write(startup(user="alice"))
            [line] = await refused.until_closed()
            assert line == "ErrorResponse S='FATAL' C='53300' M='sorry, too many clients already'"
            assert server.connection_count == 3
            clients[0].writer.close()
            await soon(lambda: server.connection_count == 2)
            assert (await (await Client.login(server)).ask("select 1"))[1] == "DataRow '1'"

    run(main())


def test_drain(run: Callable[[Awaitable[None]], None]) -> None:
    async def main() -> None:
        async with serving() as server:
            idle, busy = await Client.login(server), await Client.login(server)
            await busy.ask("begin", b"T")
            draining = asyncio.ensure_future(server.drain())
            [line] = await idle.until_closed()
            assert "S='FATAL' C='57P01'" in line
            with pytest.raises(OSError, match=r"."):
                await asyncio.open_connection("127.0.0.1", server.port)
            assert (await busy.ask("tag WORK", b"T"))[0] == "CommandComplete WORK"
            assert not draining.done()
            busy.writer.write(query("commit"))
            assert "C='57P01'" in (await busy.until_closed())[-1]
            await draining

    run(main())


def test_drain_has_an_end(run: Callable[[Awaitable[None]], None]) -> None:
    async def main() -> None:
        settings = PgWireSettings(insecure_networks=("127.0.0.0/8",), drain_timeout_seconds=0.05)
        async with serving(settings) as server:
            stuck = await Client.login(server)
            stuck.writer.write(query("wait"))
            await soon(lambda: bool(server.factory.sessions[0].log))
            await server.drain()
            assert "C='57P01'" in (await stuck.until_closed())[-1]

    run(main())


def test_timeouts(run: Callable[[Awaitable[None]], None]) -> None:
    async def main() -> None:
        settings = PgWireSettings(
            insecure_networks=("127.0.0.2/32",),
            authentication_timeout_seconds=0.05,
        )
        async with serving(settings) as server:
            silent = Client(*await asyncio.open_connection("127.0.0.1", server.port))
            assert await silent.until_closed() == []
            slow = Client(*await asyncio.open_connection("127.0.0.1", server.port))
            slow.writer.write(startup(user="alice"))
            lines = await slow.until_closed()
            assert lines[-1].endswith("M='canceling authentication due to timeout'")
        settings = PgWireSettings(insecure_networks=("127.0.0.0/8",), idle_timeout_seconds=0.05)
        async with serving(settings) as server:
            idle = await Client.login(server)
            assert "C='57P05'" in (await idle.until_closed())[-1]

    run(main())


def test_terminate_and_deliver_by_process_id(run: Callable[[Awaitable[None]], None]) -> None:
    async def main() -> None:
        async with serving() as server:
            client = await Client.login(server)
            server.factory.sessions[0].changes.append(("TimeZone", "UTC"))
            server.deliver_asynchronous(77)
            assert describe(await client.reader.readuntil(b"UTC\0")) == [
                "ParameterStatus TimeZone UTC"
            ]
            assert not server.terminate(78, AdminShutdown("gone"))
            assert server.terminate(77, AdminShutdown("gone"))
            assert await client.until_closed() == ["ErrorResponse S='FATAL' C='57P01' M='gone'"]

    run(main())


def test_a_slow_reader_holds_the_rows_back(run: Callable[[Awaitable[None]], None]) -> None:
    async def main() -> None:
        async with serving() as server:
            client = await Client.login(server)
            client.writer.write(query("numbers 200000"))
            connection = next(iter(server.protocols)).connection
            await soon(lambda: connection._is_write_paused)
            assert server.factory.sessions[0].log == ["simple numbers 200000 last"]
            assert len(await client.until_ready()) == 200_003

    run(main())


def test_half_closed_client_gets_its_answer(run: Callable[[Awaitable[None]], None]) -> None:
    async def main() -> None:
        async with serving() as server:
            client = await Client.login(server)
            client.writer.write(query("wait"))
            client.writer.write_eof()
            await soon(lambda: bool(server.factory.sessions[0].log))
            server.factory.sessions[0].gate.set_result(None)
            assert (await client.until_closed())[0] == "CommandComplete WAITED"

    run(main())


def test_insecure_networks() -> None:
    server = PgWireServer(
        FakeFactory(), PgWireSettings(insecure_networks=("127.0.0.0/8", "fd00::/8"))
    )
    for address, expected in [
        ("127.0.0.1", True),
        ("::ffff:127.0.0.1", True),
        ("fd00::1", True),
        ("192.0.2.1", False),
        ("::1", False),
        ("", False),
    ]:
        assert server.is_insecure_peer(address) is expected
