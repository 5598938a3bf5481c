"""Cut points of rewritings, and texts on which a deliberately broken search went unnoticed."""

import pytest

from tests.tiny_tokenizers import TINY
from xmodel import align_text, load_tokenizer
from xmodel.alignment.rewriting import LocalStep


def test_a_segment_keeps_what_both_ends_share() -> None:
    # Only the three characters together are rewritten, and the last of them stays.
    step = LocalStep(lambda text: text.replace("e\u0301\u0302", "X\u0302"))
    found = step("ae\u0301\u0302b")
    before, after = found.cuts()
    assert found.text == "aX\u0302b"
    assert list(zip(before.tolist(), after.tolist(), strict=True)) == [(0, 0), (1, 1), (3, 2), (4, 3), (5, 4)]


@pytest.mark.parametrize("kind", ["wordpiece-uncased", "wordpiece-cased", "word-level", "char-bpe"])
@pytest.mark.parametrize(
    "text",
    [
        "The<|endoftext|>한국[UNK]x“bc\u3000",
        "1990ｶﾞ</w>[UNK]Ωİ, ",
        "อาหาร<|endoftext|>\ufeff[UNK]…, ",
        "한1990\nCO₂ĊÉ<unk>“the night",
        "½a▁b<unk>, \u200b<unk>é̂<unk>",
    ],
)
def test_a_literal_unknown_beside_unknown_text_is_found(kind: str, text: str) -> None:
    (tokens,) = align_text(text, [load_tokenizer(TINY[kind]())]).spans
    assert tokens.certificate.status == "ambiguous"


def test_whitespace_deleted_inside_a_token_is_named() -> None:
    (tokens,) = align_text("\u017f \rC", [load_tokenizer(TINY["sp-unigram"]())]).spans
    kinds = dict(zip(tokens.certificate.ranges, tokens.certificate.kinds, strict=True))
    assert kinds[(3, 4)] == "deleted"
