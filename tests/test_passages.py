"""Passages: both models read the same bytes, in the run's own ids, and the words that are said to be read."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.tiny_pair import align_pair, read_texts, write_corpus, write_pair
from tests.tiny_runs import make_rows
from xmodel.alignment.settings import PassSettings
from xmodel.alignment.setup import LoadOptions
from xmodel.alignment.shards import write_features
from xmodel.datasets.demo import find_builtin
from xmodel.errors import InputError
from xmodel.pairing.results import open_run
from xmodel.pairing.settings import PairSettings
from xmodel.run import RunFolder
from xmodel.steering.passages import choose_passages


def make_ragged():
    """Texts with every sort of whitespace, special tokens spelled out, and letters that are rewritten."""
    rng = np.random.default_rng(0)
    letters = ["cafe\u0301", "e\u0301te\u0301", "\u4e2d\u6587", "\U0001f40b!"]
    words = ["whale", "Ishmael,", "<eos>", "<|endoftext|>", *letters]
    gaps = [" ", " ", " ", "  ", "\n", "\n\n", "\u00a0", "    ", "\t", ""]
    texts = []
    for _ in range(24):
        parts = [str(rng.choice(words)) + str(rng.choice(gaps)) for _ in range(90)]
        texts.append("".join(parts) + ".")
    return texts


KINDS = {
    "words": {},
    "few documents": {"documents": 6},
    "merged": {"words": "characters", "documents": 22},
    "split": {"words": "characters", "straddle": "split", "documents": 22},
    "dropped": {"words": "characters", "straddle": "drop", "documents": 22},
    "skipped": {"skip_positions": 5, "massive": 1.2, "documents": 22},
    "tokens": {"unit": "token", "documents": 22},
    "ragged": {"texts": make_ragged},
}
"""Runs of every sort, by what is particular about them."""
LIMIT = 32
"""Tokens of a window."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For tensors as small as these, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def runs(pair, tmp_path_factory):
    """A run of each kind; that of tokens has the same model on both sides."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    twins = dataclasses.replace(pair, model_b=pair.model_a, sae_b=pair.sae_a)
    for kind, changes in KINDS.items():
        changes = dict(changes)
        texts = (
            make_ragged() if changes.pop("texts", False) else read_texts()[: changes.pop("documents", None)]
        )
        chosen = PassSettings(shard_words=300, **changes)
        own = twins if kind == "tokens" else pair
        align_pair(own, texts, folder / kind, settings=chosen, pairing=PairSettings(min_firings=3, workers=1))
        found[kind] = open_run(folder / kind)
    return found


def read_tables(run):
    """Words, documents' bytes and both models' tokens, as data frames and bytes."""
    words = run.words.to_pandas()
    texts = [text.encode() for text in run.documents["text"].to_pylist()]
    return words, texts, [run.tokens(side).to_pandas() for side in "ab"]


def find_ids(tokens, document, ids):
    """The rows of a document's tokens that have these ids, the first such place within one window."""
    own = tokens[tokens.document == document]
    listed = own.id.tolist()
    places = [p for p in range(len(listed)) if listed[p : p + len(ids)] == ids]
    return [own.iloc[place : place + len(ids)] for place in places]


def read_sides(run, passages):
    """For every side: prefix, and for every passage its rows of the tokens' table, given its first word."""
    words, texts, tokens = read_tables(run)
    found = []
    for letter, side, table in zip("ab", (passages.a, passages.b), tokens, strict=True):
        prefix = run.manifest["sides"][letter]["prefix"]
        own = []
        for number, document in enumerate(passages.documents):
            row = side.ids[number][side.mask[number]].tolist()
            assert row[: len(prefix)] == prefix
            first = words.start[passages.word_ids[passages.passage == number][0]]
            last = words.end[passages.word_ids[passages.passage == number][-1]]
            places = find_ids(table, document, row[len(prefix) :])
            own += [place for place in places if place.start.min() <= first and place.end.max() >= last][:1]
        found.append((prefix, own))
    return words, texts, found


