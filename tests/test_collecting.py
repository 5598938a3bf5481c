"""What a session collects, part by part, equals the same computed at once from its definition."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.steered_runs import FEW, choose, deep, one_thread, run  # noqa: F401 (fixtures)
from xmodel.errors import InputError
from xmodel.pairing.results import open_run
from xmodel.steering import collecting, measuring
from xmodel.steering.ceilings import measure_context_ceiling
from xmodel.steering.collecting import Collector, _take_half
from xmodel.steering.floors import find_floor_dose, measure_floor
from xmodel.steering.measuring import Responses
from xmodel.steering.passages import choose_passages
from xmodel.steering.reinitialising import reinitialise_blocks
from xmodel.steering.replaying import Replay
from xmodel.steering.responses import correlate_responses, unpack_gram
from xmodel.steering.session import Directions, open_session
from xmodel.steering.transfers import collect_responses, compare_responses, measure_transfers


@pytest.fixture(scope="module")
def session(run):
    return open_session(run, choose())


@pytest.fixture(scope="module")
def responses(session):
    """Everything pushed at once, in both models."""
    return [
        collect_responses(session.sides[number], session.directions[number].vectors, FEW["doses"])
        for number in range(2)
    ]


def use_folder(session, folder):
    """A session whose parts are kept in a folder of their own."""
    copy = open_run(shutil.copytree(session.run.path, folder / "run"))
    shutil.rmtree(copy.path / "steering", ignore_errors=True)
    return replace(session, run=copy)


@pytest.fixture(scope="module")
def collector(session, tmp_path_factory):
    return Collector(use_folder(session, tmp_path_factory.mktemp("parts")), lambda *_: None)


@pytest.fixture(scope="module")
def collected(collector):
    return collector.collect()


def correlate(first, second):
    """[C, n, m] by plain cosines."""
    cells = []
    for cell in range(first.shape[1]):
        one, two = (x[:, cell].astype(np.float64) for x in (first, second))
        norms = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(two, axis=1)[None]
        cells.append(one @ two.T / norms)
    return np.array(cells)


def test_transfers_are_cosines_of_all_responses(collected, responses, session):
    first, second = responses
    cells = len(session.settings.cells)
    assert collected.odd.shape == (cells, len(session.directions[0]), len(session.directions[1]))
    assert collected.odd == pytest.approx(correlate(first.odd, second.odd), abs=1e-5)
    assert collected.even == pytest.approx(correlate(first.even, second.even), abs=1e-3)
    for found, own in ((collected.norms_a, first), (collected.norms_b, second)):
        assert found[0] == pytest.approx(np.sqrt(2) * np.linalg.norm(own.odd, axis=2), rel=1e-4)
        assert found[1] == pytest.approx(np.sqrt(2) * np.linalg.norm(own.even, axis=2), rel=1e-2)


def test_random_directions_are_those_of_the_seed(collected, responses, session):
    directions = session.draw_random()
    assert directions.shape == (FEW["random"], session.loaded[1].model.width)
    assert np.linalg.norm(directions, axis=1) == pytest.approx(1)
    own = collect_responses(session.sides[1], directions, FEW["doses"])
    assert collected.random == pytest.approx(correlate(responses[0].odd, own.odd), abs=1e-5)


def test_words_are_permuted_inside_their_passages(collected, responses, collector, session):
    orders = collector.draw_orders()
    assert orders.shape == (FEW["permutations"], session.words)
    assert (session.strata[orders] == session.strata).all() and len(np.unique(session.strata)) > 1
    rows_a, rows_b = session.rows
    for pair in (0, 4):
        for cell in (1, 5):
            one, two = (
                unpack_gram(own.odd[rows[pair], cell].astype(np.float64), session.words)
                for own, rows in zip(responses, (rows_a, rows_b), strict=True)
            )
            slow = [(one * two[order][:, order]).sum() for order in orders]
            slow = np.array(slow) / np.linalg.norm(one) / np.linalg.norm(two)
            assert collected.permuted[pair, cell] == pytest.approx(slow, abs=1e-5)


def test_halves_are_of_the_words_of_other_passages(collected, collector, session):
    halves = collector.split_words()
    assert sorted(np.concatenate(halves).tolist()) == list(range(session.words))
    assert not set(session.strata[halves[0]]) & set(session.strata[halves[1]])
    rows = session.rows
    for half, found in zip(halves, collected.halves, strict=True):
        # Pushed anew and read at these words alone; a dose stays what it was.
        first, second = (
            collect_responses(
                replace(side, rows=side.rows[half], columns=side.columns[half]),
                session.directions[number].vectors[rows[number]],
                FEW["doses"],
            )
            for number, side in enumerate(session.sides)
        )
        assert found == pytest.approx(correlate(first.odd, second.odd), abs=2e-4)


@pytest.mark.parametrize(
    "first, cut", [(40, 20), (39, 20), (28, 20), (27, 27), (24, 24), (20, 20), (13, 13), (12, 20), (2, 20)]
)
def test_halves_are_cut_between_passages_where_these_are_of_like_size(first, cut, session):
    """A lone passage, and one that is far the largest, are cut in the middle."""
    strata = (np.arange(session.words) >= first).astype(np.int64)
    lone = replace(session, passages=replace(session.passages, passage=strata), kept=np.arange(40))
    early, late = Collector(lone, lambda *_: None).split_words()
    assert np.concatenate([early, late]).tolist() == list(range(session.words))
    assert len(early) == cut


def test_of_several_boundaries_that_nearest_to_the_middle_is_the_cut(session):
    strata = np.repeat(np.arange(5), [4, 10, 8, 9, 9])
    several = replace(session, passages=replace(session.passages, passage=strata), kept=np.arange(40))
    early, late = Collector(several, lambda *_: None).split_words()
    assert (len(early), len(late)) == (22, 18)


@pytest.mark.parametrize("how", ["initial", "shuffled"])
def test_random_layers_are_those_of_the_seed(how, session, tmp_path):
    chosen = replace(session.settings, reinit_how=how, seed=5)
    collector = Collector(use_folder(replace(session, settings=chosen), tmp_path), lambda *_: None)
    draws = [collector.reinitialise(draw) for draw in range(2)]
    wanted = collector.count_compared()
    compared = {*session.pairs.b.tolist(), *session.hard.b.tolist(), *session.hard.next_best.tolist()} - {-1}
    assert compared <= set(session.directions[1].features[:wanted].tolist())
    assert np.abs(draws[0]["odd"] - draws[1]["odd"]).max() > 0.01
    sides = []
    for number, one in enumerate(session.loaded):
        seed = int(np.random.SeedSequence([5, 4, 2 + number]).generate_state(1)[0])
        sides.append(session.place(number, blocks=reinitialise_blocks(one.model, 2, seed, how)))
        assert sides[number].scale == session.sides[number].scale
        again = collector.randomise(number, 1)
        assert_equal_weights(again.replay, sides[number].replay)
        floor = collector.measure_floor(number, sides[number])
        assert draws[1]["floor"][number] == pytest.approx(floor, rel=1e-6) and (floor > 0).all()
    first = collect_responses(sides[0], session.directions[0].vectors, FEW["doses"])
    second = collect_responses(sides[1], session.directions[1].vectors[:wanted], FEW["doses"])
    assert draws[1]["odd"] == pytest.approx(correlate(first.odd, second.odd), abs=1e-4)
    for own, size, rows in zip((first, second), draws[1]["size"], session.rows, strict=True):
        norms = np.sqrt(2) * np.linalg.norm(own.odd[rows], axis=2)
        assert size == pytest.approx(np.median(norms, axis=0), rel=1e-3)
    # Random layers of a finished model's scale answer far above what rounding makes.
    assert (draws[1]["floor"] < draws[1]["size"] / 20).all()


def assert_equal_weights(first, second):
    for one, other in zip(first.calls, second.calls, strict=True):
        for weight, expected in zip(one.block.parameters(), other.block.parameters(), strict=True):
            assert torch.equal(weight, expected)


def test_random_layers_may_be_read_elsewhere(collector, session):
    side = collector.randomise(1, 0, reads=(4,))
    assert side.reads == (4,) and side.scale == session.sides[1].scale
    assert_equal_weights(side.replay, collector.randomise(1, 0, reads=(2, 4)).replay)


@pytest.mark.parametrize("part", [1, 4, 1000])
def test_sizes_of_parts_and_chunks_change_nothing(part, session, collected, tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "PART", part)
    monkeypatch.setattr(measuring, "CHUNK_BYTES", 1)
    again = Collector(use_folder(session, tmp_path), lambda *_: None).collect()
    for name in ("odd", "random", "permuted", "halves", "norms_a", "norms_b"):
        assert getattr(again, name) == pytest.approx(getattr(collected, name), abs=1e-4, rel=1e-3), name
    assert again.even == pytest.approx(collected.even, abs=2e-2)


def test_memory_that_runs_out_changes_nothing(session, collected, tmp_path, monkeypatch):
    """A device with room for two changes at a time."""
    sizes = []
    run_blocks = Replay.run

    def run(self, make, count):
        def try_to_make(first, stop):
            sizes.append(stop - first)
            if stop - first > 2:
                raise torch.OutOfMemoryError("out of memory")
            return make(first, stop)

        return run_blocks(self, try_to_make, count)

    monkeypatch.setattr(Replay, "run", run)
    again = Collector(use_folder(session, tmp_path), lambda *_: None).collect()
    assert max(sizes) > 2 and sizes.count(2) > 10
    assert again.odd == pytest.approx(collected.odd, abs=1e-4)
    assert again.random == pytest.approx(collected.random, abs=1e-4)


def test_transfers_of_a_stream_are_those_of_all_at_once(session, responses):
    first, second = responses
    seen = []
    found = measure_transfers(
        first,
        session.sides[1],
        session.directions[1].vectors,
        FEW["doses"],
        visit=lambda begin, own: seen.append((begin, len(own))),
    )
    expected = compare_responses(first, second)
    for name in ("odd", "even", "norms_odd", "norms_even"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    assert [begin for begin, _ in seen] == np.cumsum([0, *(own for _, own in seen)])[:-1].tolist()


def test_a_response_of_nothing_has_a_transfer_of_0(responses):
    nothing = Responses(np.zeros_like(responses[1].odd), np.zeros_like(responses[1].even))
    found = compare_responses(responses[0], nothing)
    assert not found.odd.any() and not found.even.any() and not found.norms_odd.any()


def test_an_unbounded_number_of_responses_is_refused(session, monkeypatch):
    monkeypatch.setattr(collecting, "MOST_BYTES", 10_000)
    with pytest.raises(InputError, match="--words"):
        Collector(session, lambda *_: None)


@pytest.mark.parametrize("number", [0, 1])
def test_the_floor_is_what_pushes_give_that_do_nothing_but_round_otherwise(
    number, collector, session, responses
):
    floor = collector.measure_floor(number)
    assert floor.shape == (len(session.settings.cells),) and (floor > 0).all()
    side, rows = session.sides[number], session.rows[number]
    vectors = session.directions[number].vectors[rows]
    dose = np.finfo(np.float32).eps / 8
    assert find_floor_dose(side) == dose

    def measure(doses):
        return np.sqrt(2) * np.linalg.norm(collect_responses(side, vectors, doses).odd, axis=2)

    assert floor == pytest.approx(measure([dose, dose]).max(axis=0), rel=1e-6)
    # A push that is nothing at all shows nothing: both of its signs are the same numbers.
    assert not measure([0.0, 0.0]).any()
    # In proportion to its size the push itself would do far less, and the pairs' pushes do far more.
    pushed = np.sqrt(2) * np.linalg.norm(responses[number].odd[rows], axis=2)
    doses = np.repeat(FEW["doses"], len(FEW["depths"]))
    assert (pushed * dose / doses < floor / 2).all() and (pushed > 10 * floor).all()


def test_the_floor_of_random_layers_is_theirs(collector, session):
    side = collector.randomise(0, 1)
    vectors = session.directions[0].vectors[session.rows[0]]
    found = collector.measure_floor(0, side)
    assert np.array_equal(found, measure_floor(side, vectors, len(FEW["doses"])))
    assert not np.array_equal(found, collector.measure_floor(0))


def test_ablations_have_no_floor(session):
    ablated = replace(session, settings=replace(session.settings, mode="ablate"))
    floor = Collector(ablated, lambda *_: None).measure_floor(1)
    assert floor.tolist() == [0.0] * len(FEW["depths"])


@pytest.mark.parametrize("number", [0, 1])
def test_the_ceiling_is_a_model_with_itself_in_another_context(collector, session, number):
    found = measure_context_ceiling(collector, number)
    assert found is not None
    settings = session.settings
    # As the text has it: the same words, and more of the document before them.
    passages = choose_passages(
        session.run, settings.words, passage_words=10, seed=settings.seed, lead=found["lead"]
    )
    assert np.array_equal(passages.word_ids, session.passages.word_ids)
    own, other = ((one.passages if hasattr(one, "passages") else one) for one in (session, passages))
    assert (other.b if number else other.a).mask.sum() > (own.b if number else own.a).mask.sum()
    vectors = session.directions[number].vectors[session.rows[number]]
    dose, _ = settings.cells[settings.primary]
    responses = [
        collect_responses(session.place(number, passages=one), vectors, [dose]).odd[:, settings.middle]
        for one in (own, other)
    ]
    s = correlate_responses(*responses)
    assert found["mean_diagonal"] == pytest.approx(np.diag(s).mean(), abs=1e-4)
    assert found["mean_off_diagonal"] == pytest.approx(s[~np.eye(len(s), dtype=bool)].mean(), abs=1e-4)
    assert found["top1"] == (s.argmax(axis=1) == np.arange(len(s))).mean()
    assert np.diag(s).mean() > s[~np.eye(len(s), dtype=bool)].mean() + 0.1


def test_directions_are_found_by_feature_and_vectors_never():
    own = Directions(np.array([7, 3, 9, -1, -1], np.int32), np.eye(5, dtype=np.float32))
    assert own.find(np.array([9, 7, 4, -1, 3])).tolist() == [2, 0, -1, -1, 1]


def test_what_rounding_leaves_of_a_response_over_half_of_the_words_is_nothing():
    """As of an ablated feature that fires in the other half only: its direction would be anybody's."""
    words, rng = 12, np.random.default_rng(5)
    square = np.zeros((2, words, words), np.float32)
    square[:, :6, :6] = rng.standard_normal((2, 6, 6))
    square[0, 6:, 6:] = 1e-7 * rng.standard_normal((6, 6))
    square[1, 6:, 6:] = 1e-2 * rng.standard_normal((6, 6))
    rows, columns = np.triu_indices(words, 1)
    packed = square[:, rows, columns]
    early, late = (_take_half(packed, np.arange(6) + start) for start in (0, 6))
    assert early.any(axis=1).tolist() == [True, True]
    assert late.any(axis=1).tolist() == [False, True]
