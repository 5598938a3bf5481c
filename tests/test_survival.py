"""A run that is killed, interrupted, damaged or out of space goes on, and ends as if nothing had happened.

Attempts are forked from one process that has imported everything, so that one costs a second, not ten.
"""

import random
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.run_contents import read_run
from tests.survival_helpers import (  # noqa: F401
    FORKING,
    KILLS,
    SUM,
    check_whole,
    corpus,
    flip,
    forks,
    go_on,
    of_shards,
    pair,
    start,
    start_over,
    unbroken,
    without_parts,
)
from tests.tiny_pair import align_pair
from xmodel.cli import main
from xmodel.errors import InputError
from xmodel.run import RunFolder


def test_a_run_killed_at_any_moment_ends_as_an_unbroken_one(pair, corpus, unbroken, tmp_path):
    expected, length = read_run(unbroken[0]), unbroken[1]
    shards = len([name for name in expected if re.fullmatch(r"parts/shard-\d+\.json", name)])
    out, chance = tmp_path / "run", random.Random(3)
    receipts, completed = [], 0
    while len(receipts) < KILLS or out.exists():
        attempt = start(pair, corpus, out)
        attempt.join(chance.uniform(0.02, 0.7) * length if len(receipts) < KILLS else None)
        if attempt.is_alive():
            attempt.kill()
            attempt.join()
            receipts.append(check_whole(out))
            continue
        # A kill may have come too late by a hair: then the run was done all the same.
        assert attempt.exitcode == 0
        assert read_run(out) == expected
        shutil.rmtree(out)
        completed += 1
    assert completed > 1
    assert sum(0 < count < shards for count in receipts) >= 5, receipts
    assert 0 in receipts, receipts


def test_killed_before_and_after_every_late_file_gets_its_name(pair, corpus, unbroken, tmp_path):
    out = tmp_path / "run"
    moments = [("manifest.json", 1), ("features_b/shard-00003.safetensors", 1), ("parts/shard-00003.json", 1)]
    moments += [(f"{table}.parquet", 1) for table in ("documents", "words", "tokens_b")]
    moments += [("manifest.json", 2), ("pairs.parquet", 1), ("summary.json", 1), ("manifest.json", 1)]
    for name, time_of_it in moments:
        for moment in ("before", "after"):
            attempt = start(pair, corpus, out, (name, moment, time_of_it))
            attempt.join()
            assert attempt.exitcode == -signal.SIGKILL, (name, moment)
            check_whole(out)
            assert list(out.rglob("*.partial")) or moment == "after"
    (out / "parts" / "words-00099.parquet.partial").write_bytes(b"of a longer corpus, or other shards")
    attempt = start(pair, corpus, out)
    attempt.join()
    assert attempt.exitcode == 0
    assert read_run(out) == read_run(unbroken[0])


@pytest.fixture(scope="module")
def summed(pair, corpus, tmp_path_factory):
    """The same corpus with words' tokens summed, not joined by their largest or last."""
    out = tmp_path_factory.mktemp("summed") / "run"
    align_pair(pair, corpus, out, settings=SUM)
    return read_run(out)


@pytest.mark.parametrize("has_manifest", [True, False], ids=["whole", "without its manifest"])
@pytest.mark.parametrize("removals", [1, 20, 75, 107, 108])
def test_killed_while_starting_over_the_old_run_is_never_taken_for_the_new(
    pair, corpus, finished, unbroken, summed, removals, has_manifest
):
    assert (
        read_run(unbroken[0])["features_a/shard-00001.safetensors"]
        != (summed["features_a/shard-00001.safetensors"])
    )
    if not has_manifest:
        (finished / "manifest.json").unlink()
    attempt = start_over(pair, corpus, finished, SUM, removals)
    attempt.join()
    assert attempt.exitcode == -signal.SIGKILL
    if has_manifest and not (finished / "manifest.json").exists():
        assert {path.name for path in finished.iterdir()} <= {".lock", "manifest.json.partial"}
    try:
        align_pair(pair, corpus, finished, settings=SUM)
    except InputError as error:
        assert "settings.pool was" in str(error) and "--fresh" in str(error)
        again = Path(shutil.copytree(finished, finished.with_name("again")))
        align_pair(pair, corpus, again, settings=SUM, fresh=True)
        assert read_run(again) == summed
        # As long as the manifest is there, the old run can be mended; its results may still be whole.
        align_pair(pair, corpus, finished)
        assert without_parts(read_run(finished)) == without_parts(read_run(unbroken[0]))
    else:
        assert read_run(finished) == summed