def check_passages(run, passages, words, passage_words, half="heldout"):
    table, texts, sides = read_sides(run, passages)
    least = max(1, run.manifest["arguments"]["settings"]["skip_positions"])
    assert 20 <= len(passages.word_ids) <= words
    assert (np.diff(passages.word_ids) > 0).all() and (np.diff(passages.passage) >= 0).all()
    assert np.unique(passages.passage).tolist() == list(range(len(passages)))
    chosen = table.iloc[passages.word_ids]
    assert (chosen.split == half).all() and chosen.text.tolist() == list(passages.texts)
    assert (chosen.document.to_numpy() == passages.documents[passages.passage]).all()
    spans = []
    for side, (prefix, found) in zip((passages.a, passages.b), sides, strict=True):
        assert len(found) == len(passages)
        assert side.ids.shape[1] <= LIMIT and (side.ids[~side.mask] == 0).all()
        assert (side.mask[:, :-1] >= side.mask[:, 1:]).all()
        assert np.array_equal(side.rows, passages.passage) and (side.columns >= least).all()
        assert all(len(set(own.window)) == 1 and own.window.iloc[0] >= 0 for own in found)
        spans.append([(int(own.start.min()), int(own.end.max())) for own in found])
        for (_, word), row, column in zip(chosen.iterrows(), side.rows, side.columns, strict=True):
            assert side.mask[row, column] and not side.special[row, column]
            last = found[row].iloc[column - len(prefix)]
            text = texts[word.document]
            # The last token of a word ends with it, whitespace apart, in both models.
            assert last.start < word.end and not text[word.end : last.end].decode().strip()
            assert last.excluded != 2
    for number, ((low_a, high_a), (low_b, high_b)) in enumerate(zip(*spans, strict=True)):
        text = texts[passages.documents[number]]
        assert text[low_a:high_a].decode().strip() == text[low_b:high_b].decode().strip()
        low = min(low_a, low_b)
        assert not text[low : max(low_a, low_b)].decode().strip()
        own = table[(table.document == passages.documents[number]) & (table.end <= max(high_a, high_b))]
        own = own[own.start >= low]
        assert (own.split == half).all()
        assert (passages.passage == number).sum() <= len(own) <= passage_words
        assert not text[low : own.start.iloc[0]].decode().strip()
    return spans


