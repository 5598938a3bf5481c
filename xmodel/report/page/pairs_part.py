"""The part of the page with all pairs: what stands above and below the explorer."""

from xmodel.pairing.results import Run
from xmodel.pairing.settings import PairSettings
from xmodel.report.page.explorer import ExplorerFacts
from xmodel.report.page.pairs import list_shown_pairs
from xmodel.report.page.records import Part


def build_pairs_part(run: Run, found: ExplorerFacts, title: str) -> Part:
    """Describe what the explorer shows.

    Args:
        run: a run with pairs.
        found: what was written of it.
        title: of the part.
    """
    table = list_shown_pairs(run.pairs)
    a, b = (len(table[f"feature_{side}"].unique()) for side in "ab")
    return Part(
        name="pairs",
        title=title,
        sentences=(
            f"{found.pairs:,} pairs of {a:,} features of a and {b:,} of b: all that a rule of pairing chose. "
            "A pair was found on one half of the documents (r) and judged on the other (held out); trust the "
            "second. The table is in the order of r; a click on “held out” sorts by that. Choose a pair to "
            "see both features on the same words.",
        ),
        notes=(
            "r is Pearson's correlation of both features' activations over words. Margin is r less that of "
            "the feature of a's next best partner. Firings are words of the discovery half, but for those "
            "that say held out.",
            "The search finds words, labels and concepts that begin with what is typed; in quotes, whole "
            "words. `a 12` and `b 34` are features.",
            *_explain_rules(PairSettings.of_manifest(run.manifest)),
        ),
    )


def _explain_rules(pairing: PairSettings) -> tuple[str, ...]:
    """What the rules are whose names do not say it."""
    price = pairing.least_worth
    less = f"(r less {price:g})" if price else "r"
    return (
        "One to one, greedy: pairs are taken in the order of r, each where both features are still free.",
        f"One to one, optimal: of all ways to give every feature at most one partner, that with the largest "
        f"sum of {less}; a feature may lose its best partner where that makes the whole better.",
        "Many a to one b: as the greedy rule, but a feature of b stays free until it has "
        f"{pairing.at_most} features of a.",
    )
