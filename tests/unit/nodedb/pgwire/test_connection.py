import gc
import weakref
from typing import Any, NamedTuple

import pytest
from pgwire_fakes import (
    COPY_DONE,
    NUMBERS,
    ONE,
    STORAGE_ERRORS,
    SYNC,
    TERMINATE,
    Harness,
    bind,
    describe,
    describe_request,
    execute,
    frame,
    parse,
    query,
    startup,
)

from nodedb.pgwire.config import PgWireSettings
from nodedb.pgwire.errors import ConnectionLost, FatalError
from nodedb.session.api import Notification, Result
from nodedb.waiter import Waiter
from sql.errors import (
    AdminShutdown,
    CannotConnectNow,
    IdleSessionTimeout,
    SerializationFailure,
    TooManyConnections,
)

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
GSS_REQUEST = bytes.fromhex("0000000804d21630")
CANCEL = bytes.fromhex("0000001004d2162e0000004d0000cafe")
SHUTDOWN = FatalError(AdminShutdown("terminating connection due to administrator command"))
NEWS = r"NotificationResponse \x00\x00\x00\tnews\x001\x00"
FATAL_57P01 = (
    "ErrorResponse S='FATAL' C='57P01' M='terminating connection due to administrator command'"
)
CYCLE = bind("s") + frame("D", b"P\0") + execute() + SYNC


def prepared(text: str) -> Harness:
    harness = Harness().login()
    harness.send(parse(text, "s") + SYNC)
    return harness


def test_one_write_for_everything_one_packet_brings() -> None:
    harness = prepared("select 1")
    harness.connection.receive(CYCLE * 3)
    assert len(harness.io.written) == 1
    assert len(describe(harness.io.take())) == 15


def test_any_cut_of_the_input_gives_the_same_output() -> None:
    whole = prepared("numbers 3").send(CYCLE + query("select 1; fail") + CYCLE)
    for size in (1, 2, 7, 30):
        harness = prepared("numbers 3")
        data = CYCLE + query("select 1; fail") + CYCLE
        for offset in range(0, len(data), size):
            harness.connection.receive(data[offset : offset + size])
        assert describe(harness.io.take()) == whole


def test_nothing_leaves_while_a_statement_waits_for_its_commit() -> None:
    harness = prepared("wait")
    assert harness.send(bind("s") + execute()) == []
    harness.session.gate.set_result(None)
    assert describe(harness.io.take()) == ["BindComplete", "CommandComplete WAITED"]
    assert harness.send(SYNC) == ["ReadyForQuery I"]


def test_large_results_leave_in_pieces() -> None:
    harness = Harness(PgWireSettings(output_bytes_flush=4096)).login()
    harness.connection.receive(query("numbers 5000"))
    sizes = [len(data) for data in harness.io.written]
    assert len(sizes) > 10
    assert max(sizes) < 3 * 4096
    lines = describe(harness.io.take())
    assert lines[1] == "DataRow '0' 'word 0'"
    assert lines[-3:] == [
        "DataRow '4999' 'word 4999'",
        "CommandComplete SELECT 5000",
        "ReadyForQuery I",
    ]


@pytest.mark.parametrize("text", ["numbers 5000", "copy out 5000"])
def test_a_full_socket_stops_the_rows(text: str) -> None:
    harness = Harness(PgWireSettings(output_bytes_flush=4096)).login()
    harness.io.on_write = harness.connection.write_paused
    harness.connection.receive(query(text) + query("select 1"))
    assert len(harness.io.written) == 1
    harness.connection.write_resumed()
    assert len(harness.io.written) == 2
    harness.io.on_write = lambda: None
    harness.connection.write_resumed()
    lines = describe(harness.io.take())
    assert lines.count("ReadyForQuery I") == 2
    assert len(lines) == 1 + 5000 + (text[0] == "c") + 2 + 4


def test_a_client_that_does_not_read_gets_nothing_more_processed() -> None:
    harness = Harness().login()
    harness.io.on_write = harness.connection.write_paused
    harness.connection.receive(query("tag FIRST"))
    harness.connection.receive(query("tag SECOND"))
    assert describe(harness.io.take()) == ["CommandComplete FIRST", "ReadyForQuery I"]
    harness.io.on_write = lambda: None
    harness.connection.write_resumed()
    assert describe(harness.io.take()) == ["CommandComplete SECOND", "ReadyForQuery I"]


