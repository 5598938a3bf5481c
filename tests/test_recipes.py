"""The recipes behind the bundled pair: what is held out, what is trained on, what has to be beaten."""

import gzip
import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.recipes import demo_baselines, demo_models, demo_saes, demo_texts
from xmodel.datasets import demo
from xmodel.errors import InputError
from xmodel.models.saes import load_dictionary

FOLDER = Path(demo.__file__).parent


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=4),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_trigram_probabilities_sum_to_one_and_equal_a_slow_model(texts, a, b):
    documents = [np.array(text) for text in texts]
    model = demo_baselines.Trigrams(documents, 5, 4)
    found = model.probability(np.full(5, a), np.full(5, b), np.arange(5))
    assert found.sum() == pytest.approx(1)
    assert found == pytest.approx([estimate_slowly(texts, a, b, c) for c in range(5)])


def estimate_slowly(texts, a, b, c, ids=5, start=4):
    """Interpolated Kneser-Ney by its definition, with dictionaries."""
    grams = [tuple([start, start, *text][place : place + 3]) for text in texts for place in range(len(text))]
    three = Counter(grams)
    two = Counter((own[1], own[2]) for own in three)
    one = Counter(own[1] for own in two)

    def discount(counts):
        once = sum(count == 1 for count in counts.values())
        twice = sum(count == 2 for count in counts.values())
        return once / (once + 2 * twice) if once else 0.0

    d = discount(one)
    lowest = max(one[c] - d, 0) / sum(one.values()) + d * len(one) / sum(one.values()) / ids

    def interpolate(counts, context, lower):
        followers = {gram: count for gram, count in counts.items() if gram[:-1] == context}
        if not followers:
            return lower
        d, total = discount(counts), sum(followers.values())
        return max(counts[(*context, c)] - d, 0) / total + d * len(followers) / total * lower

    return interpolate(three, (a, b), interpolate(two, (b,), lowest))


def test_gzip_is_counted_in_bits_per_byte():
    texts = ["a whale " * 50, "a ship"]
    whole = "\n\n".join(texts).encode()
    assert demo_baselines.measure_gzip(texts) == len(gzip.compress(whole, 9, mtime=0)) * 8 / len(whole)


@pytest.mark.parametrize("bos", [None, 9])
def test_windows_hold_every_token_of_a_pass_at_most_once(bos):
    documents = [np.arange(start, start + 1000) for start in range(1000, 6000, 1000)]
    windows = demo_models.draw_windows(documents, bos, seed=3)
    assert windows.shape[1] == demo_models.CONTEXT
    own = windows if bos is None else windows[:, 1:]
    assert bos is None or (windows[:, 0] == bos).all()
    counts = Counter(own.flatten().tolist())
    assert set(counts.values()) == {1} and sum(counts.values()) > 4000
    assert (windows == demo_models.draw_windows(documents, bos, seed=3)).all()
    assert windows.tolist() != demo_models.draw_windows(documents, bos, seed=4).tolist()


@pytest.mark.parametrize("length", [1, 5, 128, 129, 255, 256, 257, 300, 513])
def test_the_loss_counts_every_token_once(length):
    """A model that gives every token the same probability has exactly log2 V bits a token."""

    class Uniform:
        def __call__(self, ids):
            return type("Output", (), {"logits": torch.zeros((*ids.shape, 8))})

    documents = [np.zeros(length + 1, np.int64)]
    assert demo_models.measure_loss(Uniform(), documents, 0, "cpu") == pytest.approx(3 * length)


def test_passages_are_the_text_and_no_more():
    text = demo_texts.Text("sotu", "x", ("One two. " * 400 + "End.", "Next paragraph. " * 100))
    rows = demo_texts.cut_passages([text])
    assert len(rows) > 1
    assert " ".join(" ".join(row["text"].split()) for row in rows) == " ".join(text.text.split())
    sizes = [len(row["text"].split()) for row in rows]
    assert min(sizes[:-1]) >= demo_texts.PASSAGE_WORDS and sizes[-1] >= demo_texts.PASSAGE_WORDS // 2


def test_what_is_bundled_was_held_out(shared):
    training, held_out = demo_texts.hold_out(demo_texts.read_texts(shared / "data" / "texts"))
    rows = [json.loads(line) for line in (FOLDER / "corpus.jsonl").read_text("utf-8").splitlines()]
    assert rows == demo_texts.cut_passages(held_out)
    assert 19_000 < sum(len(row["text"].split()) for row in rows) < 21_000
    # No passage stands in the training text, not even a stretch of 200 characters from its middle.
    seen = "\n".join(text.text for text in training)
    for row in rows:
        middle = len(row["text"]) // 2
        assert row["text"][middle : middle + 200] not in seen


def test_the_rivals_in_the_cards_are_right(shared):
    training, held_out = demo_texts.hold_out(demo_texts.read_texts(shared / "data" / "texts"))
    unseen = [row["text"] for row in demo_texts.cut_passages(held_out)]
    size = sum(len(text.encode()) for text in unseen)
    for name, plan in demo_models.PLANS.items():
        tokenizer, _ = demo_models.read_tokenizer(name)
        seen = demo_models.encode_texts(tokenizer, [text.text for text in training], plan.separator)
        own = [ids[:-1] for ids in demo_models.encode_texts(tokenizer, unseen, plan.separator)]
        start = tokenizer.token_to_id(plan.separator)
        bits = demo_baselines.measure_token_trigrams(seen, own, tokenizer.get_vocab_size(), start, size)
        by_bytes = demo_baselines.measure_byte_trigrams([text.text for text in training], unseen)
        card = (FOLDER / name / "README.md").read_text("utf-8")
        for rival in (bits, by_bytes, demo_baselines.measure_gzip(unseen)):
            assert f"{rival:.3f} bits per byte" in card


