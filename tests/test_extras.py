"""Vectors beside features: where they stand among the directions, and that each is what it is said to be."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from tests.steered_runs import SITE, align_deep, choose, deep, one_thread, run  # noqa: F401 (fixtures)
from xmodel.errors import InputError
from xmodel.models.capture import capture
from xmodel.pairing.results import open_run
from xmodel.steering import mapping
from xmodel.steering.contrasts import load_contrasts
from xmodel.steering.extras import WAYS, add_extras, carry_vector, list_carriers
from xmodel.steering.mapping import fit_session_map
from xmodel.steering.passages import choose_passages
from xmodel.steering.session import open_session
from xmodel.steering.specificity import carry_linearly
from xmodel.steering.steering import steer_run
from xmodel.steering.transfers import collect_responses, compare_responses
from xmodel.steering.vectors import take_feature

SETS = ("past-present", "plural-singular")


@pytest.fixture(scope="module")
def session(run):
    return open_session(run, choose(contrasts=SETS))


@pytest.fixture(scope="module")
def extended(session):
    return add_extras(session)


@pytest.fixture(scope="module")
def steering(run, tmp_path_factory):
    copy = open_run(shutil.copytree(run.path, tmp_path_factory.mktemp("steered") / "run"))
    return steer_run(copy, choose(contrasts=SETS, reinit=1, curve_pairs=0), warn=lambda _: None)


def read_last(side, prompts):
    """[n, d] activations at the last token of each prompt, one by one."""
    rows = []
    for prompt in prompts:
        ids = torch.tensor([[*side.prefix, *side.tokenizer.encode([prompt])[0].tolist()]])
        rows.append(capture(side.model, ids, torch.ones_like(ids, dtype=torch.bool), [SITE])[SITE][0, -1])
    return torch.stack(rows).double().numpy()


def normalise(vector):
    return vector / np.linalg.norm(vector)


def test_vectors_stand_behind_the_features_where_they_are_said_to(session, extended):
    after, extras = extended
    pairs, (first, second) = len(session.pairs), session.directions
    assert len(after.directions[0]) == len(first) + 2
    assert len(after.directions[1]) == len(second) + pairs + 2 * len(WAYS)
    for before, own in zip(session.directions, after.directions, strict=True):
        assert np.array_equal(own.vectors[: len(before)], before.vectors)
        assert (own.features[len(before) :] == -1).all()
        assert np.linalg.norm(own.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    rows_b = [row for one in extras.contrasts for row in one.rows_b.values()]
    assert [one.row_a for one in extras.contrasts] == [len(first), len(first) + 1]
    assert sorted([*extras.linear_rows.tolist(), *rows_b]) == list(
        range(len(second), len(after.directions[1]))
    )
    assert after.fingerprint != session.fingerprint


def test_contrast_vectors_are_differences_in_means(session, extended):
    after, extras = extended
    known = {one.name: one for one in load_contrasts()}
    for one in extras.contrasts:
        prompts = known[one.contrast.name]
        means = [
            read_last(side, prompts.positive).mean(axis=0) - read_last(side, prompts.negative).mean(axis=0)
            for side in session.loaded
        ]
        assert after.directions[0].vectors[one.row_a] == pytest.approx(normalise(means[0]), abs=1e-4)
        assert after.directions[1].vectors[one.rows_b["own"]] == pytest.approx(normalise(means[1]), abs=1e-4)
        assert one.vector.norm == pytest.approx(np.linalg.norm(means[0]), rel=1e-4)
        linear = means[0] @ extras.linear.matrix
        assert after.directions[1].vectors[one.rows_b["linear"]] == pytest.approx(normalise(linear), abs=1e-4)
        assert one.cosines["linear"] == pytest.approx(normalise(linear) @ normalise(means[1]), abs=1e-4)


def test_a_vector_carried_by_pairs_is_its_features_partners(session, extended):
    """By least squares over the decoder rows of the features that are said to have been chosen."""
    after, extras = extended
    mutual = list_carriers(session.run)
    partners = dict(zip(mutual.a.tolist(), mutual.b.tolist(), strict=True))
    for one in extras.contrasts:
        carried = one.carried
        assert [partners[a] for a in carried.features_a.tolist()] == carried.features_b.tolist()
        rows = [
            np.stack([normalise(side.dictionary.decoder[f].double().numpy()) for f in features.tolist()])
            for side, features in zip(session.loaded, (carried.features_a, carried.features_b), strict=True)
        ]
        weights, *_ = np.linalg.lstsq(rows[0].T, one.vector.values.astype(np.float64), rcond=None)
        assert rows[0].T @ carried.coefficients == pytest.approx(rows[0].T @ weights, abs=1e-3)
        expressed = np.linalg.norm(rows[0].T @ weights) / one.vector.norm
        assert carried.share == pytest.approx(expressed, abs=1e-4) and 0 < carried.share <= 1 + 1e-6
        own = after.directions[1].vectors[one.rows_b["pairs"]]
        assert own == pytest.approx(normalise(rows[1].T @ carried.coefficients), abs=1e-3)


def test_a_paired_feature_is_carried_to_its_partner(session):
    mutual = list_carriers(session.run)
    first, second = session.loaded
    a, b = int(mutual.a[1]), int(mutual.b[1])
    vector = take_feature(first.dictionary.decoder.detach().numpy(), a, SITE, first.model.name)
    found = carry_vector(session, vector, scale=2.5)
    assert found.features_a[0] == a and found.features_b[0] == b
    assert found.share == pytest.approx(1, abs=1e-4) and found.coefficients[0] == pytest.approx(1, abs=1e-4)
    target = 2.5 * normalise(second.dictionary.decoder[b].double().numpy())
    assert found.vector.values == pytest.approx(target, abs=1e-3)


def test_transfers_of_contrasts_and_of_the_linear_map_are_in_the_summary(steering, extended):
    after, extras = extended
    settings = after.settings
    dose, cell = settings.cells[settings.primary][0], settings.middle
    responses = [
        collect_responses(side, directions.vectors, [dose])
        for side, directions in zip(after.sides, after.directions, strict=True)
    ]
    random = collect_responses(after.sides[1], after.draw_random(), [dose])
    odd = compare_responses(*responses).odd[cell]
    null = compare_responses(responses[0], random).odd[cell]
    for one, told in zip(extras.contrasts, steering.summary["contrasts"], strict=True):
        assert told["name"] == one.contrast.name and told["share"] == pytest.approx(one.carried.share)
        for way in WAYS:
            value = odd[one.row_a, one.rows_b[way]]
            assert told[way]["odd"] == pytest.approx(value, abs=1e-4)
            assert told[way]["p"] == pytest.approx(((null[one.row_a] >= value).sum() + 1) / 13)
        assert told["own"]["cosine_with_own"] == 1
    carried = steering.summary["carried"]
    linear = odd[after.rows[0], extras.linear_rows]
    assert carried["linear"]["pairs"] == pytest.approx(linear, abs=1e-4)
    assert carried["pairs"]["pairs"] == pytest.approx(odd[after.rows], abs=1e-4)
    square = odd[np.ix_(after.rows[0], extras.linear_rows)]
    assert carried["linear"]["top1"] == (square.argmax(axis=1) == np.arange(len(square))).mean()
    assert carried["linear_map"]["words"] == extras.linear.words


def test_the_linear_map_is_a_ridge_over_words_of_the_discovery_half(session):
    """Every word's activation is read in a pass over its passage alone."""
    found = fit_session_map(session)
    rows = []
    options = {"passage_words": session.settings.passage_words, "seed": session.settings.seed}
    passages = choose_passages(session.run, mapping.WORDS, half="discovery", **options)
    words = session.run.words.to_pandas()
    assert (words.split[passages.word_ids] == "discovery").all() and found.words == len(passages.word_ids)
    for side, own in zip(session.loaded, (passages.a, passages.b), strict=True):
        alone = []
        for row, column in zip(own.rows.tolist(), own.columns.tolist(), strict=True):
            ids = torch.from_numpy(own.ids[row : row + 1, : column + 1])
            alone.append(
                capture(side.model, ids, torch.ones_like(ids, dtype=torch.bool), [SITE])[SITE][0, -1]
            )
        rows.append(torch.stack(alone).double().numpy())
    x, y = (one - one.mean(axis=0) for one in rows)
    slow = Ridge(alpha=found.penalty * x.var() * len(x), fit_intercept=False).fit(x, y)
    assert found.matrix == pytest.approx(slow.coef_.T, abs=1e-3)
    units = session.directions[0].vectors[:3]
    carried = carry_linearly(units, found)
    assert carried == pytest.approx(np.stack([normalise(one @ found.matrix) for one in units]), abs=1e-5)
    nothing = dataclasses.replace(found, matrix=np.zeros_like(found.matrix))
    assert not carry_linearly(units, nothing).any()


@pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
def test_damaged_components_are_refused(damage, deep, tmp_path):
    run = align_deep(dataclasses.replace(deep, sae_b=f"pca:{SITE}:8"), tmp_path / "run")
    place = run.path / "components_b.npz"
    if damage == "missing":
        place.unlink()
    elif damage == "truncated":
        place.write_bytes(place.read_bytes()[:200])
    else:
        arrays = dict(np.load(place))
        np.savez(place, **{**arrays, "mean": arrays["mean"] + 1})
    with pytest.raises(InputError, match=r"components_b|has changed since"):
        open_session(run, choose())
