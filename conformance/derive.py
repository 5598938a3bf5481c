"""The expected spans and groups of the suite, derived slowly and without xmodel.

    python conformance/derive.py             writes cases.json
    python conformance/derive.py --check     compares instead of writing

How, for one text and one ``tokenizer.json``:

1. Cut the text at its added tokens (leftmost, then longest), normalise every section in between, cut the
   result at the added tokens that are matched after the normaliser.
2. Where may a section be cut without changing its normalised form? At i if normalising ``[:i]`` and
   ``[i:]`` apart gives the normalised whole. The stretches between such cuts are the smallest that can be
   held against each other: one unchanged character is mapped byte by byte, any other stretch as a whole.
3. Walk the ids over the rewritten bytes: each id's string, its notation undone, must stand where the walk
   has come to. An unknown token takes what the model's rule says, and where that leaves a choice the
   shortest that lets the rest of the ids fit.
4. Words: one character after another. Groups: label every non-whitespace byte with its word and, per
   token, join the words whose labels it holds.

Everything is a plain loop over characters, bytes or ids. Only the standard library, `regex` for character
classes, and `tokenizers` for the ids and for normalising a string are used.
"""

import argparse
import gzip
import hashlib
import json
import sys
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import regex
from texts import TEXTS
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases.json"
SHIPPED = HERE / "tokenizers"

REAL = ("gpt2", "gpt-neox", "gemma3", "llama2", "bert-base-uncased-minilm", "nepali-unigram")
"""Published tokenizers whose expected spans are in the suite, but whose files are not."""

Span = tuple[int, int]
Group = tuple[int, int, list[list[int]]]
"""First byte, one past the last, and per tokenizer its tokens."""

_SPACES = set("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {
    chr(c) for c in range(0x2000, 0x200B)
}
_DROPPING = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")


