"""Labels: read from every format, carried to best partners, and written for use elsewhere; Neuronpedia."""

import csv
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_runs import PARTNER, build_run, plant_features
from xmodel.errors import InputError
from xmodel.report.page.carried import Carried, carry_labels, spread_carried, spread_labels, write_carried
from xmodel.report.page.credible import judge_partners
from xmodel.report.page.csv_files import write_csv
from xmodel.report.page.labels import check_source, read_labels
from xmodel.report.page.neuronpedia import find_neuronpedia, name_source

NAMES = {0: "whales", 3: 'sailors, "mates"', 5: "=SUM(1)"}


def neuronpedia_rows(names=NAMES, model="gpt2-small", layer="6-res-jb"):
    """As Neuronpedia's exports have them: numbers are strings."""
    return [
        {
            "modelId": model,
            "layer": layer,
            "index": str(feature),
            "description": name,
            "typeName": "oai_token-act-pair",
            "explanationModelName": "gpt-4o-mini",
        }
        for feature, name in names.items()
    ]


def as_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


FORMATS = {
    "labels.jsonl": as_lines({"feature": one, "label": name} for one, name in NAMES.items()),
    "export.jsonl": as_lines(neuronpedia_rows()),
    "export.json": json.dumps(neuronpedia_rows()),
    "older.json": json.dumps({"explanationsCount": 3, "explanations": neuronpedia_rows()}),
    "short.json": json.dumps(NAMES),
    "bom.jsonl": "\ufeff" + as_lines(neuronpedia_rows()),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_names(tmp_path, name, packed):
    place = tmp_path / (f"{name}.gz" if packed else name)
    content = FORMATS[name].encode()
    place.write_bytes(gzip.compress(content) if packed else content)
    assert read_labels(place, 10).names == NAMES


@pytest.mark.parametrize("header", [("feature", "label"), ("index", "description"), (" feature", "label ")])
def test_csv_with_quotes_and_guarded_formulas(tmp_path, header):
    write_csv(tmp_path / "labels.csv", header, list(NAMES.items()))
    assert read_labels(tmp_path / "labels.csv", 10).names == NAMES


def test_a_folder_of_batches_is_read_in_their_order(tmp_path):
    for number in (0, 1, 2, 10):
        rows = neuronpedia_rows({number: f"name {number}", 5: f"from batch {number}"})
        (tmp_path / f"batch-{number}.jsonl.gz").write_bytes(gzip.compress(as_lines(rows).encode()))
    found = read_labels(tmp_path, 20)
    assert found.names == {0: "name 0", 1: "name 1", 2: "name 2", 10: "name 10", 5: "from batch 0"}
    assert found.duplicates == 3
    assert found.sources == ("gpt2-small/6-res-jb",)


def test_of_several_dictionaries_the_runs_own_is_taken(tmp_path):
    rows = [*neuronpedia_rows({1: "other"}, layer="5-res-jb"), *neuronpedia_rows({1: "own"})]
    (tmp_path / "x.jsonl").write_text(as_lines(rows))
    found = read_labels(tmp_path / "x.jsonl", 10, source="gpt2-small/6-res-jb")
    assert (found.names, found.others) == ({1: "own"}, 1)
    with pytest.raises(InputError, match=r"5-res-jb.*6-res-jb"):
        read_labels(tmp_path / "x.jsonl", 10)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("feature,label\n10,x\n", "feature 10.*0 to 9"),
        ("feature,label\n-1,x\n", "feature -1"),
        ("feature,label\nx,y\n", "'x', which is no number"),
        ("feature,label\n1.5,y\n", "no number"),
        ("a,b\n1,2\n", "columns a, b"),
        ("feature,label\n", "names no feature"),
        ("", "has the columns none"),
        ('{"feature": true, "label": "x"}\n', "no number"),
        ('{"feature": 1, "label": 5}\n', "no label"),
        ('{"feature": 1}\n', "no label"),
        ('{"feature": 1, "label": "x"\n', "line 1 is no JSON"),
        ("[1, 2]", "where a row should be"),
        ("[" * 100_000, "is no JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"\x1f\x8bnot gzip", "cannot be read"),
    ],
)
def test_what_is_no_file_of_labels_is_refused(tmp_path, content, said):
    place = tmp_path / "labels"
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=said):
        read_labels(place, 10)