def test_notifications_wait_for_a_client_that_does_not_read() -> None:
    harness = Harness().login()
    connection, session = harness.connection, harness.session
    connection.write_paused()
    session.notifications.append(Notification(9, "news", "1"))
    connection.deliver_asynchronous()
    assert not harness.io.take()
    assert session.notifications
    connection.write_resumed()
    assert describe(harness.io.take()) == [NEWS]


def test_notifications_that_came_while_an_answer_had_no_room() -> None:
    harness = Harness().login()
    connection, session = harness.connection, harness.session
    harness.io.on_write = connection.write_paused
    connection.receive(query("tag A") + query("tag B"))
    assert describe(harness.io.take())[-1].startswith("ReadyForQuery")
    session.notifications.append(Notification(9, "news", "1"))
    connection.deliver_asynchronous()
    assert session.notifications
    harness.io.on_write = lambda: None
    connection.write_resumed()
    assert NEWS in describe(harness.io.take())


def test_input_behind_a_waiting_statement_is_paused() -> None:
    harness = Harness(PgWireSettings(input_bytes_pause=1000)).login()
    harness.send(query("wait"))
    harness.connection.receive(query("tag A") * 50)
    assert not harness.io.is_input_paused
    harness.connection.receive(query("tag A") * 50)
    assert harness.io.is_input_paused
    harness.session.gate.set_result(None)
    assert not harness.io.is_input_paused
    assert describe(harness.io.take()).count("CommandComplete A") == 100


def test_lost_while_idle_closes_the_session() -> None:
    harness = Harness().login()
    harness.connection.lost()
    assert harness.session.is_closed
    assert harness.ended == 1


def test_lost_amid_a_statement_cancels_it() -> None:
    harness = Harness().login()
    harness.send(query("wait; tag AFTER"))
    harness.connection.lost()
    assert harness.session.log == ["simple wait", "close"]
    assert harness.ended == 1


def test_lost_amid_a_commit_lets_it_end() -> None:
    harness = Harness().login()
    harness.send(query("waitcommit; tag AFTER"))
    harness.connection.lost()
    assert not harness.session.is_closed
    harness.session.gate.set_result(None)
    assert harness.session.log[-2:] == ["sync", "close"]
    assert harness.ended == 1


def test_lost_amid_output_ends_the_statement() -> None:
    harness = Harness(PgWireSettings(output_bytes_flush=4096)).login()
    harness.io.on_write = harness.connection.write_paused
    harness.connection.receive(query("numbers 5000"))
    harness.connection.lost()
    assert harness.session.log[-1] == "close"
    assert harness.ended == 1


def test_what_came_before_end_of_input_is_answered() -> None:
    harness = Harness().login()
    harness.send(query("wait") + query("tag LAST"))
    harness.connection.eof()
    harness.session.gate.set_result(None)
    lines = describe(harness.io.take())
    assert lines[0] == "CommandComplete WAITED"
    assert lines[2] == "CommandComplete LAST"
    assert harness.io.is_closed
    assert harness.session.is_closed


def test_end_of_input_amid_copy_discards_it() -> None:
    harness = Harness().login()
    harness.send(query("copy in") + frame("d", b"1\tx\n"))
    harness.connection.eof()
    assert harness.session.copied == []
    assert harness.session.is_closed


def test_terminate_while_idle() -> None:
    harness = Harness().login()
    harness.connection.terminate(SHUTDOWN)
    assert describe(harness.io.take()) == [FATAL_57P01]
    assert harness.io.is_closed
    assert harness.session.is_closed


def test_terminate_amid_a_statement() -> None:
    harness = Harness().login()
    harness.send(query("wait"))
    harness.connection.terminate(SHUTDOWN)
    assert describe(harness.io.take()) == [FATAL_57P01]
    assert harness.session.log == ["simple wait last", "close"]


def test_terminate_from_within_our_own_statement_waits_for_its_end() -> None:
    harness = Harness().login()
    original = harness.session.simple_statements

    def terminating(text: str) -> list[str]:
        harness.connection.terminate(SHUTDOWN)
        return original(text)

    harness.session.simple_statements = terminating
    assert harness.send(query("tag DONE")) == [
        "CommandComplete DONE",
        "ReadyForQuery I",
        FATAL_57P01,
    ]


