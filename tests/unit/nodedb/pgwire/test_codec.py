import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgwire_fakes import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    close_request,
    describe_request,
    execute,
    frame,
    parse,
    query,
)

from nodedb.pgwire import message as m
from nodedb.pgwire.codec import _DECODERS, FrontendDecoder
from nodedb.pgwire.errors import FatalError
from sql.errors import CharacterNotInRepertoire, ProtocolViolation, SqlError

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
values = st.lists(st.none() | st.binary(max_size=20), max_size=5)
messages = st.one_of(
    st.builds(lambda t: (query(t), m.Query(t)), names),
    st.builds(lambda t, n: (parse(t, n), m.Parse(n, t, ())), names, names),
    st.builds(
        lambda s, p, v: (bind(s, p, v, (1,), (0, 1)), m.Bind(p, s, (1,), v, (0, 1))),
        names,
        names,
        values,
    ),
    st.builds(lambda s, p, v: (bind(s, p, v), m.Bind(p, s, (), v, ())), names, names, values),
    st.builds(
        lambda p, n: (execute(p, n), m.Execute(p, max(n, 0))),
        names,
        st.integers(-(2**31), 2**31 - 1),
    ),
    st.builds(lambda n: (describe_request("P", n), m.DescribePortal(n)), names),
    st.builds(lambda n: (describe_request("S", n), m.DescribeStatement(n)), names),
    st.builds(lambda n: (close_request("P", n), m.ClosePortal(n)), names),
    st.builds(lambda n: (close_request("S", n), m.CloseStatement(n)), names),
    st.builds(lambda d: (frame("d", d), m.CopyData(d)), st.binary(max_size=50)),
    st.builds(lambda d: (frame("p", d), m.PasswordMessage(d)), st.binary(max_size=50)),
    st.builds(lambda t: (frame("f", t.encode() + b"\0"), m.CopyFail(t)), names),
    st.sampled_from(
        [
            (SYNC, m.Sync()),
            (FLUSH, m.Flush()),
            (TERMINATE, m.Terminate()),
            (COPY_DONE, m.CopyDone()),
            (frame("F", b"any"), m.FunctionCall()),
        ]
    ),
)


def decode_all(decoder: FrontendDecoder) -> list[m.FrontendMessage]:
    found = []
    while (message := decoder.next_message()) is not None:
        found.append(message)
    return found


@given(st.lists(messages, max_size=8), st.lists(st.integers(0, 60), max_size=30))
def test_any_chunking_gives_the_same_messages(
    pairs: list[tuple[bytes, m.FrontendMessage]], cuts: list[int]
) -> None:
    stream = b"".join(data for data, _ in pairs)
    decoder = FrontendDecoder()
    found = []
    for size in cuts:
        decoder.feed(stream[:size])
        stream = stream[size:]
        found += decode_all(decoder)
    decoder.feed(stream)
    found += decode_all(decoder)
    assert found == [message for _, message in pairs]
    assert decoder.buffered_bytes == 0