def test_files_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "none.csv", 10)
    with pytest.raises(InputError, match="holds no CSV"):
        read_labels(tmp_path, 10)


@pytest.mark.parametrize(
    ("known", "model", "fits"),
    [
        ("gpt2-small/6-res-jb", "gpt2", True),
        ("gpt2-small/7-res-jb", "gpt2", False),
        (None, "openai/gpt2-small", True),
        (None, "google/gemma-2-2b", False),
    ],
)
def test_a_file_of_another_dictionary_is_told(tmp_path, known, model, fits):
    (tmp_path / "x.jsonl").write_text(as_lines(neuronpedia_rows()))
    found = check_source(read_labels(tmp_path / "x.jsonl", 10), "x.jsonl", "a", known, model)
    assert (found is None) == fits
    assert fits or ("gpt2-small/6-res-jb" in found and (known or model) in found)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("labels") / "run").run


@pytest.mark.parametrize("to", ["a", "b"])
def test_every_feature_gets_the_name_of_its_best_partner(run, to):
    other = "a" if to == "b" else "b"
    labels = {feature: f"name {feature}" for feature in range(0, 6)}
    credible = judge_partners(run, shifts=3)
    carried = carry_labels(run.pairs, labels, credible, to=to)
    table = run.pairs.to_pandas()
    slow = {}
    for feature, own in table.groupby(f"feature_{to}"):
        own = own[own[f"rank_{to}"].notna()].sort_values(f"rank_{to}")
        if len(own) and own.iloc[0][f"feature_{other}"] in labels:
            best, rest = own.iloc[0], own.iloc[1:]
            margin = best.r - rest.iloc[0].r if len(rest) else None
            slow[feature] = (best[f"feature_{other}"], best.r, margin, best.mutual)
    assert carried.features.tolist() == sorted(slow)
    for place, feature in enumerate(carried.features.tolist()):
        source, r, margin, mutual = slow[feature]
        assert carried.sources[place] == source
        assert carried.names[place] == f"name {source}"
        assert carried.r[place] == r
        assert np.isnan(carried.margin[place]) if margin is None else carried.margin[place] == margin
        assert carried.mutual[place] == mutual
        assert carried.credible[place] == credible.side(to).credible[feature]


def test_planted_partners_get_each_others_names(run):
    carried = carry_labels(run.pairs, {one: f"name {one}" for one in range(6)}, None)
    got = dict(zip(carried.features.tolist(), carried.names, strict=True))
    assert all(got[partner] == f"name {one}" for one, partner in enumerate(PARTNER))
    assert carried.credible is None


def test_names_spread_over_features_are_shown_harmlessly(run):
    carried = carry_labels(run.pairs, {0: "a\u202eb\x00"}, None)
    spread = spread_carried(carried, 8)
    assert {len(column) for column in spread.values()} == {8}
    assert spread["label"][PARTNER[0]] == "a‹U+202E›b‹U+0000›"
    assert spread["from"][PARTNER[0]] == 0
    assert spread_labels({1: "x"}, 3) == [None, "x", None]
    json.dumps(spread, allow_nan=False)


