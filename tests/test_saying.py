"""What models say and which features rise under a push, against whole passes with a hook and plain sums."""

import shutil
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import pearsonr
from torch import nn

from tests.steered_runs import FEW, choose, deep, one_thread, run  # noqa: F401 (fixtures)
from xmodel.pairing.results import open_run
from xmodel.steering.collecting import Collector
from xmodel.steering.doses import describe_doses, study_doses
from xmodel.steering.mapping import fit_session_map
from xmodel.steering.reinitialising import reinitialise_blocks
from xmodel.steering.saying import describe_saying, give_examples, study_saying
from xmodel.steering.session import open_session
from xmodel.steering.specificity import carry_linearly, study_rises
from xmodel.steering.transfers import collect_responses, compare_responses

CHOSEN = np.array([0, 2, 5])
DOSE = 0.25


@pytest.fixture(scope="module")
def collector(run, tmp_path_factory):
    copy = open_run(shutil.copytree(run.path, tmp_path_factory.mktemp("studies") / "run"))
    return Collector(open_session(copy, choose()), lambda *_: None)


@pytest.fixture(scope="module")
def session(collector):
    return collector.session


@pytest.fixture(scope="module")
def curves(collector):
    return study_doses(collector, CHOSEN)


@pytest.fixture(scope="module")
def saying(collector):
    return study_saying(collector)


BLOCKS = ("gpt_neox.layers", "model.layers")
NORMS = ("gpt_neox.final_layer_norm", "model.norm")


def push(session, number, vector, strength, *, at_site=1.0, at_end=0.0):
    """[N, V] logits and [N, d] activations at the site, at the words' last tokens, in whole passes.

    The step is added so many times at the site, and again at what the model's last norm reads.
    """
    side, own = session.loaded[number], (session.passages.a, session.passages.b)[number]
    blocks = side.model.module.get_submodule(BLOCKS[number])
    last = side.model.module.get_submodule(NORMS[number])
    ids, mask = torch.from_numpy(own.ids), torch.from_numpy(own.mask)
    where = mask.clone()
    where[:, 0] = False
    where &= ~torch.from_numpy(own.special)
    steps = where[..., None] * torch.from_numpy(vector) * (strength * session.sides[number].scale)
    found = []

    def change(_, __, output):
        x = output[0] if isinstance(output, tuple) else output
        changed = x + at_site * steps
        found.append(changed)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    with ExitStack() as hooks, torch.no_grad():
        hooks.callback(blocks[1].register_forward_hook(change).remove)
        hooks.callback(
            last.register_forward_pre_hook(lambda _, args: (args[0] + at_end * steps, *args[1:])).remove
        )
        logits = side.model.module(ids, attention_mask=mask.long(), use_cache=False).logits
    rows, columns = own.rows[session.kept], own.columns[session.kept]
    return logits[rows, columns].double().numpy(), found[0][rows, columns]


def take_vectors(session, number, signed=True):
    """[F, d] unit decoder rows of the pairs' features."""
    features = (session.pairs.a, session.pairs.b)[number].tolist()
    rows = session.loaded[number].dictionary.decoder[features].double().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows * (session.sign[:, None] if number and signed else 1)).astype(np.float32)


@pytest.mark.parametrize("number", [0, 1])
def test_next_token_kl_is_the_mean_over_words_and_both_signs(number, session, curves):
    clean = log_softmax(push(session, number, take_vectors(session, number)[0], 0.0)[0], axis=1)
    for row, pair in enumerate(CHOSEN):
        for column, dose in enumerate(FEW["curve_doses"]):
            own = []
            for sign in (1, -1):
                pushed = push(session, number, take_vectors(session, number)[pair], sign * dose)[0]
                own.append((np.exp(clean) * (clean - log_softmax(pushed, axis=1))).sum(axis=1).mean())
            assert curves.kl[number, row, column] == pytest.approx(np.mean(own), rel=1e-3, abs=1e-7)


def test_curves_are_transfers_at_every_dose_at_the_middle_depth(session, curves):
    rows, place = session.rows, session.settings.middle
    first, second = (
        collect_responses(
            session.sides[number],
            session.directions[number].vectors[rows[number][CHOSEN]],
            FEW["curve_doses"],
        )
        for number in range(2)
    )
    odd = compare_responses(first, second).odd[place :: len(FEW["depths"])]
    assert curves.odd == pytest.approx(odd, abs=1e-4)
    cells = slice(place, None, len(FEW["depths"]))
    for number, own in enumerate((first, second)):
        norms = np.sqrt(2) * np.linalg.norm(own.odd[:, cells], axis=2)
        assert curves.norms[number] == pytest.approx(norms, rel=1e-3)
        logs = np.log(norms[:, :2]), np.log(FEW["curve_doses"][:2])
        slopes = (logs[0][:, 1] - logs[0][:, 0]) / (logs[1][1] - logs[1][0])
        assert (np.abs(curves.slopes[number] - slopes) < 0.3).all()
    told = describe_doses(curves, session.sign[CHOSEN])
    assert np.array(told["transfer"]) == pytest.approx(
        np.einsum("jnn->nj", odd) * session.sign[CHOSEN, None], abs=1e-4
    )
    assert told["pairs"] == CHOSEN.tolist() and told["doses"] == list(FEW["curve_doses"])


