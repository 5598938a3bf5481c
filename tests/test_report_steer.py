"""The page on steering: its sentences follow the numbers and the tests, and it fits every terminal."""

import pytest
from rich.cells import cell_len

from tests.report_helpers import draw
from tests.steer_pages import make_cell, make_excess, make_found, make_ported
from xmodel.report.port import judge_port, render_port
from xmodel.report.runs import WARNING
from xmodel.report.steer import (
    classify_transfer,
    count_below,
    judge_transfer,
    render_steering,
    tell_agreement,
    tell_doing,
    tell_retrieval,
    tell_rounding,
)
from xmodel.report.steer_effects import tell_damage, tell_doses, tell_next_words
from xmodel.report.steer_tables import tell_single

WIDTHS = pytest.mark.parametrize("width", [50, 80, 120])


def page(found, width=80):
    """The page as one line, so that no sentence is broken."""
    return " ".join(draw(render_steering(found, width), width).split())


def test_the_headline_has_its_chance_and_what_random_layers_give():
    assert tell_retrieval(make_found()) == (
        "A's push picks out B's partner among 100 candidates in 43% of cases (chance 1.0%; with random "
        "layers after the site 3.0%), p 0.002."
    )
    told = " ".join(tell_agreement(make_found()))
    assert "Partners agree by 0.321, other pairs by 0.000 (p 0.004)." in told
    assert "0.002; the trained ones lie 0.310 above that (95% interval over pairs 0.260 to 0.360)" in told
    assert "to 0.360), above all 2 draws." in told
    # What a model does with itself is no limit to what two models could do.
    assert "For comparison: either model agrees by 0.91 with itself" in told and "most" not in told


@pytest.mark.parametrize(
    ("draws", "said"),
    [
        ((0.1, 0.2, 0.3, 0.0, 0.1), "above all 5 draws"),
        ((0.1, 0.5, 0.1), "above 2 of 3 draws"),
        ((0.1,), "above the only draw"),
        ((0.4,), "not above the only draw"),
    ],
)
def test_draws_of_random_layers_are_counted(draws, said):
    assert count_below(make_excess(0.3, 0.2, 0.4, trained=0.4, draws=draws)) == said


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (0.25, "a quarter of the way from there to the output"),
        (0.5, "half of the way from there to the output"),
        (0.4, "40% of the way from there to the output"),
        (1.0, "at the last block."),
    ],
)
def test_what_was_done_is_said_first(depth, said):
    told = tell_doing(make_found(depth=depth))
    assert told.startswith(
        "Pushed the 100 pairs of features that fire most alike (greatest r), A along the one and B along "
        "its partner, by 0.25"
    )
    assert said in told and "200 held-out words" in told and "3 more doses and depths" in told


def test_pairs_of_the_users_own_are_not_called_the_best():
    found = make_found()
    found["settings"]["features"] = [[1200, 1300]]
    assert tell_doing(found).startswith("Pushed the 100 pairs of features that were named, A along")
    told = tell_doses(found)
    assert "the first 2 pairs" in told and "greatest r" not in told


def test_pairs_that_never_fire_are_counted_out_of_an_ablation():
    told = tell_doing(make_found("ablate"))
    assert told.startswith("Switched off, wherever they fire, the 100 pairs of features that fire most alike")
    assert "93 of the 100 pairs count; the other 7 have a feature that fires on no token" in told
    found = make_found("ablate")
    assert "12 of 93 transfer" in tell_single(found) and "180 of B" in page(found)
    found["ablation"]["pairs"] = 100
    assert "no token" not in tell_doing(found)


def test_partners_beyond_random_layers_and_hard_pairs_are_called_so():
    verdict, _ = judge_transfer(make_found())
    assert "partners do alike, beyond what random layers give, and beyond features" in verdict
    assert "61 hard pairs can tell (a pair's agreement less its hard pair's is 0.120, 95% int" in verdict
    assert "71%" in verdict and "But" not in verdict


