"""Room 02 of an arm with a local model: its settings, its shards, and what the notebook shows."""

import pandas as pd
import pytest
from sample_arms import planned

from wcse_lib.sample import first_prompt, generate, losses, stage, three_rows
from wcse_lib.store import parts
from wcse_lib.study import Machine

MACHINE = Machine(device="cpu", threads=1)


def test_an_arms_own_temperature(tmp_path, monkeypatch):
    run = planned(tmp_path, {"model": "nano-student", "temperature": 1.3})
    seen = {}

    def draw(*_, **settings):
        seen.update(settings)
        return pd.DataFrame()

    monkeypatch.setattr(stage, "draw", draw)
    generate(run, "wc", MACHINE)
    assert seen["decoding"].temperature == 1.3
    assert seen["decoding"].top_k == 3


def test_the_first_prompt_is_shown_with_its_token_ids(tmp_path):
    run = planned(tmp_path, {"model": "nano-student"})
    text = first_prompt(run, "wc")
    assert "token ids (beginning of sequence: '<|bos|>' = 1): [1, " in text


def rows_of(*samples) -> pd.DataFrame:
    columns = ["problem_id", "sample_index", "text", "n_tokens", "finish_reason", "error"]
    return pd.DataFrame(samples, columns=columns)


ROWS = rows_of(
    ("p0", 0, "short", 1, "stop", ""),
    ("p0", 1, "the longest", 3, "stop", ""),
    ("p1", 0, "cut", 8, "length", ""),
    ("p1", 1, "<think>cut", 8, "length", ""),
    ("p2", 0, "", -1, "error", "HTTP 500"),
)


def test_three_rows_are_the_first_the_longest_and_a_truncated_one():
    heads = [line for line in three_rows(ROWS).splitlines() if line.startswith("---")]
    assert heads == [
        "--- p0, sample 0: 1 tokens, stop",
        "--- p0, sample 1: 3 tokens, stop",
        "--- p1, sample 0: 8 tokens, length",
    ]


def test_losses_by_reason(tmp_path):
    run = planned(tmp_path, {"model": "nano-student"})
    assert losses(run, "wc", ROWS).to_dict("list") == {
        "reason": ["truncated at max_tokens", "truncated within its thinking", "HTTP 500"],
        "n": [1, 1, 1],
    }


def test_shards_from_the_command_line(tmp_path, root):
    run = planned(tmp_path, {"model": "nano-student"})
    for i in range(2):
        shard = [str(run.folder), "wc", "--shard", f"{i}/2"]
        assert stage.main([*shard, "--machine", "params/machine/cpu.yaml"]) == 0
    before = {path: path.stat().st_mtime_ns for path in parts(run.path("02", "wc"))}
    assert len(before) == 2
    assert len(generate(run, "wc", MACHINE)) == 12
    assert before == {path: path.stat().st_mtime_ns for path in parts(run.path("02", "wc"))}


@pytest.mark.parametrize("shard", ["2/2", "1", "x/3"])
def test_wrong_shards_are_refused(tmp_path, shard):
    with pytest.raises(SystemExit):
        stage.main([str(tmp_path), "wc", "--shard", shard])