def test_drain_waits_for_the_end_of_the_block() -> None:
    harness = Harness().login()
    harness.send(query("begin"))
    harness.connection.terminate_when_idle(SHUTDOWN)
    assert harness.send(query("tag WORK")) == ["CommandComplete WORK", "ReadyForQuery T"]
    assert harness.send(query("commit")) == [
        "CommandComplete COMMIT",
        "ReadyForQuery I",
        FATAL_57P01,
    ]


def test_drain_ends_idle_and_unborn_connections_at_once() -> None:
    idle = Harness().login()
    idle.connection.terminate_when_idle(SHUTDOWN)
    unborn = Harness()
    unborn.connection.terminate_when_idle(SHUTDOWN)
    assert idle.io.is_closed
    assert unborn.io.is_closed


def test_idle_timeout_text() -> None:
    harness = Harness().login()
    error = IdleSessionTimeout("terminating connection due to idle-session timeout")
    harness.connection.terminate(FatalError(error))
    [line] = describe(harness.io.take())
    assert "S='FATAL' C='57P05'" in line


def test_silence_before_the_startup_message_is_ended_silently() -> None:
    harness = Harness()
    harness.connection.terminate(ConnectionLost("no startup message in time"))
    assert harness.io.written == []
    assert harness.io.is_closed
    assert harness.ended == 1


@pytest.mark.parametrize(
    ("error", "sqlstate"),
    [
        (TooManyConnections("sorry, too many clients already"), "53300"),
        (CannotConnectNow("the database system is shutting down"), "57P03"),
    ],
)
def test_no_admittance(error: Exception, sqlstate: str) -> None:
    def admit() -> None:
        raise error

    [line] = Harness(admit=admit).send(startup(user="alice"))
    assert f"S='FATAL' C='{sqlstate}'" in line


def test_cancel_request() -> None:
    harness = Harness()
    assert harness.send(CANCEL) == []
    assert harness.factory.cancelled == [(77, 0xCAFE)]
    assert harness.io.is_closed


def test_no_tls_and_no_gss_here() -> None:
    harness = Harness()
    assert harness.send(GSS_REQUEST) == ["single byte N"]
    assert harness.send(SSL_REQUEST) == ["single byte N"]
    assert harness.send(startup(user="alice"))[-1] == "ReadyForQuery I"


def test_tls_upgrade() -> None:
    harness = Harness(has_tls=True, is_trusted=False)
    assert harness.send(SSL_REQUEST) == ["single byte S"]
    harness.tls.set_result(None)
    [offer] = harness.send(startup(user="alice"))
    assert "SCRAM-SHA-256" in offer


def test_trust_does_not_end_with_tls() -> None:
    harness = Harness(has_tls=True, is_trusted=True)
    harness.send(SSL_REQUEST)
    harness.tls.set_result(None)
    assert harness.send(startup(user="alice"))[-1] == "ReadyForQuery I"
    assert harness.factory.opened[0]["tls"] is True


def test_bytes_smuggled_behind_the_tls_request_are_refused() -> None:
    harness = Harness(has_tls=True)
    [line] = harness.send(SSL_REQUEST + startup(user="alice"))
    assert "C='08P01' M='received unencrypted data after SSL request'" in line
    assert harness.tls is None
    assert harness.factory.opened == []


def test_failed_tls_handshake() -> None:
    harness = Harness(has_tls=True)
    harness.send(SSL_REQUEST)
    harness.tls.set_error(ConnectionLost("TLS handshake failed"))
    assert harness.io.is_closed
    assert harness.io.take() == b""


def test_tls_demanded() -> None:
    settings = PgWireSettings(require_tls=True)
    [line] = Harness(settings, is_trusted=False).send(startup(user="alice"))
    assert "C='28000' M='connections without TLS are not accepted'" in line
    assert Harness(settings).send(startup(user="alice"))[-1] == "ReadyForQuery I"


def test_a_failing_rollback_ends_the_connection() -> None:
    harness = Harness().login()

    async def failing(error: Exception) -> None:
        raise RuntimeError("cannot roll back")

    harness.session.on_error = failing
    [line] = harness.send(query("fail"))
    assert line == "ErrorResponse S='FATAL' C='XX000' M='internal error'"
    assert harness.session.is_closed
    assert harness.io.is_closed


