"""Arms that are endpoints, on loopback: rows, bills, limits, and every way to fail."""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from endpoint_server import Server, answer, answering
from sample_arms import killed, planned

from wcse_lib.budget import ledger_table
from wcse_lib.sample import checks, first_prompt, generate, losses
from wcse_lib.sample.lost import is_empty
from wcse_lib.store import KEY, StudyError, read_json, read_samples, write_json, write_manifest
from wcse_lib.study import Machine, Run, write_yaml

pytest.importorskip("openai", reason="the openai client is not installed (extra: api)")

ARM = {  # one token, one dollar
    "model": "m",
    "engine": "openai",
    "usd_per_million_tokens": 1.0e6,
    "usd_per_million_prompt_tokens": 1.0e6,
}
FAST = {"backoff_seconds": 0.01, "timeout_seconds": 5.0, "max_retries": 2, "concurrency": 4}


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing")
    servers = []

    def start(behave=answering, n=2, match="count", n_train=6, prompt=None, sampling=None, **keys):
        servers.append(Server(behave))
        sampling = {"max_tokens": 8} | (sampling or {})
        run = planned(tmp_path, ARM, n, match, n_train, prompt=prompt or {}, sampling=sampling)
        return run, Machine(**FAST | {"base_url": servers[0].url} | keys), servers[0]

    yield start
    for server in servers:
        server.close()


def spent(run: Run) -> float:
    return read_json(run.path("02", "wc", "spending.json"))["usd"]


def with_limit(machine: Machine, usd: float) -> Machine:
    return machine.model_copy(update={"limit_usd": usd})


def file_of(machine: Machine, folder: Path) -> Path:
    path = folder / "machine.yaml"
    write_yaml(path, machine.model_dump(exclude_none=True))
    return path


class Sick:
    """Gives `failure` to the calls that `is_hit` names, until it is well."""

    def __init__(self, failure, is_hit):
        self.failure, self.is_hit, self.is_well = failure, is_hit, False

    def __call__(self, number, body):
        if not self.is_well and self.is_hit(number, body):
            return self.failure
        return answer(body)


def test_rows_and_bill(endpoint):
    run, machine, server = endpoint(match="price")
    rows = generate(run, "wc", machine)
    assert len(rows) == 12
    assert set(rows["engine"]) == {"openai"}
    assert set(rows["finish_reason"]) == {"stop"}
    assert rows["usd"].sum() == 60
    assert spent(run) == 60
    assert {call.path for call in server.calls} == {"/v1/chat/completions"}


def test_nothing_is_bought_twice(endpoint):
    run, machine, server = endpoint()
    generate(run, "wc", machine)
    generate(run, "wc", machine)
    assert len(server.calls) == 12


def test_the_first_prompt_has_no_token_ids(endpoint):
    run, _, _ = endpoint()
    assert "the endpoint makes the token ids" in first_prompt(run, "wc")


def test_plain_prompts_are_text(endpoint):
    run, machine, server = endpoint(prompt={"style": "plain", "shots": "gsm8k_8shot"})
    rows = generate(run, "wc", machine)
    assert {call.path for call in server.calls} == {"/v1/completions"}
    assert server.calls[0].body["stop"] == ["\nQ:"]
    assert all(call.body["prompt"].endswith("\nA:") for call in server.calls)
    assert set(rows["n_prompt_tokens"]) == {3}


def test_failures_are_rows_and_drawn_again(endpoint):
    behave = Sick((503, {}), lambda number, body: body["seed"] % 3 == 0)
    run, machine, server = endpoint(behave)
    rows = generate(run, "wc", machine)
    failed = rows[rows["finish_reason"] == "error"]
    assert len(rows) == 12
    assert 0 < len(failed) < 12
    assert failed["error"].str.contains("503").all()
    assert checks(run, "wc", rows)["n_failed"] == len(failed)
    assert losses(run, "wc", rows)["n"].sum() == len(failed)
    behave.is_well, n_calls = True, len(server.calls)
    rows = generate(run, "wc", machine)
    assert set(rows["finish_reason"]) == {"stop"}
    assert len(server.calls) == n_calls + len(failed)


