"""Drawing: exactly the wanted keys, whatever dies on the way."""

import subprocess
import sys
import time

import pandas as pd
import pytest
from sample_fakes import PROBLEMS, FakeEngine, drawn

from wcse_lib.sample.drawing import complete
from wcse_lib.store import KEY, StudyError, locked, parts, read_samples
from wcse_lib.study import Prompt, sample_seed

COLUMNS = [*KEY, "seed", "text", "n_prompt_tokens", "n_tokens", "finish_reason", "engine", "model"]


def test_draws_every_key_once_with_its_own_seed(tmp_path):
    rows = drawn(tmp_path)
    assert list(rows.columns[:10]) == COLUMNS
    keys = [("wc", f"p{p}", i) for p in range(7) for i in range(3)]
    assert list(rows[KEY].itertuples(index=False, name=None)) == keys
    assert rows["seed"].is_unique
    assert rows["seed"].tolist() == [sample_seed(0, "m", p, i) for _, p, i in keys]


@pytest.mark.parametrize("dies_after", [0, 1, 5, 20])
def test_resumes_by_key_after_a_death(tmp_path, dies_after):
    undisturbed = drawn(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path / "cut", FakeEngine(dies_after))
    assert len(read_samples(tmp_path / "cut")) == dies_after
    second, third = FakeEngine(), FakeEngine()
    resumed = drawn(tmp_path / "cut", second)
    assert len(second.keys) == 21 - dies_after
    pd.testing.assert_frame_equal(resumed, undisturbed)
    drawn(tmp_path / "cut", third)
    assert third.keys == []


def test_more_samples_and_more_problems_add_rows_only(tmp_path):
    first = drawn(tmp_path, n=2, problems=PROBLEMS.head(4))
    engine = FakeEngine()
    grown = drawn(tmp_path, engine)
    assert len(grown) == 21
    assert len(engine.keys) == 21 - 8
    kept = grown.merge(first, on=KEY)
    assert len(kept) == 8
    assert kept["text_x"].equals(kept["text_y"])


def test_failed_samples_are_rows(tmp_path):
    rows = drawn(tmp_path, FakeEngine(fails={("p1", 0), ("p3", 2)}))
    assert len(rows) == 21
    assert rows.loc[rows["finish_reason"] == "error", "error"].tolist() == ["HTTP 500"] * 2


def test_failed_samples_are_drawn_again(tmp_path):
    drawn(tmp_path, FakeEngine(fails={("p1", 0), ("p3", 2)}))
    second = FakeEngine(fails={("p1", 0)})
    rows = drawn(tmp_path, second)
    assert sorted(second.keys) == [("wc", "p1", 0), ("wc", "p3", 2)]
    assert (rows["finish_reason"] == "error").sum() == 1
    pd.testing.assert_frame_equal(drawn(tmp_path), drawn(tmp_path / "whole"))
    assert not list(tmp_path.glob("part-errors*"))


def test_an_old_failure_is_gone_when_its_sample_is_undone(tmp_path):
    drawn(tmp_path, FakeEngine(fails={("p1", 0)}))
    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path, FakeEngine(dies_after=0))
    rows = read_samples(tmp_path)
    assert len(rows) == 20
    assert set(rows["finish_reason"]) == {"stop"}


def test_samples_chosen_by_problem(tmp_path):
    chosen = {"p0": [0], "p2": [0, 1, 2, 7, 9], "p6": [4, 5]}
    rows = drawn(tmp_path, n=chosen)
    assert rows.groupby("problem_id")["sample_index"].apply(list).to_dict() == chosen
    grown = FakeEngine()
    assert len(drawn(tmp_path, grown, n=chosen | {"p0": [0, 1, 3], "p1": [0]})) == 11
    assert len(grown.keys) == 3
    assert len(drawn(tmp_path, n={"p2": [0, 7]})) == 2


def test_shards_beside_each_other_make_the_same_rows(tmp_path):
    whole = drawn(tmp_path / "whole")
    for i in (2, 0):
        drawn(tmp_path / "cut", FakeEngine(fails={("p2", 1)}), shard=(i, 3))
    assert set(read_samples(tmp_path / "cut")["problem_id"]) == {"p0", "p2", "p3", "p5", "p6"}
    last = FakeEngine()
    pd.testing.assert_frame_equal(drawn(tmp_path / "cut", last), whole)
    assert len(last.keys) == 2 * 3 + 1