def test_our_own_bugs_are_logged_with_their_traceback(caplog: pytest.LogCaptureFixture) -> None:
    harness = Harness().login()
    [line, _] = harness.send(query("crash"))
    assert line == "ErrorResponse S='ERROR' C='XX000' M='internal error'"
    [record] = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a bug, with secrets"
    caplog.clear()
    harness.send(query("fail"))
    assert caplog.records == []


def test_a_failing_sync_is_answered_once() -> None:
    harness = Harness().login()

    async def failing() -> None:
        raise SerializationFailure("could not serialize access")

    harness.session.sync = failing
    error = "ErrorResponse S='ERROR' C='40001' M='could not serialize access'"
    assert harness.send(SYNC) == [error, "ReadyForQuery I"]
    assert harness.send(query("tag A")) == ["CommandComplete A", error, "ReadyForQuery I"]


def test_drain_waits_for_the_sync_of_a_batch() -> None:
    harness = prepared("tag WORK")
    harness.send(bind("s") + execute())
    harness.connection.terminate_when_idle(SHUTDOWN)
    assert harness.send(SYNC) == ["ReadyForQuery I", FATAL_57P01]


def test_drain_waits_for_the_end_of_copy_data() -> None:
    harness = Harness().login()
    harness.send(query("copy in"))
    assert not harness.connection.is_idle
    harness.connection.terminate_when_idle(SHUTDOWN)
    assert harness.send(frame("d", b"1\tx\n")) == []
    assert harness.send(COPY_DONE) == ["CommandComplete COPY 1", "ReadyForQuery I", FATAL_57P01]


def test_pipelined_goodbye() -> None:
    harness = Harness().login()
    lines = harness.send(query("tag LAST") + TERMINATE + query("tag NEVER"))
    assert lines == ["CommandComplete LAST", "ReadyForQuery I"]
    assert harness.session.is_closed


def test_a_long_copy_in_is_handed_on_in_its_chunks() -> None:
    harness = Harness().login()
    harness.send(query("copy in"))
    for _ in range(100):
        harness.connection.receive(frame("d", b"1\tx\n" * 100))
    assert harness.send(COPY_DONE)[0] == "CommandComplete COPY 10000"


@pytest.mark.parametrize(
    ("kind", "sqlstate", "message"),
    [
        ("full", "53100", "could not extend the store: no space left"),
        ("map", "53100", "could not extend the store: no space left"),
        ("page", "XX001", "the node's store is corrupt"),
        ("log", "XX001", "the node's store is corrupt"),
        ("disk", "58030", "the node's store has failed"),
    ],
)
def test_a_failed_store_is_reported_without_its_secrets(
    caplog: pytest.LogCaptureFixture, kind: str, sqlstate: str, message: str
) -> None:
    harness = Harness().login()
    lines = harness.send(query(f"broken {kind}"))
    assert lines == [f"ErrorResponse S='ERROR' C='{sqlstate}' M={message!r}", "ReadyForQuery I"]
    assert "Traceback" not in caplog.text
    assert "statement failed: " in caplog.text


def test_a_store_that_fails_at_the_rollback_ends_the_connection() -> None:
    harness = Harness().login()

    async def failing(error: Exception) -> None:
        raise STORAGE_ERRORS["disk"]

    harness.session.on_error = failing
    [line] = harness.send(query("fail"))
    assert line == "ErrorResponse S='FATAL' C='58030' M=\"the node's store has failed\""
    assert harness.io.is_closed


def test_wide_rows_leave_one_by_one() -> None:
    """Once their width is known, the buffer holds few rows beyond the flush size."""
    harness = Harness(PgWireSettings(output_bytes_flush=4096)).login()
    harness.connection.receive(query("wide 200 3000"))
    sizes = [len(data) for data in harness.io.written]
    assert len(sizes) > 50
    assert max(sizes[1:]) < 4 * 4096
    assert describe(harness.io.take())[-2:] == ["CommandComplete SELECT 200", "ReadyForQuery I"]


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100, 5000])
def test_every_row_of_one_batch_is_sent_once(count: int) -> None:
    harness = Harness(PgWireSettings(output_bytes_flush=500)).login()
    harness.connection.receive(query(f"many {count}"))
    lines = describe(harness.io.take())
    assert lines[1:-2] == [f"DataRow '{n}' 'w'" for n in range(count)]


