"""GET /: a chat page. One file without outside resources; it asks for an API key where one is
needed, so it is itself open to everybody."""

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter()

_PAGE = files("quire.server").joinpath("static", "index.html").read_bytes()


def _hash_of(tag: str) -> str:
    """The page's one element of that name, as a content security policy allows it."""
    found = re.search(rb"<%b>(.*?)</%b>" % (tag.encode(), tag.encode()), _PAGE, re.DOTALL)
    assert found is not None
    digest = hashlib.sha256(found[1]).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hash_of('script')}; style-src {_hash_of('style')};"
        " img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.get("/", response_model=None, include_in_schema=False)
async def page() -> Response:
    """The page."""
    return Response(_PAGE, 200, _HEADERS, "text/html; charset=utf-8")


@router.get("/favicon.ico", response_model=None, include_in_schema=False)
async def favicon() -> Response:
    """None: the page brings its own."""
    return Response(status_code=204)
