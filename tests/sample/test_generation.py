"""Room 02 with every kind of arm: imported files, an endpoint that misbehaves, and what they leave on disk."""

import json
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import ROOT

from wcse_lib import plan as planning
from wcse_lib.sample import stage as generation
from wcse_lib.store import KEY, StudyError, parts, read_json, read_samples, write_parquet
from wcse_lib.study import Machine, Run, check_study

COLUMNS = {"text": "out", "problem_id": "id"}


def study(tmp_path, arm, n=2, match="count", n_train=6, **more) -> Run:
    data = {
        "study": "t",
        "dataset": {"name": "nano", "n_train": n_train, "levels": [1]},
        "arms": {"wc": arm},
        "budget": {"reference": "wc", "samples": {"one": n}, "match": match},
        "sampling": {"max_tokens": 8},
        **more,
    }
    return planning.make_plan(check_study(data, "t"), tmp_path / "out")


def imported(
    tmp_path, rows, kind="jsonl", n=2, match="count", columns=COLUMNS, **arm
) -> tuple[Run, pd.DataFrame]:
    path = tmp_path / f"samples.{kind}"
    arm = {
        "model": "theirs",
        "engine": "import",
        "path": str(path),
        "columns": columns,
        "n_parameters": 1.0e9,
        **arm,
    }
    tmp_path.mkdir(exist_ok=True)
    run = study(tmp_path, arm, n, match)
    ids = list(pd.read_parquet(run.path("01", "train.parquet"))["problem_id"])
    frame = pd.DataFrame([{"id": ids[p] if isinstance(p, int) else p, **rest} for p, rest in rows])
    if kind == "jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in frame.to_dict("records")))
    elif kind == "csv":
        frame.to_csv(path, index=False)
    else:
        write_parquet(path, frame)
    return run, generation.generate(run, "wc", Machine())


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_imported_files_of_every_kind(tmp_path, kind):
    rows = [
        (
            p,
            {
                "out": f'text {p} {i}\nwith, "marks"',
                "n": 3 + p,
                "end": "length" if p == 1 else "stop",
            },
        )
        for i in range(2)
        for p in range(6)
    ]
    columns = COLUMNS | {"n_tokens": "n", "finish_reason": "end"}
    run, found = imported(tmp_path, rows, kind, match="flops", columns=columns)
    assert (
        len(found) == 12
        and set(found["sample_index"]) == {0, 1}
        and not found.duplicated(KEY).any()
    )
    assert (found["finish_reason"] == "length").sum() == 2 and set(found["n_tokens"]) == set(
        range(3, 9)
    )
    assert found["text"].str.contains('with, "marks"').all() and set(found["model"]) == {"theirs"}
    assert generation.checks(run, "wc", found)["n_truncated"] == 2


def test_every_row_of_a_file_is_accounted_for(tmp_path):
    rows = [
        (p, {"out": f"{p} {i}", "at": i}) for p in range(5) for i in (3, 1, 2)
    ]  # one more than planned, out of order
    rows += [
        (0, {"out": "again", "at": 3}),
        ("nobody", {"out": "x", "at": 0}),
        (1, {"out": " ", "at": 0}),
        (1, {"out": None, "at": 9}),
    ]
    run, found = imported(tmp_path, rows, columns=COLUMNS | {"sample_index": "at"})
    assert len(found) == 10 and list(found["text"][:2].str[2:]) == ["1", "2"]
    counts = read_json(run.path("02", "wc", "import.json"))
    assert (
        counts.pop("rows")
        == 19
        == counts.pop("samples")
        + sum(
            counts.pop(reason)
            for reason in (
                "of a key that came before",
                "of no problem of this study",
                "without a text",
            )
        )
    )
    assert counts == {"more than planned, left unused": 5, "planned, but not in the file": 2}
    assert generation.losses(run, "wc", found)["n"].sum() == 4 + 5 + 2
    again = generation.generate(run, "wc", Machine())
    pd.testing.assert_frame_equal(again, found)


