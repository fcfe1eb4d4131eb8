"""What load balancers and people ask a server about itself."""

from typing import Any

from fastapi import APIRouter, Request, Response

import quire
from quire.server.replies import encode_json, json_response
from quire.server.routes import state_of
from quire.server.state import RETRY_WHILE_LOADING, ServerState

router = APIRouter(tags=["Server"])

_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"description": "Loading, restarting, stalled or failed: the body says"}
}


@router.get("/health", response_model=None, responses=_NOT_READY)
async def health(http: Request) -> Response:
    """200 and nothing while the engine works; 503 with what is the matter."""
    state = state_of(http)
    if state.stalled():
        return _unwell("stalled", state)
    phase = state.engine_phase()
    if state.serving is not None and phase == "READY":
        return Response(status_code=200)
    words = {"STARTING": "loading", "LOADING": "loading", "READY": "loading"}
    return _unwell(words.get(phase, phase.lower()), state)


@router.get("/ready", response_model=None, responses=_NOT_READY)
async def ready(http: Request) -> Response:
    """Whether to send requests here: as /health, and 503 from the moment of a shutdown."""
    state = state_of(http)
    if state.stopping:
        return _unwell("stopping", state)
    return await health(http)


@router.get("/ping", response_model=None, responses=_NOT_READY)
@router.post("/ping", response_model=None, responses=_NOT_READY)
async def ping(http: Request) -> Response:
    """SageMaker's name for /health."""
    return await health(http)


@router.get("/version", response_model=None)
async def version() -> Response:
    """This program's version."""
    return json_response({"version": quire.__version__})


@router.get("/load", response_model=None)
async def load(http: Request) -> Response:
    """How many requests are being answered."""
    return json_response({"server_load": len(state_of(http).open)})


@router.get("/metrics", response_model=None)
async def metrics(http: Request) -> Response:
    """Counters and latencies for Prometheus."""
    body, kind = state_of(http).metrics.exposition()
    return Response(body, 200, {"Content-Type": kind})


def _unwell(status: str, state: ServerState) -> Response:
    body = {"status": status, "progress": state.describe()}
    headers = {"Retry-After": str(round(RETRY_WHILE_LOADING))}
    return Response(encode_json(body), 503, headers, "application/json")
