"""What the models say next under pushes: agreement over shared words, and examples for a reader."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.pairing.firings import read_rows
from xmodel.similarity.orders import draw_orders
from xmodel.steering.collecting import Collector
from xmodel.steering.doses import place_at_end, push_to_end
from xmodel.steering.next_words import (
    LEAST_SHARED,
    NextWord,
    compare_effects,
    list_next_words,
    measure_word_effects,
)
from xmodel.steering.readouts import list_distinct, measure_auroc, measure_retrieval, test_diagonal
from xmodel.steering.settings import EXAMPLE_DOSE
from xmodel.steering.shared_words import SharedWords, find_shared_words

MOST_SHARED = 4096
"""Shared words over which effects are compared, the most frequent."""
PUSHES = 16
"""Pushes whose residuals are held at one time."""
CONTEXT_BYTES = 160
"""Bytes of text that an example shows before what comes next."""
RAISED = 6
"""Words that an example lists as raised."""


@dataclass(frozen=True, eq=False)
class SayingStudy:
    """The odd effect of every pair's pushes on the next word, at the primary dose."""

    shared: SharedWords
    effects: tuple[NDArray[np.float64], NDArray[np.float64]]
    """[F, V] of A's features and [F, V] of B's, in nats, of what the layers make of a push: its own copy on
    the skip connection is taken away. B's are turned by the sign of the pair."""
    similarity: NDArray[np.float64]
    """[F, F] correlation of these over shared words."""
    copy_alone: NDArray[np.float64]
    """[F, F] the same with nothing but the copy: the clean residual after the last block, and the push."""
    reinitialised: NDArray[np.float64] | None
    """[F, F] as `similarity`, with one draw of random layers after the site."""


def study_saying(collector: Collector) -> SayingStudy | None:
    """Measure what every pair's pushes do to the next word; None where vocabularies share almost no word."""
    session = collector.session
    first, second = (one.tokenizer for one in session.loaded)
    # Pieces of words, which are tokens too, are not the same event in both models.
    texts = set(session.run.words["text"].to_pylist())
    shared = find_shared_words(first, second, among=texts, most=MOST_SHARED)
    if len(shared) < LEAST_SHARED:
        return None
    dose, _ = session.settings.cells[session.settings.primary]

    def compute() -> dict[str, NDArray]:
        return {
            f"{name}_{'ab'[number]}": effects
            for number, ids in enumerate((shared.ids_a, shared.ids_b))
            for name, effects in _measure_effects(collector, number, ids, dose or 0.0).items()
        }

    settings = session.settings
    random = settings.reinit, settings.reinit_how
    found = collector.keep("saying-00000", compute, dose, len(shared), random)
    turned = {name: (found[f"{name}_a"], found[f"{name}_b"] * session.sign[:, None]) for name in _list(found)}
    return SayingStudy(
        shared,
        turned["own"],
        compare_effects(*turned["own"]),
        compare_effects(*turned["copy"]),
        compare_effects(*turned["random"]) if "random" in turned else None,
    )


def describe_saying(collector: Collector, study: SayingStudy) -> dict[str, Any]:
    """Agreement of next-word effects as steering.json has it, partners shuffled for chance."""
    session = collector.session
    distinct = list_distinct(session.pairs.a, session.pairs.b)
    rng = np.random.default_rng([session.settings.seed, 6])
    orders = draw_orders(len(distinct), session.settings.permutations, rng)
    own = study.similarity[np.ix_(distinct, distinct)]
    off = own[~np.eye(len(own), dtype=np.bool_)]
    others = {"copy_alone": study.copy_alone, "reinitialised": study.reinitialised}
    return {
        "shared_words": len(study.shared),
        "dose": session.settings.cells[session.settings.primary][0],
        **_test(own, orders),
        "auroc": measure_auroc(np.diag(own), off) if len(off) else None,
        "pairs": np.diag(study.similarity).tolist(),
        **{
            name: None if one is None else _test(one[np.ix_(distinct, distinct)], orders)
            for name, one in others.items()
        },
    }


def _test(similarity: NDArray[np.float64], orders: NDArray[np.int64]) -> dict[str, Any]:
    test = test_diagonal(similarity[None], orders)
    retrieval = measure_retrieval(similarity, np.arange(len(similarity)), orders=orders)
    return {
        "mean_diagonal": float(test.diagonal[0]),
        "mean_off_diagonal": float(test.others[0]) if len(similarity) > 1 else None,
        "p": None if test.p is None else float(test.p[0]),
        "top1": retrieval.top1,
        "chance1": retrieval.chance1,
        "p_top1": retrieval.p1,
    }


