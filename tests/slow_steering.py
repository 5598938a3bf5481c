"""The statistics of steering transfer as their definitions say, with plain loops and whole matrices."""

import itertools

import numpy as np
import torch

from xmodel.steering.responses import split_response


def make_gram(rows):
    """Cosines between rows, one pair of words after another, with a diagonal of 0."""
    n = len(rows)
    gram = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                gram[i, j] = rows[i] @ rows[j] / np.sqrt(rows[i] @ rows[i]) / np.sqrt(rows[j] @ rows[j])
    return gram


def center(gram):
    """U-centring entry by entry."""
    n = len(gram)
    centred = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            row = sum(gram[i, k] for k in range(n) if k != i)
            column = sum(gram[k, j] for k in range(n) if k != j)
            total = sum(gram[k, m] for k in range(n) for m in range(n) if k != m)
            centred[i, j] = gram[i, j] - row / (n - 2) - column / (n - 2) + total / ((n - 1) * (n - 2))
    return centred


def sum_quadruples(one, two):
    """The unbiased HSIC as the mean over all quadruples of different words (Song et al. 2012, theorem 3)."""
    n = len(one)
    terms = [
        one[i, j] * (two[i, j] + two[q, r] - 2 * two[i, q])
        for i, j, q, r in itertools.permutations(range(n), 4)
    ]
    return np.mean(terms)


def pack(gram):
    """The upper triangle, row after row."""
    return np.array([gram[i, j] for i in range(len(gram)) for j in range(i + 1, len(gram))])


def split(plus, minus, zero):
    """Odd and even response as centred matrices."""
    grams = [make_gram(np.asarray(rows, np.float64)) for rows in (plus, minus, zero)]
    return center((grams[0] - grams[1]) / 2), center((grams[0] + grams[1]) / 2 - grams[2])


def correlate(one, two):
    """The cosine of two matrices."""
    return (one * two).sum() / np.sqrt((one**2).sum() * (two**2).sum())


def rank_candidates(scores, partner):
    """Shares of the partner being first and among the first five, and its mean reciprocal rank.

    Ties are broken in every possible way, each as likely: the partner takes each place among its equals.
    """
    first = five = reciprocal = 0.0
    for row, own in zip(scores, partner, strict=True):
        better = sum(value > row[own] for value in row)
        equal = sum(value == row[own] for value in row)
        places = [better + place + 1 for place in range(equal)]
        first += np.mean([place <= 1 for place in places])
        five += np.mean([place <= 5 for place in places])
        reciprocal += np.mean([1 / place for place in places])
    return first / len(scores), five / len(scores), reciprocal / len(scores)


def draw_packed(features, words, rng, width=6):
    """[features, M] odd responses to pushes of random rows, one after another of the same model."""
    rows = torch.from_numpy(rng.normal(size=(words, width)))
    push = 0.3 * torch.from_numpy(rng.normal(size=(features, words, width)))
    return split_response(rows + push, rows - push, rows)[0].numpy()
