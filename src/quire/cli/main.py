"""`quire`: the group of commands, and how their errors are shown.

`quire --help` imports neither torch nor the commands: their names and one-line descriptions stand
here. Whatever a user or machine can get wrong is printed as one line, `quire: error: …`.
"""

import os
import sys
import traceback
from importlib import import_module

import click

from quire import __version__
from quire.core import env
from quire.core.errors import NotYetSupportedError, QuireError, nearest
from quire.core.logs import configure_logging

# name -> module (with a click command of the name `command`), one line for `quire --help`
_COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("quire.cli.serve", "Serve a model over HTTP, as OpenAI does."),
    "chat": ("quire.cli.chat", "Talk with a model in the terminal."),
    "complete": ("quire.cli.complete", "Continue a text."),
    "run-batch": ("quire.cli.run_batch", "Answer the requests of an OpenAI batch file."),
    "show-model": ("quire.cli.show_model", "Print how a model is built, layer by layer."),
    "env": ("quire.cli.env", "Print what a bug report needs."),
}
_ALIASES = {"collect-env": "env"}
_NOT_YET = ("bench", "launch", "preload", "snapshot", "download-kernels")  # vLLM has them

_EXIT_ERROR = 1
_EXIT_INTERRUPTED = 130  # the shell's 128 + SIGINT


class _Commands(click.Group):
    """Commands imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = _ALIASES.get(args[0], args[0])
        if name in _NOT_YET:
            raise NotYetSupportedError(f"`quire {name}` is not supported yet; see benchmarks/")
        if name not in _COMMANDS and not name.startswith("-"):
            raise click.UsageError(f"no command '{name}'{nearest(name, _COMMANDS)}", ctx)
        return super().resolve_command(ctx, [name, *args[1:]])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="MODEL is a directory, a Hugging Face Hub id, or nothing for the model in the box."
    " `quire COMMAND --help` shows a command's options.",
)
@click.version_option(__version__, "--version", "-V", message="quire %(version)s")
def cli() -> None:
    """Serve large language models: fast to start, fast to run.

    \b
    quire serve                               serve the model in the box over HTTP
    quire chat                                talk with the model in the box
    quire chat Qwen/Qwen3-0.6B                … or with one from the Hub
    quire complete --prompt "1, 2, 3,"        continue a text
    """


def main() -> None:
    """The program. Exit status: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; its exit status."""
    debug = False
    env.calm_threads()
    try:
        level = env.log_level()
        debug = level == "debug"
        configure_logging(level, "plain")
        return int(cli.main(arguments, prog_name="quire", standalone_mode=False) or 0)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.UsageError as error:
        _complain(_usage(error))
        return error.exit_code
    except click.ClickException as error:
        _complain(error.format_message())
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("quire: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_ERROR
    except QuireError as error:
        if debug:
            traceback.print_exc()
        _complain(str(error))
        return _EXIT_ERROR


def _usage(error: click.UsageError) -> str:
    """One line: what is wrong, and where help is."""
    path = error.ctx.command_path if error.ctx is not None else "quire"
    message = error.format_message()
    if isinstance(error, click.NoSuchOption):
        near = nearest(error.option_name, _option_names(error.ctx))
        message = f"no option {error.option_name}{near}"
    return f"{message.rstrip('.')} (see `{path} --help`)"


def _option_names(ctx: click.Context | None) -> list[str]:
    if ctx is None:
        return []
    return [name for p in ctx.command.params if isinstance(p, click.Option) for name in p.opts]


def _complain(message: str) -> None:
    print("quire: error: " + " ".join(message.split()), file=sys.stderr)


if __name__ == "__main__":
    main()
