"""The README and the pages in docs/ cannot drift: their commands run, and print what the page shows.

In a ```console block, `$ ` begins a command and the lines after it are its whole output (standard output and
standard error, as a terminal shows them); a command without such lines prints what it likes. In a ```bash or
```sh block every line is a command. Commands that install, fetch or test are named in NOT_RUN; `make demo` is
stood for by the command that it ends with.

What was computed with models may differ in the last digits between machines: there, numbers need only agree
to 0.01, and counts above a hundred to one in a hundred. `xmodel words` computes nothing of the kind, and is
compared exactly.

A ```py block is a whole program; a ```text block right after it is what it prints.
"""

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from xmodel.datasets.demo import DEMO_CORPUS, DEMO_SAES
from xmodel.pairing.comparing import align_models

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()]

NOT_RUN = re.compile(r"(make|git|cd|pip|python3? -m (pip|venv)|source|\. )\b")
STANDS_FOR = {"make demo": "xmodel demo 2>/dev/null"}
NUMBER = re.compile(r"(?:(?<!\S)-)?\d[\d,]*(?:\.\d+)?")
BLOCK = re.compile(r"^```[ ]*(console|bash|sh)[ ]*\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of a page, and the output that the page shows for it (None: shows none)."""

    line: str
    output: str | None


def read_commands(markdown: str) -> Iterator[Command]:
    for kind, body in BLOCK.findall(markdown):
        if kind != "console":
            lines = [line.strip() for line in body.replace("\\\n", " ").splitlines()]
            yield from (Command(line, None) for line in lines if line and not line.startswith("#"))
            continue
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:[^\n]*\\\n)*[^\n]*\n?", part)
            assert command
            line, output = command[0].replace("\\\n", " "), part[command.end() :]
            yield Command(line.strip(), output.rstrip() or None)


def check_page(markdown: str, folder: Path) -> list[str]:
    """Run a page's commands, in order, in `folder`; one paragraph for every one that is not as shown."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "CLICOLOR_FORCE")
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "80",
        "NO_COLOR": "1",
        "PYTHONUTF8": "1",
        "HF_HUB_OFFLINE": "1",
    }
    wrong = []
    for command in read_commands(markdown):
        line = STANDS_FOR.get(command.line, command.line)
        if NOT_RUN.match(line):
            continue
        if "xmodel" not in line:
            wrong.append(f"$ {line}\nis neither a command of xmodel nor named in NOT_RUN")
            continue
        done = subprocess.run(
            ["bash", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            timeout=600,
        )
        printed = done.stdout.decode("utf-8").rstrip()
        if done.returncode:
            wrong.append(f"$ {line}\nended with code {done.returncode}:\n{printed}")
        elif command.output is not None and not agrees(command.output, printed, "xmodel words" in line):
            wrong.append(f"$ {line}\nis shown to print\n{command.output}\nand printed\n{printed}")
    return wrong


def agrees(shown: str, printed: str, exactly: bool) -> bool:
    """Whether two outputs are the same, or the same but for the last digits of what was computed."""
    shown, printed = ("\n".join(line.rstrip() for line in text.splitlines()) for text in (shown, printed))
    if exactly or shown == printed:
        return shown == printed
    if NUMBER.split(shown) != NUMBER.split(printed):
        return False
    return all(map(is_close, NUMBER.findall(shown), NUMBER.findall(printed)))


def is_close(shown: str, printed: str) -> bool:
    one, other = (float(number.replace(",", "")) for number in (shown, printed))
    if "." in shown or "." in printed:
        return abs(one - other) < 0.0101
    return abs(one - other) <= (0.01 * one if one >= 100 else 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scratch copy of the checkout's first level, by links, so that what a command writes stays outside.

    A run that `make demo` has left in the checkout is not taken along: the pages' commands would change it.
    """
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "xmodel-demo":
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def test_there_is_a_readme() -> None:
    assert ROOT / "README.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_shows_what_its_commands_print(page: Path, folder: Path) -> None:
    found = check_page(page.read_text("utf-8"), folder)
    assert not found, "\n\n".join(found)


SCRIPT = re.compile(r"^```py\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_pages_scripts_run(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the pair that comes with xmodel, and on the run of `xmodel demo`."""
    monkeypatch.chdir(folder)
    scripts = SCRIPT.findall(page.read_text("utf-8"))
    assert scripts or page.name not in ("align.md", "tutorial.md")
    if any("xmodel-demo" in script for script, _ in scripts):
        align_models(*DEMO_SAES, DEMO_CORPUS, "xmodel-demo")
    for script, shown in scripts:
        capsys.readouterr()
        exec(compile(script, str(page), "exec"), {})
        printed = capsys.readouterr().out
        right = not shown or agrees(shown, printed, False)
        assert right, f"is shown to print\n{shown}\nand printed\n{printed}"


def test_make_demo_is_the_command_that_stands_for_it() -> None:
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert recipe and STANDS_FOR["make demo"].split()[1] in recipe[1].split()


def test_commands_are_read_from_the_fences() -> None:
    page = (
        "text\n```console\n$ make demo\n$ xmodel a \\\n    b\none \\\n\n  two\n\n$ xmodel c\n```\n"
        "```bash\n# why\nxmodel d\ngit clone x\n```\n```python\n$ xmodel e\n```\n"
    )
    assert list(read_commands(page)) == [
        Command("make demo", None),
        Command("xmodel a      b", "one \\\n\n  two"),
        Command("xmodel c", None),
        Command("xmodel d", None),
        Command("git clone x", None),
    ]


# The commands here only mention xmodel, so that the checker is tested without the program.
@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("```console\n$ echo xmodel\nxmodell\n```\n", "is shown to print"),
        ("```console\n$ echo xmodel\nxmodel\nand more\n```\n", "is shown to print"),
        ("```console\n$ xmodel-no-such-command\n```\n", "ended with code 127"),
        ("```bash\ntrue; xmodel-no-such-command\n```\n", "ended with code 127"),
        ("```bash\ncurl example.invalid\n```\n", "neither"),
    ],
)
def test_a_wrong_page_is_found(page: str, reason: str, tmp_path: Path) -> None:
    (found,) = check_page(page, tmp_path)
    assert reason in found


@pytest.mark.parametrize(
    ("shown", "printed", "close"),
    [
        ("r 0.512 of 1,204  \n", "r 0.519 of 1,210", True),
        ("r 0.512", "r 0.523", False),
        ("r 0.512 of 1,204", "r 0.512 of 1,304", False),
        ("feature 17", "feature 18", False),
        ("55 of 55", "54 of 55", False),
        ("chance -0.002", "chance 0.001", True),
        ("pages 3-4", "pages 3-5", False),
        ("mean r 0.512", "mean q 0.512", False),
        ("one\ntwo", "one two", False),
        ("0.512 0.3", "0.512", False),
    ],
)
def test_computed_numbers_need_only_be_close(shown: str, printed: str, close: bool) -> None:
    assert agrees(shown, printed, False) is close
    assert agrees(shown, printed, True) is False and agrees(shown, shown, True)


def test_a_right_page_passes(tmp_path: Path) -> None:
    page = "```console\n$ git clone x\n$ printf 'xmodel \\n\\nCO₂\\n'\nxmodel\n\nCO₂\n$ echo xmodel\n```\n"
    assert check_page(page, tmp_path) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_shows_what_its_python_prints(page: Path) -> None:
    found = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert found.failed == 0
    assert found.attempted == page.read_text("utf-8").count("\n>>> ")
