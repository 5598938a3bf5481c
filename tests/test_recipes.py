"""The recipes behind the bundled pair: what is held out, what is trained on, what has to be beaten."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.recipes import demo_baselines, demo_models, demo_texts
from xmodel.datasets import demo

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
    titles = {(text.source, text.title) for text in training}
    assert not titles & {(text.source, text.title) for text in held_out}
    # No passage stands in the training text, not even a stretch of 200 characters from its middle.
    seen = "\n".join(text.text for text in training)
    for row in rows:
        middle = len(row["text"]) // 2
        assert row["text"][middle : middle + 200] not in seen


def test_the_trigrams_in_the_cards_are_right(shared):
    training, held_out = demo_texts.hold_out(demo_texts.read_texts(shared / "data" / "texts"))
    unseen = [row["text"] for row in demo_texts.cut_passages(held_out)]
    size = sum(len(text.encode()) for text in unseen)
    for name, plan in demo_models.PLANS.items():
        tokenizer, _ = demo_models.read_tokenizer(name)
        seen = demo_models.encode_texts(tokenizer, [text.text for text in training], plan.separator)
        own = [ids[:-1] for ids in demo_models.encode_texts(tokenizer, unseen, plan.separator)]
        start = tokenizer.token_to_id(plan.separator)
        bits = demo_baselines.measure_token_trigrams(seen, own, tokenizer.get_vocab_size(), start, size)
        assert f"{bits:.3f} bits per byte" in (FOLDER / name / "README.md").read_text("utf-8")