@pytest.mark.parametrize("share", [0.4, 0.52, 0.9])
@pytest.mark.parametrize("over", [make_excess(0.1, -0.01, 0.3), make_excess(0.1, 0.0, 0.3), None])
def test_where_hard_pairs_do_as_well_it_says_so(share, over):
    """The difference from its own hard pair decides, not how often pairs win over all hard pairs."""
    found = make_found(over_hard=over, auroc={"off_diagonal": 0.9, "hard": share, "next_best": None})
    assert classify_transfer(found) == "alike"
    verdict, _ = judge_transfer(found)
    assert "beyond what random layers give. But pairs of features that merely fire alike" in verdict
    assert "as far as 61 hard pairs can tell" in verdict and f"{share:.0%} of comparisons" in verdict


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.3, -0.01, "less"),
        (-0.3, 0.0, "alike"),
        (-0.1, 0.1, "alike"),
        (0.0, 0.3, "alike"),
        (0.01, 0.3, "partners"),
    ],
)
def test_hard_pairs_that_agree_more_are_told_from_those_that_agree_as_well(low, high, expected):
    found = make_found(over_hard=make_excess((low + high) / 2, low, high))
    assert classify_transfer(found) == expected
    verdict, style = judge_transfer(found)
    assert ("agree more than the partners do, as far as 61 hard pairs can tell" in verdict) == (
        expected == "less"
    )
    assert ("agree as well" in verdict) == (expected == "alike")
    assert (style == WARNING) == ("who was paired with whom" in verdict) == (expected != "partners")
    # Comparisons are those of the pairs that have a hard pair, not of all pairs.
    assert "pairs that have one win 71% of comparisons with all of them, chance 50%)" in verdict


def test_an_excess_counts_only_above_every_one_of_two_draws_or_more():
    def classify(**changes):
        own = make_cell(0.25, 0.5)["excess"] | {"difference": make_excess(0.3, 0.2, 0.4, **changes)}
        return classify_transfer(make_found(excess=own))

    assert classify(trained=0.4, draws=(0.1, 0.2)) == "partners"
    assert classify(trained=0.4, draws=(0.0, 0.1, 0.4)) == "architecture"
    assert classify(trained=0.4, draws=(0.1,)) == "few" and classify(trained=0.4, draws=(0.5,)) != "few"
    own = make_cell(0.25, 0.5)["excess"] | {"difference": make_excess(0.3, 0.2, 0.4, draws=(0.1,))}
    verdict, style = judge_transfer(make_found(excess=own))
    assert "one draw of random layers only, not enough for a verdict; use --reinit 3 or more" in verdict
    assert style == WARNING and "partners do alike" not in verdict


def test_without_hard_pairs_nothing_is_said_of_them():
    auroc = {"off_diagonal": 0.9, "hard": None, "next_best": None}
    excess = make_cell(0.25, 0.5)["excess"] | {"auroc_hard": None}
    verdict, _ = judge_transfer(make_found(auroc=auroc, excess=excess))
    assert "is not known" in verdict and "no hard pairs were found" in verdict


def test_no_transfer_is_called_so():
    below = make_cell(0.25, 0.5)["excess"] | {"difference": make_excess(0.01, -0.01, 0.03)}
    verdict, _ = judge_transfer(make_found(excess=below))
    assert "no transfer is shown" in verdict and "random layers" in verdict
    verdict, _ = judge_transfer(make_found(p_max=0.06))
    assert "no transfer is shown" in verdict and "not clearly more than other pairs" in verdict
    # The level is the user's.
    found = make_found(p_max=0.06)
    found["settings"]["alpha"] = 0.1
    assert "partners do alike" in judge_transfer(found)[0]


def test_without_random_layers_the_question_stays_open():
    found = make_found(excess=None, reinitialised=None)
    verdict, _ = judge_transfer(found)
    assert "is not known" in verdict and "--reinit 3" in verdict
    assert "random layers" not in tell_retrieval(found) and "random layers" not in tell_agreement(found)[0]
    told = page(found)
    assert "beyond –" not in told and "after the site, in both" not in told


def test_too_few_pairs_have_no_test_but_a_page():
    retrieval = make_cell(0.25, 0.5)["retrieval"] | {"candidates": 1, "p_top1": None, "p_top1_max": None}
    found = make_found(
        p=None,
        p_max=None,
        retrieval=retrieval,
        mean_off_diagonal=None,
        auroc={"off_diagonal": None, "hard": None, "next_best": None},
        excess={name: None for name in ("mean_diagonal", "difference", "top1", "auroc_hard")},
    )
    found |= {
        "pairs": found["pairs"][:1],
        "pairs_sharing_no_feature": 1,
        "best_pairs": found["best_pairs"][:1],
    }
    assert tell_retrieval(found) is None
    assert "too few" in judge_transfer(found)[0]
    assert tell_agreement(found)[0].startswith("Partners agree by 0.321. For comparison")
    told = page(found)
    assert "Pushed the pair of features that fires most alike" in told and "exchanges of partners" not in told
    assert "The pair a b" in told