def test_unknown_token_counts_refuse_compute_matching(tmp_path):
    rows = [(p, {"out": "Tom has 1+1=2"}) for p in range(6)]
    with pytest.raises(
        StudyError,
        match="6 of 6 imported samples have no token count.*match: flops.*arms.wc.tokenizer",
    ):
        imported(tmp_path / "a", rows, n=1, match="flops")
    _, found = imported(tmp_path / "b", rows, n=1, match="flops", tokenizer="nano-wc")
    assert (found["n_tokens"] > 3).all()
    run, found = imported(tmp_path / "c", rows, n=1)
    assert generation.checks(run, "wc", found)["n_samples_without_token_count"] == 6


@pytest.mark.parametrize(
    ("rows", "columns", "word"),
    [
        ([("nobody", {"out": "x"})], COLUMNS, "no row belongs to a problem"),
        ([(0, {"out": "x"})], COLUMNS | {"n_tokens": "len"}, "no column 'len'"),
        ([(0, {"out": "x", "len": "many"})], COLUMNS | {"n_tokens": "len"}, "line 1: len = 'many'"),
        ([(0, {"out": "x", "len": -1})], COLUMNS | {"n_tokens": "len"}, "line 1: len = -1"),
    ],
)
def test_bad_imports_are_named(tmp_path, rows, columns, word):
    with pytest.raises(StudyError, match=word):
        imported(tmp_path, rows, columns=columns)


KILLED = """
import os, sys, time
from wcse_lib.sample import stage as generation
from wcse_lib import store
from wcse_lib.study import Machine, Run, load_machine
store.SampleWriter.__init__.__defaults__ = (4, 15.0, "")
slow = os.fsync
def fsync(file):
    time.sleep(0.03)
    slow(file)
os.fsync = fsync
generation.generate(Run(sys.argv[1]), "wc", load_machine(sys.argv[2]))
"""


def killed(run: Run, machine: str = "", after: int = 3) -> pd.DataFrame:
    """Start drawing in another process, kill it after a few parts, and return what lies on disk then."""
    folder = run.path("02", "wc")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(run.folder), machine],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and len(parts(folder)) < after:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -9, "it ended before it could be killed"
    return read_samples(folder)


def test_kill_in_the_middle_of_an_import(tmp_path):
    run, whole = imported(
        tmp_path, [(p, {"out": f"{p} {i}"}) for p in range(6) for i in range(10)], n=10
    )
    for part in parts(run.path("02", "wc")):
        part.unlink()
    assert 12 <= len(killed(run)) < 60
    pd.testing.assert_frame_equal(generation.generate(run, "wc", Machine()), whole)