class AtOnce(NamedTuple):
    """An answer of the session's short cuts."""

    columns: Any
    rows: list[Any]
    tag: str
    commits: bool = False
    declines: bool = False


SEVEN = AtOnce(ONE, [(7,)], "SELECT 1")
WRITTEN = AtOnce(None, [], "INSERT 0 1")


def test_a_simple_query_answered_at_once() -> None:
    harness = Harness().login()
    harness.session.at_once["point"] = SEVEN
    lines = harness.send(query("point") + query("tag NEXT"))
    assert [line.split()[0] for line in lines[:4]] == [
        "RowDescription",
        "DataRow",
        "CommandComplete",
        "ReadyForQuery",
    ]
    assert lines[1] == "DataRow '7'"
    assert lines[4:] == ["CommandComplete NEXT", "ReadyForQuery I"]


@pytest.mark.parametrize("with_describe", [True, False])
@pytest.mark.parametrize("source", ["at_once", "in_one_step"])
@pytest.mark.parametrize("answer", [SEVEN, WRITTEN])
def test_a_prepared_execution_answered_at_once(
    source: str, answer: AtOnce, with_describe: bool
) -> None:
    harness = Harness().login()
    getattr(harness.session, source)["p"] = answer
    described = describe_request("P") if with_describe else b""
    lines = harness.send(bind("p") + described + execute() + SYNC + query("tag NEXT"))
    shape = ["RowDescription" if answer is SEVEN else "NoData"] if with_describe else []
    rows = ["DataRow"] * len(answer.rows)
    expected = ["BindComplete", *shape, *rows, "CommandComplete", "ReadyForQuery"]
    assert [line.split()[0] for line in lines] == [*expected, "CommandComplete", "ReadyForQuery"]
    ran = "step [] []" if source == "at_once" else "one step p"
    assert harness.session.log == [ran, "simple tag NEXT last", "sync"]


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(bind("p", result_formats=[0, 0]), id="several result formats"),
        pytest.param(bind("p", result_formats=[7]), id="an unknown result format"),
        pytest.param(bind("p", "portal"), id="a named portal"),
    ],
)
def test_the_short_cut_is_not_taken(messages: bytes) -> None:
    """These go the ordinary way, where the statement is not known; nothing was executed before."""
    harness = Harness().login()
    harness.session.at_once["p"] = harness.session.in_one_step["p"] = SEVEN
    lines = harness.send(messages + execute() + SYNC)
    assert "C='26000'" in lines[0]
    assert lines[1:] == ["ReadyForQuery I"]


def test_an_error_of_the_short_cut_skips_to_sync() -> None:
    harness = Harness().login()
    harness.session.in_one_step["p"] = SerializationFailure("could not serialize access")
    lines = harness.send(bind("p") + describe_request("P") + execute() + SYNC + query("tag NEXT"))
    assert "C='40001'" in lines[0]
    assert lines[1:] == ["ReadyForQuery I", "CommandComplete NEXT", "ReadyForQuery I"]


def test_input_that_comes_while_the_short_cut_waits() -> None:
    """The messages it stepped over are not taken for new ones, whatever is fed meanwhile."""
    harness = Harness().login()
    harness.session.in_one_step["waits"] = WRITTEN
    assert harness.send(bind("waits") + execute() + SYNC + query("tag A")[:7]) == []
    assert harness.send(query("tag A")[7:] + query("tag B")) == []
    harness.session.gate.set_result(None)
    lines = describe(harness.io.take())
    assert lines == [
        "BindComplete",
        "CommandComplete INSERT 0 1",
        "ReadyForQuery I",
        "CommandComplete A",
        "ReadyForQuery I",
        "CommandComplete B",
        "ReadyForQuery I",
    ]


def execution(statement: str, **more: Any) -> bytes:
    """Return the packet of a prepared execution, as libpq sends it."""
    return bind(statement, **more) + describe_request("P") + execute() + SYNC


class Fed:
    """Counts the messages that the decoder, hence the coroutine, got to see."""

    def __init__(self, harness: Harness) -> None:
        self._feed = harness.connection._feed
        self.count = 0
        harness.connection._feed = self

    def __call__(self, data: bytes) -> None:
        self.count += 1
        self._feed(data)