def test_matched_doses_have_equal_kl_and_transfers_are_those_at_them(session, curves):
    """The primary dose of A; for B the dose between two measured ones with its KL."""
    column = FEW["curve_doses"].index(DOSE)
    doses = curves.exchange.doses[:, column]
    reached = np.isfinite(doses)
    assert reached.any() and curves.matched_pairs.tolist() == CHOSEN[reached].tolist()
    for row in np.flatnonzero(reached):
        logs = np.log(curves.kl[1, row]), np.log(FEW["curve_doses"])
        slow = np.exp(np.interp(np.log(curves.kl[0, row, column]), *logs))
        assert doses[row] == pytest.approx(slow, rel=1e-3)
    if reached.sum() < 2:
        assert curves.matched is None
        return
    responses = []
    for number, own in enumerate((np.full((reached.sum(), 1), DOSE), doses[reached, None])):
        side = session.place(number, reads=(session.reads[number][session.settings.middle],))
        vectors = session.directions[number].vectors[session.rows[number][CHOSEN[reached]]]
        responses.append(collect_responses(side, vectors, own))
    assert curves.matched == pytest.approx(compare_responses(*responses).odd[0], abs=1e-4)


def measure_slowly(session, number, ids, pair, **ways):
    """[V] the odd change of the log probabilities over some tokens, in the mean over words."""
    vector = take_vectors(session, number)[pair]
    logs = [log_softmax(push(session, number, vector, s, **ways)[0][:, ids], axis=1) for s in (DOSE, -DOSE)]
    return (logs[0] - logs[1]).mean(axis=0) / 2


def correlate_slowly(first, second):
    return np.array([[pearsonr(one, other)[0] for other in second] for one in first])


def test_next_word_effects_are_odd_changes_over_shared_words(session, saying):
    """Of what the layers make of a push: its own copy is taken away before the last norm."""
    shared = saying.shared
    assert len(shared) > 100 and set(shared.texts) <= set(session.run.words["text"].to_pylist())
    for number, ids in enumerate((shared.ids_a, shared.ids_b)):
        names = [session.loaded[number].tokenizer.describe_id(int(one)).decode().strip() for one in ids[:50]]
        assert names == list(shared.texts[:50])
        for pair in (1, 4):
            slow = measure_slowly(session, number, ids, pair, at_end=-1)
            assert saying.effects[number][pair] == pytest.approx(slow, rel=1e-2, abs=1e-4)
            whole = measure_slowly(session, number, ids, pair)
            assert np.abs(whole - slow).max() > 0.05
    assert saying.similarity == pytest.approx(correlate_slowly(*saying.effects), abs=1e-6)


def test_the_copy_alone_is_a_push_that_no_layer_reads(session, saying):
    ids = saying.shared.ids_a, saying.shared.ids_b
    pairs = range(len(session.pairs))
    slow = [
        [measure_slowly(session, number, ids[number], pair, at_site=0, at_end=1) for pair in pairs]
        for number in range(2)
    ]
    assert saying.copy_alone == pytest.approx(correlate_slowly(*slow), abs=1e-4)
    assert np.abs(saying.copy_alone - saying.similarity).max() > 0.05


def test_random_layers_have_effects_of_their_own(session, saying, monkeypatch):
    """Whole passes of models whose later blocks are exchanged for those of the first draw."""
    effects = []
    for number, ids in enumerate((saying.shared.ids_a, saying.shared.ids_b)):
        model = session.loaded[number].model
        seed = int(np.random.SeedSequence([session.settings.seed, 4, number]).generate_state(1)[0])
        path, name = BLOCKS[number].split(".")
        decoder = model.module.get_submodule(path)
        blocks = nn.ModuleList([*getattr(decoder, name)[:2], *reinitialise_blocks(model, 2, seed)])
        with monkeypatch.context() as exchanged:
            exchanged.setitem(decoder._modules, name, blocks)
            effects.append(
                [measure_slowly(session, number, ids, p, at_end=-1) for p in range(len(session.pairs))]
            )
    assert saying.reinitialised == pytest.approx(correlate_slowly(*effects), abs=1e-3)


def test_without_draws_there_are_no_effects_of_random_layers(collector, saying):
    few = replace(collector.session, settings=replace(collector.session.settings, reinit=0))
    found = study_saying(Collector(few, lambda *_: None))
    assert found.reinitialised is None and describe_saying(collector, found)["reinitialised"] is None
    assert np.array_equal(found.similarity, saying.similarity)


