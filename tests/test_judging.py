"""Whole judgements under a null that is true by design: partners drawn at random among a model's features."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from tests.steered_runs import FEW, choose, deep, one_thread, run  # noqa: F401 (fixtures)
from xmodel.errors import InputError
from xmodel.pairing.results import open_run
from xmodel.steering.collecting import Collector
from xmodel.steering.judging import describe_cell, describe_reliability, judge
from xmodel.steering.responses import permute_words
from xmodel.steering.session import open_session
from xmodel.steering.transfers import collect_responses

FEATURES = 24
PARTNERS = 9
DRAWS = 300
ALPHA = 0.1
DOSES = (0.05, 0.4, 2.0)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A session that pushes every feature of both models, and all transfers."""
    named = tuple((feature, feature) for feature in range(FEATURES))
    chosen = choose(features=named, doses=DOSES, random=19, live=0, reinit=0)
    copy = open_run(shutil.copytree(run.path, tmp_path_factory.mktemp("whole") / "run"))
    session = open_session(copy, chosen)
    collector = Collector(session, lambda *_: None)
    responses = [
        collect_responses(side, directions.vectors, DOSES)
        for side, directions in zip(session.sides, session.directions, strict=True)
    ]
    return session, collector.collect(), responses, collector.draw_orders()


HARD = np.array([1, 2, 4, 5, 8])
"""Which pairs have a hard pair."""


def judge_matching(whole, rng, live=True):
    """A judgement where A's features have partners drawn at random, and B's others are the live ones."""
    drawn, collected = draw_matching(whole, rng, live)
    return drawn, judge(drawn, collected, [])


def draw_matching(whole, rng, live=True):
    session, collected, responses, orders = whole
    a = rng.permutation(FEATURES)[:PARTNERS]
    b = rng.permutation(FEATURES)
    pairs = replace(
        session.pairs,
        a=a.astype(np.int32),
        b=b[:PARTNERS].astype(np.int32),
        sign=np.ones(PARTNERS),
        r=np.zeros(PARTNERS),
    )
    hard = replace(
        session.hard,
        pair=HARD,
        a=pairs.a[HARD],
        b=pairs.b[np.roll(HARD, -1)],
        sign=np.ones(len(HARD)),
        next_best=np.full(PARTNERS, -1, np.int32),
        next_best_sign=np.ones(PARTNERS),
    )
    others = b[PARTNERS:].astype(np.int32) if live else np.array([], np.int32)
    drawn = replace(session, pairs=pairs, hard=hard, live=others)
    rows = drawn.rows
    permuted = permute_words(responses[0].odd[rows[0]], responses[1].odd[rows[1]], orders)
    return drawn, replace(collected, permuted=permuted.astype(np.float32))


@pytest.fixture(scope="module")
def judgements(whole):
    rng = np.random.default_rng(0)
    return [judge_matching(whole, rng)[1] for _ in range(DRAWS)]


def reject_at_most(count, draws=DRAWS):
    """Rejections of a test of level ALPHA that happen with a probability of 1 in 10,000."""
    return count <= binom.ppf(1 - 1e-4, draws, ALPHA)


def test_cells_are_rejected_as_often_as_they_should_be_and_not_more(judgements):
    raw = np.array([one.diagonal.p for one in judgements])
    corrected = np.array([one.diagonal.p_max for one in judgements])
    top1 = np.array([one.diagonal.p_top1_max for one in judgements])
    for cell in range(raw.shape[1]):
        assert reject_at_most((raw[:, cell] <= ALPHA).sum())
        assert (raw[:, cell] <= ALPHA).sum() >= binom.ppf(1e-4, DRAWS, ALPHA)
    assert reject_at_most((corrected.min(axis=1) <= ALPHA).sum())
    assert reject_at_most((top1.min(axis=1) <= ALPHA).sum())
    # What must fail: the best of all cells without correction.
    assert not reject_at_most((raw.min(axis=1) <= ALPHA).sum())


def test_pairs_are_rejected_no_more_often_than_they_should_be(judgements):
    """One pair of each draw, since pairs of a draw share its features."""
    pair = np.array([one.pairs.pair_p[0] for one in judgements])
    assert reject_at_most((pair <= ALPHA).sum())
    for name in ("live", "random", "words"):
        adjusted = np.array([one.pairs.adjusted[name][0].min() for one in judgements])
        assert (adjusted <= pair + 1e-12).all()
    # By design partners and live features are drawn alike, so that this null alone is exact.
    live = np.array([one.pairs.adjusted["live"][0].min() for one in judgements])
    assert reject_at_most((live <= ALPHA).sum())
    raw = np.array([one.pairs.p["live"][0].min() for one in judgements])
    assert not reject_at_most((raw <= ALPHA).sum())


