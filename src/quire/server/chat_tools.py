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
from quire.server.structured import structured_outputs
from quire.text.tools.constraint import ToolConstraint, tool_constraint
from quire.text.tools.parser import ToolParser, make_tool_parser, tool_format_of

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
    constraint: StructuredOutputsParams | None = None
    only_calls: StructuredOutputsParams | None = None  # "auto" beside a format
    bound: bool = False  # the constraint makes every call well-formed

    @property
    def shows_special_tokens(self) -> bool:
        """The parser looks for special tokens, which must therefore be in the text."""
        return self.parser is not None and tool_format_of(self.parser).special

    def make_parser(self) -> ToolParser | None:
        """For one choice."""
        if self.parser is None:
            return None
        return make_tool_parser(
            self.parser, self.tools, bound=self.bound, parallel=self.parallel, check_names=True
        )

    def finish_reason(self, reason: FinishReason | None, called: bool) -> str | None:
        """`stop` is told as `tool_calls` where there are any, unless the client named the tool."""
        if reason == "stop" and called and self.choice != "named":
            return "tool_calls"
        return reason

    def content_may_be_null(self, called: bool, reasoning: str) -> bool:
        """Whether an empty content is told as null."""
        if self.choice in ("required", "named"):
            return False
        return called or bool(reasoning)


def tool_use(body: ChatCompletionRequest, serving: Serving) -> ToolUse:
    """Read a body's tools.

    Raises:
        RequestError, APIError: they contradict each other, or this model has no form for them.
    """
    choice, name = _choice(body)
    if choice == "none" or not body.tools:
        return ToolUse()
    tools = plain_tools(body.tools) or []
    parser = serving.parsers.tools
    if parser is None:
        if choice == "auto":
            raise APIError(400, _NO_PARSER, "BadRequestError")
        parser = _FORCED_PARSER
    if name is not None:
        tools = [tool for tool in tools if tool["function"]["name"] == name]
    parallel = body.parallel_tool_calls is not False
    forced = "required" if choice == "named" else choice
    single = choice == "named" or not parallel

    def form_of(choice: str) -> ToolConstraint | None:
        return tool_constraint(
            parser, tools, choice, not single, chat_template=serving.template_source
        )

    form = form_of(forced)
    if form is None:
        return ToolUse(choice, parser, tools, parallel)
    only_calls = None
    if choice == "auto" and structured_outputs(body) is not None:
        calls = form_of("required")
        only_calls = None if calls is None else _compilable(calls, serving)
    return ToolUse(
        choice,
        parser,
        tools,
        parallel,
        _compilable(form, serving),
        only_calls,
        form.binds_every_call,
    )


def _compilable(form: ToolConstraint, serving: Serving) -> StructuredOutputsParams:
    """The constraint; with schemas that cannot be compiled, one that leaves them out.

    Raises:
        RequestError: a schema that a strict tool insists on cannot be compiled.
    """
    constraint = _as_tag(form)
    try:
        serving.grammars.check(constraint)
    except RequestError:
        constraint = _as_tag(form.relaxed())
        try:
            serving.grammars.check(constraint)
        except RequestError as error:
            raise RequestError(f"the tools' parameters: {error}", "tools") from None
    return constraint


def _as_tag(form: ToolConstraint) -> StructuredOutputsParams:
    return StructuredOutputsParams(structural_tag=form.structural_tag())


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
