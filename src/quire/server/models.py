"""GET /v1/models and /v1/models/{id}."""

import time
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from quire.server.replies import json_response, random_id
from quire.server.routes import GENERATION_ERRORS, state_of
from quire.server.state import ServerState

router = APIRouter()


@router.get("/v1/models", response_model=None, responses=GENERATION_ERRORS, tags=["OpenAI"])
async def list_models(http: Request) -> Response:
    """Every name the model may be asked for by."""
    state = state_of(http)
    state.ready()
    cards = [_card(state, name) for name in state.model_names]
    return json_response({"object": "list", "data": cards})


@router.get(
    "/v1/models/{name:path}", response_model=None, responses=GENERATION_ERRORS, tags=["OpenAI"]
)
async def show_model(name: str, http: Request) -> Response:
    """One of them."""
    state = state_of(http)
    state.ready(name)
    if not name:
        raise HTTPException(404)
    return json_response(_card(state, name))


def _card(state: ServerState, name: str) -> dict[str, Any]:
    now = int(time.time())
    return {
        "id": name,
        "object": "model",
        "created": now,
        "owned_by": "quire",
        "root": state.engine_config.model.model,
        "parent": None,
        "max_model_len": state.ready().info.max_model_len,
        "permission": [
            {
                "id": f"modelperm-{random_id()}",
                "object": "model_permission",
                "created": now,
                "allow_create_engine": False,
                "allow_sampling": True,
                "allow_logprobs": True,
                "allow_search_indices": False,
                "allow_view": True,
                "allow_fine_tuning": False,
                "organization": "*",
                "group": None,
                "is_blocking": False,
            }
        ],
    }
