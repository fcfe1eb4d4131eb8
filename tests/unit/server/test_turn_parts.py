"""Reasoning, text and calls as items of /v1/responses and as blocks of /v1/messages."""

import pytest

from quire.server.as_chat import Piece
from quire.server.messages import ContentBlocks
from quire.server.responses_output import OutputItems
from quire.text.tools.events import (
    ContentDelta,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
)

TURN = [
    [ReasoningDelta("Let me "), ReasoningDelta("look.")],
    [],
    [ContentDelta("I will "), ContentDelta("ask."), ToolCallStart(0, "id0", "f")],
    [ToolCallArguments(0, '{"a": '), ToolCallArguments(0, "1}")],
    [ToolCallStart(1, "id1", "g"), ToolCallArguments(1, "{}"), ContentDelta("Done.")],
]
LOGPROBS = [{"token": "x", "logprob": -1.0, "bytes": [], "top_logprobs": []}]


def pieces(logprobs=False):
    return [Piece(events, list(LOGPROBS) if logprobs else []) for events in TURN]


def test_items_and_their_events() -> None:
    output = OutputItems()
    events = [event for piece in pieces() for event in output.add(piece)]
    events += output.finish(complete=True)
    kinds = [(e["type"].removeprefix("response."), e["output_index"]) for e in events]
    assert kinds == [
        ("output_item.added", 0),
        ("content_part.added", 0),
        ("reasoning_text.delta", 0),
        ("reasoning_text.delta", 0),
        ("reasoning_text.done", 0),
        ("content_part.done", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("content_part.added", 1),
        ("output_text.delta", 1),
        ("output_text.delta", 1),
        ("output_text.done", 1),
        ("content_part.done", 1),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("function_call_arguments.delta", 2),
        ("function_call_arguments.delta", 2),
        ("function_call_arguments.done", 2),
        ("output_item.done", 2),
        ("output_item.added", 3),
        ("function_call_arguments.delta", 3),
        ("function_call_arguments.done", 3),
        ("output_item.done", 3),
        ("output_item.added", 4),
        ("content_part.added", 4),
        ("output_text.delta", 4),
        ("output_text.done", 4),
        ("content_part.done", 4),
        ("output_item.done", 4),
    ]
    reasoning, text, first, second, last = output.items()
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Let me look."}]
    assert text["content"][0]["text"] == "I will ask."
    assert (first["name"], first["call_id"], first["arguments"]) == ("f", "id0", '{"a": 1}')
    assert (second["name"], second["arguments"]) == ("g", "{}")
    assert last["content"][0]["text"] == "Done."
    assert {item["status"] for item in output.items()} == {"completed"}
    done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert done == output.items()
    added = [e["item"] for e in events if e["type"] == "response.output_item.added"]
    assert [item["id"] for item in added] == [item["id"] for item in done]
    assert len({item["id"] for item in done}) == 5
    assert added[0]["content"] == added[1]["content"] == []
    assert {item["status"] for item in added} == {"in_progress"}


def test_streamed_and_whole_are_the_same_items() -> None:
    streamed, whole = OutputItems(), OutputItems()
    for piece in pieces():
        streamed.add(piece)
    whole.add(Piece([event for events in TURN for event in events], []))
    streamed.finish(complete=True)
    whole.finish(complete=True)
    without_ids = [[{**item, "id": ""} for item in output.items()] for output in (streamed, whole)]
    assert without_ids[0] == without_ids[1]


def test_only_what_was_cut_short_is_incomplete() -> None:
    output = OutputItems()
    for piece in pieces():
        output.add(piece)
    (*_, done) = output.finish(complete=False)
    assert done["item"]["status"] == "incomplete"
    assert [i["status"] for i in output.items()] == ["completed"] * 4 + ["incomplete"]


def test_log_probabilities_belong_to_texts() -> None:
    output = OutputItems()
    events = [event for piece in pieces(logprobs=True) for event in output.add(piece)]
    deltas = [e["logprobs"] for e in events if e["type"] == "response.output_text.delta"]
    assert deltas == [LOGPROBS, [], LOGPROBS]
    assert output.items()[1]["content"][0]["logprobs"] == LOGPROBS


def test_blocks_and_their_events() -> None:
    output = ContentBlocks()
    events = [event for piece in pieces() for event in output.add(piece)] + output.finish()
    assert [
        (e["index"], e["type"].removeprefix("content_block_"), e.get("delta", {}).get("type"))
        for e in events
    ] == [
        (0, "start", None),
        (0, "delta", "thinking_delta"),
        (0, "delta", "thinking_delta"),
        (0, "delta", "signature_delta"),
        (0, "stop", None),
        (1, "start", None),
        (1, "delta", "text_delta"),
        (1, "delta", "text_delta"),
        (1, "stop", None),
        (2, "start", None),
        (2, "delta", "input_json_delta"),
        (2, "delta", "input_json_delta"),
        (2, "stop", None),
        (3, "start", None),
        (3, "delta", "input_json_delta"),
        (3, "stop", None),
        (4, "start", None),
        (4, "delta", "text_delta"),
        (4, "stop", None),
    ]
    assert output.blocks() == [
        {"type": "thinking", "thinking": "Let me look.", "signature": ""},
        {"type": "text", "text": "I will ask."},
        {"type": "tool_use", "id": "id0", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "id1", "name": "g", "input": {}},
        {"type": "text", "text": "Done."},
    ]


@pytest.mark.parametrize(
    ("reason", "matched", "expected"),
    [
        ("stop", None, ("tool_use", None)),
        ("stop", 7, ("tool_use", None)),
        ("stop", "END", ("stop_sequence", "END")),
        ("length", None, ("max_tokens", None)),
        (None, None, (None, None)),
    ],
)
def test_stop_reasons(reason, matched, expected) -> None:
    output = ContentBlocks()
    for piece in pieces():
        output.add(piece)
    assert output.stop_reason(reason, matched) == expected


def test_a_call_cut_short_has_no_input() -> None:
    output = ContentBlocks()
    output.add(Piece([ToolCallStart(0, "id0", "f"), ToolCallArguments(0, '{"a": ')], []))
    assert output.blocks()[0]["input"] == {}