def test_limit_holds_over_resumes(endpoint):
    run, machine, server = endpoint(n=10, limit_usd=400.0, concurrency=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="limit_usd: 400"):
            generate(run, "wc", machine)
    rows = read_samples(run.path("02", "wc"))
    assert 30 < len(rows) == len(server.calls)
    assert rows["usd"].sum() == 5 * len(rows) <= 400
    assert len(generate(run, "wc", with_limit(machine, 1e4))) == 60


def test_limit_counts_what_unreadable_answers_may_have_cost(endpoint):
    unreadable = {"limit_usd": 1500.0, "concurrency": 1, "max_failures": 1}
    run, machine, server = endpoint(lambda number, body: (200, b"{"), n=10, **unreadable)
    with pytest.raises(ValueError, match="calls in a row failed"):
        generate(run, "wc", machine)
    assert spent(run) > 0
    n_calls = len(server.calls)
    for _ in range(9):
        with pytest.raises(ValueError):
            generate(run, "wc", machine)
    assert n_calls < len(server.calls) < 30
    assert spent(run) <= 1500


def test_an_absurd_usage_neither_stops_an_arm_nor_loses_a_paid_sample(endpoint):
    thought = {"completion_tokens_details": {"reasoning_tokens": 900_000}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 900_005} | thought

    def behave(number, body):
        return answer(body, usage=usage if number % 2 else {"prompt_tokens": 10**12})

    run, machine, server = endpoint(behave, limit_usd=4000.0)
    rows = generate(run, "wc", machine)
    assert len(rows) == len(server.calls) == 12
    assert set(rows["finish_reason"]) == {"stop"}
    assert rows["error"].str.contains("usage missing or impossible").all()
    assert spent(run) <= 4000


def test_what_cannot_be_read_is_a_row_and_the_limit_says_what_it_went_for(endpoint):
    run, machine, _ = endpoint(lambda number, body: (200, b"<html>down</html>"), limit_usd=400.0)
    with pytest.raises(ValueError, match="could not be read, the last with no JSON.*See to that"):
        generate(run, "wc", machine)
    rows = read_samples(run.path("02", "wc"))
    assert len(rows) and rows["error"].str.contains("a web page: down").all()


def test_where_a_bill_is_open_the_ledger_says_at_least_and_at_most(endpoint):
    run, machine, _ = endpoint()
    rows = generate(run, "wc", machine)
    write_manifest(run.path("02", "wc"), run.plan_id, checks(run, "wc", rows))
    table = ledger_table(run)
    assert not table["kind"].str.startswith("bill").any()
    write_json(run.path("02", "wc", "spending.json"), {"usd": 75.0})  # as a killed run leaves it
    bill = ledger_table(run).set_index("kind")["spent"]
    assert (bill["bill_at_least"], bill["bill_at_most"]) == (60, 75)


DRAW = """
import sys
from wcse_lib import sample
from wcse_lib.study import Run, load_machine
sample.generate(Run(sys.argv[1]), "wc", load_machine(sys.argv[2]))
"""


def test_limit_holds_over_a_kill(endpoint, tmp_path):
    """Killed before anything was flushed: what the server has billed still counts, and the next run stops in time."""
    run, machine, server = endpoint(n=40, limit_usd=4000.0, concurrency=2)
    command = [sys.executable, "-c", DRAW, run.folder, file_of(machine, tmp_path)]
    for _ in range(2):
        n_calls = len(server.calls)
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while len(server.calls) < n_calls + 25 and child.poll() is None:
            time.sleep(0.001)
        child.kill()
        child.wait()
    noted = spent(run)
    assert len(server.calls) >= 50
    assert 5 * len(server.calls) <= noted <= 4000
    with pytest.raises(ValueError, match=r"limit_usd: .* are spent"):
        generate(run, "wc", with_limit(machine, noted + 400))
    assert 50 < len(server.calls) <= 240
    assert 5 * len(server.calls) <= noted + 400