@given(st.lists(messages, min_size=1, max_size=4), st.data())
def test_mutilated_bytes_raise_nothing_but_our_errors(
    pairs: list[tuple[bytes, m.FrontendMessage]], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(raw for raw, _ in pairs))
    stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    decoder = FrontendDecoder()
    decoder.feed(bytes(stream))
    while True:
        try:
            if decoder.next_message() is None:
                break
        except SqlError:
            continue
        except FatalError:
            break


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"z\0\0\0\4", "invalid frontend message type 122"),
        (b"\0\0\0\0\4", "invalid frontend message type 0"),
        (b"Q\0\0\0\3", "invalid message length"),
        (b"Q\xff\xff\xff\xff", "invalid message length"),
        (b"S\0\1\0\0", "invalid message length"),
        (b"Q\0\0\x04\x01", "message of 1025 bytes exceeds the limit of 1024 bytes"),
    ],
)
def test_bad_header_is_fatal(data: bytes, text: str) -> None:
    decoder = FrontendDecoder(message_bytes_max=1024)
    decoder.feed(data)
    with pytest.raises(FatalError, match=text):
        decoder.next_message()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (frame("Q", b"select 1"), "invalid string in message"),
        (frame("Q", b"a\0b\0"), "invalid message format"),
        (frame("Q", b""), "invalid string in message"),
        (frame("S", b"x"), "invalid message format"),
        (frame("H", b"x"), "invalid message format"),
        (frame("c", b"x"), "invalid message format"),
        (frame("E", b"\0\0\0\0"), "invalid message format"),
        (frame("E", b""), "invalid string in message"),
        (frame("P", b"\0select\0"), "insufficient data"),
        (frame("P", b"\0select\0\0\1"), "insufficient data"),
        (frame("P", b"\0select\0\0\0x"), "invalid message format"),
        (frame("D", b""), "no data left"),
        (frame("C", b""), "no data left"),
        (frame("D", b"X\0"), "invalid DESCRIBE message subtype 88"),
        (frame("C", b"X\0"), "invalid CLOSE message subtype 88"),
        (frame("D", b"Pname"), "invalid string"),
        (frame("B", b""), "invalid string"),
        (frame("B", b"\0"), "invalid string"),
        (frame("B", b"\0\0"), "insufficient data"),
        (frame("B", b"\0\0\0"), "insufficient data"),
        (frame("B", b"\0\0\0\1"), "insufficient data"),
        (frame("B", b"\0\0\0\0"), "insufficient data"),
        (frame("B", b"\0\0\0\0\0\1"), "insufficient data"),
        (frame("B", b"\0\0\0\0\0\1\0\0\0\5ab"), "insufficient data"),
        (frame("B", b"\0\0\0\0\0\1\xff\xff\xff\xfe"), "insufficient data"),
        (frame("B", b"\0\0\0\0\0\0"), "insufficient data"),
        (frame("B", b"\0\0\0\0\0\0\0\1"), "insufficient data"),
        (frame("B", b"\0\0\0\0\0\0\0\0x"), "invalid message format"),
        (
            bind(parameters=[b"1"], formats=[0, 1]),
            "bind message has 2 parameter formats but 1 parameters",
        ),
    ],
)
def test_bad_body_does_not_lose_the_framing(data: bytes, text: str) -> None:
    decoder = FrontendDecoder()
    # What follows must not be read as part of the bad message.
    decoder.feed(data + query("select 2"))
    with pytest.raises(ProtocolViolation, match=text):
        decoder.next_message()
    assert decoder.last_tag == data[0]
    assert decoder.next_message() == m.Query("select 2")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"\xff", "0xff"),
        (b"ab\xe4\x20\x61z", "0xe4 0x20 0x61"),
        (b"\xc3", "0xc3"),
        (b"\xed\xa0\x80", "0xed 0xa0 0x80"),
        (b"\xf4\x90\x80\x80", "0xf4 0x90 0x80 0x80"),
        (b"\xc0\x80", "0xc0 0x80"),
    ],
)
def test_bad_text_names_the_bytes(text: bytes, shown: str) -> None:
    decoder = FrontendDecoder()
    decoder.feed(frame("Q", text + b"\0") + SYNC)
    with pytest.raises(CharacterNotInRepertoire, match=f'encoding "UTF8": {shown}$'):
        decoder.next_message()
    assert decoder.next_message() == m.Sync()


def test_a_large_message_in_small_pieces_is_joined_once() -> None:
    decoder = FrontendDecoder()
    stream = frame("d", b"x" * 100_000)
    decoder.feed(stream[:10])
    assert decoder.next_message() is None
    assert decoder.is_amid_message
    for offset in range(10, len(stream), 1000):
        assert decoder.buffered_bytes == offset
        decoder.feed(stream[offset : offset + 1000])
    assert not decoder.is_amid_message
    assert decoder.next_message() == m.CopyData(b"x" * 100_000)


def test_every_message_class_has_a_decoder_and_a_handler() -> None:
    from pgwire_fakes import Harness

    # Describe and Close each decode into two classes; Bind, Execute, DescribePortal and Sync are
    # handled in the loop itself.
    classes = set(m.FrontendMessage.__args__)
    assert len(classes) == len(_DECODERS) + 2
    inline = {m.Bind, m.Execute, m.DescribePortal, m.Sync}
    assert classes - inline == set(Harness().connection._handlers)


def test_copy_data_comes_out_together() -> None:
    bodies = [b"one\n", b"", b"three\n" * 100]
    data = b"".join(frame("d", body) for body in bodies)
    decoder = FrontendDecoder()
    for cut in range(len(data) + 1):
        decoder.feed(data[:cut])
        found = decoder.take_copy_data()
        assert len(found) == sum(
            cut >= len(b"".join(frame("d", body) for body in bodies[: n + 1])) for n in range(3)
        )
        while isinstance(message := decoder.next_message(), m.CopyData):
            found.append(message.data)
        decoder.feed(data[cut:])
        while (more := decoder.take_copy_data()) or isinstance(
            message := decoder.next_message(), m.CopyData
        ):
            found += more or [message.data]
        assert found == bodies
        assert decoder.buffered_bytes == 0
    decoder.feed(data + COPY_DONE)
    assert decoder.take_copy_data() == bodies
    assert decoder.take_copy_data() == []
    assert isinstance(decoder.next_message(), m.CopyDone)


def test_copy_data_of_a_bad_length_is_left_to_the_ordinary_way() -> None:
    for length in (b"\0\0\0\3", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"):
        decoder = FrontendDecoder()
        decoder.feed(frame("d", b"x") + b"d" + length + b"yyyy")
        assert decoder.take_copy_data() == [b"x"]
        assert decoder.take_copy_data() == []
        with pytest.raises(FatalError):
            decoder.next_message()
