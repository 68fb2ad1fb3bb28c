"""Frame bytes into events: pure, and the same for both shapes, raw and combined.

A trade costs one typed decode, straight into ``core.Trade``. Whatever that refuses is looked at again, slowly: it is
another event (ignored, counted), an answer to one of our requests, or damaged, and then ``Reject`` says how, with the
symbol and the trade id where they can still be read.

Bounds: the transport limits a frame's size; nesting, digits and lengths beyond msgspec's own limits are rejected. Where
a JSON key appears twice the last one counts, as in most parsers.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from ingest.core.errors import Reject
from ingest.core.trade import Trade, WireInt

_DAMAGED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_TEXT_LIMIT = 200


class ServerShutdown(msgspec.Struct, frozen=True, gc=False, tag_field="e", tag="serverShutdown"):
    """The exchange will close this connection soon: open another one at once [wss]."""

    event_time: int | None = msgspec.field(name="E", default=None)


class Reply(msgspec.Struct, frozen=True):
    """The answer to a control request [wss]. ``result`` is its JSON as received; ``null`` means done."""

    id: int | str | None
    result: bytes


class ErrorReply(msgspec.Struct, frozen=True):
    """A refused control request: flat as documented or nested as seen in reality [wss][obs ccxt PR#19833]."""

    id: int | str | None
    code: int
    message: str


class Unknown(msgspec.Struct, frozen=True):
    """An event that is no trade: to be counted and ignored. ``kind`` is at most 40 characters, for logs."""

    kind: str


Event = Trade | ServerShutdown | Reply | ErrorReply | Unknown


class _Combined(msgspec.Struct, gc=False):
    data: Trade | ServerShutdown


class _Loose(msgspec.Struct):
    """Any object, with the values that matter left undecoded."""

    stream: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    event: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    code: msgspec.Raw = msgspec.Raw()
    msg: msgspec.Raw = msgspec.Raw()
    e: msgspec.Raw = msgspec.Raw()
    s: msgspec.Raw = msgspec.Raw()
    t: msgspec.Raw = msgspec.Raw()
    p: msgspec.Raw = msgspec.Raw()
    q: msgspec.Raw = msgspec.Raw()
    T: msgspec.Raw = msgspec.Raw()
    m: msgspec.Raw = msgspec.Raw()


_combined: Callable[[bytes], _Combined] = msgspec.json.Decoder(_Combined).decode
_raw: Callable[[bytes], Trade | ServerShutdown] = msgspec.json.Decoder(Trade | ServerShutdown).decode
_loose = msgspec.json.Decoder(_Loose).decode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_any_value = msgspec.json.Decoder(msgspec.Raw).decode
_text = msgspec.json.Decoder(str).decode
_integer = msgspec.json.Decoder(WireInt).decode
_signed = msgspec.json.Decoder(int).decode
_boolean = msgspec.json.Decoder(bool).decode
_request_id = msgspec.json.Decoder(int | str | None).decode

_FIELDS = (("s", _text), ("t", _integer), ("p", _text), ("q", _text), ("T", _integer), ("m", _boolean))
_TOO_LONG = {"s": "unknown_symbol", "p": "bad_decimal", "q": "bad_decimal"}


def decode(frame: bytes) -> Event:
    """Decode one text frame.

    Raises ``Reject`` (``malformed_json``, ``not_an_event``, ``missing_field``, ``wrong_type``, ``bad_decimal``,
    ``unknown_symbol``) and nothing else, whatever the bytes are.
    """
    try:
        # The shape that we always ask for; the other one is recognised on the second look.
        return _combined(frame).data
    except _DAMAGED:
        return _second_look(frame)


def _second_look(frame: bytes) -> Event:
    start = frame.lstrip()[:1]
    try:
        if start == b"[":
            _array(frame)  # streams named !...@arr send arrays [wss]
            return Unknown("array")
        if start != b"{":
            _any_value(frame)
            raise Reject("not_an_event", f"a JSON value that is no object: {_excerpt(frame)}")
        outer = _loose(frame)
        if outer.data and outer.stream:
            return _payload(bytes(outer.data), stream=_or_none(_text, outer.stream))
        if outer.event:
            return _payload(bytes(outer.event), stream=None)
        if outer.error or (outer.code and outer.msg):
            return _error_reply(outer)
        if outer.result:
            return Reply(_or_none(_request_id, outer.id), bytes(outer.result))
        return _payload(frame, stream=None)
    except _DAMAGED as error:
        raise Reject("malformed_json", f"{error}"[:_TEXT_LIMIT]) from error


def _payload(frame: bytes, stream: str | None) -> Event:
    if frame.lstrip()[:1] != b"{":
        _any_value(frame)
        if stream is not None and stream.endswith("@trade"):
            raise Reject("not_an_event", f"no object where a trade belongs: {_excerpt(frame)}", symbol=_owner(stream))
        return Unknown("array" if frame.lstrip()[:1] == b"[" else "value")
    try:
        return _raw(frame)
    except _DAMAGED:
        fields = _loose(frame)
    kind = _or_none(_text, fields.e)
    if kind == "serverShutdown":
        return ServerShutdown(None)  # its time is damaged; the notice counts all the same
    of_trade_stream = stream is not None and stream.endswith("@trade")
    if kind == "trade" or (kind is None and (of_trade_stream or (fields.t and fields.p and fields.q))):
        return _salvaged(fields, stream)
    return Unknown((kind or stream or "unnamed")[:40])


def _salvaged(fields: _Loose, stream: str | None) -> Trade:
    """A trade of which only the time of sending is damaged. Raises ``Reject`` for any other damage."""
    problem = _what_is_wrong(fields, stream)
    if problem is not None:
        raise problem
    values: dict[str, Any] = {name: decoder(getattr(fields, name)) for name, decoder in _FIELDS}
    return Trade(values["s"], values["t"], values["p"], values["q"], values["T"], values["m"])


def _what_is_wrong(fields: _Loose, stream: str | None) -> Reject | None:
    """What makes it no trade; None if nothing that a trade states is damaged."""
    symbol = _or_none(_text, fields.s) or _owner(stream)
    if symbol is not None and len(symbol) > 64:
        symbol = None
    trade_id = _or_none(_integer, fields.t)
    if _or_none(_text, fields.e) != "trade":
        reason = "wrong_type" if fields.e else "missing_field"
        return Reject(reason, "e is not 'trade'", symbol=symbol, trade_id=trade_id)
    for name, decoder in _FIELDS:
        value: msgspec.Raw = getattr(fields, name)
        if not value:
            return Reject("missing_field", f"no {name}", symbol=symbol, trade_id=trade_id)
        try:
            decoded: Any = decoder(value)
        except _DAMAGED as error:
            return Reject("wrong_type", f"{name}: {error}"[:_TEXT_LIMIT], symbol=symbol, trade_id=trade_id)
        if isinstance(decoded, str) and len(decoded) > 64:
            detail = f"{name} has {len(decoded)} characters"
            return Reject(_TOO_LONG[name], detail, symbol=symbol, trade_id=trade_id)
    return None


def _error_reply(outer: _Loose) -> Event:
    fields = outer
    if outer.error:
        if not bytes(outer.error).startswith(b"{"):
            return ErrorReply(_or_none(_request_id, outer.id), 0, _excerpt(bytes(outer.error)))
        fields = _loose(outer.error)
    code = _or_none(_signed, fields.code)
    message = _or_none(_text, fields.msg)
    return ErrorReply(
        _or_none(_request_id, outer.id or fields.id), 0 if code is None else code, (message or "")[:_TEXT_LIMIT]
    )


def _owner(stream: str | None) -> str | None:
    return stream.partition("@")[0].upper()[:64] if stream else None


def _or_none(decoder: Any, raw: msgspec.Raw) -> Any:
    if not raw:
        return None
    try:
        return decoder(raw)
    except _DAMAGED:
        return None


def _excerpt(frame: bytes) -> str:
    return frame[:80].decode("utf-8", "replace")
