"""What a chat body wants done with its tools: shown, called, called for certain, or this one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quire.core.errors import RequestError
from quire.core.outputs import FinishReason
from quire.core.structured_outputs import StructuredOutputsParams
from quire.server.chat_prompt import plain_tools
from quire.server.errors import APIError
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.state import Serving
from quire.server.structured import either
from quire.text.tools.constraint import ToolConstraint, tool_constraint
from quire.text.tools.parser import ToolParser, tool_format_of

Choice = Literal["none", "auto", "required", "named"]

_NO_PARSER = (
    '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
)
# Forced calls need no form that the model knows.
_FORCED_PARSER = "json"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """How one answer's tool calls are made and found."""

    choice: Choice = "none"
    parser: str | None = None  # None: text that looks like a call is text
    tools: Sequence[Mapping[str, Any]] = ()
    parallel: bool = True
    constraint: StructuredOutputsParams | None = None  # of the answer, calls or not
    bound: bool = False  # it makes every call well-formed

    @property
    def shows_special_tokens(self) -> bool:
        """The parser looks for special tokens, which must therefore be in the text."""
        return self.parser is not None and tool_format_of(self.parser).special

    def make_parser(self) -> ToolParser | None:
        """For one choice."""
        if self.parser is None:
            return None
        return ToolParser(self.parser, self.tools, bound=self.bound, parallel=self.parallel)

    def finish_reason(self, reason: FinishReason | None, called: bool) -> str | None:
        """`stop` is told as `tool_calls` where there are any, unless the client named the tool."""
        if reason == "stop" and called and self.choice != "named":
            return "tool_calls"
        return reason

    @property
    def only_calls(self) -> bool:
        """The answer has no content: what looks like some is a call that was cut short."""
        return self.choice in ("required", "named") and self.constraint is not None

    def content_may_be_null(self, called: bool, reasoning: str) -> bool:
        """Whether an empty content is told as null."""
        return not self.only_calls and (called or bool(reasoning))


def tool_use(
    body: ChatCompletionRequest, serving: Serving, form: StructuredOutputsParams | None
) -> ToolUse:
    """Read a body's tools. May take 40 ms for the largest schemas.

    Args:
        form: of an answer that is no call.

    Raises:
        RequestError, APIError: they contradict each other, or this model has no form for them.
    """
    choice, name = _choice(body)
    if choice == "none" or not body.tools:
        return ToolUse(constraint=form)
    tools = plain_tools(body.tools) or []
    parser = serving.parsers.tools
    if parser is None:
        if choice == "auto":
            raise APIError(400, _NO_PARSER, "BadRequestError")
        parser = _FORCED_PARSER
    if form is not None and choice != "auto":
        raise RequestError(
            "forced tool calls and a response format exclude each other; use tool_choice='auto'"
            " or 'none', or leave the format out",
            "tool_choice",
        )
    if name is not None:
        tools = [tool for tool in tools if tool["function"]["name"] == name]
    parallel = body.parallel_tool_calls is not False
    grammar = tool_constraint(
        parser,
        tools,
        "auto" if choice == "auto" and form is None else "required",
        parallel and choice != "named",
        chat_template=serving.template_source,
    )
    if grammar is None:
        return ToolUse(choice, parser, tools, parallel, form)
    calls = _compilable(grammar, serving)
    constraint = calls if form is None else either(form, calls)
    return ToolUse(choice, parser, tools, parallel, constraint, grammar.binds_every_call)


def _compilable(grammar: ToolConstraint, serving: Serving) -> StructuredOutputsParams:
    """The constraint; with schemas that cannot be compiled, one that leaves them out.

    Raises:
        RequestError: a schema that a strict tool insists on cannot be compiled.
    """
    constraint = StructuredOutputsParams(structural_tag=grammar.structural_tag())
    try:
        serving.grammars.check(constraint)
    except RequestError:
        constraint = StructuredOutputsParams(structural_tag=grammar.relaxed().structural_tag())
        try:
            serving.grammars.check(constraint)
        except RequestError as error:
            raise RequestError(f"the tools' parameters: {error}", "tools") from None
    return constraint


def _choice(body: ChatCompletionRequest) -> tuple[Choice, str | None]:
    """The choice, and the tool's name if it is that one."""
    tools, choice = body.tools, body.tool_choice
    if tools is not None and not tools:
        raise RequestError("tools must not be empty; leave it out", "tools")
    if choice is None:
        return ("auto" if tools else "none"), None
    if choice == "none":
        return "none", None
    if not tools:
        raise RequestError("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if choice == "auto":
        return "auto", None
    if choice == "required":
        return "required", None
    if isinstance(choice, dict):
        return "named", _named(choice, [tool.function.name for tool in tools])
    raise RequestError(
        "tool_choice must be 'none', 'auto', 'required' or"
        " {'type': 'function', 'function': {'name': …}}",
        "tool_choice",
        choice,
    )


def _named(choice: Mapping[str, Any], known: Sequence[str]) -> str:
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    if choice.get("type", "function") != "function" or not isinstance(name, str):
        raise RequestError(
            "tool_choice must name a function: {'type': 'function', 'function': {'name': …}}",
            "tool_choice",
        )
    if name not in known:
        raise RequestError(
            "The tool specified in `tool_choice` does not match any of the specified `tools`",
            "tool_choice",
            name,
        )
    return name