@pytest.fixture
def finished(unbroken, tmp_path):
    return Path(shutil.copytree(unbroken[0], tmp_path / "run"))


@pytest.fixture(scope="module")
def begun(pair, corpus, tmp_path_factory):
    """A run that was killed when half of its shards were done."""
    out = tmp_path_factory.mktemp("begun") / "run"
    attempt = start(pair, corpus, out, ("parts/shard-00006.json", "after", 1))
    attempt.join()
    assert check_whole(out) == 7
    return out


@pytest.mark.parametrize(
    "name",
    ["features_a/shard-00002.safetensors", "features_b/shard-00013.safetensors"],
)
@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["flipped", "missing"])
def test_a_damaged_shard_of_a_finished_run_is_made_again_and_no_other(
    pair, corpus, finished, unbroken, name, damage
):
    damage(finished / name)
    written = go_on(pair, corpus, finished)
    number = re.search(r"\d+", name)[0]
    assert name in written
    assert all(number in one for one in of_shards(written)), written
    assert read_run(finished) == read_run(unbroken[0])


@pytest.mark.parametrize(
    "name",
    ["features_a/shard-00002.safetensors", "parts/words-00002.parquet", "parts/shard-00002.json"],
)
@pytest.mark.parametrize("place", [0.02, 0.5, 0.9])
def test_a_damaged_shard_of_an_interrupted_run_is_made_again_and_no_other(
    pair, corpus, begun, unbroken, tmp_path, name, place
):
    out = Path(shutil.copytree(begun, tmp_path / "run"))
    flip(out / name, place)
    written = of_shards(go_on(pair, corpus, out))
    numbers = {int(re.search(r"\d+", one)[0]) for one in written}
    assert numbers == {2, *range(7, max(numbers) + 1)}
    assert read_run(out) == read_run(unbroken[0])


@pytest.mark.parametrize("name", ["words.parquet", "documents.parquet", "tokens_a.parquet"])
def test_a_damaged_table_is_put_together_again(pair, corpus, finished, unbroken, name):
    flip(finished / name)
    assert of_shards(go_on(pair, corpus, finished)) == set()
    assert read_run(finished) == read_run(unbroken[0])


def test_whatever_is_missing_of_a_finished_run_comes_back(pair, corpus, finished, unbroken):
    shutil.rmtree(finished / "parts")
    for name in ("words.parquet", "pairs.parquet", "summary.json"):
        (finished / name).unlink()
    go_on(pair, corpus, finished)
    assert read_run(finished) == read_run(unbroken[0])


def test_a_receipt_that_another_count_was_written_into_is_not_believed(begun, tmp_path):
    """Still valid JSON: only the receipt's own checksum tells."""
    out = Path(shutil.copytree(begun, tmp_path / "run"))
    place = out / "parts" / "shard-00002.json"
    text = place.read_text()
    place.write_text(re.sub(r'"words": (\d)', lambda match: f'"words": {9 - int(match[1])}', text))
    assert place.read_text() != text
    assert RunFolder(out).receipt(2) is None
    place.write_text(text)
    assert RunFolder(out).receipt(2) is not None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_manifest_is_named_and_fresh_starts_over(pair, corpus, finished, unbroken, share):
    place = finished / "manifest.json"
    data = place.read_bytes()
    place.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"manifest\.json is not valid JSON.*--fresh"):
        align_pair(pair, corpus, finished)
    assert (finished / "pairs.parquet").exists()
    align_pair(pair, corpus, finished, fresh=True)
    assert read_run(finished) == read_run(unbroken[0])


@pytest.mark.parametrize("name", ["features_b/shard-00003.safetensors", "words.parquet"])
def test_pairing_a_damaged_run_again_names_the_file(finished, name, monkeypatch, capsys):
    flip(finished / name)
    monkeypatch.setattr(sys, "argv", ["xmodel", "pair", str(finished)])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert f"{finished / name} is damaged" in told.err
    assert "the same `xmodel align` command" in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