class Derivation:
    """One tokenizer, read from the JSON of its file."""

    def __init__(self, content: str) -> None:
        self.config: dict[str, Any] = json.loads(content)
        self.backend = Tokenizer.from_str(content)
        self.backend.no_padding()
        self.backend.no_truncation()
        self.model: dict[str, Any] = self.config["model"]
        normalizers = _flatten(self.config["normalizer"], "normalizers")
        self.splitters = _flatten(self.config["pre_tokenizer"], "pretokenizers")
        names = [part["type"] for part in self.splitters]
        # Normalisers that act on the ends of a section are taken out and done by hand.
        self.prepended = "".join(part["prepend"] for part in normalizers if part["type"] == "Prepend")
        self.strips = any(part["type"] == "Strip" for part in normalizers)
        self.mapped = any(part["type"] == "ByteLevel" for part in normalizers)
        inner = [part for part in normalizers if part["type"] not in ("Prepend", "Strip", "ByteLevel")]
        self.normalizer = _component("normalizer", {"type": "Sequence", "normalizers": inner})
        self.byte_level = self.mapped or "ByteLevel" in names
        metaspace = next((part for part in self.splitters if part["type"] == "Metaspace"), None)
        self.metaspace: str | None = metaspace["replacement"] if metaspace else None
        scheme = metaspace.get("prepend_scheme", "always") if metaspace else "never"
        self.prefix = {"always": "every", "first": "first", "never": None}[scheme]
        if any(part.get("add_prefix_space") and part["type"] == "ByteLevel" for part in self.splitters):
            self.prefix = "every"
        self.marks_words = bool(metaspace) and "WhitespaceSplit" in names
        self.drops_spaces = any(name in _DROPPING for name in names) or any(
            part["type"] == "Split" and part["behavior"] == "Removed" for part in self.splitters
        )
        self.added: dict[int, dict[str, Any]] = {entry["id"]: entry for entry in self.config["added_tokens"]}
        self.unknown = self._find_unknown()
        self.byte_names: dict[int, bytes] = {}
        """The strings ``<0x41>`` of the tokens that stand for one byte."""
        self.native = self._spell()

    def _find_unknown(self) -> int | None:
        if self.model["type"] == "Unigram":
            return self.model["unk_id"]
        name = self.model.get("unk_token")
        return None if name is None else self.backend.token_to_id(name)

    def _spell(self) -> dict[int, bytes]:
        """The bytes of every id in the rewritten text."""
        spelled = {}
        prefix = self.model.get("continuing_subword_prefix")
        suffix = self.model.get("end_of_word_suffix")
        for string, number in self.backend.get_vocab(with_added_tokens=False).items():
            if self.model.get("byte_fallback") and len(string) == 6 and string.startswith("<0x"):
                spelled[number] = bytes([int(string[3:5], 16)])
                self.byte_names[number] = string.encode()
                continue
            if prefix and string.startswith(prefix) and string != prefix:
                string = string[len(prefix) :]
            if suffix and string.endswith(suffix) and string != suffix:
                string = string[: -len(suffix)]
            if self.byte_level and all(character in _BYTES for character in string):
                spelled[number] = bytes(_BYTES[character] for character in string)
            else:
                spelled[number] = string.encode()
        for number, entry in self.added.items():
            spelled[number] = self._added_string(entry).encode()
        return spelled

    @cached_property
    def alphabet(self) -> set[bytes]:
        """What single ids stand for, the unknown one aside."""
        return {spelled for number, spelled in self.native.items() if number != self.unknown}

    def _added_string(self, entry: dict[str, Any]) -> str:
        return self.normalizer(entry["content"]) if entry["normalized"] else entry["content"]

    def derive(self, text: str) -> tuple[list[int], list[Span]]:
        """The ids of a text without template, and every token's bytes."""
        ids = self.backend.encode(text, add_special_tokens=False).ids
        return ids, self.place(text, ids)

    def place(self, text: str, ids: list[int]) -> list[Span]:
        """The bytes of given ids. Raises ValueError where they do not spell the text."""
        spans = _Walk(self, self.rewrite(text), ids).run()
        for number, ((start, stop), (later, _)) in enumerate(pairwise(spans)):
            if later < start or stop < start:
                raise ValueError(f"token {number} begins after the next: {spans}")
        return spans

    def rewrite(self, text: str) -> "Rewritten":
        """The text as the model receives it, every byte with the bytes of the text it stands for."""
        rewritten = Rewritten(text)
        done = 0
        raw = [entry for entry in self.added.values() if not entry["normalized"]]
        for start, stop, inner, inner_stop, entry in _find_added(text, raw, lambda entry: entry["content"]):
            self._rewrite_section(rewritten, text, done, start)
            rewritten.add_literal(entry["id"], text, inner, inner_stop)
            done = stop
        self._rewrite_section(rewritten, text, done, len(text))
        return rewritten

    def _rewrite_section(self, rewritten: "Rewritten", text: str, start: int, stop: int) -> None:
        """Normalise ``text[start:stop]``, then cut it at the added tokens that are matched there."""
        if start == stop:
            return
        characters: list[tuple[str, int, int]] = []
        """The normalised section: each character with the characters of the text that it stands for."""
        low, high = start, stop
        if self.strips:
            while low < high and text[low] in _SPACES:
                low += 1
            while low < high and text[high - 1] in _SPACES:
                high -= 1
        characters += [(character, low, low) for character in self.prepended]
        for a, b, piece in _smallest_stretches(self.normalizer, text[low:high]):
            characters += [(character, low + a, low + b) for character in piece]
        shown = "".join(character for character, _, _ in characters)
        normalized = [entry for entry in self.added.values() if entry["normalized"]]
        done = 0
        for a, b, inner, inner_stop, entry in _find_added(shown, normalized, self._added_string):
            self._split(rewritten, characters[done:a])
            rewritten.literals[len(rewritten.content)] = (entry["id"], len(shown[inner:inner_stop].encode()))
            for character in characters[inner:inner_stop]:
                rewritten.add(*character)
            done = b
        self._split(rewritten, characters[done:])

    def _split(self, rewritten: "Rewritten", section: list[tuple[str, int, int]]) -> None:
        """What the pre-tokenizer adds to a section or drops from it."""
        if not section:
            return
        shown = "".join(character for character, _, _ in section)
        origin = section[0][1]
        wanted = self.prefix == "every" or (self.prefix == "first" and origin == 0)
        mark = self.metaspace or " "
        stops = {stop for start, stop in self._pieces(shown) if stop > start}
        if self.marks_words:
            self._mark_words(rewritten, section, stops)
            return
        first = section[0][0]
        if wanted and first != " " and first != mark:
            rewritten.add(mark, origin, origin)
        for place, (character, a, b) in enumerate(section, 1):
            rewritten.add(mark if character == " " else character, a, b)
            if place in stops:
                rewritten.piece_ends.add(len(rewritten.content))

    def _mark_words(
        self, rewritten: "Rewritten", section: list[tuple[str, int, int]], stops: set[int]
    ) -> None:
        """WhitespaceSplit, then Metaspace: the spaces before a word become one mark."""
        spaces: list[tuple[str, int, int]] = []
        fresh = True
        for place, (character, a, b) in enumerate(section, 1):
            if character in _SPACES:
                spaces.append((character, a, b))
                fresh = True
                continue
            if fresh and character != self.metaspace:
                rewritten.add(
                    str(self.metaspace), spaces[0][1] if spaces else a, spaces[-1][2] if spaces else a
                )
            spaces, fresh = [], False
            rewritten.add(character, a, b)
            if place in stops:
                rewritten.piece_ends.add(len(rewritten.content))

    def _pieces(self, shown: str) -> list[Span]:
        if self.backend.pre_tokenizer is None:
            return [(0, len(shown))]
        return [span for _, span in self.backend.pre_tokenizer.pre_tokenize_str(shown)]