@pytest.mark.parametrize(
    ("prompt", "messages", "text", "stop"),
    [
        (
            Prompt(system="Be brief."),
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Ann has 0 pens."},
            ],
            "",
            (),
        ),
        (Prompt(style="plain", template="Q: {question}\nA:"), None, "Q: Ann has 0 pens.\nA:", ()),
    ],
)
def test_endpoints_are_given_conversations_or_text(tmp_path, prompt, messages, text, stop):
    engine = FakeEngine()
    drawn(tmp_path, engine, n=1, problems=PROBLEMS.head(1), prompt=prompt, tokenizer=None)
    (request,) = engine.requests
    assert request.prompt_ids == []
    assert request.messages == messages
    assert request.text == text
    assert engine.decoding.stop == stop


def test_worked_examples_stop_at_the_next_question(tmp_path):
    engine, prompt = FakeEngine(), Prompt(style="plain", shots="gsm8k_8shot")
    drawn(tmp_path, engine, n=1, problems=PROBLEMS.head(1), prompt=prompt, tokenizer=None)
    assert engine.requests[0].text.endswith("\n\nQ: Ann has 0 pens.\nA:")
    assert engine.decoding.stop == ("\nQ:",)


KILLED = """
import sys
from pathlib import Path
import pandas as pd
from wcse_lib.sample.drawing import Opened, draw
from wcse_lib.sample.engines import Decoding, open_engine
from wcse_lib.store import SampleWriter
from wcse_lib.study import Machine, Prompt
SampleWriter.__init__.__defaults__ = (8, 15.0, "")
model, folder, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
questions = [f"Ann has {i} pens." for i in range(n)]
problems = pd.DataFrame({"problem_id": [f"p{i}" for i in range(n)], "question": questions})
engine = open_engine("hf", model, Machine(device="cpu", batch_size=8, threads=1))
draw(folder, "wc", problems, 4, Opened(engine, "hf", engine.tokenizer), prompt=Prompt(),
     decoding=Decoding(max_tokens=24), seed=0, model="tiny")
"""


def test_kill_in_the_middle_of_transformers(tiny_model, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tiny_model), str(tmp_path), "200"]
    writer = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while writer.poll() is None and len(parts(tmp_path)) < 3:
        time.sleep(0.005)
    writer.kill()
    assert writer.wait() == -9, "it ended before it could be killed"
    flushed = read_samples(tmp_path)
    assert 24 <= len(flushed) < 800
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = read_samples(tmp_path)
    assert len(rows) == 800
    assert len(rows.merge(flushed, on=[*KEY, "seed", "text", "n_tokens"])) == len(flushed)


def test_a_doubled_part_is_named(tmp_path):
    drawn(tmp_path)
    part = next(tmp_path.glob("part-*.parquet"))
    (tmp_path / "part-00009.parquet").write_bytes(part.read_bytes())
    with pytest.raises(StudyError, match="stands there twice"):
        read_samples(tmp_path)


def test_a_torn_part_is_named(tmp_path):
    drawn(tmp_path)
    part = next(tmp_path.glob("part-*.parquet"))
    (tmp_path / "part-00009.parquet").write_bytes(part.read_bytes()[:-40])
    with pytest.raises(StudyError, match="part-00009.parquet: damaged"):
        read_samples(tmp_path)


def test_a_half_written_part_is_never_seen(tmp_path):
    (tmp_path / ".part-00000.parquet.1.tmp").write_bytes(b"PAR1 torn")
    assert len(drawn(tmp_path)) == 21
    assert not list(tmp_path.glob(".part*"))


def test_missing_rows_are_counted(tmp_path):
    drawn(tmp_path, n=2)
    with pytest.raises(StudyError, match=r"7 samples of wc are missing, the first \('p0', 2\)"):
        complete(tmp_path, "wc", PROBLEMS, 3)


@pytest.mark.parametrize(("held", "shard"), [("s0of2", (1, 4)), ("s0of2", None), ("", (0, 2))])
def test_other_shares_of_an_arm_at_the_same_time_are_refused(tmp_path, held, shard):
    with locked(tmp_path, f".lock{held}"):
        with pytest.raises(StudyError, match="the same samples would be drawn twice"):
            drawn(tmp_path, shard=shard)


def test_shards_of_one_number_are_drawn_together(tmp_path):
    with locked(tmp_path, ".locks0of2"):
        drawn(tmp_path, shard=(1, 2))
    assert len(drawn(tmp_path))
