"""``xmodel words``: how a text's words map to each tokenizer's tokens."""

import os
import sys
from enum import StrEnum
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodel.cli.program import StraddleOption, app, open_console, report_line, write_out
from xmodel.errors import InputError

if TYPE_CHECKING:
    from xmodel.alignment.tokenizer import Tokenizer


class ErrorsOption(StrEnum):
    """What becomes of bytes that are not UTF-8."""

    STRICT = "strict"
    REPLACE = "replace"


@app.command("words")
def show_words(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE|-", help="A UTF-8 text file; - or nothing for standard input."),
    ] = None,
    tokenizer: Annotated[
        list[str] | None,
        typer.Option(
            "--tokenizer",
            "-t",
            metavar="T",
            help="A tokenizer.json, a SentencePiece .model, a folder with one, a Hugging Face id (also "
            "ID@REVISION), or builtin:NAME. Give as many as you like.",
        ),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="The text itself, instead of a file.")] = None,
    words: Annotated[
        str,
        typer.Option(
            "--words",
            metavar="RULE",
            help="What a word is: default, whitespace, uax29, characters, sentences, spacy:LANG or "
            "regex:PATTERN.",
        ),
    ] = "default",
    straddle: Annotated[
        StraddleOption,
        typer.Option(
            "--straddle",
            help="Where one token covers parts of several words: join these words, split the token "
            "between them by bytes, or drop them.",
        ),
    ] = StraddleOption.MERGE,
    special: Annotated[
        bool, typer.Option("--special/--no-special", help="Add each tokenizer's own BOS and EOS.")
    ] = False,
    errors: Annotated[
        ErrorsOption,
        typer.Option("--errors", help="Bytes that are not UTF-8: stop, or replace each by U+FFFD."),
    ] = ErrorsOption.STRICT,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, of the whole text, and nothing else.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, help="How many words to draw; 0 draws all.")
    ] = 200,
    demo: Annotated[
        bool, typer.Option("--demo", help="Show texts on which aligners break, with two bundled tokenizers.")
    ] = False,
) -> None:
    """Show how a text's words map to each tokenizer's tokens.

    \b
    Examples:
      xmodel words --demo
      xmodel words --text "CO₂ is night.CNN" -t builtin:neox-demo -t builtin:gemma-demo
      xmodel words book.txt -t EleutherAI/pythia-160m -t gemma/tokenizer.json --limit 50
      cat book.txt | xmodel words - -t builtin:neox-demo --json > book.json
    """
    if demo:
        if file is not None or text is not None or json:
            raise InputError("--demo shows its own texts in the terminal: leave out FILE, --text and --json.")
        _show_demo(tokenizer or [], words, straddle, special)
        return
    if not tokenizer:
        raise InputError(
            "No tokenizer was given: add --tokenizer T once or more, where T is a tokenizer.json, a folder, "
            f"a Hugging Face id, or one of the two that come with xmodel, {_name_builtins()}."
        )
    data = _read_input(file, text)
    content = _decode_input(data, "--text" if text is not None else _name_source(file), errors)

    loaded = _load_tokenizers(tokenizer)
    from xmodel.alignment.align import align_text

    alignment = align_text(content, loaded, words=words, straddle=straddle.value, special=special)
    if json:
        from xmodel.report.words import encode_alignment

        ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        write_out(chain(encode_alignment(alignment, ascii_only=ascii_only), "\n"))
    else:
        from xmodel.report.terminal import render_alignment

        page = StringIO()
        console = open_console(page)
        vocabularies = [one.token_name for one in loaded]
        picture = render_alignment(alignment, vocabularies, width=console.width, words=limit or None)
        console.print(picture, crop=False)
        write_out([page.getvalue()])


def _show_demo(sources: list[str], words: str, straddle: StraddleOption, special: bool) -> None:
    from rich.text import Text

    from xmodel.alignment.align import align_text
    from xmodel.datasets.demo import BUILTIN_MODELS
    from xmodel.datasets.demo.texts import DEMO_TEXTS
    from xmodel.report.terminal import render_alignment

    loaded = _load_tokenizers(sources or [f"builtin:{name}" for name in BUILTIN_MODELS])
    page = StringIO()
    console = open_console(page)
    vocabularies = [one.token_name for one in loaded]
    for number, example in enumerate(DEMO_TEXTS, 1):
        alignment = align_text(example.text, loaded, words=words, straddle=straddle.value, special=special)
        console.print(Text(f"{number}. {example.shows}", "bold cyan"))
        console.print(render_alignment(alignment, vocabularies, width=console.width), crop=False)
        console.print()
    console.print(Text("For a text and tokenizers of your own:", "bold cyan"))
    console.print(Text("  xmodel words FILE --tokenizer T --tokenizer T"), soft_wrap=True)
    console.print(Text("  T: a tokenizer.json, a folder with one, or a Hugging Face id"), soft_wrap=True)
    write_out([page.getvalue()])


def _name_builtins() -> str:
    from xmodel.datasets.demo import BUILTIN_MODELS

    return " and ".join(f"builtin:{name}" for name in BUILTIN_MODELS)


def _load_tokenizers(sources: list[str]) -> "list[Tokenizer]":
    from xmodel.alignment.loading import load_tokenizer

    loaded = [load_tokenizer(source) for source in sources]
    for notice in dict.fromkeys(notice for one in loaded for notice in one.notices):
        report_line(notice)
    return loaded


def _name_source(file: Path | None) -> str:
    return "standard input" if file is None or str(file) == "-" else repr(str(file))


def _read_input(file: Path | None, text: str | None) -> bytes:
    """The bytes of the text, exactly as they are: newlines and a byte order mark are kept."""
    if text is not None:
        if file is not None:
            raise InputError(
                f"Both {_name_source(file)} and --text were given: leave one of them out, since one text is "
                "shown at a time."
            )
        try:
            return os.fsencode(text)  # the shell's own bytes, also where they are not UTF-8
        except UnicodeEncodeError:
            return text.encode("utf-8", "surrogatepass")
    if file is None or str(file) == "-":
        if file is None and sys.stdin.isatty():
            raise InputError('No text was given: name a FILE, pipe a text in, or use --text "...".')
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"There is no file {str(file)!r}: check the path, or give the text itself with --text."
        ) from None
    except IsADirectoryError:
        raise InputError(
            f"{str(file)!r} is a folder, and one text file was expected: name a file in it."
        ) from None
    except OSError as error:
        raise InputError(f"{str(file)!r} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise InputError(f"{str(file)!r} is not a file name: {error}.") from None


def _decode_input(data: bytes, source: str, errors: ErrorsOption) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if errors is ErrorsOption.STRICT:
            stretch = data[error.start : max(error.end, error.start + 1)].hex(" ").upper()
            raise InputError(
                f"{source} is not UTF-8: byte {error.start:,} (bytes {stretch}, {error.reason}) cannot be "
                "decoded. Convert it first, or add --errors replace to put U+FFFD in the place of such bytes."
            ) from None
    replaced = data.decode("utf-8", "replace")
    count = replaced.count("\ufffd") - data.count("\ufffd".encode())
    report_line(f"{source}: {count:,} stretches of bytes that are not UTF-8 were replaced by U+FFFD.")
    return replaced