def test_agreement_of_next_words_is_told_as_retrieval(collector, saying):
    told = describe_saying(collector, saying)
    s = saying.similarity
    off = s[~np.eye(len(s), dtype=bool)]
    assert told["mean_diagonal"] == pytest.approx(np.diag(s).mean())
    assert told["mean_off_diagonal"] == pytest.approx(off.mean())
    assert told["top1"] == (s.argmax(axis=1) == np.arange(len(s))).mean()
    assert told["auroc"] == pytest.approx((np.diag(s)[:, None] > off).mean())
    assert told["shared_words"] == len(saying.shared) and told["dose"] == DOSE
    assert told["pairs"] == pytest.approx(np.diag(s)) and 0 < told["p"] <= 1
    for name in ("copy_alone", "reinitialised"):
        other = getattr(saying, name)
        assert told[name]["mean_diagonal"] == pytest.approx(np.diag(other).mean())
        assert told[name]["mean_off_diagonal"] == pytest.approx(other[~np.eye(len(s), dtype=bool)].mean())
        assert told[name]["top1"] == (other.argmax(axis=1) == np.arange(len(s))).mean()
        assert 0 < told[name]["p"] <= 1 and told[name]["chance1"] == 1 / len(s)


def test_examples_say_what_both_models_say_next(collector, session, saying):
    chosen = np.array([3, 0])
    found = give_examples(collector, chosen, saying)
    counts = np.bincount(session.strata)
    longest = np.argsort(-counts, kind="stable")
    words = [int(np.flatnonzero(session.strata == longest[one % len(counts)])[-1]) for one in range(2)]
    for example, pair, word in zip(found, chosen.tolist(), words, strict=True):
        assert (example["pair"], example["feature_a"]) == (pair, session.pairs.a[pair])
        assert example["feature_b"] == session.pairs.b[pair]
        assert example["text"].endswith(session.passages.texts[session.kept[word]])
        assert example["doses"] == [-0.5, 0.0, 0.5] and len(example["text"].encode()) <= 160
        for number, letter in enumerate("ab"):
            tokenizer = session.loaded[number].tokenizer
            vector = take_vectors(session, number)[pair]
            for strength, listed in zip(example["doses"], example[f"next_{letter}"], strict=True):
                p = softmax(push(session, number, vector, strength)[0][word])
                best = np.argsort(-p)[: len(listed)]
                assert [one["probability"] for one in listed] == pytest.approx(p[best].tolist(), rel=1e-3)
                spelled = tokenizer.describe_id(int(best[0]))
                assert listed[0]["text"] == spelled.decode("utf-8", "backslashreplace")
            raised = np.argsort(-saying.effects[number][pair])[:6]
            assert example[f"raised_{letter}"] == [saying.shared.texts[one] for one in raised]
    assert "raised_a" not in give_examples(collector, chosen[:1], None)[0]


def test_rises_are_changes_of_the_features_that_the_dictionary_encodes(collector, session):
    linear = fit_session_map(session)
    found = study_rises(collector, linear)
    vectors = {
        "a": (0, take_vectors(session, 0)),
        "b": (1, take_vectors(session, 1)),
        "b_linear": (1, carry_linearly(take_vectors(session, 0), linear)),
    }
    for name, (number, own) in vectors.items():
        dictionary = session.loaded[number].dictionary
        features = np.unique((session.pairs.a, session.pairs.b)[number])
        norms = np.linalg.norm(dictionary.decoder[features].double().numpy(), axis=1)
        clean = dictionary.encode(push(session, number, own[0], 0.0)[1]).double().mean(0).numpy()[features]
        told = found[name]
        assert told["of"] == len(features)
        for pair, one in enumerate(told["pairs"]):
            pushed = dictionary.encode(push(session, number, own[pair], DOSE)[1])
            rises = pushed.double().mean(0).numpy()[features] - clean
            place = int(np.flatnonzero(features == (session.pairs.a, session.pairs.b)[number][pair])[0])
            assert one["feature"] == features[place]
            assert one["own"] == pytest.approx(rises[place], rel=1e-3, abs=1e-4)
            assert one["others_mean"] == pytest.approx(np.delete(rises, place).mean(), rel=1e-2, abs=1e-4)
            scaled = rises * norms
            assert one["rank"] == 1 + (np.delete(scaled, place) >= scaled[place]).sum()
            assert one["top"][0][0] == features[scaled.argmax()]
        ranks = np.array([one["rank"] for one in told["pairs"]])
        assert told["first"] == (ranks == 1).mean() and told["median_rank"] == np.median(ranks)
    # The dictionary's features are orthogonal directions: a push raises its own most.
    assert found["a"]["first"] == 1 and found["b"]["first"] == 1


def test_vocabularies_that_share_no_word_have_no_next_words(collector, monkeypatch):
    from xmodel.steering import saying

    nothing = replace_shared(saying.find_shared_words)
    monkeypatch.setattr(saying, "find_shared_words", nothing)
    assert study_saying(collector) is None


def replace_shared(find):
    """As of two languages: two words in common."""

    def find_few(*given, **options):
        found = find(*given, **options)
        return replace(found, texts=found.texts[:2], ids_a=found.ids_a[:2], ids_b=found.ids_b[:2])

    return find_few