class Rewritten:
    """A rewritten text in bytes; each byte knows the bytes of the text that it stands for."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.content = bytearray()
        self.origins: list[Span] = []
        self.literals: dict[int, tuple[int, int]] = {}
        """Place of an added token -> its id and length."""
        self.piece_ends: set[int] = set()
        """Places where a piece of the pre-tokenizer ends."""
        self.offsets = [0]
        for character in text:
            self.offsets.append(self.offsets[-1] + len(character.encode()))

    def add(self, character: str, start: int, stop: int) -> None:
        """Append a character that stands for the text's characters start to stop."""
        low, high = self.offsets[start], self.offsets[stop]
        spelled = character.encode()
        same = stop - start == 1 and self.text[start] == character
        self.content += spelled
        for place in range(len(spelled)):
            self.origins.append((low + place, low + place + 1) if same else (low, high))

    def add_literal(self, token: int, text: str, start: int, stop: int) -> None:
        """Append an added token's own characters."""
        self.literals[len(self.content)] = (token, len(text[start:stop].encode()))
        for place in range(start, stop):
            self.add(text[place], place, place + 1)


class _Walk:
    """The ids over the rewritten bytes, left to right, stepping back where unknowns leave a choice."""

    def __init__(self, tokenizer: Derivation, rewritten: Rewritten, ids: list[int]) -> None:
        self.tokenizer, self.rewritten, self.ids = tokenizer, rewritten, ids
        self.dead: set[Span] = set()
        self.furthest = 0

    def run(self) -> list[Span]:
        stack: list[tuple[int, int, list[int]]] = []
        """Open choices: token, its place, and ends still to be tried (last first)."""
        chosen: list[Span] = []
        place = 0
        while True:
            token = len(chosen)
            self.furthest = max(self.furthest, place)
            if token == len(self.ids) and self._skip(place) == len(self.rewritten.content):
                return [self._origin(low, high) for low, high in chosen]
            begin = self._skip(place)
            ends = (
                self._ends(token, begin) if token < len(self.ids) and (token, begin) not in self.dead else []
            )
            while not ends:
                if not stack:
                    raise ValueError(
                        f"ids do not spell the text near byte {self.furthest} of "
                        f"{bytes(self.rewritten.content).decode('utf-8', 'replace')!r}: {self.ids}"
                    )
                token, begin, ends = stack.pop()
                if not ends:
                    self.dead.add((token, begin))
            del chosen[token:]
            end = ends.pop()
            stack.append((token, begin, ends))
            chosen.append((begin, end))
            place = end

    def _skip(self, place: int) -> int:
        """Over whitespace that the pre-tokenizer drops."""
        if not self.tokenizer.drops_spaces or self.tokenizer.marks_words:
            return place
        content = self.rewritten.content
        while place < len(content):
            size = _character_size(content[place])
            if content[place : place + size].decode("utf-8", "replace") not in _SPACES:
                break
            place += size
        return place

    def _ends(self, token: int, begin: int) -> list[int]:
        """Where a token that begins here may end, the likeliest last."""
        number = self.ids[token]
        content = self.rewritten.content
        if begin in self.rewritten.literals:
            found, length = self.rewritten.literals[begin]
            return [begin + length] if found == number else []
        if number != self.tokenizer.unknown:
            # A Unigram model also finds ``<0x41>`` where the text has these six characters.
            readings = (self.tokenizer.byte_names.get(number), self.tokenizer.native[number])
            return [
                begin + len(spelled) for spelled in readings if spelled and content.startswith(spelled, begin)
            ]
        if begin >= len(content):
            return []
        model = self.tokenizer.model
        if model["type"] in ("WordPiece", "WordLevel"):
            end = begin
            while end < len(content):
                end += _character_size(content[end])
                if end in self.rewritten.piece_ends:
                    break
            return [end]
        step = begin + _character_size(content[begin])
        if model["type"] == "BPE" and not model["fuse_unk"]:
            return [step]
        ends = [step]
        while (
            ends[-1] < len(content)
            and ends[-1] not in self.rewritten.literals
            and ends[-1] not in self.rewritten.piece_ends
            and not self._is_known(ends[-1])
        ):
            ends.append(ends[-1] + _character_size(content[ends[-1]]))
        return ends  # the run goes on as long as its characters are unknown too

    def _is_known(self, place: int) -> bool:
        content = self.rewritten.content
        return bytes(content[place : place + _character_size(content[place])]) in self.alphabet

    @cached_property
    def alphabet(self) -> set[bytes]:
        return {
            spelled for number, spelled in self.tokenizer.native.items() if number != self.tokenizer.unknown
        }

    def _origin(self, low: int, high: int) -> Span:
        """The bytes of the text behind rewritten bytes; inserted ones count only where nothing else is."""
        origins = self.rewritten.origins[low:high]
        real = [span for span in origins if span[0] < span[1]] or origins
        if not real:
            before = self.rewritten.origins[low - 1][1] if low else 0
            return before, before
        return real[0][0], real[-1][1]


