"""The slow, obvious pass: one document, one window, one word, one token at a time; plain loops.

Shares only the alignment (tested elsewhere) and the cutting of windows with the program.
"""

from functools import cache

import numpy as np
import torch

from xmodel.alignment.align import align_text
from xmodel.alignment.windows import cut_windows


@cache
def read_embedding(module, ids):
    """[T, d] what block 0 reads, by a hook of its own, for one window alone."""
    found = {}
    for candidate in (getattr(module, "gpt_neox", None), getattr(module, "model", None)):
        if candidate is not None:
            block = candidate.layers[0]
    handle = block.register_forward_pre_hook(
        lambda m, args, kwargs: found.update(x=args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    try:
        with torch.no_grad():
            module(torch.tensor([list(ids)]))
    finally:
        handle.remove()
    return found["x"][0].double().numpy()


def encode_row(row, sae):
    """One row through a ReLU SAE; exact, since weights and rows are small multiples of powers of two."""
    inputs = np.asarray(row, np.float64) - sae["b_dec"]
    return np.maximum((inputs[:, None] * sae["W_enc"]).sum(0) + sae["b_enc"], 0)


def pool_one(rows, weights, sizes, pooling):
    """One word's rows become one; float32, since that is what the program stores."""
    rows = [np.float32(row) for row in rows]
    if pooling == "last":
        return rows[-1]
    if pooling == "first":
        return rows[0]
    if pooling == "max":
        best = rows[0]
        for row in rows[1:]:
            larger = np.abs(row) > np.abs(best)
            best = np.where(larger | ((row == -best) & (row > 0)), row, best)
        return best
    total = np.zeros(len(rows[0]), np.float32)
    share = 0.0
    for row, weight, size in zip(rows, weights, sizes, strict=True):
        own = weight * size if pooling == "bytes" else weight
        total = total + row * np.float32(own)
        share += own
    return total if pooling == "sum" else total / np.float32(share)


@cache
def list_solid(text):
    """[B] whether each byte of a text is no whitespace: characters are asked one by one."""
    return [not character.isspace() for character in text for _ in character.encode()]


def extract_slowly(texts, sides, settings, ceilings):
    """Rows of (document, start, end, features of a, features of b) for all words of some texts.

    `sides`: (module, tokenizer, sae arrays, prefix, limit) of each model.
    """
    rows = []
    for number, text in enumerate(texts):
        tokenizers = [side[1] for side in sides]
        alignment = align_text(text, tokenizers, words=settings.words, straddle=settings.straddle)
        windows, _ = cut_windows(alignment, [side[4] for side in sides], most_groups=settings.window_words)
        activations = []
        for m, (module, _, _, prefix, _) in enumerate(sides):
            at = {}
            for k in range(len(windows)):
                low, high = int(windows.first_token[k, m]), int(windows.stop_token[k, m])
                ids = (*prefix, *alignment.spans[m].ids[low:high].tolist())
                x = read_embedding(module, ids)
                for place in range(low, high):
                    position = len(prefix) + place - low
                    row = x[position]
                    if position >= settings.skip_positions and np.linalg.norm(row) <= ceilings[m]:
                        at[place] = row
            activations.append(at)
        groups, solid = alignment.groups, list_solid(text)
        for g in range(len(groups)):
            pooled = []
            for m, (_, _, sae, _, _) in enumerate(sides):
                members = groups.members[m]
                own = slice(members.indptr[g], members.indptr[g + 1])
                pairs = [
                    (int(t), float(w))
                    for t, w in zip(members.tokens[own], members.weights[own], strict=True)
                    if int(t) in activations[m]
                ]
                if not pairs:
                    break
                span = alignment.spans[m]
                sizes = [sum(solid[int(span.starts[t]) : int(span.ends[t])]) for t, _ in pairs]
                weights = [w for _, w in pairs]
                x = [activations[m][t] for t, _ in pairs]
                if settings.pool_before_encoding:
                    pooled.append(np.float32(encode_row(pool_one(x, weights, sizes, settings.pool), sae)))
                else:
                    encoded = [encode_row(row, sae) for row in x]
                    pooled.append(pool_one(encoded, weights, sizes, settings.pool))
            else:
                rows.append((number, int(groups.starts[g]), int(groups.ends[g]), *pooled))
    return rows
