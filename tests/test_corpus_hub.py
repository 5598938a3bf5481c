"""Datasets of the hub: what is streamed, and what is said when a dataset or the connection is not there."""

from pathlib import Path

import pytest

from tests.corpus_helpers import names, texts, write, write_rows
from xmodel.datasets.corpus import open_corpus
from xmodel.errors import InputError


@pytest.fixture
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The library leaves lock files in its cache; these tests leave none in the user's."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like a dataset of the hub: two configurations, one of them without `train`."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: first\n  data_files: a.jsonl\n- config_name: second\n"
        "  data_files:\n  - split: validation\n    path: b.jsonl\n---\n"
    )
    write_rows(folder / "a.jsonl", [{"text": "one", "body": "1"}, {"text": "", "body": ""}, {"text": "two"}])
    write_rows(folder / "b.jsonl", [{"text": "three"}])
    return folder


@pytest.mark.usefixtures("private_cache")
def test_a_dataset_is_streamed(dataset: Path) -> None:
    corpus = open_corpus(f"hf:{dataset}:first")
    assert texts(corpus) == texts(corpus) == ["one", "two"]
    assert names(corpus) == [f"hf:{dataset}:first:1", f"hf:{dataset}:first:3"]
    assert texts(open_corpus(f"hf:{dataset}:second:validation")) == ["three"]
    assert texts(open_corpus(f"hf:{dataset}:first:train", text_column="body")) == ["1"]


@pytest.mark.usefixtures("private_cache")
@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("", ["Config name is missing", "first", "second"]),
        (":third", ["third", "first", "second"]),
        (":second", ["no split 'train'", "validation"]),
        (":second:test", ["no split 'test'", "validation", ":second:validation"]),
    ],
)
def test_an_unknown_configuration_or_split_names_the_known(
    dataset: Path, rest: str, words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        open_corpus(f"hf:{dataset}{rest}")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.usefixtures("private_cache")
def test_a_dataset_without_the_column_is_refused(dataset: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'nope'.*'text'"):
        texts(open_corpus(f"hf:{dataset}:first", text_column="nope"))


@pytest.mark.usefixtures("private_cache")
def test_a_dataset_that_breaks_off_is_refused(dataset: Path, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", b'{"text": "one"}\n{"text": \n')
    with pytest.raises(InputError, match=r"could not be read any further"):
        texts(open_corpus(f"hf:{tmp_path}"))


def test_no_connection_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(InputError, match="no connection"):
        open_corpus("hf:some/dataset")


def test_an_unusable_dataset_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="hf:a b c cannot be read"):
        open_corpus("hf:a b c")
