"""What all tests share: the real tokenizers and texts, and how many examples a law is tried on."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# On CI the examples depend on the code alone, so that a commit passes or fails for good; elsewhere, and in
# `make study`, they are new every time. A failure prints the line that reproduces it.
EXAMPLES = int(os.environ.get("XMODEL_LAW_EXAMPLES", "100"))
COMMON = {
    "max_examples": EXAMPLES,
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("xmodel", **COMMON)
settings.register_profile("xmodel-ci", **COMMON, derandomize=True, database=None)
on_ci = os.environ.get("CI", "") not in ("", "0", "false")
settings.load_profile("xmodel-ci" if on_ci else "xmodel")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real tokenizers and texts: $XMODEL_SHARED, or `shared` beside the checkout.

    A test that asks for it is marked `shared` by itself.
    """
    folder = Path(os.environ.get("XMODEL_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        missing = f"no real tokenizers and texts: {folder / 'data'} is not a folder (set XMODEL_SHARED)"
        if os.environ.get("XMODEL_REQUIRE_SHARED") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return folder


@pytest.fixture(scope="session")
def pair(shared: Path) -> Path:
    """The folder with two real models, as shared/tools/real_pair.py writes it: $XMODEL_PAIR, or `.pair`."""
    folder = Path(os.environ.get("XMODEL_PAIR") or ROOT / ".pair")
    if not (folder / "gemma-3-270m" / "tokenizer.json").is_file():
        missing = (
            f"no real pair of models in {folder}: run `python {shared}/tools/real_pair.py {folder}` (or set "
            "XMODEL_PAIR)"
        )
        if os.environ.get("XMODEL_REQUIRE_SHARED") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)
