"""What the folder tree promises: imports point downward, files stay small, nothing unsafe is called."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "xmodel"
FILES = sorted(PACKAGE.rglob("*.py"))

# Data moves down this list: a file imports from its own stage and from those before it.
STAGES = [
    "errors",
    "records",
    "run",
    "datasets",
    "models",
    "alignment",
    "pairing",
    "similarity",
    "steering",
    "report",
    "cli",
]
HEAVY = ["torch", "transformers", "spacy", "sae_lens", "transformer_lens", "tokenizers", "scipy", "sklearn"]
PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or an attribute of a name, "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def find_imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported, at any depth, also by `import_module("...")`."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            for alias in node.names:
                yield node.lineno, ".".join([*base, *filter(None, [node.module]), alias.name])
        elif isinstance(node, ast.Call) and dotted(node.func).endswith(("import_module", "__import__")):
            name = "".join(str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant))
            level = len(name) - len(name.lstrip("."))
            base = package[: len(package) - level + 1] if level else []
            yield node.lineno, ".".join([*base, name[level:]])


def find_upward_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    """One line for every import of a later stage. The package itself re-exports all, so only cli uses it."""
    if module == "xmodel":
        return []
    stage = module.split(".")[1]
    if stage not in STAGES:
        return [f"{module} belongs to no stage: put it into one of {', '.join(STAGES)}"]
    wrong = []
    for line, name in find_imports(ast.parse(source), module, is_package):
        parts = name.split(".")
        if parts[0] != "xmodel":
            continue
        target = parts[1] if len(parts) > 1 and parts[1] in STAGES else "cli"
        if STAGES.index(target) > STAGES.index(stage) or (target == "cli" and stage != "cli"):
            wrong.append(f"{module}, line {line}: {stage} imports {name}, which comes later")
    return wrong


def find_unsafe_calls(source: str) -> list[str]:
    """One line for every way in which the source could run code from a data file."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            if name.split(".")[0] in PICKLES:
                wrong.append(f"line {node.lineno}: imports {name}")
        if not isinstance(node, ast.Call):
            continue
        called = dotted(node.func)
        constants = {
            k.arg: k.value.value for k in node.keywords if k.arg and isinstance(k.value, ast.Constant)
        }
        if called == "torch.load" and constants.get("weights_only") is not True:
            wrong.append(f"line {node.lineno}: torch.load without weights_only=True")
        if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            wrong.append(f"line {node.lineno}: {called}, not yaml.safe_load")
        if called in ("eval", "exec"):
            wrong.append(f"line {node.lineno}: {called}")
        for option in ("trust_remote_code", "allow_pickle"):
            if constants.get(option) is True:
                wrong.append(f"line {node.lineno}: {option}=True")
    return wrong


def find_work_in_init(source: str) -> list[str]:
    """One line for every statement that is more than a re-export (a lazy one with __getattr__ is allowed)."""
    wrong = []
    for node in ast.parse(source).body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
                continue
            case ast.FunctionDef(name="__getattr__" | "__dir__"):
                continue
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                continue
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if name.startswith("_"):
                    continue
        wrong.append(f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}")
    return wrong


def public_names() -> list[str]:
    import xmodel

    return list(getattr(xmodel, "__all__", []))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_downward(path: Path) -> None:
    found = find_upward_imports(path.read_text("utf-8"), module_name(path), path.name == "__init__.py")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("xmodel.records", "from xmodel.datasets import words"),
        ("xmodel.errors", "from .records import Words"),
        ("xmodel.datasets.words", "import xmodel.alignment.spans"),
        ("xmodel.datasets.words", "from ..alignment import spans"),
        ("xmodel.alignment.spans", "def f():\n    from xmodel.pairing import matching"),
        ("xmodel.alignment.spans", "from xmodel import cli"),
        ("xmodel.alignment.spans", "from .. import report"),
        ("xmodel.alignment.spans", "from xmodel import align"),
        ("xmodel.alignment.spans", "import importlib\nimportlib.import_module('xmodel.cli')"),
        ("xmodel.alignment.spans", "import importlib\nimportlib.import_module('..cli', __package__)"),
        ("xmodel.helpers", ""),
    ],
)
def test_an_upward_import_is_found(module: str, source: str) -> None:
    assert len(find_upward_imports(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("xmodel.alignment.groups", "from .spans import a\nfrom ..records import Words\nimport numpy"),
        ("xmodel.alignment.groups", "from xmodel.alignment.spans import a\nfrom xmodel import records"),
        ("xmodel.cli", "from xmodel import __version__\nfrom xmodel.report import page"),
        ("xmodel.datasets.corpus", "import datasets\nfrom report import x"),
    ],
)
def test_a_downward_import_is_fine(module: str, source: str) -> None:
    assert find_upward_imports(source, module) == []


def test_a_package_resolves_its_relative_imports_from_itself() -> None:
    assert find_upward_imports("from .spans import a", "xmodel.alignment", is_package=True) == []
    assert find_upward_imports("from ..pairing import a", "xmodel.alignment", is_package=True)


def test_the_package_has_at_most_20_public_names_and_every_one_exists() -> None:
    import xmodel

    names = public_names()
    assert len(names) == len(set(names)) <= 20, f"{len(names)} public names"
    for name in names:
        assert getattr(xmodel, name) is not None


def test_the_package_only_re_exports() -> None:
    source = (PACKAGE / "__init__.py").read_text("utf-8")
    assert find_work_in_init(source) == []
    bound = {
        alias.asname or alias.name
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("xmodel"))
        for alias in node.names
    }
    assert {name for name in bound if not name.startswith("_")} <= set(public_names())


@pytest.mark.parametrize(
    "source", ["print(1)", "class A: pass", "def f(): pass", "x = 1", "for _ in (): pass"]
)
def test_work_on_import_is_found(source: str) -> None:
    assert len(find_work_in_init('"""Doc."""\nfrom .a import b\n__all__ = ["b"]\n' + source)) == 1


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_file_holds_two_concepts(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= 400, (
        f"{path.relative_to(ROOT)} has {lines} lines: more than 400 is two concepts, split it"
    )


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_nothing_unsafe_is_called(path: Path) -> None:
    found = find_unsafe_calls(path.read_text("utf-8"))
    assert not found, f"{path.relative_to(ROOT)}: " + "; ".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "np.load(path, allow_pickle=True)",
        "def f():\n    yaml.load(text)",
        "eval(text)",
    ],
)
def test_an_unsafe_call_is_found(source: str) -> None:
    assert len(find_unsafe_calls(source)) == 1


def test_a_safe_call_is_fine() -> None:
    source = "# pickle\ntorch.load(p, weights_only=True)\nf(trust_remote_code=asked)\nyaml.safe_load(t)"
    assert find_unsafe_calls(source) == []


@pytest.mark.parametrize("arguments", [["--help"], ["words", "--help"], ["--version"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from xmodel.cli import main\n"
        f"sys.argv = ['xmodel', *{arguments!r}]\n"
        "code = 0\n"
        "try:\n"
        "    code = main()\n"
        "except SystemExit as leaving:\n"
        "    code = leaving.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr.splitlines()[-1] == "LOADED []"


def test_the_package_is_typed_and_says_so() -> None:
    assert (PACKAGE / "py.typed").is_file()
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    assert "py.typed" in data["xmodel"]