def test_no_pair_survives_correction_more_often_than_it_should(judgements):
    found = np.array([(one.pairs.pair_q <= ALPHA).any() for one in judgements])
    assert reject_at_most(found.sum())


def test_a_judgement_takes_the_transfers_of_its_pairs(whole):
    session, found = judge_matching(whole, np.random.default_rng(3))
    _, collected, _, _ = whole
    for f, a in enumerate(session.pairs.a):
        for g, b in enumerate(session.pairs.b):
            row = (session.directions[0].find(np.array([a]))[0], session.directions[1].find(np.array([b]))[0])
            assert found.s[:, f, g] == pytest.approx(collected.odd[(slice(None), *row)])
    assert np.isnan(found.next_best).all() and found.hard.shape == (len(DOSES) * 3, len(HARD))
    assert found.hard[:, 1] == pytest.approx(found.s[:, HARD[1], HARD[2]])
    assert set(found.nulls) == {"words", "random", "live"}
    assert found.nulls["live"].shape == (PARTNERS, len(DOSES) * 3, FEATURES - PARTNERS)


def test_the_sign_of_a_pair_turns_its_transfers_and_what_they_are_tested_with(whole):
    session, found = judge_matching(whole, np.random.default_rng(4), live=False)
    sign = np.where(np.arange(PARTNERS) % 2, -1.0, 1.0)
    turned = replace(session, pairs=replace(session.pairs, sign=sign))
    _, collected, responses, orders = whole
    permuted = permute_words(
        responses[0].odd[session.rows[0]], responses[1].odd[session.rows[1]], orders
    ).astype(np.float32)
    other = judge(turned, replace(collected, permuted=permuted), [])
    assert other.s == pytest.approx(found.s * sign)
    assert other.nulls["words"] == pytest.approx(found.nulls["words"] * sign[:, None, None])
    assert other.even == pytest.approx(found.even)
    assert "live" not in other.nulls


def test_a_cell_is_described_without_draws_of_random_layers(whole):
    session, found = judge_matching(whole, np.random.default_rng(5))
    told = describe_cell(session, found, 4)
    assert told["reinitialised"] is None and told["excess"] is None
    assert (told["dose"], told["depth"]) == (0.4, 0.5)
    assert told["auroc"]["next_best"] is None and told["means"]["next_best"] is None
    assert told["mean_diagonal"] == pytest.approx(np.diag(found.s[4]).mean())
    assert set(told["damage"]) == {"a", "b"}
    ratio = np.median(found.sizes[2, :, 4] / found.sizes[0, :, 4])
    assert told["damage"]["a"] == pytest.approx(ratio)


def test_reliability_is_the_correlation_of_halves(whole):
    _, collected, _, _ = whole
    own = np.corrcoef(collected.halves[0, 1].ravel(), collected.halves[1, 1].ravel())[0, 1]
    told = describe_reliability(collected.halves, np.ones(FEATURES), 1)
    assert told["correlation"] == pytest.approx(own)
    assert told["full"] == pytest.approx(max(2 * own / (1 + own), 0), abs=1e-9)
    assert FEW["permutations"] == collected.permuted.shape[2]


def test_hard_pairs_are_compared_with_the_pairs_that_have_one(whole):
    """Pairs without a hard pair may be easier, and say nothing of those that have one."""
    session, found = judge_matching(whole, np.random.default_rng(6))
    assert found.distinct.tolist() == list(range(PARTNERS)) and found.matched.tolist() == HARD.tolist()
    for cell in (0, 4):
        told, s = describe_cell(session, found, cell), found.s[cell]
        own, hard = np.diag(s)[HARD], s[HARD, np.roll(HARD, -1)]
        truth = np.repeat([1, 0], len(HARD))
        assert told["auroc"]["hard"] == pytest.approx(roc_auc_score(truth, np.concatenate([own, hard])))
        assert told["means"]["partners_matched"] == pytest.approx(own.mean())
        assert told["means"]["hard"] == pytest.approx(hard.mean())
        over = told["over_hard"]
        assert over["pairs"] == len(HARD) and over["value"] == pytest.approx((own - hard).mean())
        flips = [np.mean(signs * (own - hard)) for signs in itertools.product([1, -1], repeat=len(HARD))]
        assert over["p"] == pytest.approx(np.mean(np.array(flips) >= over["value"] - 1e-12), abs=0.02)
        resampled = np.random.default_rng(0).choice(own - hard, (20_000, len(HARD))).mean(axis=1)
        assert over["interval"] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.03)