PACKET_ANSWER = [
    "BindComplete",
    "RowDescription",
    "DataRow",
    "CommandComplete",
    "ReadyForQuery",
]


def first_words(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


def test_a_known_packet_is_answered_without_the_coroutine() -> None:
    harness = Harness().login()
    harness.session.at_once["p"] = SEVEN
    first = harness.send(execution("p", parameters=[b"1"]))
    fed = Fed(harness)
    assert first_words(first) == PACKET_ANSWER
    for parameters in ([b"1"], [b"12345"], [b""], [None]):
        assert harness.send(execution("p", parameters=parameters)) == first
    assert fed.count == 0
    assert harness.session.log[1:] == [
        "step [b'1'] []",
        "step [b'12345'] []",
        "step [b''] []",
        "step [None] []",
    ]


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(execution("p", parameters=[b"1", b"2"]), id="another count"),
        pytest.param(execution("p", parameters=[b"1"], formats=[1]), id="formats"),
        pytest.param(execution("p", parameters=[b"1"], result_formats=[1]), id="result format"),
        pytest.param(execution("p", parameters=["\u00e9".encode()]), id="text to be checked"),
        pytest.param(bind("p", parameters=[b"1"]) + execute() + SYNC, id="no describe"),
        pytest.param(execution("p", parameters=[b"1"]) * 2, id="two of them"),
        pytest.param(execution("q", parameters=[b"1"]), id="another statement"),
    ],
)
def test_any_other_packet_goes_to_the_coroutine(packet: bytes) -> None:
    harness = Harness().login()
    harness.session.at_once["p"] = harness.session.at_once["q"] = SEVEN
    harness.send(execution("p", parameters=[b"1"]))
    fed = Fed(harness)
    lines = harness.send(packet)
    assert fed.count == 1
    assert first_words(lines)[-2:] == ["CommandComplete", "ReadyForQuery"]


@pytest.mark.parametrize("length", [-2, 0, 1, 3, 4, 1000, 2**31 - 1])
def test_a_packet_whose_parameter_lies_about_its_length(length: int) -> None:
    """However it fits the known frame, it is refused, or answered, as without the short cut."""
    packet = bytearray(execution("p", parameters=[b"12"]))
    at = packet.index(b"\0\0\0\x0212")
    packet[at : at + 4] = length.to_bytes(4, "big", signed=True)
    plain = Harness().login()
    plain.session.at_once["p"] = SEVEN
    expected = plain.send(bytes(packet))
    harness = Harness().login()
    harness.session.at_once["p"] = SEVEN
    harness.send(execution("p", parameters=[b"12"]))
    assert harness.send(bytes(packet)) == expected
    assert expected[0].startswith("ErrorResponse")


def test_a_step_that_declines_goes_the_ordinary_way() -> None:
    harness = Harness().login()
    harness.session.at_once["p"] = SEVEN
    harness.send(execution("p"))
    harness.session.at_once["p"] = SEVEN._replace(declines=True)
    known = harness.connection._templates[b"p"].step
    known._answer = SEVEN._replace(declines=True)  # type: ignore[attr-defined]  # a FakeStep
    harness.session.in_one_step["p"] = WRITTEN
    assert "CommandComplete INSERT 0 1" in harness.send(execution("p"))


@pytest.mark.parametrize("request_", [execution("p"), query("p")])
def test_a_commit_is_answered_when_it_is_durable(request_: bytes) -> None:
    harness = Harness().login()
    harness.session.at_once["p"] = WRITTEN._replace(commits=True)
    for _ in range(2):  # through the coroutine, then without
        harness.session.gate = Waiter()
        assert harness.send(request_) == []
        assert not harness.connection.is_idle
        assert harness.send(query("tag NEXT")) == []
        harness.session.gate.set_result(1)
        lines = describe(harness.io.take())
        assert lines[-4:] == [
            "CommandComplete INSERT 0 1",
            "ReadyForQuery I",
            "CommandComplete NEXT",
            "ReadyForQuery I",
        ]
        assert harness.connection.is_idle