def test_the_files_hold_what_was_carried_and_can_be_read_again(run, tmp_path):
    names = {0: "=cmd()", 1: "plain", 2: "-5"}
    carried = carry_labels(run.pairs, names, judge_partners(run, shifts=3))
    files = write_carried(tmp_path, carried, model="gpt2-small", source="6-res-jb")
    expected = dict(zip(carried.features.tolist(), carried.names, strict=True))
    assert len(files) == 3
    with (tmp_path / "labels_b.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert not any(row["label"].startswith(("=", "-")) for row in rows)
    assert [float(row["r"]) for row in rows] == pytest.approx(carried.r.tolist(), abs=1e-6)
    assert {row["mutual"] for row in rows} <= {"true", "false"}
    for name in files[1:]:
        assert read_labels(tmp_path / name, 8).names == expected
    exported = read_labels(tmp_path / "labels_b.neuronpedia.jsonl", 8)
    assert exported.sources == ("gpt2-small/6-res-jb",)
    lines = [json.loads(line) for line in (tmp_path / "labels_b.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == list(carried.names)
    assert [line["feature_a"] for line in lines] == carried.sources.tolist()


def test_the_export_says_how_far_to_trust_a_name(tmp_path):
    carried = Carried(
        "b",
        np.array([0, 1, 2], np.int32),
        np.array([5, 6, 7], np.int32),
        ("x", "y", "z"),
        np.array([0.5, 0.0, 0.25]),
        np.array([0.25, np.nan, 0.0]),
        np.array([0.0, np.nan, 0.125]),
        np.array([True, False, True]),
        np.array([True, True, False]),
    )

    def write(one):
        write_carried(tmp_path, one, model="m", source="s")
        lines = (tmp_path / "labels_b.neuronpedia.jsonl").read_text().splitlines()
        return [json.loads(line)["notes"] for line in lines]

    good, shared, chance = write(carried)
    assert good.endswith(
        "feature 5 of a, its best partner: r 0.5000; r_heldout 0.2500; margin 0.0000; mutual"
    )
    assert "r 0.0000; not mutual: feature 6's own best partner is another feature" in shared
    assert "r_heldout" not in shared
    assert "r_heldout 0.0000" in chance and chance.endswith("mutual; r is no more than chance finds")
    assert all(note.endswith("not compared with chance") for note in write(replace(carried, credible=None)))


def test_a_name_from_a_partner_with_negative_r_says_so(tmp_path):
    def turn(spelled):
        values = plant_features(spelled)
        return {"a": values["a"], "b": -values["b"]}

    signed = build_run(tmp_path / "run", values=turn).run
    carried = carry_labels(signed.pairs, {0: "whales", 1: "boats"}, None)
    got = dict(zip(carried.features.tolist(), carried.names, strict=True))
    assert (got[PARTNER[0]], got[PARTNER[1]]) == ("opposite of: whales", "opposite of: boats")
    for name, r in zip(carried.names, carried.r, strict=True):
        assert name.startswith("opposite of: ") == (r < 0)


@given(st.dictionaries(st.integers(0, 9), st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_names_survive_jsonl(tmp_path_factory, names):
    place = tmp_path_factory.mktemp("any") / "x.jsonl"
    place.write_text(as_lines({"feature": one, "label": name} for one, name in names.items()), "utf-8")
    expected = {one: " ".join(name.split()) for one, name in names.items() if name.strip()}
    if expected:
        assert read_labels(place, 10).names == expected
    else:
        with pytest.raises(InputError, match="names no feature"):
            read_labels(place, 10)


@pytest.mark.parametrize(
    ("dictionary", "source"),
    [
        ("gpt2-small-res-jb/blocks.6.hook_resid_pre", "gpt2-small/6-res-jb"),
        ("gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical", "gemma-2-2b/20-gemmascope-res-16k"),
        ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", None),
        ("gpt2-small-res-jb/no-such-id", None),
        ("no-such-release/x", None),
        ("builtin:neox-demo-l2", None),
        ("pca:blocks.5.hook_resid_post:256", None),
        ("/no/such/folder", None),
    ],
)
def test_the_dictionary_on_neuronpedia(dictionary, source):
    assert name_source(dictionary) == source


@pytest.mark.parametrize(
    ("config", "source"),
    [
        ({"metadata": {"neuronpedia_id": "gpt2-small/6-res-jb"}}, "gpt2-small/6-res-jb"),
        ({"neuronpedia_id": "gpt2-small/6-res-jb"}, "gpt2-small/6-res-jb"),
        ({"metadata": {"neuronpedia_id": None}}, None),
        ({"neuronpedia_id": '"><script>/x'}, None),
        ({"neuronpedia_id": "../../evil"}, None),
        ({"neuronpedia_id": ["x"]}, None),
        ([], None),
    ],
)
def test_a_folder_says_it_itself_and_cannot_lead_elsewhere(tmp_path, config, source):
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    assert name_source(str(tmp_path)) == source


def test_the_address_has_a_place_for_the_feature(run, monkeypatch):
    from xmodel.report.page import neuronpedia

    assert find_neuronpedia(run, "a") is None
    monkeypatch.setattr(neuronpedia, "name_source", lambda name: f"model/{name.split('/')[1]}")
    assert find_neuronpedia(run, "b") == "https://www.neuronpedia.org/model/sae-b/{feature}"
