"""GET /: the page. Its files have no outside resources; it asks for an API key where one is needed,
so it is itself open to everybody. GET /live is what it shows of the engine."""

from importlib.resources import files

from fastapi import APIRouter, Request, Response

from quire.core.errors import EngineDeadError
from quire.server.replies import encode_json, json_response
from quire.server.routes import state_of

router = APIRouter()

_VIEW_TIMEOUT = 2.0  # seconds that the engine has between two steps to show itself
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_FILES = {
    file.name: file.read_bytes() for file in files("quire.server").joinpath("static").iterdir()
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:;"
        " connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.get("/", response_model=None, include_in_schema=False)
async def page(http: Request) -> Response:
    """The page. A proxy in front may show it under a path of its own."""
    root = state_of(http).config.root_path.rstrip("/").encode()
    return _file("index.html", _FILES["index.html"].replace(b"ROOT_PATH", root))


@router.get("/static/{name}", response_model=None, include_in_schema=False)
async def static(name: str) -> Response:
    """Its scripts and its style."""
    return _file(name, _FILES[name]) if name in _FILES else Response(status_code=404)


@router.get("/favicon.ico", response_model=None, include_in_schema=False)
async def favicon() -> Response:
    """None: the page brings its own."""
    return Response(status_code=204)


@router.get("/live", response_model=None, include_in_schema=False)
async def live(http: Request) -> Response:
    """The engine at this moment: pages, requests, counters. 503 while there is none."""
    state = state_of(http)
    serving = state.serving
    try:
        view = await state.engine.view(timeout=_VIEW_TIMEOUT)
    except (EngineDeadError, TimeoutError):
        serving = None
    if serving is None:
        body = {"status": state.engine_phase().lower(), "progress": state.describe()}
        return Response(encode_json(body), 503, media_type="application/json")
    info = serving.info
    facts = {
        "model": state.model_names[0],
        "architecture": info.architecture,
        "dtype": info.dtype,
        "device": info.device,
        "max_model_len": info.max_model_len,
        "max_num_seqs": info.max_num_seqs,
        "page_size": info.page_size,
        "queued": state.admission.num_waiting,
        "restarts": state.engine.num_restarts,
    }
    return json_response({**facts, "view": view})


def _file(name: str, content: bytes) -> Response:
    kind = _KINDS[name.rpartition(".")[2]]
    return Response(content, 200, _HEADERS, f"{kind}; charset=utf-8")
