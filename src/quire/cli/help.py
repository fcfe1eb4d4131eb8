"""Commands whose many flags come in groups: help that can be searched, vLLM's habits of writing.

`--help=WORD` shows the groups and flags that WORD occurs in. A flag whose feature does not exist
yet is refused by name; `--max_model_len` is `--max-model-len`; a list option takes several words.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from quire.cli.flags import dashes, flag_of
from quire.core.errors import NotYetSupportedError
from quire.core.keywords import NO_EFFECT, SHORT_FLAGS, asks_for_nothing
from quire.core.option import Option

_ALL = "all"  # what a --help without a word asks for
_LIST = "listgroup"  # vLLM's word for the groups' names alone


class GroupedCommand(click.Command):
    """A command with groups of flags made from options.

    Args:
        groups: title -> its options, in the order of help; the command's own parameters come
            first, as "Options".
        refused: keyword -> the values of it that ask for nothing; any other is refused.
    """

    def __init__(
        self,
        *args: Any,
        groups: Mapping[str, Sequence[Option]],
        refused: Mapping[str, tuple[object, ...]],
        **kwargs: Any,
    ) -> None:
        settings = {"token_normalize_func": _normalize, "max_content_width": 100}
        kwargs["context_settings"] = {**settings, **(kwargs.get("context_settings") or {})}
        super().__init__(*args, **kwargs)
        self.groups: dict[str, list[click.Option]] = {"Options": []}
        for own in self.params:
            if isinstance(own, click.Option):
                self.groups["Options"].append(own)
        for title, options in groups.items():
            self.groups.setdefault(title, []).extend(flag_of(option) for option in options)
            self.params += self.groups[title][-len(options) :] if options else []
        taken = {name for p in self.params for name in (*p.opts, *p.secondary_opts)}
        self.unsupported = [flag for flag in _refusals(refused) if not taken & set(flag.opts)]
        self.params += self.unsupported
        self.params += [flag for flag in _idle() if not taken & set(flag.opts)]

    def get_help_option(self, ctx: click.Context) -> click.Option:
        """--help, which may be given a word to look for."""
        return click.Option(
            ["-h", "--help"],
            is_flag=False,
            flag_value=_ALL,
            is_eager=True,
            expose_value=False,
            metavar="[=WORD]",
            help="Show this, or what WORD occurs in.",
            callback=self._show_help,
        )

    def _show_help(self, ctx: click.Context, param: click.Parameter, word: str | None) -> None:
        if word is None or ctx.resilient_parsing:
            return
        click.echo(ctx.get_help() if word == _ALL else self.search(ctx, word))
        ctx.exit()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, flags in self.groups.items():
            extra = [self.get_help_option(ctx)] if title == "Options" else []
            _write(formatter, title, [*flags, *extra])

    def search(self, ctx: click.Context, word: str) -> str:
        """Help on the groups whose title holds the word, and the flags that mention it."""
        formatter = ctx.make_formatter()
        if word == _LIST:
            return "\n".join(self.groups)
        wanted = word.strip().lower().lstrip("-").replace("_", "-")
        for title, flags in self.groups.items():
            whole = wanted in title.lower().split() or wanted == title.lower()
            _write(formatter, title, [f for f in flags if whole or _mentions(f, wanted)])
        later = [f for f in self.unsupported if _mentions(f, wanted)]
        _write(formatter, "Not supported yet", later)
        found = formatter.getvalue().rstrip("\n")
        if not found:
            return f"nothing about '{word}'; `{ctx.command_path} --help` shows everything"
        return found.lstrip("\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _spread(args, self.params))


def _normalize(name: str) -> str:
    return name.replace("_", "-")


def _write(formatter: click.HelpFormatter, title: str, flags: list[click.Option]) -> None:
    if flags:
        with formatter.section(title):
            formatter.write_dl([(_shape(flag), flag.help or "") for flag in flags], col_max=34)


def _shape(flag: click.Option) -> str:
    """How it is written: `-p, --prompt TEXT`, `--[no-]enforce-eager`."""
    short = [name for name in flag.opts if len(name) == 2]
    long = next((name for name in flag.opts if name.startswith("--")), "")
    if flag.secondary_opts and long:
        long = f"--[no-]{long[2:]}"
    names = ", ".join([*short, *([long] if long else [])])
    if flag.is_flag:
        return names
    kind = flag.type
    value = "|".join(kind.choices) if isinstance(kind, click.Choice) else kind.name.upper()
    return names + (flag.metavar or f" {value}")


def _mentions(flag: click.Option, word: str) -> bool:
    text = " ".join((*flag.opts, *flag.secondary_opts, flag.help or "")).lower()
    return word in text


def _refusals(refused: Mapping[str, tuple[object, ...]]) -> list[click.Option]:
    """Hidden flags for what does not exist yet."""

    def refusal(name: str, neutral: tuple[object, ...]) -> click.Option:
        def check(ctx: click.Context, param: click.Parameter, value: object) -> None:
            if value is None or asks_for_nothing(value, neutral):
                return
            given = dashes(name) if value is True else f"{dashes(name)} {value}"
            raise NotYetSupportedError(f"{given} is not supported yet; leave it out")

        return _hidden(name, all(isinstance(n, bool) for n in neutral), check)

    return [refusal(name, neutral) for name, neutral in refused.items()]


def _idle() -> list[click.Option]:
    """Hidden flags that change nothing."""
    return [_hidden(name, is_switch, lambda c, p, v: None) for name, is_switch in NO_EFFECT.items()]


def _hidden(name: str, is_switch: bool, callback: Any) -> click.Option:
    flag = dashes(name)
    short = SHORT_FLAGS.get(name, ())
    if is_switch:
        declarations = [name, f"{flag}/--no-{flag[2:]}", *short]
        kind: dict[str, Any] = {"is_flag": True}
    else:
        declarations = [name, flag, *short]
        kind = {"type": str}
    return click.Option(
        declarations,
        hidden=True,
        default=None,
        expose_value=False,
        callback=callback,
        **kind,
    )


def _spread(args: Iterable[str], params: Iterable[click.Parameter]) -> list[str]:
    """Repeat a list option for each of its words: `--served-model-name a b` is two of them.

    A word after the first is the model if none was named before, as it would be for any other
    option.
    """
    lists: set[str] = set()
    takes_value: set[str] = set()
    for param in params:
        if isinstance(param, click.Option) and not param.is_flag:
            takes_value.update(param.opts)
            if param.multiple:
                lists.update(param.opts)
    spread: list[str] = []
    open_list = ""  # the list option whose words are being read
    expects_value = model_seen = False
    for arg in args:
        name = "--" + _normalize(arg[2:]) if arg.startswith("--") else arg
        if expects_value:
            expects_value = False
            spread.append(arg)
        elif arg.startswith("-") and arg != "-":
            bare, equals, _ = name.partition("=")
            expects_value = not equals and bare in takes_value
            open_list = bare if bare in lists else ""
            model_seen = model_seen or bare == "--model"
            spread.append(arg)
        elif open_list and model_seen:
            spread += [open_list, arg]
        else:
            model_seen, open_list = True, ""
            spread.append(arg)
    return spread