def test_shards_do_not_share_a_limit(endpoint):
    run, machine, server = endpoint(limit_usd=600.0)
    with pytest.raises(ValueError, match="limit_usd: shards"):
        generate(run, "wc", machine, (0, 2))
    assert not server.calls


def test_samples_are_written_while_the_endpoint_hangs(endpoint):
    written: list = []

    def behave(number, body):
        while number == 5 and not written:
            time.sleep(0.05)
            written.extend(run.path("02", "wc").glob("part-*.parquet"))
        return answer(body)

    run, machine, _ = endpoint(behave, timeout_seconds=30.0, concurrency=1)
    assert len(generate(run, "wc", machine)) == 12
    assert written


def test_dead_endpoint_is_a_state_that_resumes(endpoint):
    behave = Sick((503, {}), lambda number, body: number > 3)
    run, machine, _ = endpoint(behave, n=5, max_failures=3)
    with pytest.raises(ValueError, match="run again when it answers"):
        generate(run, "wc", machine)
    n = read_samples(run.path("02", "wc"))["finish_reason"].value_counts()
    assert n["stop"] >= 4
    assert 3 <= n["error"] <= 7
    behave.is_well = True
    rows = generate(run, "wc", machine)
    assert len(rows) == 30
    assert set(rows["finish_reason"]) == {"stop"}


def test_storm_of_429_ends_well(endpoint):
    behave = Sick((429, {}, {"retry-after": "0.2"}), lambda number, body: number % 3)
    run, machine, _ = endpoint(behave, max_retries=20)
    assert set(generate(run, "wc", machine)["finish_reason"]) == {"stop"}


def test_kill_in_the_middle(endpoint, tmp_path):
    run, machine, server = endpoint(n=30)
    flushed = killed(run, file_of(machine, tmp_path))
    n_calls = len(server.calls)
    rows = generate(run, "wc", machine)
    assert len(rows) == 180
    assert len(flushed) >= 12
    assert len(rows.merge(flushed, on=[*KEY, "seed", "text"])) == len(flushed)
    assert len(server.calls) - n_calls == 180 - len(flushed)


def test_all_failed_is_no_complete_stage(endpoint):
    run, machine, _ = endpoint(lambda number, body: (500, {"error": "no"}))
    rows = generate(run, "wc", machine)
    with pytest.raises(AssertionError, match="every sample failed"):
        checks(run, "wc", rows)


def test_a_filtered_sample_is_kept_and_not_paid_again(endpoint):
    def behave(number, body):
        return answer(body, end="SAFETY" if body["seed"] % 3 == 0 else "STOP")

    run, machine, server = endpoint(behave)
    rows = generate(run, "wc", machine)
    pd.testing.assert_frame_equal(generate(run, "wc", machine), rows)
    assert len(server.calls) == 12
    failed = rows[rows["finish_reason"] == "error"]
    assert 0 < len(failed) < 12
    assert failed["error"].str.contains("'SAFETY': a content filter").all()
    assert rows["usd"].sum() == 60
    assert losses(run, "wc", rows)["n"].sum() == len(failed)


def test_a_prompt_that_a_filter_refuses_is_a_row_and_the_others_are_drawn(endpoint):
    refusal = 400, {"error": {"code": "content_filter", "message": "The prompt was filtered"}}
    run, machine, server = endpoint(Sick(refusal, lambda number, body: number == 1))
    rows = generate(run, "wc", machine)
    generate(run, "wc", machine)
    assert len(server.calls) == 12
    (error,) = rows.loc[rows["finish_reason"] == "error", "error"]
    assert error == "HTTP 400: The prompt was filtered (content_filter)"
    assert spent(run) == 55


