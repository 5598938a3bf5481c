"""The passages that are steered: stretches of held-out text that both models read alike, and their words.

Both models are given the same bytes, in the run's own ids: nothing is tokenized again, and a passage is cut
only where no token of either model lies on both sides of the cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodel.errors import InputError
from xmodel.pairing.firings import read_rows
from xmodel.pairing.halves import read_word_texts
from xmodel.pairing.results import Run
from xmodel.records import TokenFlag
from xmodel.steering.settings import LEAST_WORDS
from xmodel.steering.stretches import Half, Stretch, list_stretches, put_covering_first


@dataclass(frozen=True, eq=False)
class SidePassages:
    """The passages as one model reads them."""

    ids: NDArray[np.int64]
    """[P, T] token ids, BOS first where the model is given one; 0 where padded, on the right."""
    mask: NDArray[np.bool_]
    """[P, T] false where padded."""
    special: NDArray[np.bool_]
    """[P, T] true for BOS, and for special tokens that the text spells out."""
    rows: NDArray[np.int64]
    """[N] the passage of every word."""
    columns: NDArray[np.int64]
    """[N] where its last token stands."""


@dataclass(frozen=True, eq=False)
class Passages:
    """P passages of held-out text with N words, in the order of the corpus."""

    word_ids: NDArray[np.int64]
    """[N] rows of the run's words, ascending."""
    passage: NDArray[np.int64]
    """[N] the passage of every word, ascending."""
    texts: tuple[str, ...]
    """The words."""
    documents: NDArray[np.int64]
    """[P] the document of every passage."""
    a: SidePassages
    b: SidePassages

    def __len__(self) -> int:
        return len(self.documents)


def choose_passages(
    run: Run,
    words: int,
    *,
    passage_words: int = 50,
    seed: int = 0,
    lead: int = 0,
    features: tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]] | None = None,
    half: Half = "heldout",
) -> Passages:
    """Choose held-out words in their context, spread over as many documents as possible.

    A passage is a stretch of consecutive words of one window of one document. Read are its words whose last
    token is, in both models, neither at column 0 nor among the positions that the run skipped, nor massive,
    special or shared with what follows. Words that the pairing skipped are context only.

    Args:
        run: a finished run.
        words: how many words to read; fewer are read where the corpus has no more, and never more.
        passage_words: words of a passage; the last one, and those of short documents, have fewer.
        seed: of the draw.
        lead: passages begin up to so many words earlier, as far as their windows reach, with the same words
            read: the same words in another context.
        features: [F] features of A and [F] of B, for ablation: passages are chosen such that as many of
            these pairs as possible fire together on a word that is read, each time the one that adds most.
        half: which half of the text; ``discovery`` for what is fitted before it is judged on held-out words.

    Raises:
        InputError: for settings that make no sense, a run with fewer than `LEAST_WORDS` such words, a `lead`
            that no passage has room for, or features that do not exist.
    """
    _check_choice(words, passage_words, lead)
    rng = np.random.default_rng(seed)
    stretches = list_stretches(run, words, passage_words, lead, rng, half)
    if features is not None:
        stretches = put_covering_first(run, stretches, words, *features)
    chosen = _take_words(stretches, words)
    found = sum(len(one.word_ids) for one in chosen)
    if found < LEAST_WORDS:
        raise InputError(
            f"{run.path} has {found} held-out words that both models read alike, and a comparison of Gram "
            f"matrices needs at least {LEAST_WORDS}: make the run on a longer corpus."
        )
    if lead and all((one.begin == one.earlier).all() for one in chosen):
        raise InputError(
            f"a lead of {lead} words came, and every one of the {len(chosen)} passages begins where its "
            "window or its half of the text does: ask for shorter passages, or another seed."
        )
    word_ids = np.concatenate([one.word_ids for one in chosen])
    texts = read_word_texts(run.folder, word_ids)
    manifest = run.manifest
    return Passages(
        word_ids=word_ids,
        passage=np.repeat(np.arange(len(chosen)), [len(one.word_ids) for one in chosen]),
        texts=tuple(texts[number] for number in word_ids.tolist()),
        documents=np.array([one.document for one in chosen], dtype=np.int64),
        a=_pack_side(run, "a", manifest["sides"]["a"]["prefix"], chosen),
        b=_pack_side(run, "b", manifest["sides"]["b"]["prefix"], chosen),
    )


def _check_choice(words: int, passage_words: int, lead: int) -> None:
    if words < LEAST_WORDS:
        raise InputError(
            f"{words} words were asked for: a comparison of Gram matrices needs at least {LEAST_WORDS}, and "
            "200 are good."
        )
    if passage_words < 2:
        raise InputError(
            f"passages of {passage_words} words were asked for: a model needs a context, so ask for at least "
            "2, and better for 20 or more."
        )
    if lead < 0:
        raise InputError(f"the lead came as {lead} words; expected was 0 or more.")


def _take_words(stretches: Sequence[Stretch], words: int) -> list[Stretch]:
    """The first stretches that have so many words together, the last one cut, in the order of the corpus."""
    chosen: list[Stretch] = []
    for one in stretches:
        if words <= 0:
            break
        chosen.append(one.take_first(words))
        words -= len(one.word_ids)
    return sorted(chosen, key=lambda one: int(one.word_ids[0]))


def _pack_side(run: Run, letter: str, prefix: Sequence[int], chosen: Sequence[Stretch]) -> SidePassages:
    """The passages in the tokens of one model, up to the last word that is read of each."""
    number = "ab".index(letter)
    first = np.array([one.earlier[number] for one in chosen])
    sizes = np.array([one.last[-1, number] + 1 for one in chosen]) - first
    shape = len(chosen), len(prefix) + int(sizes.max())
    ids, special = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    ids[:, : len(prefix)], special[:, : len(prefix)] = prefix, True
    for row, (begin, size) in enumerate(zip(first.tolist(), sizes.tolist(), strict=True)):
        tokens = read_rows(run, f"tokens_{letter}", begin, begin + size, ["id", "flags"])
        place = slice(len(prefix), len(prefix) + size)
        ids[row, place] = tokens["id"].to_numpy()
        special[row, place] = (tokens["flags"].to_numpy() & TokenFlag.LITERAL_SPECIAL) > 0
    rows = np.repeat(np.arange(len(chosen)), [len(one.word_ids) for one in chosen])
    last = np.concatenate([one.last[:, number] for one in chosen])
    return SidePassages(
        ids=ids,
        mask=np.arange(shape[1]) < len(prefix) + sizes[:, None],
        special=special,
        rows=rows,
        columns=len(prefix) + last - first[rows],
    )
