"""The README and the pages in docs/ cannot drift: their commands run, and print what the page shows.

In a ```console block, `$ ` begins a command and the lines after it are its whole output (standard output and
standard error, as a terminal shows them); a command without such lines prints what it likes. In a ```bash or
```sh block every line is a command. Commands that install, fetch or test are named in NOT_RUN; `make demo` is
stood for by the command that it ends with.
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

from tests.tiny_example import write_example

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()]

NOT_RUN = re.compile(r"(make|git|cd|pip|python3? -m (pip|venv)|source|\. )\b")
STANDS_FOR = {"make demo": "xmodel words --demo"}
BLOCK = re.compile(r"^```[ ]*(console|bash|sh)[ ]*\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of a page, and the output that the page shows for it (None: shows none)."""

    line: str
    output: str | None


def read_commands(markdown: str) -> Iterator[Command]:
    for kind, body in BLOCK.findall(markdown):
        body = body.replace("\\\n", " ")
        if kind != "console":
            lines = [line.strip() for line in body.splitlines()]
            yield from (Command(line, None) for line in lines if line and not line.startswith("#"))
            continue
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
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
        elif command.output is not None and strip_ends(printed) != strip_ends(command.output):
            wrong.append(f"$ {line}\nis shown to print\n{command.output}\nand printed\n{printed}")
    return wrong


def strip_ends(text: str) -> list[str]:
    """The lines without trailing blanks, which no reader sees and editors remove."""
    return [line.rstrip() for line in text.splitlines()]


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages call model_a, sae_a, model_b, sae_b and book.txt."""
    return write_example(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def folder(tmp_path: Path, pair_folder: Path) -> Path:
    """A scratch copy of the checkout's first level, by links, so that what a command writes stays outside."""
    for entry in [*ROOT.iterdir(), *pair_folder.iterdir()]:
        if not entry.name.startswith("."):
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def test_there_is_a_readme() -> None:
    assert ROOT / "README.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_shows_what_its_commands_print(page: Path, folder: Path) -> None:
    found = check_page(page.read_text("utf-8"), folder)
    assert not found, "\n\n".join(found)


SCRIPT = re.compile(r"^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_pages_scripts_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ```py block is a whole program, on the tiny pair that stands for the user's own."""
    monkeypatch.chdir(folder)
    scripts = SCRIPT.findall(page.read_text("utf-8"))
    assert scripts or page.name != "align.md"
    for script in scripts:
        exec(compile(script, str(page), "exec"), {})


def test_make_demo_is_the_command_that_stands_for_it() -> None:
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert recipe and STANDS_FOR["make demo"].removeprefix("xmodel ") in recipe[1]


def test_commands_are_read_from_the_fences() -> None:
    page = (
        "text\n```console\n$ make demo\n$ xmodel a \\\n    b\none\n\n  two\n\n$ xmodel c\n```\n"
        "```bash\n# why\nxmodel d\ngit clone x\n```\n```python\n$ xmodel e\n```\n"
    )
    assert list(read_commands(page)) == [
        Command("make demo", None),
        Command("xmodel a      b", "one\n\n  two"),
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


def test_a_right_page_passes(tmp_path: Path) -> None:
    page = "```console\n$ git clone x\n$ printf 'xmodel \\n\\nCO₂\\n'\nxmodel\n\nCO₂\n$ echo xmodel\n```\n"
    assert check_page(page, tmp_path) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_shows_what_its_python_prints(page: Path) -> None:
    found = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert found.failed == 0
    assert found.attempted == page.read_text("utf-8").count("\n>>> ")
