"""What crosses the socket as bytes: msgpack by the types of `core.messages`, and nothing else.

Also what an engine process is started with. No sockets here; both processes import this, and it
imports no torch.
"""

import msgspec

from quire.core.config import EngineConfig
from quire.core.errors import RequestError
from quire.core.logs import LogFormat
from quire.core.messages import AddRequest, FromEngine, SequenceDelta, ToEngine
from quire.core.sampling_params import MAX_N


class Launch(msgspec.Struct):
    """What an engine process is told on its standard input before anything else, as a line of JSON.

    Goes through a pipe and not the command line: the config may hold an access token, which
    every user of the machine could read there.
    """

    config: EngineConfig
    address: str  # where the front end's socket is bound
    parent: int  # its process id
    log_level: str
    log_format: LogFormat


class _Params(msgspec.Struct):
    n: int = 1


class _AnyAddRequest(msgspec.Struct, tag="add"):
    """The little that must be right in an `AddRequest` to refuse the rest of it."""

    request_id: str
    params: _Params


_encoder = msgspec.msgpack.Encoder()
_any_add_request = msgspec.msgpack.Decoder(_AnyAddRequest)

encode_from_engine = _encoder.encode
# Raise msgspec.DecodeError for anything but the other side's messages.
decode_from_engine = msgspec.msgpack.Decoder[FromEngine](FromEngine).decode
decode_to_engine = msgspec.msgpack.Decoder[ToEngine](ToEngine).decode


def encode_to_engine(message: ToEngine) -> bytes:
    """Raises RequestError for a request that cannot leave this process."""
    if isinstance(message, AddRequest) and message.params.logits_processors:
        raise RequestError(
            "logits_processors are functions, which only an engine in the same process can"
            " call; use LLM, or logit_bias, allowed_token_ids or bad_words",
            "logits_processors",
        )
    try:
        return _encoder.encode(message)
    except (TypeError, OverflowError, UnicodeEncodeError) as error:
        raise RequestError(f"a parameter has a value of no plain type: {error}") from error


def refusal(data: bytes, why: str) -> list[SequenceDelta]:
    """Error deltas for a request that did not decode; empty if it is no request at all."""
    try:
        request = _any_add_request.decode(data)
    except msgspec.DecodeError:
        return []
    return [
        SequenceDelta(request.request_id, index, [], "error", error=f"refused: {why}")
        for index in range(max(1, min(request.params.n, MAX_N)))
    ]
