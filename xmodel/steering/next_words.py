"""What a push makes of the next word: the change of a model's predictions, over words that two models share.

Only words that are one token in both vocabularies are looked at (`shared_words.py`), and probabilities are
taken among these alone, so that both models speak about the same events.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmodel.alignment.tokenizer import Tokenizer
from xmodel.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

LOGIT_BYTES = 1 << 28
"""Most bytes of logits that are held at one time. A large head's weights are read anew for every slice, so
small slices are slow."""
LEAST_SHARED = 3
"""Shared words below which two effects cannot be correlated."""


@dataclass(frozen=True)
class NextWord:
    """One token that a model may say next."""

    id: int
    """The tokenizer's id."""
    text: str
    """What it stands for, with the space before it; bytes that are no character are written ``\\xe2``."""
    probability: float
    """Among all of the vocabulary."""


def measure_effects(log_probs_plus: "Tensor", log_probs_minus: "Tensor") -> NDArray[np.float64]:
    """The odd effect of pushes on the next word: half of log p(+c) - log p(-c), averaged over positions.

    Args:
        log_probs_plus: [..., N, V] logits or log-probabilities of the V shared words at N positions, under
            the push along the direction. Only differences between words count: they are normalised here, over
            the shared words alone.
        log_probs_minus: the same under the push the other way.

    Returns:
        [..., V] nats; exactly 0 where the push changes nothing.

    Raises:
        InputError: shapes that differ, no position or no word, or values that are not finite.
    """
    import torch

    plus, minus = log_probs_plus, log_probs_minus
    _check_signs(plus, minus)
    flat = (one.reshape(-1, *one.shape[-2:]) for one in (plus, minus))
    effects = [_take_odd(first, second) for first, second in zip(*flat, strict=True)]
    effect = torch.stack(effects).reshape(*plus.shape[:-2], plus.shape[-1]).numpy(force=True)
    if not np.isfinite(effect).all():
        raise InputError(
            "Predictions of the next word are not finite numbers; expected were logits of the shared words. "
            "Push by less, or run the model with --dtype float32."
        )
    return effect


def measure_word_effects(
    logits_of: "Callable[[Tensor, Tensor], Tensor]", plus: "Tensor", minus: "Tensor", columns: "Tensor"
) -> NDArray[np.float64]:
    """`measure_effects` from the residual stream after the last block, in slices of bounded memory.

    Args:
        logits_of: a head's logits [n, V] of rows [n, d] for some columns of its vocabulary
            (`Head.logits_of`).
        plus: [..., N, d] rows at N positions under the push along the direction.
        minus: the same under the push the other way.
        columns: [V] int64 tokens of the shared words.

    Returns:
        [..., V] nats.

    Raises:
        InputError: as `measure_effects`.
    """
    import torch

    _check_signs(plus, minus)
    # Both signs, in the model's number format and in float64.
    step = max(1, LOGIT_BYTES // (32 * max(1, len(columns))))
    effects = []
    with torch.inference_mode():
        flat = (one.reshape(-1, *one.shape[-2:]) for one in (plus, minus))
        for first, second in zip(*flat, strict=True):
            total = np.zeros(len(columns))
            for low in range(0, len(first), step):
                rows = slice(low, low + step)
                found = measure_effects(logits_of(first[rows], columns), logits_of(second[rows], columns))
                total += found * len(first[rows])
            effects.append(total / len(first))
    return np.stack(effects).reshape(*plus.shape[:-2], len(columns))


def compare_effects(
    first: NDArray[np.floating], second: NDArray[np.floating], *, ranks: bool = False
) -> NDArray[np.float64]:
    """Correlate the next-word effects of A's pushes with those of B's.

    Args:
        first: [F, V] effects of A's pushes on the shared words.
        second: [G, V] effects of B's on the same words.
        ranks: correlate ranks (Spearman) instead of values (Pearson): a few words that change much then count
            no more than others.

    Returns:
        [F, G]; 0 where an effect is the same for all words, as that of a push that changes nothing is.

    Raises:
        InputError: other words on the two sides, fewer than `LEAST_SHARED`, or values that are not finite.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1]:
        raise InputError(
            f"Effects on the next word came with shapes {one.shape} and {two.shape}; expected were two "
            "matrices [pushes, words] over the same shared words."
        )
    if one.shape[1] < LEAST_SHARED:
        raise InputError(
            f"The two vocabularies share {one.shape[1]} words that are one token in both; expected were "
            f"{LEAST_SHARED} or more. Leave the next-word effect out for this pair of models."
        )
    if not np.isfinite(one).all() or not np.isfinite(two).all():
        raise InputError("Effects on the next word are not finite; expected were those of `measure_effects`.")
    # Rounding may take a correlation a little past 1.
    return np.clip(_standardise(one, ranks) @ _standardise(two, ranks).T, -1, 1)


def list_next_words(logits: "Tensor", tokenizer: Tokenizer, *, most: int = 5) -> list[NextWord]:
    """The most likely next tokens at one position, the likeliest first.

    Args:
        logits: [V] of the whole vocabulary, in the model's order; a head may have more columns than the
            tokenizer has ids.
        tokenizer: the model's.
        most: how many.

    Raises:
        InputError: not one row of logits, or values that are not numbers.
    """
    import torch

    if logits.ndim != 1 or not len(logits) or bool(torch.isnan(logits).any()):
        raise InputError(
            f"Logits came with shape {tuple(logits.shape)}; expected was one row [V] of numbers, that of one "
            "position."
        )
    probabilities = torch.softmax(logits.to(torch.float64), 0)
    best = probabilities.topk(min(most, len(logits)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [NextWord(token, _name_token(tokenizer, token), p) for token, p in pairs]


def _check_signs(plus: "Tensor", minus: "Tensor") -> None:
    if plus.shape != minus.shape or plus.ndim < 2 or not plus.numel():
        raise InputError(
            f"Both signs of a push came with shapes {tuple(plus.shape)} and {tuple(minus.shape)}; expected "
            "were rows or predictions at the same positions, [..., N, d] or [..., N, V], and at least one."
        )


def _take_odd(plus: "Tensor", minus: "Tensor") -> "Tensor":
    """[V] float64 mean of half the difference of log-probabilities [N, V]."""
    import torch

    odd = torch.log_softmax(plus.to(torch.float64), -1) - torch.log_softmax(minus.to(torch.float64), -1)
    return odd.mean(0) / 2


def _standardise(effects: NDArray[np.float64], ranks: bool) -> NDArray[np.float64]:
    """[F, V] rows of mean 0 and length 1; zeros where a row is constant."""
    from scipy.stats import rankdata

    # Divided by its largest value a constant row is of ones, whose mean is exact, so that zeros are left.
    largest = np.abs(effects).max(1, keepdims=True)
    values = rankdata(effects, axis=1) if ranks else effects / np.where(largest > 0, largest, 1)
    centred = values - values.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(norms > 0, norms, 1)


def _name_token(tokenizer: Tokenizer, token: int) -> str:
    """What a token stands for; its name in the vocabulary where that is nothing, or it is special."""
    spelling = tokenizer.spelling
    if token >= len(spelling) or not spelling.known[token]:
        return f"<id {token}>"
    spelled = tokenizer.describe_id(token)
    named = spelling.special[token] or not spelled
    return tokenizer.token_name(token) if named else spelled.decode("utf-8", "backslashreplace")