def test_pairs_without_a_hard_pair_do_not_change_what_is_said_of_the_others(whole):
    session, collected = draw_matching(whole, np.random.default_rng(7))
    odd = collected.odd.copy()
    rest = np.setdiff1d(np.arange(PARTNERS), HARD)
    odd[:, session.rows[0][rest], session.rows[1][rest]] = 1
    told = [
        describe_cell(session, judge(session, one, []), 4) for one in (collected, replace(collected, odd=odd))
    ]
    assert told[0]["mean_diagonal"] < told[1]["mean_diagonal"] - 0.2
    for name in ("auroc", "means"):
        first, second = (one[name]["hard"] for one in told)
        assert first == second
    assert told[0]["over_hard"] == told[1]["over_hard"]
    assert told[0]["means"]["partners_matched"] == told[1]["means"]["partners_matched"]
    assert told[0]["auroc"]["off_diagonal"] != told[1]["auroc"]["off_diagonal"]


def test_without_hard_pairs_nothing_is_said_of_them(whole):
    session, collected = draw_matching(whole, np.random.default_rng(8))
    nothing = {name: getattr(session.hard, name)[:0] for name in ("pair", "a", "b", "sign")}
    bare = replace(session, hard=replace(session.hard, **nothing))
    told = describe_cell(bare, judge(bare, collected, [np.asarray(collected.odd)]), 4)
    assert told["over_hard"] is None and told["auroc"]["hard"] is None
    assert told["means"]["hard"] is None and told["means"]["partners_matched"] is None
    assert told["excess"]["auroc_hard"] is None and told["reinitialised"]["auroc_hard"] == []


def test_the_excess_over_hard_pairs_is_of_the_pairs_that_have_one(whole):
    session, collected = draw_matching(whole, np.random.default_rng(9))
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=collected.odd.shape).astype(np.float32) * 0.1 for _ in range(3)]
    found = judge(session, collected, draws)
    told = describe_cell(session, found, 4)
    areas = []
    for s in (found.s[4], *found.reinitialised[:, 4]):
        own, hard = np.diag(s)[HARD], s[HARD, np.roll(HARD, -1)]
        areas.append(roc_auc_score(np.repeat([1, 0], len(HARD)), np.concatenate([own, hard])))
    assert told["auroc"]["hard"] == pytest.approx(areas[0])
    assert told["reinitialised"]["auroc_hard"] == pytest.approx(areas[1:])
    assert told["excess"]["auroc_hard"]["value"] == pytest.approx(areas[0] - np.mean(areas[1:]))


def sign_features(session):
    """The same with B's features declared signed, as those of principal components are."""
    side = session.loaded[1]
    info = replace(side.dictionary.info, signed=True)
    return replace(
        session, loaded=(session.loaded[0], replace(side, dictionary=replace(side.dictionary, info=info)))
    )


def test_signed_live_features_are_a_null_either_way(whole):
    session, collected = draw_matching(whole, np.random.default_rng(10))
    plain = judge(session, collected, [])
    signed = sign_features(session)
    rows = session.directions[1].find(session.live)
    turned = collected.odd.copy()
    turned[:, :, rows[::2]] *= -1
    one, other = (judge(signed, own, []) for own in (collected, replace(collected, odd=turned)))
    count = FEATURES - PARTNERS
    assert one.nulls["live"].shape[2] == 2 * count
    assert one.nulls["live"].sum(axis=2) == pytest.approx(0, abs=1e-9)
    assert one.nulls["live"][:, :, :count] == pytest.approx(plain.nulls["live"])
    for name in ("p", "adjusted"):
        first, second = (getattr(own.pairs, name) for own in (one, other))
        assert first.keys() == second.keys()
        for null, values in first.items():
            # Draws stand in another order, and sums of them round otherwise.
            assert values == pytest.approx(second[null], abs=1e-9), null
    # What must fail: one way alone depends on what the other was called.
    unsigned = judge(session, replace(collected, odd=turned), [])
    assert np.abs(unsigned.pairs.p["live"] - plain.pairs.p["live"]).max() > 0.1