def derive_words(text: str) -> list[Span]:
    """The default words of a text, in bytes, from the rule as it is written down.

    Runs of letters, numbers and connector punctuation, with apostrophes between two letters; runs of
    anything else but whitespace; marks, emoji modifiers and joiners extend what they follow.
    """
    kinds: list[str] = []
    for place, character in enumerate(text):
        before = kinds[-1] if kinds else "space"
        if character in _SPACES:
            kinds.append("space")
        elif _EXTENDS.match(character):
            kinds.append("other" if before in ("space", "apostrophe") else before)
        elif _LETTER.match(character):
            kinds.append("letter")
        elif _WORD.match(character):
            kinds.append("word")
        elif character in "'\u2019":
            following = text[place + 1 : place + 2]
            inside = before == "letter" and following and _LETTER.match(following)
            kinds.append("word" if inside else "apostrophe")
        else:
            kinds.append("other")
    words: list[Span] = []
    offset = 0
    previous = "space"
    for character, kind in zip(text, kinds, strict=True):
        kind = {"letter": "word", "apostrophe": "other"}.get(kind, kind)
        size = len(character.encode())
        if kind != "space":
            if kind == previous:
                words[-1] = (words[-1][0], offset + size)
            else:
                words.append((offset, offset + size))
        previous = kind
        offset += size
    return words


def derive_touched(text: str, words: list[Span], spans: list[Span]) -> list[list[int]]:
    """The words of which each token has non-whitespace bytes, found by labelling bytes."""
    content = text.encode()
    label = [-1] * len(content)
    for number, (start, stop) in enumerate(words):
        for place in range(start, stop):
            label[place] = number
    offset = 0
    for character in text:
        size = len(character.encode())
        if character in _SPACES:
            label[offset : offset + size] = [-1] * size
        offset += size
    return [sorted({label[place] for place in range(start, stop)} - {-1}) for start, stop in spans]


def derive_groups(words: list[Span], held: list[list[list[int]]]) -> list[Group]:
    """The groups of any number of tokenizers under ``merge``: join the words that a token holds together."""
    joined = [False] * len(words)
    """Whether a word and the next hang together."""
    for own in held:
        for touched in own:
            for word in range(touched[0], touched[-1]) if touched else ():
                joined[word] = True
    groups: list[Group] = []
    first = 0
    for last in range(len(words)):
        if joined[last]:
            continue
        tokens = [
            [token for token, touched in enumerate(own) if touched and first <= touched[0] <= last]
            for own in held
        ]
        groups.append((words[first][0], words[last][1], tokens))
        first = last + 1
    return groups