def test_a_commit_that_fails_is_one_error_and_the_connection_goes_on() -> None:
    harness = Harness().login()
    refused = SerializationFailure("could not serialize access")
    harness.session.at_once["p"] = WRITTEN._replace(commits=True)

    def fail() -> None:
        harness.session.gate = Waiter()
        assert harness.send(execution("p")) == []
        harness.session.gate.set_error(refused)
        lines = describe(harness.io.take())
        assert "C='40001'" in lines[0]
        assert lines[1:] == ["ReadyForQuery I"]

    fail()  # through the coroutine
    harness.session.gate = Waiter()
    harness.session.gate.set_result(None)
    assert "CommandComplete INSERT 0 1" in harness.send(execution("p"))
    fed = Fed(harness)
    fail()  # and without
    assert fed.count == 0
    assert harness.send(query("tag NEXT")) == ["CommandComplete NEXT", "ReadyForQuery I"]


def test_a_client_that_leaves_amid_its_commit() -> None:
    harness = Harness().login()
    harness.session.at_once["p"] = WRITTEN._replace(commits=True)
    harness.send(query("p"))
    harness.connection.lost()
    assert not harness.session.is_closed
    harness.session.gate.set_result(None)
    assert harness.session.is_closed
    assert harness.ended == 1


def test_terminate_amid_a_commit_waits_for_it() -> None:
    harness = Harness().login()
    harness.session.at_once["p"] = WRITTEN._replace(commits=True)
    harness.send(query("p"))
    harness.connection.terminate(SHUTDOWN)
    assert describe(harness.io.take()) == []
    harness.session.gate.set_result(None)
    lines = describe(harness.io.take())
    assert lines == ["CommandComplete INSERT 0 1", "ReadyForQuery I", FATAL_57P01]


def test_a_packet_amid_a_copy_is_no_statement() -> None:
    harness = Harness().login()
    harness.session.at_once["p"] = SEVEN
    harness.send(execution("p"))
    harness.send(query("copy in"))
    steps = len(harness.session.log)
    lines = harness.send(execution("p"))
    assert lines[0].startswith("ErrorResponse")
    assert not [entry for entry in harness.session.log[steps:] if entry.startswith("step")]


def test_a_packet_is_skipped_after_an_error_up_to_sync() -> None:
    harness = Harness().login()
    harness.session.at_once["p"] = SEVEN
    harness.send(execution("p"))
    harness.send(bind("nosuch"))
    assert first_words(harness.send(execution("p"))) == ["ReadyForQuery"]


def test_notices_of_a_step_come_before_ready() -> None:
    harness = Harness().login()
    harness.session.at_once["p"] = SEVEN
    harness.send(execution("p"))
    harness.session.changes = [("TimeZone", "UTC")]
    assert first_words(harness.send(execution("p")))[-2:] == ["ParameterStatus", "ReadyForQuery"]


def test_terminate_amid_output_that_waits_for_room() -> None:
    harness = Harness(PgWireSettings(output_bytes_flush=4096)).login()
    harness.io.on_write = harness.connection.write_paused
    harness.connection.receive(query("numbers 5000"))
    harness.connection.terminate(SHUTDOWN)
    assert harness.session.log[-1] == "close"
    assert harness.io.is_closed


def test_terminate_before_there_is_a_session() -> None:
    harness = Harness(is_trusted=False)
    harness.connection.receive(startup(user="alice"))
    harness.connection.terminate(SHUTDOWN)
    assert describe(harness.io.take())[-1] == FATAL_57P01
    assert harness.ended == 1


class Rows(list[Any]):
    """A list that can be watched."""


def test_a_lost_client_keeps_no_rows_alive() -> None:
    """By reference counts alone: the collector may come late, and rows may be many."""
    harness = Harness(PgWireSettings(output_bytes_flush=500)).login()
    harness.io.on_write = harness.connection.write_paused
    rows = Rows((n, "w") for n in range(5000))
    watched = weakref.ref(rows)
    result = Result("SELECT 5000", NUMBERS, rows)

    async def finish() -> None:
        result.tag = "SELECT 5000"

    async def execute_simple(statement: str, *, is_last: bool) -> Result:
        return result

    result.finish = finish
    harness.session.execute_simple = execute_simple
    harness.connection.receive(query("numbers"))
    assert not harness.ended
    del rows
    gc.disable()
    try:
        harness.connection.lost()
        assert watched() is None
    finally:
        gc.enable()
    assert harness.ended == 1