def ablate_matching(whole, rng, silent_a=(), silent_b=(), silent_live=()):
    """As of an ablation, in which some pairs' features and some live ones fire nowhere."""
    session, collected = draw_matching(whole, rng)
    cells = len(FEW["depths"])
    settings = replace(session.settings, mode="ablate")
    rows_a = session.rows[0][list(silent_a)]
    rows_b = np.concatenate(
        [session.rows[1][list(silent_b)], session.directions[1].find(session.live[list(silent_live)])]
    ).astype(np.int64)
    odd, permuted = collected.odd[:cells].copy(), collected.permuted[:, :cells].copy()
    norms_a, norms_b = collected.norms_a[:, :, :cells].copy(), collected.norms_b[:, :, :cells].copy()
    odd[:, rows_a], odd[:, :, rows_b] = 0, 0
    permuted[[*silent_a, *silent_b]] = 0
    norms_a[:, rows_a], norms_b[:, rows_b] = 0, 0
    norms_a[1], norms_b[1] = 0, 0
    ablated = replace(
        collected,
        odd=odd,
        even=np.zeros_like(odd),
        random=collected.random[:cells, :, :0],
        permuted=permuted,
        norms_a=norms_a,
        norms_b=norms_b,
    )
    return replace(session, settings=settings), ablated


def test_pairs_that_fire_nowhere_are_in_no_test_and_no_mean(whole):
    session, collected = ablate_matching(whole, np.random.default_rng(11), (0, 2), (2, 4), (1, 3, 6))
    draws = [collected.odd * np.float32(0.5), collected.odd * np.float32(0.25)]
    found = judge(session, collected, draws)
    left = [1, 3, 5, 6, 7, 8]
    assert found.distinct.tolist() == left
    missing = np.isnan(found.pairs.pair_p)
    assert np.flatnonzero(missing).tolist() == [0, 2, 4] and np.isfinite(found.pairs.pair_q[left]).all()
    assert np.isnan(found.pairs.combined[missing]).all() and np.isnan(found.pairs.row_q[missing]).all()
    # Live features that fire nowhere are no draws; nor are hard pairs of which one does.
    assert found.nulls["live"].shape[2] == FEATURES - PARTNERS - 3 and "random" not in found.nulls
    assert np.abs(found.nulls["live"][left]).min() > 0
    partners = dict(zip(HARD.tolist(), np.roll(HARD, -1).tolist(), strict=True))
    usable = [pair for pair, other in partners.items() if pair in left and other not in (2, 4)]
    assert found.distinct[found.matched].tolist() == usable and found.hard.shape == (3, len(usable))
    told = describe_cell(session, found, 1)
    s = found.s[1][np.ix_(left, left)]
    assert told["mean_diagonal"] == pytest.approx(np.diag(s).mean())
    assert told["mean_off_diagonal"] == pytest.approx(s[~np.eye(6, dtype=bool)].mean())
    assert told["retrieval"]["candidates"] == 6
    assert told["means"]["live"] == pytest.approx(found.nulls["live"][left, 1].mean())
    assert told["over_hard"]["pairs"] == len(usable)
    assert told["excess"]["mean_diagonal"]["value"] == pytest.approx(np.diag(s).mean() * (1 - 0.375))


def test_pairs_that_fire_nowhere_change_nothing_for_the_others(whole):
    """P-values of the rest are those without these pairs, but for the correction over pairs."""
    seed = 12
    some, every = (
        judge(*ablate_matching(whole, np.random.default_rng(seed), silent), []) for silent in ((0, 3), ())
    )
    left = np.setdiff1d(np.arange(PARTNERS), [0, 3])
    assert some.pairs.pair_p[left] == pytest.approx(every.pairs.pair_p[left])
    assert every.distinct.tolist() == list(range(PARTNERS))
    order = np.argsort(some.pairs.pair_p[left])
    ranked = some.pairs.pair_p[left][order] * len(left) / np.arange(1, len(left) + 1)
    slow = np.minimum.accumulate(ranked[::-1])[::-1].clip(max=1)
    assert some.pairs.pair_q[left][order] == pytest.approx(slow)


def test_an_ablation_that_changes_nothing_is_refused(whole):
    rng = np.random.default_rng(13)
    with pytest.raises(InputError, match=r"none of the 9 pairs fires .* more --words"):
        judge(*ablate_matching(whole, rng, tuple(range(9)), ()), [])
    found = judge(*ablate_matching(whole, rng, (0, 1, 2, 3), (4, 5, 6)), [])
    assert len(found.distinct) == 2 and found.diagonal.p is None
    assert len(judge(*ablate_matching(whole, rng, (0, 1, 2), (4, 5, 6)), []).distinct) == 3


def test_an_ablation_of_signed_features_has_no_other_way(whole):
    """A component is taken out, whichever way it points: T with the opposite sign is no draw."""
    session, collected = ablate_matching(whole, np.random.default_rng(14))
    plain, signed = (judge(one, collected, []) for one in (session, sign_features(session)))
    assert np.array_equal(plain.nulls["live"], signed.nulls["live"])