@pytest.fixture
def tiny_texts(tmp_path):
    """Three small collections in the form of the real ones."""
    words = (Path(__file__).with_name("tiny_corpus.txt")).read_text("utf-8").split()
    chapters = [" ".join(words[start : start + 300]) for start in range(0, 3600, 300)]
    for source in demo_texts.SOURCES:
        (tmp_path / "texts" / source).mkdir(parents=True)
    novel = "\n\n".join(f"CHAPTER {number}. Tiny.\n\n{text}" for number, text in enumerate(chapters[:6], 1))
    (tmp_path / "texts" / "moby-dick" / "book.txt").write_text(novel, "utf-8")
    for title in (*demo_texts.HELD_OUT_ADDRESSES, "1999_nobody"):
        (tmp_path / "texts" / "sotu" / f"{title}.txt").write_text(chapters[6], "utf-8")
    verses = "\n".join(f"Ge{number}:1 {text}" for number, text in enumerate(chapters[7:], 1))
    (tmp_path / "texts" / "kjv" / "kjv.txt").write_text(verses, "utf-8")
    return tmp_path / "texts"


@pytest.mark.parametrize("name", demo.BUILTIN_MODELS)
def test_a_tiny_build_goes_through_resumes_and_refuses_other_texts(name, tiny_texts, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda program: None)  # Compiling would take longer than all of it.
    monkeypatch.setattr(demo_texts, "HELD_OUT_WORDS", {"moby-dick": 300, "kjv": 300})
    monkeypatch.setitem(demo_models.PLANS, name, replace(demo_models.PLANS[name], passes=4.0, batch=2))
    plan = demo_saes.Plan("tiny-l1", 1, 64, seed=1, k=8, tokens=4 * 512)
    monkeypatch.setitem(demo_saes.PLANS, name, (plan,))
    monkeypatch.setattr(demo_saes, "BATCH", 512)
    arguments = (name, tiny_texts, tmp_path, "cpu")
    demo_models.train(*arguments, demo_models.PACKAGE)
    facts = json.loads((tmp_path / f"{name}.json").read_text())
    assert facts["steps"] > 10 and 1 < facts["held_out_bits_per_byte"] < 6
    demo_saes.train_missing(*arguments)
    measured = json.loads((tmp_path / "tiny-l1" / "measured.json").read_text())
    assert measured["l0"] > 0 and measured["tokens"] > 300
    assert load_dictionary(str(tmp_path / "tiny-l1")).info.model == f"builtin:{name}"

    # What is finished is left alone, also from a checkpoint at the end; other texts are refused everywhere.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    demo_models.train(*arguments, demo_models.PACKAGE)
    demo_saes.train_missing(*arguments)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    (tmp_path / f"{name}.json").unlink()
    demo_models.train(*arguments, demo_models.PACKAGE)
    again = json.loads((tmp_path / f"{name}.json").read_text())
    assert again["held_out_bits_per_byte"] == facts["held_out_bits_per_byte"]
    (tiny_texts / "sotu" / "1999_nobody.txt").write_text("Another text. " * 300, "utf-8")
    with pytest.raises(SystemExit, match="made from other texts"):
        demo_models.train(*arguments, demo_models.PACKAGE)
    with pytest.raises(SystemExit, match="made from other texts"):
        demo_saes.train_missing(*arguments)
    (tmp_path / f"{name}.json").unlink()
    with pytest.raises(SystemExit, match="made from other texts"):
        demo_models.train(*arguments, demo_models.PACKAGE)


def test_a_killed_training_ends_as_an_unbroken_one(tiny_texts, tmp_path, monkeypatch):
    name, checkpoints = "neox-demo", []
    monkeypatch.setattr("shutil.which", lambda program: None)
    monkeypatch.setattr(demo_texts, "HELD_OUT_WORDS", {"moby-dick": 300, "kjv": 300})
    monkeypatch.setitem(demo_models.PLANS, name, replace(demo_models.PLANS[name], passes=4.0, batch=2))
    monkeypatch.setattr(demo_models, "SAVED", 7)
    measure = demo_models.measure_loss

    def die_at_the_third(*arguments, **options):
        checkpoints.append(1)
        if len(checkpoints) == 3:
            raise KeyboardInterrupt
        return measure(*arguments, **options)

    for folder in ("unbroken", "killed"):
        (tmp_path / folder).mkdir()
    demo_models.train(name, tiny_texts, tmp_path / "unbroken", "cpu", demo_models.PACKAGE)
    monkeypatch.setattr(demo_models, "measure_loss", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        demo_models.train(name, tiny_texts, tmp_path / "killed", "cpu", demo_models.PACKAGE)
    assert not (tmp_path / "killed" / f"{name}.json").exists()
    demo_models.train(name, tiny_texts, tmp_path / "killed", "cpu", demo_models.PACKAGE)
    weights = [tmp_path / folder / name / "model.safetensors" for folder in ("unbroken", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_two_processes_do_not_train_the_same_model(tmp_path):
    lock = partial(demo_models.lock_model, "neox-demo", tmp_path)
    with lock(), pytest.raises(InputError, match="another process"), lock():
        pass
    with lock():
        pass
