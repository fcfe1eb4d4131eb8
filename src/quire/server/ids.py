"""Names of requests and answers."""

import re
import secrets

from starlette.requests import Request

from quire.core.errors import RequestError

MAX_REQUEST_ID = 256
_PRIORITY_HEADERS = ("x-quire-priority", "x-vllm-priority")


def random_id() -> str:
    """16 hexadecimal digits."""
    return secrets.token_hex(8)


def answer_id(prefix: str, http: Request, body_id: str | None) -> str:
    """`prefix-` and the client's own id (header, then body), or a random one."""
    header = http.headers.get("x-request-id")
    return f"{prefix}-{(header or '')[:MAX_REQUEST_ID] or body_id or random_id()}"


def request_id_headers(http: Request) -> dict[str, str]:
    """X-Request-Id for the answer, if the server is to tell it: the client's, or a fresh one."""
    if not http.app.state.quire.config.enable_request_id_headers:
        return {}
    return {"X-Request-Id": http.headers.get("x-request-id") or random_id()}


def priority_of(http: Request, in_body: int) -> int:
    """The header's priority where there is one (a gateway sets it), else the body's."""
    for name in _PRIORITY_HEADERS:
        value = http.headers.get(name)
        if value is not None:
            if not re.fullmatch(r"[+-]?\d{1,9}", value.strip()):
                raise RequestError(f"the header {name} must be an integer", "priority", value)
            return int(value)
    return in_body