def test_an_unknown_end_is_kept_counted_and_not_paid_again(endpoint):
    run, machine, server = endpoint(lambda number, body: answer(body, end="banana"))
    rows = generate(run, "wc", machine)
    generate(run, "wc", machine)
    assert len(server.calls) == 12
    assert set(rows["finish_reason"]) == {"stop"}
    noted = checks(run, "wc", rows)["n_noted"]
    assert noted == {"the server ended it with 'banana'": 12}


@pytest.mark.parametrize(
    ("sampling", "sent"), [({}, None), ({"top_k": 5}, 5), ({"top_k": 0}, None)]
)
def test_top_k_is_sent_only_where_the_params_file_names_it(endpoint, sampling, sent):
    run, machine, server = endpoint(n_train=1, sampling=sampling)
    generate(run, "wc", machine)
    assert server.calls[0].body.get("top_k") == sent


def test_empty_samples_stop_with_their_share_unless_allowed(endpoint):
    def behave(number, body):
        return answer(body, texts=[None])

    run, machine, _ = endpoint(behave, n_train=12)
    rows = generate(run, "wc", machine)
    message = (
        r"02_generate/wc: 24 of 24 samples \(100%\) are lost \(24 empty\), more than "
        r"sampling.max_failed_share = 0.5\. .*raise sampling.max_failed_share"
    )
    with pytest.raises(StudyError, match=message):
        checks(run, "wc", rows)
    allowed, _, _ = endpoint(behave, n_train=12, sampling={"max_failed_share": 1})
    assert checks(allowed, "wc", rows)["n_empty"] == 24


def test_lost_samples_are_counted_by_kind_and_the_first_failure_is_shown(endpoint):
    ends = ["length", "stop", "content_filter"]
    run, machine, _ = endpoint(lambda number, body: answer(body, end=ends[body["seed"] % 3]), n=8)
    rows = generate(run, "wc", machine)
    n = rows["finish_reason"].value_counts()
    with pytest.raises(StudyError) as caught:
        checks(run, "wc", rows)
    message = str(caught.value)
    assert f"({n['error']} failed, {n['length']} truncated at max_tokens)" in message
    assert "the first failed with: the server ended it with 'content_filter'" in message


def test_a_refusal_keeps_what_was_drawn_and_the_next_run_pays_only_the_rest(endpoint):
    refusal = 401, {"error": {"message": "Incorrect API key provided"}}
    behave = Sick(refusal, lambda number, body: number > 4)
    run, machine, server = endpoint(behave, concurrency=1)
    with pytest.raises(ValueError, match="HTTP 401: Incorrect API key provided. Check the key"):
        generate(run, "wc", machine)
    assert len(server.calls) == 6
    behave.is_well = True
    rows = generate(run, "wc", machine)
    assert set(rows["finish_reason"]) == {"stop"}
    assert len(server.calls) == 6 + 7
    assert rows["usd"].sum() == spent(run) == 60


def test_a_missing_key_stops_before_the_first_call(endpoint, monkeypatch):
    run, machine, server = endpoint()
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match="OPENAI_API_KEY is not set.*api_key_variable: null"):
        generate(run, "wc", machine)
    assert not server.calls
    without = machine.model_copy(update={"api_key_variable": None})
    assert len(generate(run, "wc", without)) == 12


@pytest.mark.parametrize(
    ("text", "is_said"),
    [
        ("<think>12, I think</think>\n", False),
        ("[THINK]12[/THINK]<|im_end|>", False),
        ("\u200b\n\ufeff", False),
        ("<|eot_id|><｜end▁of▁sentence｜>", False),
        ("<think>hm</think>12", True),
        ("$<s>$ <|x|>", True),
    ],
)
def test_a_sample_is_empty_where_it_says_nothing_after_its_thoughts(text, is_said):
    rows = pd.DataFrame({"text": [text], "finish_reason": "stop"})
    assert is_empty(rows).tolist() == [not is_said]
