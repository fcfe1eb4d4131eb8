"""Commands whose many flags are made from options, in groups: help that can be searched.

`--help=WORD` shows the groups and flags that WORD occurs in. A flag whose feature does not exist
yet is refused by name; one that has nothing to change here is taken and ignored.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import click

from quire.cli.argv import regular
from quire.cli.values import dashes, read_value
from quire.core.errors import ConfigError, NotYetSupportedError
from quire.core.keywords import (
    ENGINE_NOT_YET,
    NO_EFFECT,
    SERVER_NOT_YET,
    SHORT_FLAGS,
    asks_for_nothing,
)
from quire.core.option import Kind, Option

REFUSED: dict[str, tuple[object, ...]] = {**ENGINE_NOT_YET, **SERVER_NOT_YET}


class _Value(click.ParamType):
    """An option's value."""

    def __init__(self, option: Option) -> None:
        self.name = option.kind
        self._option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return read_value(self._option, value, dashes(self._option.name))
        except ConfigError as error:
            raise click.UsageError(str(error), ctx) from None


class Flag(click.Option):
    """An option as a flag: --name VALUE, or --name/--no-name; None unless given."""

    def __init__(self, option: Option, short: Collection[str] = (), **settings: Any) -> None:
        self.kind: Kind = option.kind
        switch = option.kind == "switch"
        flags = [dashes(name) for name in (option.name, *option.also)]
        names = [f"{flag}/--no-{flag[2:]}" if switch else flag for flag in flags]
        names += [f" /{dashes(name)}" for name in option.opposites]
        kind: dict[str, Any] = {"is_flag": True} if switch else {"type": _Value(option)}
        shown = "|".join(option.choices) or option.kind.upper()
        super().__init__(
            [option.name, *names, *short],
            default=None,
            help=option.help + _default(option),
            metavar=f" {shown}",
            **kind,
            **settings,
        )


def _default(option: Option) -> str:
    """The default as help shows it, where there is one to show."""
    value = option.default
    if option.kind == "switch":
        value = "on" if value else ""
    elif option.kind == "list":
        value = " ".join(value or ())
    return "" if value in (None, "", {}) else f" [{value}]"


class GroupedCommand(click.Command):
    """A command with groups of flags made from options.

    Args:
        groups: title -> its options, in the order of help; the command's own parameters come
            first, as "Options".
    """

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[Option]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings["max_content_width"] = 100
        own = [param for param in self.params if isinstance(param, click.Option)]
        short = {name for param in own for name in param.opts}
        self.groups: dict[str, list[click.Option]] = {"Options": own}
        for title, options in groups.items():
            self.groups[title] = [
                Flag(o, set(SHORT_FLAGS.get(o.name, ())) - short) for o in options
            ]
            self.params += self.groups[title]
        taken = {name for p in self.params for name in (*p.opts, *p.secondary_opts)}
        self.unsupported = [f for name in REFUSED if not taken & set((f := _refusal(name)).opts)]
        self.params += self.unsupported
        self.params += [f for name in NO_EFFECT if not taken & set((f := _idle(name)).opts)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        kinds: dict[str, Kind] = {}
        for param in self.params:
            if isinstance(param, Flag):
                # What is refused or ignored may be an object in pieces too.
                kind = "json" if param.hidden and param.kind == "str" else param.kind
                kinds |= dict.fromkeys((*param.opts, *param.secondary_opts), kind)
            elif isinstance(param, click.Option):
                kinds |= dict.fromkeys(param.opts, "switch" if param.is_flag else "str")
        return super().parse_args(ctx, regular(args, kinds))

    def get_help_option(self, ctx: click.Context) -> click.Option:
        """--help, which may be given a word to look for."""
        return click.Option(
            ["-h", "--help"],
            is_flag=False,
            flag_value="all",
            is_eager=True,
            expose_value=False,
            metavar="[=WORD]",
            help="Show this, or what WORD occurs in.",
            callback=self._show_help,
        )

    def _show_help(self, ctx: click.Context, param: click.Parameter, word: str | None) -> None:
        if word is None or ctx.resilient_parsing:
            return
        if word == "page":
            click.echo_via_pager(ctx.get_help())
        elif word == "listgroup":
            click.echo("\n".join(self.groups))
        else:
            click.echo(ctx.get_help() if word == "all" else self.search(ctx, word))
        ctx.exit()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, flags in self.groups.items():
            extra = [self.get_help_option(ctx)] if title == "Options" else []
            _write(formatter, title, [*flags, *extra])

    def search(self, ctx: click.Context, word: str) -> str:
        """Help on the groups whose title holds the word, and the flags that mention it."""
        formatter = ctx.make_formatter()
        wanted = word.strip().lower().lstrip("-").replace("_", "-")
        for title, flags in self.groups.items():
            whole = wanted in (title.lower(), *title.lower().split())
            _write(formatter, title, [f for f in flags if whole or _mentions(f, wanted)])
        later = [f for f in self.unsupported if _mentions(f, wanted)]
        _write(formatter, "Not supported yet", later)
        found = formatter.getvalue().strip("\n")
        return found or f"nothing about '{word}'; `{ctx.command_path} --help` shows everything"


def _write(formatter: click.HelpFormatter, title: str, flags: Iterable[click.Option]) -> None:
    rows = [(_shape(flag), flag.help or "") for flag in flags]
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows, col_max=34)


def _shape(flag: click.Option) -> str:
    """How it is written: `-p, --prompt TEXT`, `--[no-]enforce-eager`."""
    short = [name for name in flag.opts if not name.startswith("--")]
    long = next(name for name in flag.opts if name.startswith("--"))
    if flag.secondary_opts:
        long = f"--[no-]{long[2:]}"
    names = ", ".join([*short, long])
    return names if flag.is_flag else names + (flag.metavar or f" {flag.type.name.upper()}")


def _mentions(flag: click.Option, word: str) -> bool:
    return word in " ".join((*flag.opts, *flag.secondary_opts, flag.help or "")).lower()


def _refusal(name: str) -> Flag:
    """A hidden flag for what does not exist yet."""
    neutral = REFUSED[name]

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None and not asks_for_nothing(value, neutral):
            given = dashes(name) if value is True else f"{dashes(name)} {value}"
            raise NotYetSupportedError(f"{given} is not supported yet; leave it out")

    kind: Kind = "switch" if all(isinstance(n, bool) for n in neutral) else "str"
    return _hidden(name, kind, refuse)


def _idle(name: str) -> Flag:
    return _hidden(name, NO_EFFECT[name], lambda ctx, param, value: None)


def _hidden(name: str, kind: Kind, callback: Any) -> Flag:
    option = Option(name, name, "", kind)
    short = SHORT_FLAGS.get(name, ())
    return Flag(option, short, hidden=True, expose_value=False, callback=callback)
