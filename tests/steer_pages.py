"""What steering found, made up: every number is known, so that the page can be held against it."""

from copy import deepcopy

from tests.report_helpers import HOSTILE

DOSES, DEPTHS = (0.1, 0.25), (0.5, 1.0)


def make_excess(value, low, high, p=None, trained=None, draws=(0.001, 0.003)):
    return {
        "value": value,
        "interval": [low, high],
        "p": p,
        "p_draws": 0.25,
        "trained": value + 0.002 if trained is None else trained,
        "reinitialised": list(draws),
    }


def make_cell(dose, depth, **changes):
    cell = {
        "dose": dose,
        "depth": depth,
        "block_a": 4,
        "block_b": 5,
        "mean_diagonal": 0.321,
        "mean_off_diagonal": -0.0004,
        "difference": 0.321,
        "p": 0.001,
        "p_max": 0.004,
        "retrieval": {
            "candidates": 100,
            "top1": 0.43,
            "top5": 0.65,
            "mrr": 0.5,
            "chance1": 0.01,
            "chance5": 0.05,
            "chance_mrr": 0.05,
            "p_top1": 0.001,
            "p_top1_max": 0.002,
            "top1_back": 0.4,
            "top5_back": 0.6,
            "p_top1_back": 0.001,
        },
        "auroc": {"off_diagonal": 0.9, "hard": 0.71, "next_best": 0.6},
        "means": {
            "words": 0.011,
            "random": 0.012,
            "live": 0.013,
            "hard": 0.213,
            "partners_matched": 0.334,
            "next_best": 0.114,
            "even": 0.5,
            "even_off_diagonal": 0.4,
        },
        "reinitialised": {
            "draws": 2,
            "mean_diagonal": 0.015,
            "mean_off_diagonal": 0.0,
            "top1": [0.02, 0.04],
            "auroc_off_diagonal": [0.5, 0.5],
            "auroc_hard": [0.5, 0.5],
        },
        "excess": {
            "mean_diagonal": make_excess(0.30, 0.25, 0.35, 0.0001),
            "difference": make_excess(0.31, 0.26, 0.36),
            "top1": make_excess(0.40, 0.3, 0.5),
            "auroc_hard": make_excess(0.21, 0.1, 0.3),
        },
        "over_hard": make_excess(0.12, 0.05, 0.19, 0.001, trained=0.334, draws=[0.213]) | {"pairs": 61},
        "damage": {"a": 0.75, "b": 0.5},
        "pairs_significant": 12,
    }
    return cell | changes


