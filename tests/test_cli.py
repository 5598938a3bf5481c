"""The command line from outside: exit codes, messages, the JSON contract, and inputs that go wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from xmodel.alignment.align import align_text
from xmodel.alignment.loading import load_tokenizer
from xmodel.datasets.demo import BUILTIN_MODELS, find_builtin
from xmodel.datasets.demo.texts import DEMO_TEXTS
from xmodel.errors import InputError
from xmodel.report.words import describe_alignment, encode_alignment

NEOX = ("--tokenizer", "builtin:neox-demo")
BOTH = (*NEOX, "--tokenizer", "builtin:gemma-demo")
PROGRAM = (sys.executable, "-m", "xmodel.cli")


def environment(**changes):
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**plain, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", **changes}


def xmodel(*arguments, input=b"", **changes):
    return subprocess.run(
        (*PROGRAM, *arguments), input=input, capture_output=True, env=environment(**changes), timeout=120
    )


def words(*arguments, **options):
    """Run a command that must succeed, and give its output."""
    done = xmodel("words", *arguments, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def refuse(*arguments, **options):
    """Run a command that must be refused, and give its one-paragraph message."""
    done = xmodel("words", *arguments, **options)
    message = done.stderr.decode()
    assert done.returncode == 2, message
    assert "Traceback" not in message
    assert done.stdout == b""
    # typer's own messages begin with a line on usage; those of xmodel are one line.
    assert message.startswith("Usage: xmodel words") or re.fullmatch("xmodel: .*\n", message)
    return message


def parse(*arguments, **options):
    return json.loads(words(*arguments, "--json", **options))


def test_version_and_help():
    assert re.fullmatch(r"xmodel \S+\n", xmodel("--version").stdout.decode())
    assert b"xmodel demo" in xmodel("--help").stdout
    shown = words("--help")
    assert 'xmodel words --text "CO₂ is night.CNN" -t builtin:neox-demo' in shown


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['xmodel', 'words', '--help']\n"
        "from xmodel.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=60)
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert not loaded & {"numpy", "tokenizers", "transformers", "torch", "rich.table", "spacy", "regex"}


def test_json_has_the_promised_keys_and_nothing_else_is_printed():
    done = xmodel("words", "--text", "CO₂ is night.CNN", *BOTH, "--json")
    assert done.stderr == b""
    found = json.loads(done.stdout)
    assert found["bytes"] == 18
    assert [group["text"] for group in found["groups"]] == ["CO₂", "is", "night", ".", "CNN"]
    assert [(group["start"], group["end"]) for group in found["groups"]] == [
        (0, 5),
        (6, 8),
        (9, 14),
        (14, 15),
        (15, 18),
    ]
    for number, one in enumerate(found["tokenizers"]):
        assert set(one) >= {"name", "ids", "spans", "special", "certificate"}
        assert one["certificate"] == {"status": "exact", "ranges": [], "kinds": [], "reason": None}
        assert len(one["ids"]) == len(one["spans"]) == len(one["special"]) == len(one["flags"])
        assert not any(one["special"])
        used = [token for group in found["groups"] for token in group["tokens"][number]]
        assert used == list(range(len(one["ids"])))
        for group in found["groups"]:
            spans = [one["spans"][token] for token in group["tokens"][number]]
            assert spans[0][0] in (group["start"], group["start"] - 1)
            assert spans[-1][1] == group["end"]
    assert [one["name"] for one in found["tokenizers"]] == ["builtin:neox-demo", "builtin:gemma-demo"]


def test_special_adds_the_template_only_when_asked():
    plain = parse("--text", "a whale", *BOTH)["tokenizers"]
    special = parse("--text", "a whale", *BOTH, "--special")["tokenizers"]
    assert special[0] == plain[0]
    assert special[1]["ids"] == [2, *plain[1]["ids"]]
    assert special[1]["special"] == [True] + [False] * len(plain[1]["ids"])
    assert special[1]["spans"][0] == [0, 0]
    assert special[1]["flags"][0] == ["template"]


def test_policies_reach_the_groups():
    merged = parse("--text", "1990's", *NEOX)["groups"]
    split = parse("--text", "1990's", *NEOX, "--straddle", "split")["groups"]
    dropped = parse("--text", "1990's", *NEOX, "--straddle", "drop")["groups"]
    assert [group["text"] for group in merged] == ["1990", "'s"]
    assert merged[1]["words"] == [1, 2] and "weights" not in merged[1]
    assert [group["text"] for group in split] == ["1990", "'", "s"]
    assert split[1]["weights"] == split[2]["weights"] == [[0.5]]
    assert [group["text"] for group in dropped] == ["1990"]


def test_words_rule_reaches_the_words():
    assert parse("--text", "a b.c", *NEOX, "--words", "whitespace")["words"] == [[0, 1], [2, 5]]
    assert "uax29" in refuse("--text", "a", *NEOX, "--words", "nonsense")


@pytest.mark.parametrize("example", DEMO_TEXTS, ids=lambda example: example.text)
@pytest.mark.parametrize("straddle", ["merge", "split"])
def test_json_in_parts_is_the_whole_description(example, straddle, monkeypatch):
    monkeypatch.setattr("xmodel.report.words._CHUNK", 2)
    tokenizers = [load_tokenizer(f"builtin:{name}") for name in BUILTIN_MODELS]
    for text in (example.text, ""):
        alignment = align_text(text, tokenizers, straddle=straddle, special=True)
        whole = json.loads(json.dumps(describe_alignment(alignment)))
        assert json.loads("".join(encode_alignment(alignment))) == whole
        ascii_only = "".join(encode_alignment(alignment, ascii_only=True))
        assert ascii_only.isascii() and json.loads(ascii_only) == whole


def test_json_is_valid_whatever_the_encoding_of_stdout():
    done = xmodel("words", "--text", "CO₂", *NEOX, "--json", PYTHONIOENCODING="latin-1")
    assert json.loads(done.stdout.decode("latin-1"))["groups"][0]["text"] == "CO₂"


def test_picture_survives_an_ascii_stdout():
    assert "CO\\u2082" in words("--text", "CO₂", *NEOX, PYTHONIOENCODING="ascii")


def test_input_is_the_same_from_text_file_and_standard_input(tmp_path):
    content = "\ufeffone\r\ntwo\rthree\n"
    file = tmp_path / "in.txt"
    file.write_bytes(content.encode())
    expected = parse("--text", content, *NEOX)
    assert expected["bytes"] == len(content.encode())
    assert parse(str(file), *NEOX) == expected
    assert parse("-", *NEOX, input=content.encode()) == expected
    assert parse(*NEOX, input=content.encode()) == expected


def test_bytes_that_are_not_utf8(tmp_path):
    file = tmp_path / "bad.txt"
    file.write_bytes(b"ab\xff\xe2\x82 c")
    message = refuse(str(file), *NEOX)
    assert "bad.txt" in message and "byte 2" in message and "FF" in message and "--errors replace" in message
    done = xmodel("words", str(file), *NEOX, "--errors", "replace", "--json")
    assert done.returncode == 0
    assert "2 stretches" in done.stderr.decode()
    assert json.loads(done.stdout)["bytes"] == 2 + 3 + 3 + 2
    assert "standard input is not UTF-8" in refuse("-", *NEOX, input=b"\x80")


@pytest.mark.skipif(os.name == "nt", reason="arguments are bytes on POSIX only")
def test_argument_that_is_not_utf8():
    assert "--text is not UTF-8: byte 1 (bytes FF" in refuse("--text", b"a\xffb", *NEOX)
    found = parse("--text", b"a\xffb", *NEOX, "--errors", "replace")
    assert [group["text"] for group in found["groups"]] == ["a", "\ufffd", "b"]


def test_wrong_usage_is_told_in_one_paragraph(tmp_path):
    assert "builtin:neox-demo" in refuse("--text", "a")
    assert "builtin:gemma-demo" in refuse("--text", "a", "-t", "builtin:nope")
    assert "no file" in refuse(str(tmp_path / "missing"), *NEOX)
    assert "folder" in refuse(str(tmp_path), *NEOX)
    assert "Both" in refuse("FILE", "--text", "a", *NEOX)
    assert "--demo" in refuse("--demo", "--json")
    assert "'merge', 'split', 'drop'" in refuse("--text", "a", *NEOX, "--straddle", "zap")
    assert "--limit" in refuse("--text", "a", *NEOX, "--limit", "-1")
    assert xmodel("wrds").returncode == 2


def test_message_cannot_act_on_the_terminal(tmp_path):
    assert "\x1b" not in refuse(str(tmp_path / "a\x1b[2Jb"), *NEOX)


def test_terminal_without_text_is_told_what_to_do():
    pty = pytest.importorskip("pty")
    controller, terminal = pty.openpty()
    try:
        done = subprocess.run((*PROGRAM, "words", *NEOX), stdin=terminal, capture_output=True, timeout=60)
    finally:
        os.close(controller)
        os.close(terminal)
    assert done.returncode == 2
    assert b"No text was given" in done.stderr


def test_a_bug_is_called_a_bug():
    code = (
        "import sys; sys.argv = ['xmodel', 'words', '--text', 'a', '-t', 'builtin:neox-demo']\n"
        "import xmodel.alignment.align as align\n"
        "def broken(*args, **kwargs): raise RuntimeError('inside')\n"
        "align.align_text = broken\n"
        "from xmodel.cli import main\n"
        "main()"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "RuntimeError: inside" in done.stderr
    assert "this is a bug in xmodel" in done.stderr.splitlines()[-1]


def heed_interrupts():
    """What a shell starts in the background ignores Ctrl-C, and so would the command under test."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupted():
    running = subprocess.Popen(
        (*PROGRAM, "words", *NEOX),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    time.sleep(1.5)
    running.send_signal(signal.SIGINT)
    _, message = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in message


@pytest.mark.skipif(os.name == "nt", reason="needs sh")
@pytest.mark.parametrize("options", ["", "--json"])
def test_reader_that_goes_away_is_no_error(tmp_path, options):
    file = tmp_path / "long.txt"
    file.write_text("word " * 40_000)
    command = f"{sys.executable} -m xmodel.cli words {file} -t builtin:neox-demo --limit 20000 {options}"
    done = subprocess.run(
        f"({command}; echo code $? >&2) | head -c 10", shell=True, capture_output=True, timeout=120
    )
    assert done.stderr == b"code 0\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_disk_is_not_called_a_bug():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            (*PROGRAM, "words", "--text", "a", *NEOX), stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr.startswith(b"xmodel: Standard output cannot be written to")
    assert done.stderr.count(b"\n") == 1


def test_picture_of_the_example():
    shown = words("--text", "CO₂ is night.CNN", *BOTH)
    assert shown.startswith(
        "18 bytes, 5 words\n"
        "\n"
        "            CO₂             is   night   .  CNN\n"
        "neox-demo   C│O│‹E2│82│82›  ·is  ·night  .  C│N│N\n"
        "gemma-demo  C│O│‹E2│82│82›  ·is  ·night  .  C│N│N\n"
    )


def test_a_pipe_gets_no_colours_and_a_terminal_can_do_without():
    arguments = ("words", "--text", "1990's", *NEOX)
    assert "\x1b" not in words(*arguments[1:])
    pty = pytest.importorskip("pty")
    outputs = {}
    for name, changes in (("colour", {}), ("plain", {"NO_COLOR": "1"})):
        controller, terminal = pty.openpty()
        running = subprocess.Popen(
            (*PROGRAM, *arguments), stdout=terminal, env=environment(TERM="xterm-256color", **changes)
        )
        os.close(terminal)
        assert running.wait(timeout=60) == 0
        outputs[name] = os.read(controller, 65536).decode()
        os.close(controller)
    colour = re.compile(r"\x1b\[(?:\d+;)*3\d")
    assert colour.search(outputs["colour"])
    assert not colour.search(outputs["plain"])
    assert "'⁀s" in re.sub(r"\x1b\[[\d;]*m", "", outputs["plain"])


def test_limit_counts_words_and_zero_draws_all():
    text = " ".join(f"w{number:03}" for number in range(300))
    assert "w199" in words("--text", text, *NEOX) and "w200" not in words("--text", text, *NEOX)
    assert "w004" in words("--text", text, *NEOX, "--limit", "5")
    assert "w005" not in words("--text", text, *NEOX, "--limit", "5")
    assert "w299" in words("--text", text, *NEOX, "--limit", "0")
    assert len(parse("--text", text, *NEOX, "--limit", "5")["words"]) == 300


def test_escape_sequences_and_long_words_from_a_file(tmp_path):
    file = tmp_path / "hostile.txt"
    file.write_bytes(b"\x1b]0;title\x07 " + b"w" * 10_000 + b" [bold]x[/bold]\r\n")
    shown = words(str(file), *BOTH, COLUMNS="40")
    assert "\x1b" not in shown and "\r" not in shown and "‹ESC›" in shown
    assert max(map(len, shown.splitlines())) <= 40
    assert "…+" in shown and "bold" in shown


def test_notices_go_to_stderr(tmp_path):
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    done = xmodel("words", "--text", "a", "-t", str(tmp_path), "--json")
    assert done.returncode == 0
    assert b"truncation" in done.stderr
    json.loads(done.stdout)


def test_demo_shows_every_text():
    shown = words("--demo")
    for number, example in enumerate(DEMO_TEXTS, 1):
        assert f"{number}. {example.shows[:40]}" in shown
    assert "failed" not in shown
    assert "xmodel words FILE --tokenizer T" in shown
    for sign in ("'⁀s", "‹E2│82│82›", "↵↵", "·two"[1:]):
        assert sign in shown


def test_builtin_names():
    for name in BUILTIN_MODELS:
        assert (find_builtin(name, "tokenizer") / "tokenizer.json").is_file()
        assert find_builtin(f"builtin:{name}", "model") == find_builtin(name, "tokenizer")
    with pytest.raises(InputError, match="builtin:neox-demo"):
        find_builtin("../neox-demo", "tokenizer")
    with pytest.raises(InputError, match="builtin:neox-demo is a model"):
        find_builtin("builtin:neox-demo", "SAE")


def test_bundled_tokenizers_are_of_the_promised_size():
    neox, gemma = (load_tokenizer(f"builtin:{name}") for name in BUILTIN_MODELS)
    assert int(neox.spelling.known.sum()) == 4096
    assert int(gemma.spelling.known.sum()) == 6144
    assert neox.template == ((), ()) and gemma.template == ((2,), ())
