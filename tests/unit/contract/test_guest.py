"""The messages between nqr and a guest: what is sent comes back, and nothing hostile gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nqrust.contract import guest
from nqrust.contract.guest import ExecRequest, Frames, Kind, ProtocolError

texts = st.binary(max_size=40).map(lambda data: data.replace(b"\0", b""))
words = texts.filter(bool)
requests = st.builds(
    ExecRequest,
    command=st.lists(words, max_size=5).map(tuple),
    environment=st.lists(st.tuples(words.map(lambda n: n.replace(b"=", b"x")), texts), max_size=3).map(tuple),
    directory=st.none() | texts,
    terminal=st.none() | st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
)
frames = st.lists(st.tuples(st.integers(1, 255), st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=6)


@given(requests)
def test_a_request_comes_back(request: ExecRequest) -> None:
    assert ExecRequest.parse(request.encode()) == request


@given(st.binary(max_size=60) | st.lists(st.sampled_from([b"a", b"e", b"d", b"t", b"l", b"\0", b"\1", b"="])).map(b"".join))
def test_no_bytes_are_more_than_a_protocol_error(data: bytes) -> None:
    for parse in (ExecRequest.parse, guest.parse_size, guest.parse_credit, guest.parse_exit, guest.parse_error):
        try:
            parse(data)
        except ProtocolError:
            pass


@pytest.mark.parametrize(
    "request_",
    [
        ExecRequest(command=(b"",)),
        ExecRequest(command=(b"a\0b",)),
        ExecRequest(command=(b"a",), environment=((b"", b"x"),)),
        ExecRequest(command=(b"a",), environment=((b"a=b", b"x"),)),
        ExecRequest(command=(b"a" * guest.MAX_PAYLOAD,)),
        ExecRequest(command=(b"a",), directory=b"\0"),
    ],
)
def test_what_is_no_request_is_not_sent(request_: ExecRequest) -> None:
    with pytest.raises(ProtocolError):
        request_.encode()


@given(frames, st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(0, 9))
def test_frames_come_back_however_they_are_cut(sent: list[tuple[int, int, bytes]], cuts: list[int], padding: int) -> None:
    data = b"".join(bytes(padding) + guest.frame(kind, stream, payload) for kind, stream, payload in sent)  # type: ignore[arg-type]
    parser, got, turn = Frames(), list[tuple[int, int, bytes]](), 0
    while data:
        step = cuts[turn % len(cuts)]
        turn += 1
        got += parser.feed(data[:step])
        data = data[step:]
    assert got == sent


@given(st.binary(max_size=4000))
def test_a_parser_keeps_less_than_a_frame(data: bytes) -> None:
    parser = Frames()
    try:
        for at in range(0, len(data), 100):
            parser.feed(data[at : at + 100])
            assert len(parser._rest) < 7 + guest.MAX_PAYLOAD
    except ProtocolError:
        pass


def test_a_frame_that_is_too_long_is_refused_before_it_is_kept() -> None:
    with pytest.raises(ProtocolError):
        Frames().feed(b"\x07\0\0\0\1\xff\xff")


@pytest.mark.parametrize("cut", [1, 3, 6, 7, 8, 5000, 7 + guest.MAX_PAYLOAD - 1])
def test_a_hello_is_read_after_half_a_frame(cut: int) -> None:
    half = guest.frame(Kind.stdin, 9, b"x" * guest.MAX_PAYLOAD)[:cut]
    found = Frames().feed(half + guest.hello(b"n" * guest.NONCE))
    assert found[-1] == (Kind.hello, 0, bytes([guest.VERSION]) + b"n" * guest.NONCE)


def test_messages_are_of_expected_kinds_only() -> None:
    assert guest.parse_message(guest.message(Kind.stdin, b"x"), {Kind.stdin}) == (Kind.stdin, b"x")
    for data in (None, "text", b"", b"\xff", guest.message(Kind.exec), bytes([Kind.stdin]) + b"x" * (guest.MAX_PAYLOAD + 1)):
        with pytest.raises(ProtocolError):
            guest.parse_message(data, {Kind.stdin})


def test_exit_codes_and_reasons() -> None:
    assert [guest.parse_exit(bytes(data)) for data in ([0, 0], [0, 255], [1, 9])] == [0, 255, 137]
    for wrong in ([0], [2, 0], [1, 65], [0, 0, 0]):
        with pytest.raises(ProtocolError):
            guest.parse_exit(bytes(wrong))
    assert guest.parse_error(b"\1no \xff") == (guest.Reason.not_found, "no \ufffd")
    for credit in (b"", b"\0\0\0\0", b"\0\0\0\1\0", guest.credit(guest.WINDOW + 1)):
        with pytest.raises(ProtocolError):
            guest.parse_credit(credit)
