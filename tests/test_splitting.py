"""Features that split in a planted way are told from those that do not, with a null beside every r."""

from dataclasses import replace

import numpy as np
import pytest

from tests.grid_worlds import make_firing, make_layer
from xmodel.errors import InputError
from xmodel.pairing.settings import PairSettings
from xmodel.similarity.split_sweep import judge_split
from xmodel.similarity.splitting import (
    compare_widths,
    describe_children,
    find_partner,
    match_children,
    partner_children,
)

PAIRING = PairSettings(min_firings=5, workers=1)
PARENTS, CHILDREN = 120, 2


def join(children, owner):
    """A parent fires where any of its children does, as strongly as the strongest."""
    return np.stack([children[:, owner == parent].max(1) for parent in range(PARENTS)], axis=1)


def make_world(seed=0, same=True, words=3000):
    """Two models whose parents are the same concepts, each of two children; B's may be others or none."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(PARENTS), CHILDREN)
    own = make_firing(words, len(owner), rng, rate=0.01)
    theirs = own * rng.uniform(0.8, 1.2, own.shape)
    if not same:
        # The same parents, cut in another way: every firing goes to a random child of the same parent.
        joined = join(own, owner)
        side = rng.random(joined.shape) < 0.5
        theirs = np.stack([joined * side, joined * ~side], axis=2).reshape(words, -1)
    layers = {}
    for name, children in (("a", own), ("b", theirs)):
        narrow, wide = join(children, owner), children
        vectors = rng.normal(size=(len(owner), 9)).astype(np.float32)
        parents = np.stack([vectors[owner == p].sum(0) for p in range(PARENTS)])
        layers[name] = make_layer(f"{name}-narrow", narrow, parents)
        layers[f"{name}-wide"] = make_layer(f"{name}-wide", wide, vectors)
    widths = {s: compare_widths(layers[s], layers[f"{s}-wide"], PAIRING) for s in "ab"}
    return layers, widths


@pytest.fixture(scope="module")
def same():
    return make_world()


@pytest.fixture(scope="module")
def other():
    return make_world(same=False)


def test_children_are_those_that_were_planted(same):
    layers, widths = same
    for parent in range(PARENTS):
        assert widths["a"].list_children(parent).tolist() == [2 * parent, 2 * parent + 1]
    found = describe_children(widths["a"], 4)
    dense = (layers["a"].discovery, layers["a-wide"].discovery)
    x, y = (np.zeros((len(one), one.features)) for one in dense)
    for target, one in zip((x, y), dense, strict=True):
        target[np.repeat(np.arange(len(one)), np.diff(one.indptr)), one.indices] = one.values
    fires = x[:, 4] > 0
    assert found["firings"] == fires.sum() and found["covered"] == 1
    assert [child["r"] for child in found["children"]] == sorted(
        (child["r"] for child in found["children"]), reverse=True
    )
    for child in found["children"]:
        number = child["feature"]
        assert child["r"] == pytest.approx(np.corrcoef(x[:, 4], y[:, number])[0, 1])
        assert child["covers"] == pytest.approx((y[fires, number] > 0).mean())
        assert child["firings"] == (y[:, number] > 0).sum()
        own, theirs = layers["a"].decoder[4], layers["a-wide"].decoder[number]
        cosine = own @ theirs / np.linalg.norm(own) / np.linalg.norm(theirs)
        assert child["cosine"] == pytest.approx(cosine, abs=1e-6)
        assert 0.3 < child["r_heldout"] < 1


def test_the_floor_leaves_distant_children_out(same):
    layers, widths = same
    strict = compare_widths(layers["a"], layers["a-wide"], PAIRING, floor=0.99)
    assert (strict.parent == -1).all() and (widths["a"].parent >= 0).all()
    assert describe_children(strict, 4)["children"] == [] and describe_children(strict, 4)["covered"] == 0


def test_a_partner_that_splits_the_same_way(same):
    layers, widths = same
    for feature in (0, 7, 29):
        partner = find_partner(layers["a"], layers["b"], feature, PAIRING)
        assert partner["feature"] == feature and partner["mutual"] and partner["r_heldout"] > 0.9
        found = match_children(widths["a"], widths["b"], feature, feature, draws=199)
        matched = [(one["child"], one["partner_child"]) for one in found["matched"]]
        assert matched == [(2 * feature, 2 * feature), (2 * feature + 1, 2 * feature + 1)]
        assert found["mean_r_heldout"] > 0.9 and abs(found["others"]) < 0.1
        assert found["p"] <= 0.02 and abs(found["null_mean"]) < 0.2
        told = describe(widths, feature, partner, found)
        assert "the same way" in judge_split(told) and f"p {found['p']:.2g}" in judge_split(told)


def test_a_partner_that_splits_in_another_way(other):
    layers, widths = other
    verdicts = []
    for feature in range(6):
        partner = find_partner(layers["a"], layers["b"], feature, PAIRING)
        found = match_children(widths["a"], widths["b"], feature, partner["feature"], draws=199)
        # Of one parent, so more alike than strangers; but no child is another's.
        assert found["mean_r_heldout"] < 2.5 * found["others"]
        verdicts.append(judge_split(describe(widths, feature, partner, found)))
    assert sum("cannot be told apart" in verdict for verdict in verdicts) >= 5


def test_strangers_do_not_split_alike(same):
    _, widths = same
    p = [match_children(widths["a"], widths["b"], 3, other, draws=199)["p"] for other in range(4, 24)]
    # Exact: at most a twentieth below 0.05 on average, 4 of 20 or more one time in 50.
    assert sum(one <= 0.05 for one in p) < 4 and np.mean(p) > 0.3
    told = describe(widths, 3, {"feature": 9}, {**match_children(widths["a"], widths["b"], 3, 9), "p": 0.6})
    assert "not the same way" in judge_split(told)


def describe(widths, feature, partner, found):
    own = describe_children(widths["a"], feature)
    split = {**describe_children(widths["b"], partner["feature"]), **found}
    return {**own, "floor": 0.3, "partner": partner, "partner_split": split}


def test_partners_of_children_in_one_dictionary(same):
    layers, widths = same
    found = partner_children(widths["a"], layers["b-wide"], 6, None, PAIRING, draws=199)
    assert [(one["child"], one["feature"]) for one in found["partners"]] == [(12, 12), (13, 13)]
    assert found["different"] == 2 and found["p"] <= 0.02 and abs(found["others"]) < 0.1
    own = {**describe_children(widths["a"], 6), "floor": 0.3, "partner": {"feature": 1}}
    assert "tells them apart: 2 different" in judge_split({**own, "children_partners": found})
    narrow = partner_children(widths["a"], layers["b"], 6, 6, PAIRING, draws=199)
    assert narrow["different"] == 1 and all(one["same"] for one in narrow["partners"])
    assert narrow["others"] is None
    assert "does not: all 2 have one partner, their parent's" in judge_split(
        {**own, "children_partners": narrow}
    )


def test_a_feature_without_children_does_not_split(same):
    _, widths = same
    alone = replace(widths["a"], parent=np.full(240, -1, np.int32))
    empty = match_children(alone, widths["b"], 3, 3)
    assert empty == {"matched": [], "mean_r_heldout": None, "p": None}
    found = {**describe_children(alone, 3), "floor": 0.3, "partner": None}
    assert judge_split(found).startswith("Feature 3 does not split: none of")


def test_results_are_those_of_the_seed(same):
    _, widths = same
    first, again, other = (
        match_children(widths["a"], widths["b"], 3, 3, draws=50, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again and first["null_mean"] != other["null_mean"]


def test_what_does_not_split_is_refused(same):
    layers, widths = same
    with pytest.raises(InputError, match=r"there is no feature 120 in a-narrow: it has 120, 0 to 119"):
        describe_children(widths["a"], 120)
    kept = layers["a"].kept.copy()
    kept[5] = False
    rare = compare_widths(replace(layers["a"], kept=kept), layers["a-wide"], PAIRING)
    with pytest.raises(InputError, match=r"feature 5 of a-narrow fires on \d+ words"):
        describe_children(rare, 5)
    with pytest.raises(InputError, match="signed"):
        compare_widths(replace(layers["a"], signed=True), layers["a-wide"], PAIRING)
    with pytest.raises(InputError, match="floor came as 1"):
        compare_widths(layers["a"], layers["a-wide"], PAIRING, floor=1.0)