_EXTENDS = regex.compile(r"[\p{M}\u200c\u200d\U0001F3FB-\U0001F3FF]")
_LETTER = regex.compile(r"\p{L}")
_WORD = regex.compile(r"[\p{N}\p{Pc}]")


def _byte_map() -> dict[str, int]:
    """Which byte each of GPT-2's printable characters stands for."""
    table = {}
    shifted = 0
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            table[chr(byte)] = byte
        else:
            table[chr(256 + shifted)] = byte
            shifted += 1
    return table


_BYTES = _byte_map()


def _flatten(state: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    if state is None:
        return []
    if state["type"] == "Sequence":
        return [leaf for part in state[key] for leaf in _flatten(part, key)]
    return [state]


def _component(kind: str, state: dict[str, Any]) -> Any:
    """A normaliser as a function from string to string."""
    empty = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    return getattr(Tokenizer.from_str(json.dumps({**empty, kind: state})), kind).normalize_str


def _smallest_stretches(normalize: Any, text: str) -> list[tuple[int, int, str]]:
    """Cut a section wherever its two sides can be normalised apart: (start, stop, normalised) per stretch."""
    stretches = []
    for begin, end in _chunks(text):
        part = text[begin:end]
        whole = normalize(part)
        last, reached = 0, 0
        for cut in range(1, len(part) + 1):
            left = normalize(part[:cut])
            if left + normalize(part[cut:]) == whole:
                if left[reached:] == part[last:cut]:  # nothing happened, though the two sides hang together
                    stretches += [(begin + k, begin + k + 1, part[k]) for k in range(last, cut)]
                else:
                    stretches.append((begin + last, begin + cut, left[reached:]))
                last, reached = cut, len(left)
    if "".join(piece for _, _, piece in stretches) != normalize(text):
        raise ValueError(f"this normaliser acts across {text!r} in a way that is not covered")
    return stretches


def _chunks(text: str) -> list[Span]:
    """Long texts in parts of a hundred characters or more, cut between two ASCII letters to save time."""
    cuts = [0]
    for place in range(1, len(text)):
        pair = text[place - 1 : place + 1]
        if place - cuts[-1] >= 100 and pair.isascii() and pair.isalpha():
            cuts.append(place)
    return list(zip(cuts, [*cuts[1:], len(text)], strict=True)) if text else []


def _find_added(text: str, entries: list[dict[str, Any]], spell: Any) -> list[tuple[int, int, int, int, Any]]:
    """Added tokens in a text, leftmost then longest: (start, stop, content start, content stop, entry)."""
    by_content = {content: entry for entry in entries if (content := spell(entry))}
    lengths = sorted({len(content) for content in by_content}, reverse=True)
    found = []
    place = done = 0
    while place < len(text):
        for length in lengths:
            entry = by_content.get(text[place : place + length])
            if entry is None or place + length > len(text):
                continue
            start, stop = place, place + length
            place = stop
            if entry["single_word"] and (
                (start and regex.match(r"\w", text[start - 1]))
                or (stop < len(text) and regex.match(r"\w", text[stop]))
            ):
                break
            outer, outer_stop = start, stop
            while entry["lstrip"] and outer > done and text[outer - 1] in _SPACES:
                outer -= 1
            while entry["rstrip"] and outer_stop < len(text) and text[outer_stop] in _SPACES:
                outer_stop += 1
            found.append((outer, outer_stop, start, stop, entry))
            done = place = outer_stop
            break
        else:
            place += 1
    return found


def _character_size(lead: int) -> int:
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def read_tokenizer(path: Path) -> str:
    """The content of a tokenizer.json, gzipped or not."""
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text("utf-8")


def hash_tokenizer(content: str) -> str:
    """What a tokenizer's expected spans are keyed by."""
    return hashlib.sha256(content.encode()).hexdigest()


def build(old: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Every expected value; of real tokenizers whose file is not at hand, those of `old` are kept."""
    contents = {
        f"tiny-{file.name.removesuffix('.json.gz')}": read_tokenizer(file) for file in _shipped_files()
    }
    files = {name: f"tokenizers/{name.removeprefix('tiny-')}.json.gz" for name in contents}
    for name in REAL if folder else ():
        contents[name] = read_tokenizer(folder / name / "tokenizer.json.gz")
    known = {name: {"sha256": hash_tokenizer(content)} for name, content in contents.items()}
    for name, file in files.items():
        known[name]["file"] = file
    kept = {
        name: entry for name, entry in old.get("tokenizers", {}).items() if name in REAL and name not in known
    }
    derivations = {name: Derivation(content) for name, content in contents.items()}
    before = {case["text"]: case["tokens"] for case in old.get("cases", [])}
    cases = []
    for name, text in TEXTS.items():
        tokens = {}
        for tokenizer, derivation in derivations.items():
            ids, spans = derivation.derive(text)
            tokens[tokenizer] = {"ids": ids, "spans": spans}
        for tokenizer in kept:
            if text in before:
                tokens[tokenizer] = dict(before[text][tokenizer])
        words = derive_words(text)
        held = {tokenizer: derive_touched(text, words, own["spans"]) for tokenizer, own in tokens.items()}
        joined = {}
        for a, b in combinations(tokens, 2):
            groups = derive_groups(words, [held[a], held[b]])
            joined[f"{a} + {b}"] = _find_joined(words, groups)
        for tokenizer, own in tokens.items():
            own["words"] = [touched[0] if touched else -1 for touched in held[tokenizer]]
        shown = {pair: runs for pair, runs in joined.items() if runs}
        cases.append({"name": name, "text": text, "words": words, "tokens": tokens, "joined": shown})
    return {
        "format": 1,
        "words": "default",
        "straddle": "merge",
        "tokenizers": {**known, **kept},
        "cases": cases,
    }


def _find_joined(words: list[Span], groups: list[Group]) -> list[Span]:
    """Groups of more than one word: first and last word of each."""
    first = {start: number for number, (start, _) in enumerate(words)}
    last = {end: number for number, (_, end) in enumerate(words)}
    runs = [(first[start], last[end]) for start, end, _ in groups]
    return [(low, high) for low, high in runs if low < high]


def read_groups(case: dict[str, Any], a: str, b: str) -> list[Group]:
    """The expected groups of two tokenizers, spelled out from a case of ``cases.json``."""
    runs = {low: high for low, high in case["joined"].get(f"{a} + {b}", case["joined"].get(f"{b} + {a}", []))}
    groups: list[Group] = []
    word = 0
    while word < len(case["words"]):
        last = runs.get(word, word)
        members = [
            [token for token, own in enumerate(case["tokens"][name]["words"]) if word <= own <= last]
            for name in (a, b)
        ]
        groups.append((case["words"][word][0], case["words"][last][1], members))
        word = last + 1
    return groups


def write_cases(suite: dict[str, Any]) -> str:
    """JSON with one text, one tokenizer's tokens and one pair's groups per line."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"))

    def block(value: dict[str, Any], indent: str) -> str:
        return (
            "{\n"
            + ",\n".join(f"{indent} {line(key)}: {line(own)}" for key, own in value.items())
            + f"\n{indent}}}"
        )

    parts = []
    for case in suite["cases"]:
        head = ", ".join(f'"{key}": {line(case[key])}' for key in ("name", "text", "words"))
        tokens, joined = block(case["tokens"], "  "), block(case["joined"], "  ")
        parts.append(f' {{{head},\n  "tokens": {tokens},\n  "joined": {joined}}}')
    head = ",\n".join(f'"{key}": {line(suite[key])}' for key in ("format", "words", "straddle"))
    return (
        f'{{{head},\n"tokenizers": {block(suite["tokenizers"], "")},\n"cases": [\n'
        + ",\n".join(parts)
        + "\n]}\n"
    )


def _shipped_files() -> list[Path]:
    return sorted(SHIPPED.glob("*.json.gz"))


def main() -> int:
    """Write or check ``cases.json``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with cases.json instead of writing it")
    parser.add_argument(
        "--real",
        type=Path,
        metavar="FOLDER",
        help=f"a folder with NAME/tokenizer.json.gz for {', '.join(REAL)}; else their values stay",
    )
    options = parser.parse_args()
    old = json.loads(CASES.read_text("utf-8")) if CASES.exists() else {}
    made = write_cases(build(old, options.real))
    if options.check:
        same = made == CASES.read_text("utf-8")
        print(
            "cases.json is what derive.py makes" if same else "cases.json differs from what derive.py makes"
        )
        return 0 if same else 1
    CASES.write_text(made, "utf-8")
    print(f"{CASES.name}: {len(TEXTS)} texts, {len(made) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