class TestEndpoint:
    """A study whose arm is an endpoint on loopback."""

    @pytest.fixture
    def endpoint(self, tmp_path, monkeypatch):
        pytest.importorskip("openai", reason="the openai client is not installed (extra: api)")
        from test_engine_openai import Server, answer

        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        opened = []

        def start(
            behave=lambda i, body: answer(body), n=2, match="count", n_train=6, prompt=None, **keys
        ):
            server = Server(behave)
            opened.extend([server.shutdown, server.server_close])
            prices = {
                "usd_per_million_tokens": 1.0e6,
                "usd_per_million_prompt_tokens": 1.0e6,
            }  # one token, one dollar
            run = study(
                tmp_path,
                {"model": "m", "engine": "openai", **prices},
                n,
                match,
                n_train,
                prompt=prompt or {},
            )
            url = f"http://127.0.0.1:{server.server_address[1]}/v1"
            keys = {
                "base_url": url,
                "backoff_seconds": 0.01,
                "timeout_seconds": 5.0,
                "max_retries": 2,
                "concurrency": 4,
            } | keys
            return run, Machine(**keys), server

        yield start
        for close in opened:
            close()

    def test_rows_and_bill(self, endpoint):
        run, machine, server = endpoint(match="price")
        assert "the endpoint makes the token ids" in generation.first_prompt(run, "wc")
        rows = generation.generate(run, "wc", machine)
        assert (
            len(rows) == 12
            and set(rows["engine"]) == {"openai"}
            and set(rows["finish_reason"]) == {"stop"}
        )
        assert rows["usd"].sum() == 60 == read_json(run.path("02", "wc", "spending.json"))["usd"]
        assert {seen[0] for seen in server.seen} == {"/v1/chat/completions"}
        generation.generate(run, "wc", machine)
        assert len(server.seen) == 12

    def test_plain_prompts_are_text(self, endpoint):
        run, machine, server = endpoint(prompt={"style": "plain", "shots": "gsm8k_8shot"})
        rows = generation.generate(run, "wc", machine)
        assert {seen[0] for seen in server.seen} == {"/v1/completions"} and server.seen[0][1][
            "stop"
        ] == ["\nQ:"]
        assert all(seen[1]["prompt"].endswith("\nA:") for seen in server.seen) and set(
            rows["n_prompt_tokens"]
        ) == {3}

    def test_failures_are_rows_and_drawn_again(self, endpoint):
        from test_engine_openai import answer

        sick = [True]
        run, machine, server = endpoint(
            lambda i, body: (400, {}) if sick[0] and body["seed"] % 3 == 0 else answer(body)
        )
        rows = generation.generate(run, "wc", machine)
        failed = rows[rows["finish_reason"] == "error"]
        assert (
            len(rows) == 12 and 0 < len(failed) < 12 and failed["error"].str.contains("400").all()
        )
        assert (
            generation.checks(run, "wc", rows)["n_failed"]
            == len(failed)
            == generation.losses(run, "wc", rows)["n"].sum()
        )
        sick[0], n = False, len(server.seen)
        rows = generation.generate(run, "wc", machine)
        assert set(rows["finish_reason"]) == {"stop"} and len(server.seen) == n + len(failed)

    def test_limit_holds_over_resumes(self, endpoint):
        run, machine, server = endpoint(n=10, limit_usd=400.0, concurrency=1)
        for _ in range(3):
            with pytest.raises(ValueError, match="limit_usd: 400"):
                generation.generate(run, "wc", machine)
        rows = read_samples(run.path("02", "wc"))
        assert rows["usd"].sum() == 5 * len(server.seen) == 5 * len(rows) <= 400 and len(rows) > 30
        assert (
            len(generation.generate(run, "wc", machine.model_copy(update={"limit_usd": 1e4}))) == 60
        )

    def test_limit_counts_what_unreadable_answers_may_have_cost(self, endpoint):
        run, machine, server = endpoint(
            lambda i, body: (200, b"{"), n=10, limit_usd=1500.0, concurrency=1, max_failures=1
        )
        with pytest.raises(ValueError, match="calls in a row failed"):
            generation.generate(run, "wc", machine)
        assert read_json(run.path("02", "wc", "spending.json"))["usd"] > 0
        n = len(server.seen)
        for _ in range(9):
            with pytest.raises(ValueError):
                generation.generate(run, "wc", machine)
        assert (
            n < len(server.seen) < 30
            and read_json(run.path("02", "wc", "spending.json"))["usd"] <= 1500
        )

    def test_limit_holds_over_a_kill(self, endpoint, tmp_path):
        """Killed before anything was flushed: what the server has billed still counts, and the next run stops in
        time."""
        run, machine, server = endpoint(n=40, limit_usd=4000.0, concurrency=2)
        file = tmp_path / "machine.yaml"
        file.write_text(json.dumps(machine.model_dump()))
        code = (
            "import sys; from wcse_lib import sample; from wcse_lib.study import Run, load_machine; "
            "sample.generate(Run(sys.argv[1]), 'wc', load_machine(sys.argv[2]))"
        )
        for _ in range(2):
            already = len(server.seen)
            child = subprocess.Popen(
                [sys.executable, "-c", code, run.folder, file], stdout=subprocess.DEVNULL
            )
            while len(server.seen) < already + 25 and child.poll() is None:
                time.sleep(0.001)
            child.kill()
            child.wait()
        noted = read_json(run.path("02", "wc", "spending.json"))["usd"]
        assert len(server.seen) >= 50 and 5 * len(server.seen) <= noted <= 4000
        with pytest.raises(ValueError, match=r"limit_usd: .* are spent"):
            generation.generate(run, "wc", machine.model_copy(update={"limit_usd": noted + 400}))
        assert 50 < len(server.seen) <= 240 and 5 * len(server.seen) <= noted + 400

    def test_shards_do_not_share_a_limit(self, endpoint):
        run, machine, server = endpoint(limit_usd=600.0)
        with pytest.raises(ValueError, match="limit_usd: shards"):
            generation.generate(run, "wc", machine, (0, 2))
        assert not server.seen

    def test_samples_are_written_while_the_endpoint_hangs(self, endpoint):
        from test_engine_openai import answer

        found: list = []

        def behave(i, body):
            while i == 5 and not found:
                time.sleep(0.05)
                found.extend(run.path("02", "wc").glob("part-*.parquet"))
            return answer(body)

        run, machine, _ = endpoint(behave, timeout_seconds=30.0, concurrency=1)
        assert len(generation.generate(run, "wc", machine)) == 12 and found

    def test_dead_endpoint_is_a_state_that_resumes(self, endpoint):
        from test_engine_openai import answer

        sick = [True]
        run, machine, _ = endpoint(
            lambda i, body: (503, {}) if sick[0] and i > 3 else answer(body), n=5, max_failures=3
        )
        with pytest.raises(ValueError, match="run again when it answers"):
            generation.generate(run, "wc", machine)
        rows = read_samples(run.path("02", "wc"))
        assert (rows["finish_reason"] == "stop").sum() >= 4 and 3 <= (
            rows["finish_reason"] == "error"
        ).sum() <= 7
        sick[0] = False
        rows = generation.generate(run, "wc", machine)
        assert len(rows) == 30 and set(rows["finish_reason"]) == {"stop"}

    def test_storm_of_429_ends_well(self, endpoint):
        from test_engine_openai import answer

        run, machine, _ = endpoint(
            lambda i, body: (429, {}, {"retry-after": "0.2"}) if i % 3 else answer(body),
            max_retries=20,
        )
        assert set(generation.generate(run, "wc", machine)["finish_reason"]) == {"stop"}

    def test_kill_in_the_middle(self, endpoint, tmp_path):
        run, machine, server = endpoint(n=30)
        path = tmp_path / "machine.yaml"
        path.write_text(
            json.dumps({k: v for k, v in machine.model_dump().items() if v is not None})
        )
        flushed = killed(run, str(path))
        n_asked = len(server.seen)
        rows = generation.generate(run, "wc", machine)
        assert (
            len(rows) == 180
            and len(rows.merge(flushed, on=[*KEY, "seed", "text"])) == len(flushed) >= 12
        )
        assert len(server.seen) - n_asked == 180 - len(flushed)

    def test_all_failed_is_no_complete_stage(self, endpoint):
        run, machine, _ = endpoint(lambda i, body: (400, {"error": "no"}))
        with pytest.raises(AssertionError, match="every sample failed"):
            generation.checks(run, "wc", generation.generate(run, "wc", machine))


def test_an_arms_own_temperature(tmp_path, monkeypatch):
    run = study(tmp_path, {"model": "nano-student", "temperature": 1.3})
    seen = {}
    monkeypatch.setattr(generation, "draw", lambda *_, **how: seen.update(how) or pd.DataFrame())
    generation.generate(run, "wc", Machine(device="cpu", threads=1))
    assert seen["decoding"].temperature == 1.3 and seen["decoding"].top_k == 3


def test_shards_from_the_command_line(tmp_path, root):
    run = study(tmp_path, {"model": "nano-student"})
    for i in range(2):
        assert (
            generation.main(
                [str(run.folder), "wc", "--shard", f"{i}/2", "--machine", "params/machine/cpu.yaml"]
            )
            == 0
        )
    before = {p: p.stat().st_mtime_ns for p in parts(run.path("02", "wc"))}
    assert (
        len(before) == 2
        and len(generation.generate(run, "wc", Machine(device="cpu", threads=1))) == 12
    )
    assert before == {p: p.stat().st_mtime_ns for p in parts(run.path("02", "wc"))}
    for wrong in ("2/2", "1", "x/3"):
        with pytest.raises(SystemExit):
            generation.main([str(run.folder), "wc", "--shard", wrong])