def test_everything_that_is_missing_is_left_out():
    found = make_found(damage={}, means=dict.fromkeys(make_cell(0.25, 0.5)["means"]))
    found |= {
        "ceiling": None,
        "next_words": None,
        "examples": [],
        "best_pairs": [],
        "contrasts": [],
        "live": 0,
    }
    found |= {"reliability": {"correlation": None, "full": None}}
    for name in ("dose_response", "rises", "carried"):
        del found[name]
    told = page(found)
    assert "share too few words" in told and "For comparison" not in told
    for title in ("damage", "what rises", "linear map", "other texts", "contrast prompts", "say next"):
        assert title not in told


def test_ablation_has_no_dose_and_no_sign():
    found = make_found("ablate")
    told = page(found)
    assert "What A loses picks out B's partner" in told and "By depth" in told
    for absent in ("dose:", "turns round", "damage", "next words", "say next"):
        assert absent not in told
    assert tell_damage(found) is None and tell_doses(found) is None and tell_next_words(found) is None


def test_nulls_stand_from_weak_to_strong_above_the_partners():
    lines = draw(render_steering(make_found(), 120), 120).splitlines()
    names = ["words permuted", "random directions", "live features", "other pairs", "next best", "hard pairs"]
    names += ["random layers", "partners"]
    start = next(place for place, line in enumerate(lines) if line.startswith("words permuted"))
    own = lines[start : start + len(names)]
    assert [line[: len(name)] for line, name in zip(own, names, strict=True)] == names
    values = [float(line[17:26]) for line in own]
    assert values == [0.011, 0.012, 0.013, 0.0, 0.114, 0.213, 0.015, 0.321]


def test_too_few_draws_are_named_as_the_reason():
    found = make_found()
    assert tell_single(found).startswith("Pair by pair, 12 of 100 transfer beyond permuted words, random dir")
    found["pairs_significant"] = 0
    assert "With 200 draws no p lies below 0.005: none counts unless 10 or more" in tell_single(found)
    found["live"] = 10
    assert "too few for any" in tell_single(found)
    found["live"], found["settings"]["permutations"] = 2000, 2000
    found["settings"]["random"] = 2000
    assert "draws" not in tell_single(found)


def test_doses_are_told_in_both_models():
    told = tell_doses(make_found())
    assert (
        "by 0.3 nats in A and 0.6 in B" in told
        and "as much as 1.05 times it in B (the 2 pairs of greatest r" in told
    )
    assert told.count("the 2 pairs of greatest r") == 3
    assert "Twice a small dose makes 2.0 times the change." in told
    found = make_found()
    found["dose_response"]["exchange"] |= {"rate": None, "units": None}
    found["dose_response"]["kl_matched"] = None
    assert "No dose of B could be found" in tell_doses(found) and "At doses that do" not in tell_doses(found)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"a": 0.75, "b": 0.5}, "is 0.75 in A and 0.50 in B times as large as what turns round with it. It"),
        ({"a": 1.75, "b": 0.5}, "as what turns round with it. It"),
        ({"a": 1.75, "b": 1.5}, "turns round with it: most of what it does is damage. It"),
    ],
)
def test_damage_is_called_most_of_it_only_where_it_is(damage, said):
    assert said in tell_damage(make_found(damage=damage))


def test_next_words_stand_beside_the_copy_and_random_layers():
    told = tell_next_words(make_found())
    assert "the push's own copy taken out, by a correlation of 0.200 (other pairs 0.010, p 0.001)" in told
    assert "The copy alone, without any layer after the site, gives 0.240 (40% picked out)" in told
    assert "one draw of random layers, their copy taken out, 0.030 (2.0% picked out)." in told
    found = make_found()
    found["next_words"]["reinitialised"] = None
    assert tell_next_words(found).endswith("random layers were not tried.")


@pytest.mark.parametrize(
    ("shares", "dtype", "said"),
    [
        (
            {"a": 0.12, "b": 0.1},
            "bfloat16",
            "makes up 12% of what random layers give in A: use --dtype float32.",
        ),
        ({"a": 0.12, "b": 0.2}, "float32", "in A and 20% of what random layers give in B: push harder"),
        ({"a": 0.1, "b": None}, "bfloat16", None),
        (None, "bfloat16", None),
    ],
)
def test_rounding_that_matters_is_warned_of(shares, dtype, said):
    found = make_found()
    found["floor"]["reinitialised"], found["settings"]["dtype"] = shares, dtype
    told = tell_rounding(found)
    assert told is None if said is None else said in told
    assert ("Rounding" in page(found)) == (said is not None)


