"""Concepts: the bundled ones, those of a user's file, and which features belong to them."""

import numpy as np
import pytest

from tests.tiny_runs import CONCEPTS, build_run
from xmodel.datasets.concept_sets import Concept, choose_concepts, load_concepts
from xmodel.errors import InputError
from xmodel.similarity.concepts import find_members, list_top_words
from xmodel.similarity.material import Material


def test_the_bundled_concepts_are_those_that_are_promised():
    concepts = load_concepts()
    assert {"emotions", "time", "calendar", "nature", "people", "places", "royal_family"} <= set(concepts)
    assert {"emotions/joy", "calendar/months", "nature/water", "people/family"} <= set(concepts)
    for name, concept in concepts.items():
        assert concept.name == name and len(concept.words) >= 5
        assert concept.words == frozenset(word.casefold() for word in concept.words)
        if "/" in name:
            assert concept.words < concepts[name.partition("/")[0]].words
    assert "whale" in concepts["nature/animals"].words


def test_a_file_of_ones_own_takes_lists_and_subsets(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("colours: [Red, green]\nships:\n  parts: [mast, Deck]\n  kinds: [bark]\n")
    concepts = load_concepts(path)
    assert {name: set(own.words) for name, own in concepts.items()} == {
        "colours": {"red", "green"},
        "ships": {"mast", "deck", "bark"},
        "ships/parts": {"mast", "deck"},
        "ships/kinds": {"bark"},
    }
    assert [one.name for one in choose_concepts([], concepts)] == ["colours", "ships"]
    assert [one.name for one in choose_concepts(["ships/parts"], concepts)] == ["ships/parts"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[red, green]", "not a mapping"),
        ("", "not a mapping"),
        ("colours: red", "'red' where a list"),
        ("colours: []", "where a list"),
        ("answers: [yes, no]", "True where a list"),
        ("numbers: [12]", "12 where a list"),
        ("ships: {}", "no subsets"),
        ("colours: [red", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, content, told):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=told):
        load_concepts(path)


def test_a_file_that_is_not_there_and_an_unknown_name_are_told(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml cannot be read"):
        load_concepts(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="calendar/months"):
        choose_concepts(["month"], load_concepts())


def test_top_words_are_those_of_the_half_that_pairs_were_found_on(tmp_path):
    run = build_run(tmp_path / "run").run
    material = Material(run)
    features = np.array([0, 4, 2], np.int32)
    found = list_top_words(run.shards, "a", material.choice.discovery, features)
    table = run.words.to_pandas()
    values = run.features("a").toarray()
    own = table[table["split"] == "discovery"]
    for feature, words in zip(features, found, strict=True):
        strength = values[own.index, feature]
        order = np.lexsort((own.index, -strength))[: (strength > 0).sum()]
        expected = list(dict.fromkeys(text.casefold() for text in own["text"].to_numpy()[order]))
        assert words == expected[:10]


def test_features_belong_to_the_concept_that_they_fire_on(tmp_path):
    material = Material(build_run(tmp_path / "run").run)
    features = np.arange(6, dtype=np.int32)
    top = list_top_words(material.run.shards, "a", material.choice.discovery, features)
    concepts = [Concept(group[0], frozenset(word.casefold() for word in group)) for group in CONCEPTS]
    members = find_members(top, features, concepts)
    assert {name: own.tolist() for name, own in members.items()} == {
        group[0]: [number] for number, group in enumerate(CONCEPTS)
    }
    assert len(find_members(top, features, [Concept("none", frozenset({"zebra"}))])["none"]) == 0


@pytest.mark.parametrize(("hits", "belongs"), [(0, False), (1, False), (2, True), (10, True)])
def test_two_of_the_top_words_must_be_keywords(hits, belongs):
    words = [["sea"] * hits + ["other"] * (10 - hits)]
    found = find_members(words, np.array([3], np.int32), [Concept("water", frozenset({"sea"}))])["water"]
    assert (found.tolist() == [3]) is belongs
    assert find_members([[]], np.array([3], np.int32), [Concept("x", frozenset({"sea"}))])["x"].tolist() == []