def _list(found: Mapping[str, Any]) -> list[str]:
    """Which effects were measured."""
    return sorted({name.rpartition("_")[0] for name in found})


def give_examples(
    collector: Collector, chosen: NDArray[np.int64], study: SayingStudy | None
) -> list[dict[str, Any]]:
    """What both models say next, at doses of -0.5, 0 and 0.5, for some pairs.

    Args:
        collector: of a session of pushes.
        chosen: [n] which pairs.
        study: next-word effects, for the words that each push raises most; None leaves these out.

    Returns:
        for each pair its features, ``text`` (what both models have read), and for each model and dose the
        most likely next tokens with their probabilities.
    """
    session = collector.session
    words = _choose_words(session.strata, len(chosen))
    examples: list[dict[str, Any]] = [
        {
            "pair": int(pair),
            "feature_a": int(session.pairs.a[pair]),
            "feature_b": int(session.pairs.b[pair]),
            "text": _read_text(collector, word),
            "doses": [-EXAMPLE_DOSE, 0.0, EXAMPLE_DOSE],
        }
        for pair, word in zip(chosen, words, strict=True)
    ]
    for number, letter in enumerate("ab"):
        side, head = place_at_end(session, number)
        vectors = session.directions[number].vectors[session.rows[number]]
        for example, pair, word in zip(examples, chosen.tolist(), words, strict=True):
            vector = vectors[pair] * np.float32(session.sign[pair] if number else 1)
            pushed = push_to_end(side, np.repeat(vector[None], 3, axis=0), np.array(example["doses"]))
            logits = head.logits(pushed[:, word])
            tokenizer = session.loaded[number].tokenizer
            example[f"next_{letter}"] = [
                [_describe_word(one) for one in list_next_words(own, tokenizer)] for own in logits
            ]
            if study is not None:
                best = np.argsort(-study.effects[number][pair], kind="stable")[:RAISED]
                example[f"raised_{letter}"] = [study.shared.texts[one] for one in best]
    return examples


def _measure_effects(
    collector: Collector, number: int, ids: NDArray[np.int64], dose: float
) -> dict[str, NDArray[np.float64]]:
    """[F, V] effects of what the layers make of pushes, of the copy alone, and with random layers."""
    import torch

    session = collector.session
    model = session.loaded[number].model
    side, head = place_at_end(session, number)
    sides = {"own": side}
    if session.settings.reinit:
        sides["random"] = collector.randomise(number, 0, reads=(model.layers - 1,))
    columns = torch.from_numpy(ids).to(model.device)
    vectors = session.directions[number].vectors[session.rows[number]]
    clean = side.take(side.replay.clean[side.blocks[0]])
    found: dict[str, list[NDArray[np.float64]]] = {"copy": [], **{name: [] for name in sides}}
    for low in range(0, len(vectors), PUSHES):
        collector.report(f"next_word_{'ab'[number]}", low, len(vectors))
        own = vectors[low : low + PUSHES]
        steps = torch.from_numpy(own * np.float32(dose * side.scale)).to(clean)[:, None, :]
        found["copy"].append(measure_word_effects(head.logits_of, clean + steps, clean - steps, columns))
        for name, one in sides.items():
            plus, minus = (
                push_to_end(one, own, np.full(len(own), strength), keep_copy=False)
                for strength in (dose, -dose)
            )
            found[name].append(measure_word_effects(head.logits_of, plus, minus, columns))
    collector.report(f"next_word_{'ab'[number]}", len(vectors), len(vectors))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _choose_words(strata: NDArray[np.int64], count: int) -> list[int]:
    """The last words of the longest passages, which have most context, over and over if there are few."""
    passages, counts = np.unique(strata, return_counts=True)
    longest = passages[np.argsort(-counts, kind="stable")]
    return [int(np.flatnonzero(strata == longest[one % len(longest)])[-1]) for one in range(count)]


def _read_text(collector: Collector, word: int) -> str:
    """What stands before and at a word, as far as an example shows it."""
    session = collector.session
    ids = session.passages.word_ids[session.kept]
    own = np.flatnonzero(session.strata == session.strata[word])
    first, last = int(ids[own[0]]), int(ids[word])
    begin = read_rows(session.run, "words", first, first + 1, ["start"])["start"][0].as_py()
    row = read_rows(session.run, "words", last, last + 1, ["document", "end"])
    number, end = row["document"][0].as_py(), row["end"][0].as_py()
    page = read_rows(session.run, "documents", number, number + 1, ["text"])["text"][0].as_py().encode()
    return page[max(begin, end - CONTEXT_BYTES) : end].decode("utf-8", "ignore")


def _describe_word(word: NextWord) -> dict[str, Any]:
    return {"text": word.text, "probability": word.probability}