def test_blocks_that_are_read_are_named_and_those_that_are_the_same():
    found = make_found()
    assert "read after blocks 4, 4 of 0 to 5 in A and 5, 5 of 0 to 7 in B. 0.5 and 1 are one" in page(found)
    for cell in found["cells"]:
        cell["block_a"], cell["block_b"] = 3 + (cell["depth"] == 1), 6 + (cell["depth"] == 1)
    assert "3, 4 of 0 to 5 in A and 6, 7 of 0 to 7 in B." in page(found) and "are one block" not in page(
        found
    )


def test_examples_are_called_chosen():
    told = page(make_found())
    assert "pushed along the pair that transfers most clearly" in told and "they are no sample" in told
    assert "agreement 0.500, p 0.010, q 0.040" in told


@WIDTHS
@pytest.mark.parametrize("mode", ["push", "ablate"])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_line_is_longer_than_the_terminal_is_wide_and_no_text_acts(width, mode, terminal):
    shown = draw(render_steering(make_found(mode), width), width, terminal)
    assert "\x1b[2J" not in shown and "\x1b[31mred" not in shown and "\x07" not in shown
    if not terminal:
        assert max(cell_len(line) for line in shown.splitlines()) <= width
        assert "\x1b" not in shown


@pytest.mark.parametrize("width", [50, 80])
def test_columns_without_room_are_named(width):
    shown = draw(render_steering(make_found(), width), width)
    assert ("no room here for: top-1, hard, pairs, ±, top-5" in shown) == (width == 50)
    assert ("no room here for: own" in shown) == (width == 50)


def test_the_marked_row_is_the_primary_one():
    shown = draw(render_steering(make_found(mean_diagonal=0.777), 80), 80)
    (marked,) = [line for line in shown.splitlines() if line.startswith("▸") and "0.777" in line]
    assert marked.split()[:4] == ["▸", "0.25", "0.5", "0.777"]


def test_next_words_are_words_with_their_probabilities():
    shown = draw(render_steering(make_found(), 120), 120)
    assert "the 25%" in shown and "-ing 25%" in shown and "a 1200  fires on  whale ship" in shown
    assert [line.split()[0] for line in shown.splitlines() if "the 25%" in line] == ["-0.5", "0", "+0.5"]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "trust"),
        ({"odd": 0.7}, "trust"),
        ({"odd": 0.69}, "care"),
        ({"odd": 0.3}, "care"),
        ({"odd": 0.29}, "little"),
        ({"p_adjusted": 0.051}, "distrust"),
        ({"share": 0.4}, "distrust"),
        ({"p_adjusted": None, "random_mean": None, "random_largest": None}, "unknown"),
    ],
)
def test_a_ported_vector_is_judged_by_chance_first(changes, verdict):
    ported = make_ported(**changes)
    assert judge_port(ported) == verdict
    found = ported | {"verdict": verdict}
    for width in (50, 80, 120):
        shown = draw(render_port(found, width), width)
        assert max(cell_len(line) for line in shown.splitlines()) <= width and "\x1b" not in shown
    told = " ".join(shown.split())
    said = {
        "trust": "trust it. B's",
        "care": "with care",
        "little": "do not rely on it. B's vector does little",
        "distrust": "do not trust it",
        "unknown": "not known",
    }
    assert f"Verdict: {said[verdict]}" in told or f"Verdict: use it {said[verdict]}" in told
    assert "83% of the vector's length" in told or "share" in changes
    assert "2 more features have smaller weights" in told


def test_a_ported_vector_tells_of_the_linear_map_and_of_its_scale():
    found = make_ported(odd_linear=0.8)
    found["verdict"] = "trust"
    assert "The linear map does better here." in " ".join(draw(render_port(found, 80), 80).split())
    found = make_ported(exchange={"by": "norm", "rate": None, "units": 1.4, "by_norm": 1.4}, reference=None)
    found["verdict"] = "trust"
    told = " ".join(draw(render_port(found, 80), 80).split())
    assert "scaled by the norms" in told and "Single pairs" not in told and "does better" not in told