def make_found(mode="push", **primary):
    """A description as `describe_steering` gives it; `primary` changes the primary cell."""
    doses = DOSES if mode == "push" else (None,)
    cells = [make_cell(dose, depth) for dose in doses for depth in DEPTHS]
    place = 2 if mode == "push" else 0
    cells[place] |= primary
    pairs = [
        {"feature_a": 1200 + n, "feature_b": 1300 + n, "r": 0.9, "p": 0.01, "p_adjusted": 0.04}
        for n in range(100)
    ]
    tops = {"top_words_a": ["whale", "ship", HOSTILE[0]], "top_words_b": ["whale", HOSTILE[1], "漢" * 50]}
    best = [{**pair, "r_heldout": 0.8, "odd": 0.5, **tops} for pair in pairs[:10]]
    words = [[{"text": text, "probability": 0.25} for text in (" the", "ing", "\x1b[2J", " a")]] * 3
    found = {
        "run": "runs/one",
        "mode": mode,
        "primary": place,
        "cells": cells,
        "pairs": pairs,
        "ablation": None,
        "pairs_significant": 12,
        "pairs_sharing_no_feature": 100,
        "hard_pairs": {"count": 61, "matched": 0.61, "kinds": {"other": 61}},
        "floor": {"dose": 1.5e-8, "a": [1e-6] * 4, "b": [1e-6] * 4, "reinitialised": {"a": 0.02, "b": 0.03}},
        "live": 200,
        "words": 200,
        "reliability": {"correlation": 0.4, "full": 0.57},
        "sides": {
            side: {
                "model": f"model-{side}",
                "dictionary": f"sae-{side}",
                "site": "blocks.2.hook_resid_post",
                "layers": 6 + 2 * number,
            }
            for number, side in enumerate("ab")
        },
        "settings": {
            "doses": list(DOSES),
            "features": [],
            "dtype": "float32",
            "alpha": 0.05,
            "random": 1000,
            "permutations": 999,
        },
        "examples": [],
        "best_pairs": best,
    }
    if mode == "ablate":
        return found | {"ablation": {"pairs": 93, "live": 180}}
    return found | {
        "ceiling": {"a": {}, "b": {}, "transfer": 0.91},
        "next_words": {
            "shared_words": 2490,
            "mean_diagonal": 0.2,
            "mean_off_diagonal": 0.01,
            "p": 0.001,
            "top1": 0.3,
            "chance1": 0.01,
            "copy_alone": {"mean_diagonal": 0.24, "top1": 0.4},
            "reinitialised": {"mean_diagonal": 0.03, "mean_off_diagonal": 0.0, "top1": 0.02},
        },
        "dose_response": {
            "doses": [0.05, 0.25],
            "pairs": [0, 1],
            "kl": {"a": [[0.1, 0.2], [0.1, 0.4]], "b": [[0.1, 0.5], [0.1, 0.7]]},
            "slopes": {"a": [1.0, None], "b": [1.0, 1.0]},
            "exchange": {"rate": 1.05, "low": 1.01, "high": 1.2, "units": 1.57, "by_norm": 1.5, "pairs": 2},
            "kl_matched": {"mean_diagonal": 0.054, "mean_off_diagonal": -0.018},
        },
        "rises": {
            "a": {"first": 1.0, "median_rank": 1.0, "of": 100},
            "b": {"first": 0.9, "median_rank": 1.0, "of": 100},
            "b_linear": {"first": 0.7, "median_rank": 1.0, "of": 100},
        },
        "carried": {
            "pairs": {"mean_diagonal": 0.321, "mean_off_diagonal": 0.0, "top1": 0.43},
            "linear": {"mean_diagonal": 0.4, "mean_off_diagonal": 0.0, "top1": 0.6},
            "linear_map": {"r2_heldout": 0.5},
        },
        "contrasts": [
            {
                "name": "past-present",
                "share": 0.92,
                "share_random": 0.4,
                **{way: {"odd": 0.1, "p": 0.002} for way in ("pairs", "linear", "own")},
            }
        ],
        "examples": [
            {
                "pair": 0,
                **best[0],
                "text": f"in the beginning {HOSTILE[0]} was",
                "doses": [-0.5, 0.0, 0.5],
                "next_a": deepcopy(words),
                "next_b": deepcopy(words),
                "raised_a": ["sea", "land"],
                "raised_b": ["sea", "sky"],
            }
        ],
    }


def make_ported(**changes):
    """What `describe_port` gives; its verdict is left to be judged."""
    cell = {
        "dose": 0.25,
        "depth": 0.5,
        "odd": 0.75,
        "p": 0.001,
        "p_adjusted": 0.002,
        "odd_linear": 0.4,
        "p_linear": 0.003,
        "random_mean": 0.01,
        "random_largest": 0.2,
    }
    tops = {"top_words_a": ["whale", HOSTILE[0]], "top_words_b": ["whale"]}
    ported = {
        "run": "runs/one",
        "source": "happy.gguf",
        "out": "happy-b.gguf",
        "name": "happy",
        **{f"site_{side}": "blocks.2.hook_resid_post" for side in "ab"},
        **{f"model_{side}": f"model-{side}" for side in "ab"},
        "norm_a": 3.0,
        "norm_b": 4.5,
        "share": 0.83,
        "share_random": 0.4,
        "stretch": 1.0,
        "features": [
            {"feature_a": n, "feature_b": n + 1, "coefficient": 3.0 - n / 10, **tops} for n in range(12)
        ],
        "cosine_linear": 0.3,
        "exchange": {"by": "kl", "rate": 1.0, "units": 1.5, "by_norm": 1.4},
        "cells": [cell | {"dose": 0.1}, cell],
        "primary": 1,
        "random": 1000,
        "words": 200,
        "reference": {"mean_diagonal": 0.05, "ceiling": {"transfer": 0.9}},
        "settings": {"alpha": 0.05},
    }
    for name, value in changes.items():
        if name in cell:
            ported["cells"][1][name] = value
        else:
            ported[name] = value
    return ported
