"""The program: its entry point, its exit codes, and how every command prints.

Exit codes: 0 done; 2 wrong usage or input; 1 a bug in xmodel; 130 interrupted. Everything heavy is
imported inside the commands, so that ``--help`` is quick.
"""

import errno
import os
import sys
from collections.abc import Iterable
from enum import StrEnum
from io import StringIO
from typing import TYPE_CHECKING, Annotated

import typer

from xmodel.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class StraddleOption(StrEnum):
    """What becomes of words that one token touches together."""

    MERGE = "merge"
    SPLIT = "split"
    DROP = "drop"


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"xmodel {version('xmodel')}")
        except PackageNotFoundError:
            typer.echo("xmodel (not installed)")
        raise typer.Exit()


@app.callback()
def describe_program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Compare the features of two language models whose tokenizers differ, word by word.

    \b
    Try it without any file or download:
      xmodel demo
    """


def open_console(page: StringIO) -> "Console":
    """A console that draws for stdout, but onto a page, so that writing is done and can fail in one place."""
    from rich.console import Console

    return Console(file=page, force_terminal=sys.stdout.isatty(), highlight=False, markup=False, emoji=False)


def report_line(message: str) -> None:
    """Tell the user something on stderr; whatever it quotes cannot act on the terminal."""
    safe = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in message)
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    print(f"xmodel: {safe}".encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)


def write_out(parts: Iterable[str]) -> None:
    """Write results to stdout, in whatever encoding it has; a reader that has gone away is no error."""
    try:
        encoding = sys.stdout.encoding or "utf-8"
        for part in parts:
            sys.stdout.write(part.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered would be written again at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            raise InputError(f"Standard output cannot be written to: {error.strerror}.") from None


def main() -> None:
    """Run the command line, and turn every way it can end into its exit code."""
    try:
        app(prog_name="xmodel")
    except InputError as error:
        report_line(str(error))
        sys.exit(2)
    except Exception:
        import traceback

        traceback.print_exc()
        report_line("this is a bug in xmodel, not in your input. Please report it with the lines above.")
        sys.exit(1)
