"""Contrast sets and the vectors they give, against passes of the whole model one prompt at a time."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from tests.model_helpers import EVERY_KIND, PLACES, load, read_by_hand
from xmodel.alignment.loading import load_tokenizer
from xmodel.errors import InputError
from xmodel.models.language import load_language_model
from xmodel.steering.contrasts import BATCH, ContrastSet, compute_contrast, load_contrasts
from xmodel.steering.vectors import SteeringVector

NAMES = ["past-present", "plural-singular", "first-third", "sea-land", "question-statement"]


def make_tokenizer():
    """Words w0, w1, ... with the ids 3, 4, ..., which every tiny model knows."""
    backend = Backend(models.WordLevel({f"w{n}": n + 3 for n in range(80)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    return load_tokenizer(backend, name="words")


def make_prompts(count, seed):
    rng = np.random.default_rng(seed)
    return tuple(" ".join(f"w{n}" for n in rng.integers(80, size=rng.integers(1, 12))) for _ in range(count))


def average_by_hand(model, prompts, prefix):
    path, places = PLACES[model.name]
    inner, side = places["hook_resid_post"]
    total = 0.0
    for prompt in prompts:
        ids = torch.tensor([[*prefix, *(int(word[1:]) + 3 for word in prompt.split())]])
        total += read_by_hand(model.module, f"{path}.1{inner}", side, ids)[0, -1].double().numpy()
    return total / len(prompts)


@EVERY_KIND
def test_a_contrast_is_the_difference_of_means_over_single_passes(kind):
    model, tokenizer = load(kind), make_tokenizer()
    # More prompts than fit one batch, of many lengths, and not as many on both sides.
    own = ContrastSet("planted", "", make_prompts(BATCH + 5, 1), make_prompts(7, 2))
    for prefix in ((), (2,)):
        vector = compute_contrast(model, tokenizer, "blocks.1.hook_resid_post", own, prefix)
        slow = average_by_hand(model, own.positive, prefix) - average_by_hand(model, own.negative, prefix)
        np.testing.assert_allclose(vector.values, slow, atol=2e-5, rtol=1e-4)
        assert (vector.site, vector.model, vector.name) == ("blocks.1.hook_resid_post", kind, "planted")
        swapped = ContrastSet("planted", "", own.negative, own.positive)
        assert compute_contrast(model, tokenizer, vector.site, swapped, prefix) == -vector


def test_any_site_can_be_contrasted():
    model, tokenizer = load("llama3"), make_tokenizer()
    own = ContrastSet("planted", "", make_prompts(3, 1), make_prompts(3, 2))
    assert compute_contrast(model, tokenizer, "blocks.0.mlp.hook_post", own).width == 40
    with pytest.raises(InputError, match="out of range"):
        compute_contrast(model, tokenizer, "blocks.9.hook_resid_post", own)


def test_prompts_that_cannot_be_read_or_do_not_differ_are_told():
    model, tokenizer = load("gpt2"), make_tokenizer()
    site = "blocks.1.hook_resid_post"
    good = make_prompts(2, 1)
    with pytest.raises(
        InputError, match=r"'w1 w1.*has 70 tokens of words: expected at least one and at most 63"
    ):
        compute_contrast(model, tokenizer, site, ContrastSet("long", "", good, ("w1 " * 70,)), (2,))
    with pytest.raises(InputError, match="has 0 tokens of words"):
        compute_contrast(model, tokenizer, site, ContrastSet("empty", "", (" ",), good), (2,))
    with pytest.raises(InputError, match="'same' are the same for gpt2 at"):
        compute_contrast(model, tokenizer, site, ContrastSet("same", "", good, good))
    # What the first block reads at a last word depends on that word and its position alone.
    ends = ContrastSet("ends", "", ("w1 w9",), ("w2 w9",))
    with pytest.raises(InputError, match="expected prompts that differ at or before"):
        compute_contrast(model, tokenizer, "blocks.0.hook_resid_pre", ends)
    assert compute_contrast(model, tokenizer, "blocks.0.hook_resid_post", ends).norm > 0


def test_the_bundled_sets_are_minimal_pairs():
    sets = load_contrasts()
    assert [one.name for one in sets] == NAMES
    for one in sets:
        assert one.description and len(one.positive) == len(one.negative) >= 12
        assert len({*one.positive, *one.negative}) == 2 * len(one.positive)
        for first, second in zip(one.positive, one.negative, strict=True):
            assert first.split()[-1] == second.split()[-1], (first, second)


def test_the_bundled_sets_say_something_to_the_bundled_model():
    """A vector from half of the pairs tells the sides of the others apart; that of another set does not."""
    model, tokenizer = load_language_model("builtin:neox-demo"), load_tokenizer("builtin:neox-demo")
    site = "blocks.2.hook_resid_post"
    own, foreign = [], []
    halves = {}
    for one in load_contrasts():
        halves[one.name] = compute_contrast(
            model, tokenizer, site, ContrastSet(one.name, "", one.positive[::2], one.negative[::2])
        )
    for one in load_contrasts():
        for first, second in zip(one.positive[1::2], one.negative[1::2], strict=True):
            difference = compute_contrast(
                model, tokenizer, site, ContrastSet("pair", "", (first,), (second,))
            )
            for name, half in halves.items():
                right = float(difference.values @ half.values) > 0
                (own if name == one.name else foreign).append(right)
    assert np.mean(own) > 0.85
    assert 0.35 < np.mean(foreign) < 0.65


def test_files_of_ones_own_are_read(tmp_path):
    yaml, lines = tmp_path / "mine.yaml", tmp_path / "mine.jsonl"
    yaml.write_text("calm:\n  description: a mood\n  positive: [be still, rest]\n  negative: [hurry]\n")
    assert load_contrasts(yaml) == [ContrastSet("calm", "a mood", ("be still", "rest"), ("hurry",))]
    rows = [
        {"positive": "a", "negative": "b", "set": "letters"},
        {"positive": "c", "negative": "d"},
        {"positive": "é", "negative": "f", "set": "letters"},
    ]
    lines.write_text("\r\n".join(map(json.dumps, rows)) + "\n\n")
    assert load_contrasts(lines) == [
        ContrastSet("letters", "", ("a", "é"), ("b", "f")),
        ContrastSet("mine", "", ("c",), ("d",)),
    ]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.yaml", "", "not a mapping"),
        ("a.yaml", "[a, b]", "not a mapping"),
        ("a.yaml", "calm: [a", "not valid YAML"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("a.yaml", "calm: [a, b]", "has \\['a', 'b'\\]: expected positive and negative"),
        ("a.yaml", "calm: {positive: [a]}", "has positive: expected"),
        ("a.yaml", "calm: {positive: [a], negative: [b], other: c}", "has positive, negative, other"),
        ("a.yaml", "calm: {positive: a, negative: [b]}", "positive side .* is 'a': expected a list"),
        ("a.yaml", "calm: {positive: [a], negative: []}", r"negative side .* is \[\]"),
        ("a.yaml", "calm: {positive: [no], negative: [b]}", "has False where a prompt"),
        ("a.yaml", "calm: {positive: [a], negative: ['  ']}", "has '  ' where a prompt"),
        ("a.jsonl", "", "has no contrast set"),
        ("a.jsonl", '{"positive": "a"}', "line 1 .* has no pair"),
        ("a.jsonl", '{"positive": "a", "negative": "b"}\nx', "line 2 .* not valid JSON"),
        ("a.jsonl", '["a", "b"]', "line 1 .* has no pair"),
        ("a.jsonl", '{"positive": "a", "negative": 3}', "has 3 where a prompt"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, name, content, told):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=told):
        load_contrasts(path)


def test_files_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\xff")
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / "a.yaml"):
        with pytest.raises(InputError, match="cannot be read"):
            load_contrasts(path)


def test_contrasts_are_values_that_add_up():
    model, tokenizer = load("neox"), make_tokenizer()
    site = "blocks.0.hook_resid_post"
    first, second, third = (make_prompts(4, seed) for seed in (1, 2, 3))
    ab, bc, ac = (
        compute_contrast(model, tokenizer, site, ContrastSet(name, "", *sides))
        for name, sides in (("ab", (first, second)), ("bc", (second, third)), ("ac", (first, third)))
    )
    total = ab + bc
    assert isinstance(total, SteeringVector) and total.model == "neox"
    np.testing.assert_allclose(total.values, ac.values, atol=1e-5)
