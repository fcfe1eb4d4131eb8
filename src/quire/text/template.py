"""Chat templates: Jinja programs from checkpoints, run in a sandbox with bounds.

The environment is the one `transformers` gives its templates (block trimming, loop controls,
`tojson` without HTML escapes, `raise_exception`, `strftime_now`, `{% generation %}`), so a
template renders the same characters here. Besides the sandbox, a rendering is bounded in
characters and seconds: templates come with checkpoints and are not trusted.
"""

import contextlib
import datetime
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from quire.core.errors import RequestError

MAX_RENDERED_CHARACTERS = 64 << 20
MAX_RENDER_SECONDS = 10.0


class ChatTemplate:
    """One compiled template. Compile once, render often; safe to share between threads.

    Raises:
        RequestError: the source is not a valid template.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._environment = _Environment()
        try:
            self._template = self._environment.from_string(source)
            self.content_is_list = _iterates_over_content(self._environment.parse(source))
        except TemplateSyntaxError as error:
            raise RequestError(
                f"the chat template does not parse: line {error.lineno}: {error.message}",
                "chat_template",
            ) from None

    def render(self, variables: dict[str, Any]) -> str:
        """The template's text for these variables.

        Raises:
            RequestError: the template refused the conversation, or failed, or went out of bounds.
        """
        try:
            with self._environment.timed(MAX_RENDER_SECONDS):
                return self._render(variables)
        except TemplateError as error:
            raise RequestError(
                f"the chat template refused the conversation: {error.message}", "messages"
            ) from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise RequestError(
                f"the chat template failed on this conversation: {type(error).__name__}: {error}",
                "messages",
            ) from None
        except (RecursionError, MemoryError) as error:
            raise RequestError(
                f"the chat template went out of bounds: {type(error).__name__}", "messages"
            ) from None

    def _render(self, variables: dict[str, Any]) -> str:
        parts: list[str] = []
        size = 0
        for part in self._template.generate(variables):
            size += len(part)
            if size > MAX_RENDERED_CHARACTERS:
                raise SecurityError(f"more than {MAX_RENDERED_CHARACTERS} characters")
            self._environment.check_deadline()
            parts.append(part)
        return "".join(parts)


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the model wrote; here just its body."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own declaration

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call block gives the body its own scope, as transformers does.
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class _SafeNamespace(Namespace):
    """`namespace()` without underscore names, which reach into Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]
        values = dict(*rest, **kwargs)
        for name in values:
            _refuse_underscore(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        Namespace.__setitem__(self, name, value)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with transformers' extras, a deadline, and no giant products."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationTag, "jinja2.ext.loopcontrols"],
        )
        self._clock = threading.local()
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals["dict"] = _make_dict
        self.globals["namespace"] = _SafeNamespace

    @contextlib.contextmanager
    def timed(self, seconds: float) -> Iterator[None]:
        """Inside, in this thread, `check_deadline` raises once the time is over."""
        self._clock.deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._clock.deadline

    def check_deadline(self) -> None:
        """Raise once the time is over; without `timed` (constant folding) never."""
        if time.monotonic() > getattr(self._clock, "deadline", math.inf):
            raise SecurityError(f"rendering took more than {MAX_RENDER_SECONDS:g} s")

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.check_deadline()
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and abs(right) > 64:
            raise SecurityError(f"exponent {right} is too large")
        for sequence, count in ((left, right), (right, left)):
            repeats = isinstance(sequence, str | bytes | list | tuple) and isinstance(count, int)
            if repeats and len(sequence) * count > MAX_RENDERED_CHARACTERS:
                raise SecurityError(f"a repetition of {count} is too long")
        return super().call_binop(context, operator, left, right)


def _iterates_over_content(tree: nodes.Template) -> bool:
    """Whether the template loops over a message's content: it takes lists of parts, then."""
    names = {"content"}
    for assign in tree.find_all(nodes.Assign):
        if isinstance(assign.target, nodes.Name) and _is_content(assign.node, names):
            names.add(assign.target.name)
    return any(_is_content(loop.iter, names) for loop in tree.find_all(nodes.For))


def _is_content(node: nodes.Node, names: set[str]) -> bool:
    if isinstance(node, nodes.Name):
        return node.name in names
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    return (
        isinstance(node, nodes.Filter) and node.node is not None and _is_content(node.node, names)
    )


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.datetime.now().strftime(layout)


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _refuse_underscore(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold the name {name!r}")
