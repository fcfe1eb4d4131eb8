"""GET /: a chat page. One file without outside resources; it asks for an API key where one is
needed, so it is itself open to everybody."""

from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter()

_PAGE = files("quire.server").joinpath("static", "index.html").read_bytes()
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
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
