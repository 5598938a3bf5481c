"""Tokenizers from files, folders, ids and live objects, and every way in which that can go wrong."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend

from tests.tiny_tokenizers import TINY, write_files
from xmodel import align_ids, align_text, align_texts, cut_windows, load_tokenizer
from xmodel.alignment import tokenizer as tokenizer_module
from xmodel.errors import InputError
from xmodel.records import TokenFlag


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_files(tmp_path_factory.mktemp("tokenizers"))


@pytest.mark.parametrize("kind", ["bytelevel-bpe", "gemma", "wordpiece-uncased", "sp-bpe"])
def test_a_file_its_folder_and_the_live_object_give_the_same(kind: str, files: dict[str, Path]) -> None:
    text = "Then CO₂ rose, नमस्ते in 1990."
    sources = [files[kind], files[kind].parent, str(files[kind]), TINY[kind]()]
    spans = [align_text(text, [load_tokenizer(source)]).spans[0] for source in sources]
    for other in spans[1:]:
        assert np.array_equal(other.ids, spans[0].ids)
        assert np.array_equal(other.starts, spans[0].starts)
        assert np.array_equal(other.ends, spans[0].ends)
        assert other.certificate == spans[0].certificate


def test_a_gzipped_file_is_read_as_it_is(tmp_path: Path) -> None:
    backend = TINY["gemma"]()
    assert isinstance(backend, Backend)
    path = tmp_path / "tokenizer.json.gz"
    path.write_bytes(gzip.compress(backend.to_str().encode()))
    ids = load_tokenizer(path).encode(["a whale"])[0]
    assert ids.tolist() == backend.encode("a whale", add_special_tokens=False).ids


def test_padding_and_truncation_are_switched_off_and_said_once() -> None:
    backend = TINY["wordpiece-uncased-truncates"]()
    assert isinstance(backend, Backend)
    tokenizer = load_tokenizer(backend, name="bert")
    (notice,) = tokenizer.notices
    assert "truncation at 16 tokens" in notice and "padding" in notice
    ids, counts = tokenizer.encode(["whale " * 100, "whale"])
    assert counts[0] > 16 and counts[1] == counts[0] / 100
    assert len(ids) == counts.sum()
    assert backend.truncation is not None, "the user's own object must not change"


def test_the_template_is_the_tokenizers_own() -> None:
    tokenizer = load_tokenizer(TINY["wordpiece-cased"](), name="bert")
    backend = TINY["wordpiece-cased"]()
    assert isinstance(backend, Backend)
    found = align_text("a whale", [tokenizer], special=True).spans[0]
    assert found.ids.tolist() == backend.encode("a whale", add_special_tokens=True).ids
    assert found.starts[0] == found.ends[0] == 0
    assert found.starts[-1] == found.ends[-1] == len("a whale")


def damage(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("tokenizer.json", b"", "the file is empty"),
        ("tokenizer.json", b"{", "not JSON"),
        ("tokenizer.json", b"\xff\xfe", "not JSON"),
        ("tokenizer.json", b"[]", "no 'model' entry"),
        ("tokenizer.json", b"{}", "no 'model' entry"),
        ("tokenizer.json", b'{"model": {"type": "Nothing"}}', "not a valid tokenizer.json"),
        ("tokenizer.json", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("tokenizer.json.gz", b"\x1f\x8b\x08broken", "cannot be read"),
        ("tokenizer.json.gz", b"not gzipped", "cannot be read"),
        ("x.model", b"no such model", "not a valid SentencePiece model"),
        ("x.tiktoken", b"YQ== 0\n", "tiktoken.Encoding"),
        ("x.txt", b"a", "expected a tokenizer.json"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    path = damage(tmp_path / name, content)
    with pytest.raises(InputError) as caught:
        load_tokenizer(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no/such/tokenizer.json", "there is no tokenizer at"),
        ("./nowhere", "there is no tokenizer at"),
        ("builtin:nothing", "neox-demo"),
        (42, "builtins.int came"),
        (None, "NoneType came"),
    ],
)
def test_what_is_no_tokenizer_is_refused(source: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_tokenizer(source)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no tokenizer: expected one of tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_an_id_without_a_connection_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("xmodel.alignment.loading.reaches_hub", lambda: False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no connection to the hub.*HF_HOME"):
        load_tokenizer("nobody/nothing-at-all")


def test_too_long_a_text_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer("builtin:neox-demo")
    monkeypatch.setattr(tokenizer_module, "_free_memory", lambda: 100e6)
    assert len(align_text("whale " * 1000, [tokenizer]).groups) == 1000
    with pytest.raises(InputError, match=r"a text of 2 MB is too long .* 0\.1 GB are free"):
        align_text("whale " * 300_000, [tokenizer])


@pytest.mark.parametrize("text", ["", "\ufeff", "\x00", " ", "\n\n", "\u3000"])
def test_nearly_nothing_works(text: str) -> None:
    tokenizers = [load_tokenizer(f"builtin:{name}-demo") for name in ("neox", "gemma")]
    alignment = align_text(text, tokenizers)
    assert {span.certificate.status for span in alignment.spans} == {"exact"}
    assert len(alignment.groups) == len(alignment.words) == int(bool(text) and not text.isspace())


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff"])
def test_a_lone_surrogate_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="surrogate"):
        align_text(text, [load_tokenizer("builtin:neox-demo")])


def test_wrong_ids_are_refused_or_fail_loudly() -> None:
    tokenizer = load_tokenizer("builtin:neox-demo")
    with pytest.raises(InputError, match="not in the vocabulary"):
        align_ids(["a"], [tokenizer], [[[10**6]]])
    with pytest.raises(InputError, match="not in the vocabulary"):
        align_ids(["a"], [tokenizer], [[[-1]]])
    with pytest.raises(InputError, match="row of integers"):
        align_ids(["a"], [tokenizer], [[[0.5]]])
    with pytest.raises(InputError, match="give one row"):
        align_ids(["a", "b"], [tokenizer], [[[1]]])
    with pytest.raises(InputError, match="give one for each"):
        align_ids(["a"], [tokenizer], [])
    ids = tokenizer.encode(["a whale"])[0]
    found = align_ids(["a whale", "a shark"], [tokenizer], [[ids, ids]])
    assert [c.status for c in found.certificates(0)] == ["exact", "failed"]
    assert found.failed == 1
    assert found[1].spans[0].certificate.reason
    assert len(found[0].groups) == 2 and len(found[1].groups) == 0


def test_wrong_arguments_are_refused() -> None:
    tokenizer = load_tokenizer("builtin:neox-demo")
    with pytest.raises(InputError, match="merge, split, drop"):
        align_text("a", [tokenizer], straddle="join")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="whitespace"):
        align_text("a", [tokenizer], words="spaces")
    with pytest.raises(InputError, match="no tokenizer came"):
        align_text("a", [])
    with pytest.raises(InputError, match="list of texts"):
        align_texts("a", [tokenizer])


def test_a_vocabulary_with_a_gap_is_read(tmp_path: Path) -> None:
    state = json.loads(TINY["word-level"]().to_str())  # type: ignore[attr-defined]
    word, number = max(state["model"]["vocab"].items(), key=lambda item: item[1])
    state["model"]["vocab"][word] = number + 50
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(state), encoding="utf-8")
    tokenizer = load_tokenizer(path)
    assert align_text(word, [tokenizer]).spans[0].ids.tolist() == [number + 50]
    with pytest.raises(InputError, match="not in the vocabulary"):
        align_ids([word], [tokenizer], [[[number + 10]]])


@pytest.mark.parametrize("side", ["before", "after", "both"])
def test_padding_with_the_unknown_token_has_no_bytes(side: str) -> None:
    tokenizer = load_tokenizer(TINY["llama2"](), name="llama")
    text = "The whale rose."
    ids = tokenizer.encode([text])[0]
    unknown = int(np.flatnonzero(tokenizer.spelling.flags & np.uint8(TokenFlag.UNKNOWN))[0])
    pads = [unknown] * 3
    padded = [*(pads if side != "after" else []), *ids, *(pads if side != "before" else [])]
    plain, found = (align_ids([text], [tokenizer], [[row]])[0].spans[0] for row in (ids, padded))
    own = ~(found.flags & np.uint8(TokenFlag.TEMPLATE)).astype(np.bool_)
    assert found.certificate == plain.certificate and plain.certificate.status == "exact"
    assert own.sum() == len(ids)
    assert np.array_equal(found.starts[own], plain.starts) and np.array_equal(found.ends[own], plain.ends)
    assert np.array_equal(found.starts[~own], found.ends[~own])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ids: [*ids[:100], int(ids[3]), *ids[100:]], "they part at character"),
        (lambda ids: ids[:100], "the ids end where the text goes on"),
        (lambda ids: [*ids, int(ids[3])], "ids are left at its end"),
    ],
)
def test_a_failure_says_where(change: Callable, reason: str) -> None:
    text = "The whale rose. " * 200
    for name in ("neox", "gemma"):
        tokenizer = load_tokenizer(f"builtin:{name}-demo")
        plain = align_text(text, [tokenizer]).spans[0]
        certificate = align_ids([text], [tokenizer], [[change(plain.ids)]])[0].spans[0].certificate
        assert certificate.status == "failed" and certificate.reason and reason in certificate.reason
        place = int(certificate.reason.split("character ")[1].split(",")[0])
        near = len(text) if "left" in reason else int(plain.starts[100])
        assert near <= place <= near + 8


def test_live_objects_must_be_loaded_first() -> None:
    with pytest.raises(InputError, match="what load_tokenizer returns"):
        align_text("a", ["builtin:neox-demo"])  # type: ignore[list-item]
    tokenizer = load_tokenizer("builtin:neox-demo")
    with pytest.raises(InputError, match="what load_tokenizer returns"):
        align_text("a", tokenizer)  # type: ignore[arg-type]
    assert repr(tokenizer) == "Tokenizer('builtin:neox-demo', 4096 ids)"


@pytest.mark.parametrize("limits", [{"limits": [0]}, {"limits": [2.5]}, {"limits": [5], "most_groups": 0}])
def test_impossible_windows_are_refused(limits: dict) -> None:
    alignment = align_text("a whale", [load_tokenizer("builtin:neox-demo")])
    with pytest.raises(InputError, match="whole number"):
        cut_windows(alignment, **limits)