@pytest.mark.parametrize("half", ["heldout", "discovery"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_both_models_read_the_same_bytes_up_to_the_words_that_are_read(runs, kind, half, data):
    words = data.draw(st.integers(20, 150))
    passage_words = data.draw(st.sampled_from([5, 12, 50]))
    seed = data.draw(st.integers(0, 5))
    found = choose_passages(runs[kind], words, passage_words=passage_words, seed=seed, half=half)
    check_passages(runs[kind], found, words, passage_words, half)


def test_ids_spell_the_text(runs):
    found = choose_passages(runs["words"], 100, passage_words=10)
    tokenizers = [
        Tokenizer.from_file(str(find_builtin(name, "tokenizer") / "tokenizer.json"))
        for name in ("neox-demo", "gemma-demo")
    ]
    for number in range(len(found)):
        spelled = [
            one.decode(side.ids[number][side.mask[number]].tolist()).strip()
            for one, side in zip(tokenizers, (found.a, found.b), strict=True)
        ]
        assert spelled[0] == spelled[1]
        last = found.texts[np.flatnonzero(found.passage == number)[-1]]
        assert spelled[0].endswith(last)


def test_bos_and_special_tokens_of_the_text_are_known(runs):
    found = choose_passages(runs["ragged"], 200, passage_words=10)
    assert found.b.special[:, 0].all() and not found.a.special[:, 0].all()
    for side, special in ((found.a, 0), (found.b, 1)):
        inside = side.mask & (np.arange(side.ids.shape[1]) > 0)
        assert np.array_equal(side.special[inside], side.ids[inside] == special)
        assert side.special[inside].any()
    assert not {"<eos>", "<|endoftext|>"} & set(found.texts)


def test_a_cut_at_any_character_would_give_the_models_different_bytes(runs):
    words, texts, tokens = read_tables(runs["split"])
    differ = 0
    for document, own in words.groupby("document"):
        for start in own.start.iloc[1:20]:
            read = [table[(table.document == document) & (table.end > start)].start.min() for table in tokens]
            differ += texts[document][read[0] :].strip() != texts[document][read[1] :].strip()
    assert differ > 20


def test_words_are_as_many_as_asked_and_equal_for_equal_seeds(runs):
    first, again, other = (choose_passages(runs["words"], 130, seed=seed) for seed in (3, 3, 4))
    assert len(first.word_ids) == 130
    for one, two in zip(vars(first.b).values(), vars(again.b).values(), strict=True):
        assert np.array_equal(one, two)
    assert first.texts == again.texts and first.texts != other.texts
    everything = choose_passages(runs["words"], 10**6)
    assert 2000 < len(everything.word_ids) < (runs["words"].words["split"].to_numpy() == "heldout").sum()


@pytest.mark.parametrize("kind", ["words", "split"])
def test_halves_share_no_token(runs, kind):
    """What is fitted on the discovery half has not seen what it is judged on, not as context either."""
    run = runs[kind]
    halves = [choose_passages(run, 10**6, passage_words=12, half=one) for one in ("heldout", "discovery")]
    assert all(len(one.word_ids) > 500 for one in halves)
    seen = [
        check_passages(run, one, 10**6, 12, half)
        for one, half in zip(halves, ("heldout", "discovery"), strict=True)
    ]
    for spans in zip(*seen, strict=True):
        places = [
            {
                (document, place)
                for document, span in zip(one.documents.tolist(), own, strict=True)
                for place in range(*span)
            }
            for one, own in zip(halves, spans, strict=True)
        ]
        assert not places[0] & places[1]


def test_passages_come_from_as_many_documents_as_there_are(runs):
    words = runs["words"].words.to_pandas()
    there = words[words.split == "heldout"].groupby("document").size()
    few = choose_passages(runs["words"], 60, passage_words=8)
    assert len(few) > 6 and len(set(few.documents)) == len(few)
    many = choose_passages(runs["words"], 600, passage_words=8)
    assert set(many.documents) == set(there.index[there > 8]) or len(set(many.documents)) == len(there)


@pytest.mark.parametrize("kind", ["words", "merged", "split", "few documents", "tokens"])
def test_a_lead_gives_the_same_words_more_context(runs, kind):
    plain = choose_passages(runs[kind], 80, passage_words=8, seed=1)
    led = choose_passages(runs[kind], 80, passage_words=8, seed=1, lead=4)
    assert np.array_equal(plain.word_ids, led.word_ids) and np.array_equal(plain.passage, led.passage)
    longer = []
    for one, two, letter in ((plain.a, led.a, "a"), (plain.b, led.b, "b")):
        prefix = len(runs[kind].manifest["sides"][letter]["prefix"])
        for number in range(len(plain)):
            short, long = (side.ids[number][side.mask[number]].tolist()[prefix:] for side in (one, two))
            assert long[len(long) - len(short) :] == short
            longer.append(len(long) - len(short))
            shift = two.columns[plain.passage == number] - one.columns[plain.passage == number]
            assert (shift == longer[-1]).all()
    by_side = np.array(longer).reshape(2, -1) > 0
    assert by_side[0].tolist() == by_side[1].tolist() and by_side.mean() > 0.3
    check_passages(runs[kind], led, 80, 12)


def test_a_lead_that_nothing_precedes_is_refused(runs):
    with pytest.raises(InputError, match="lead of 5 words"):
        choose_passages(runs["words"], 60, passage_words=1000, lead=5)


def test_words_skipped_by_the_pairing_are_context_only(pair, tmp_path):
    run = align_pair(
        pair,
        read_texts(),
        tmp_path / "run",
        pairing=PairSettings(min_firings=3, skip_words="punctuation,stop"),
    )
    run = open_run(tmp_path / "run")
    found = choose_passages(run, 100)
    assert not {"the", ",", "and", "."} & set(found.texts)
    assert len(found.word_ids) == 100 and check_passages(run, found, 100, 50)


@pytest.fixture(scope="module")
def thin(runs, tmp_path_factory):
    """The run of words with features that fire on one word in ten, at random."""
    folder = RunFolder(shutil.copytree(runs["words"].path, tmp_path_factory.mktemp("thin") / "run"))
    manifest, rng, first = folder.manifest, np.random.default_rng(0), 0
    for shard in manifest["shards"]:
        for name in shard["files"]:
            fires = (rng.random((shard["words"], 24)) < 0.1).astype(np.float32)
            content = write_features(make_rows(fires), np.arange(shard["words"]), first)
            shard["files"][name] = folder.write_bytes(name, content)
        first += shard["words"]
    folder.write_json("manifest.json", manifest)
    return open_run(folder.path)


def list_covered(run, word_ids, a, b):
    """[F] which pairs fire together on some of these words."""
    left, right = (run.features(side).toarray()[word_ids] != 0 for side in "ab")
    return (left[:, a] & right[:, b]).any(axis=0)


PAIRS = np.repeat(np.arange(24), 3), np.arange(72) % 24


def test_passages_for_ablation_cover_more_pairs(thin):
    plain = choose_passages(thin, 60, passage_words=10)
    greedy = choose_passages(thin, 60, passage_words=10, features=PAIRS)
    check_passages(thin, greedy, 60, 10)
    found, without = (list_covered(thin, one.word_ids, *PAIRS).sum() for one in (greedy, plain))
    assert found >= without + 8


def test_passages_for_ablation_are_those_that_add_most(thin):
    everything = choose_passages(thin, 10**6, passage_words=12)
    owned = [everything.word_ids[everything.passage == number] for number in range(len(everything))]
    fires = np.array([list_covered(thin, own, *PAIRS) for own in owned])
    greedy = choose_passages(thin, 24, passage_words=12, features=PAIRS)
    first = fires.sum(axis=1)
    best = {tuple(owned[place]) for place in np.flatnonzero(first == first.max())}
    chosen = [tuple(greedy.word_ids[greedy.passage == number]) for number in range(len(greedy))]
    led = [own for own in chosen if own in best]
    assert led
    covered = list_covered(thin, np.array(led[0]), *PAIRS)
    added = (fires & ~covered).sum(axis=1)
    second = [own for own in chosen if own != led[0] and len(own) > 6]
    gain = max((list_covered(thin, np.array(own), *PAIRS) & ~covered).sum() for own in second)
    assert 0.7 * added.max() <= gain <= added.max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": 19}, "19 words were asked for"),
        ({"passage_words": 1}, "passages of 1 words"),
        ({"lead": -1}, "lead came as -1"),
        ({"features": (np.array([0, 1]), np.array([0]))}, "2 features of a came and 1 of b"),
        ({"features": (np.array([0]), np.array([99]))}, "features 99 to 99 of b"),
    ],
)
def test_choices_that_make_no_sense_are_refused(runs, changes, message):
    with pytest.raises(InputError, match=message):
        choose_passages(runs["words"], **{"words": 60, **changes})


def test_a_short_corpus_is_refused_with_what_it_has(pair, tmp_path):
    corpus = write_corpus(tmp_path / "short.jsonl", ["Call me Ishmael, said he."] * 6)
    align_pair(
        pair,
        corpus,
        tmp_path / "run",
        options=LoadOptions(accept_misfit=True),
        pairing=PairSettings(min_firings=1),
    )
    with pytest.raises(InputError, match=r"has 1\d held-out words .* needs at least 20"):
        choose_passages(open_run(tmp_path / "run"), 60)


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_table_that_is_not_whole_is_told(runs, tmp_path, damage):
    folder = shutil.copytree(runs["words"].path, tmp_path / "run")
    table = folder / "tokens_b.parquet"
    if damage == "missing":
        table.unlink()
    else:
        table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"tokens_b\.parquet is {damage}"):
        choose_passages(open_run(folder), 60)
