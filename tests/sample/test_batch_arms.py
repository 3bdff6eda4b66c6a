"""Arms drawn in batches, by a service on loopback: rows, bills, limits, refusals, odd results, and kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from batch_server import BatchServer, good_line, line_of
from conftest import ROOT
from sample_arms import planned

from wcse_lib.sample import checks, generate
from wcse_lib.store import StudyError, read_json, read_samples
from wcse_lib.study import Machine, Run, write_yaml

pytest.importorskip("openai", reason="the openai client is not installed (extra: api)")

ARM = {  # one token, two dollars; a dollar in a batch
    "model": "m",
    "engine": "batch",
    "usd_per_million_tokens": 2.0e6,
    "usd_per_million_prompt_tokens": 2.0e6,
    "batch_discount": 0.5,
}
FAST = {"backoff_seconds": 0.01, "timeout_seconds": 5.0, "max_retries": 2}
SOON = {"requests": 5, "poll_seconds": 0.01, "settle_seconds": 0.2}


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing")
    servers = []

    def start(line=None, n=2, n_train=6, arm=None, batch=None, n_looks=1, **keys):
        servers.append(BatchServer(line, n_looks))
        run = planned(tmp_path, ARM | (arm or {}), n, n_train=n_train)
        given = FAST | {"base_url": servers[0].url, "batch": SOON | (batch or {})} | keys
        return run, Machine(**given), servers[0]

    yield start
    for server in servers:
        server.close()


def again(machine: Machine, **keys) -> Machine:
    return machine.model_copy(update=keys)


def records(run: Run) -> list[dict]:
    paths = sorted(run.path("02", "wc", "batches").glob("wcse-*.json"))
    return [read_json(path) for path in paths]


def bill(run: Run) -> float:
    return sum(record["bill_usd"] for record in records(run))


def n_failed(rows) -> int:
    return int((rows["finish_reason"] == "error").sum())


# ---------------------------------------------------------------------- what is sent, and what comes


def test_rows_and_bill_at_the_batch_price(service):
    run, machine, server = service()
    rows = generate(run, "wc", machine)
    assert set(rows["engine"]) == {"batch"}
    assert set(rows["finish_reason"]) == {"stop"}
    assert rows["usd"].sum() == 12 * 5 == bill(run)
    assert [len(record["keys"]) for record in records(run)] == [5, 5, 2]
    assert {batch["endpoint"] for batch in server.batches.values()} == {"/v1/chat/completions"}
    assert "seconds_per_sample" not in checks(run, "wc", rows)


def test_each_row_is_the_answer_to_its_own_request(service):
    run, machine, server = service()
    rows = generate(run, "wc", machine)
    seeds = [request["body"]["seed"] for request in server.requests()]
    assert sorted(rows["text"]) == sorted(f"text {seed}" for seed in seeds)
    assert (rows["text"] == "text " + (rows["seed"] % 2**31).astype(str)).all()


def test_a_line_holds_what_a_call_would_send(service):
    def line(custom_id, body):
        return good_line(custom_id, body, texts=["4"])

    run, machine, server = service(line, n=1, n_train=1, extra_body={"top_k": 3, "seed": None})
    generate(run, "wc", machine)
    (sent,) = server.requests()
    assert sent["method"] == "POST"
    assert sent["url"] == "/v1/chat/completions"
    assert sent["body"].keys() == {"model", "messages", "temperature", "max_tokens", "top_k"}
    (batch,) = server.batches.values()
    assert batch["metadata"]["wcse"] == records(run)[0]["mark"]


def test_nothing_is_bought_twice(service):
    run, machine, server = service()
    rows = generate(run, "wc", machine)
    n_calls = len(server.calls)
    assert generate(run, "wc", machine).equals(rows)
    assert len(server.calls) == n_calls
    assert len(server.batches) == 3


def test_lost_rows_come_back_from_the_results_on_disk(service):
    run, machine, server = service()
    rows = generate(run, "wc", machine)
    for part in run.path("02", "wc").glob("part-*.parquet"):
        part.unlink()
    n_calls = len(server.calls)
    assert generate(run, "wc", machine).equals(rows)
    assert len(server.calls) == n_calls


def test_a_file_has_no_more_bytes_than_allowed(service):
    run, machine, server = service(batch={"megabytes": 0.0011, "requests": 100})
    generate(run, "wc", machine)
    sizes = [len(text) for name, text in server.files.values() if name.endswith("input.jsonl")]
    assert len(sizes) > 2
    assert max(sizes) <= 1100


def test_a_request_larger_than_a_file_is_named(service):
    run, machine, server = service(batch={"megabytes": 0.0001})
    with pytest.raises(ValueError, match="batch.megabytes: 0.0001: the request for problem"):
        generate(run, "wc", machine)
    assert not server.batches


# ---------------------------------------------------------------------- what goes wrong with requests


def test_expired_requests_are_sent_again_and_finished_ones_kept(service):
    tried: set[int] = set()

    def line(custom_id, body):
        is_first = body["seed"] not in tried
        tried.add(body["seed"])
        return None if body["seed"] % 2 and is_first else good_line(custom_id, body)

    run, machine, server = service(line)
    server.final = "expired"
    rows = generate(run, "wc", machine)
    assert set(rows["finish_reason"]) == {"stop"}
    n_odd = sum(seed % 2 for seed in tried)
    assert 0 < n_odd < 12
    assert len(server.requests()) == 12 + n_odd
    assert bill(run) == 60


def test_requests_that_never_end_well_become_rows_with_their_reason(service):
    run, machine, server = service(
        lambda custom_id, body: None if body["seed"] % 3 == 0 else good_line(custom_id, body),
        batch={"requests": 100},
    )
    with pytest.raises(ValueError, match="expired, without any sample; the first request failed"):
        server.final = "expired"
        generate(run, "wc", machine)
    rows = read_samples(run.path("02", "wc"))
    assert len(rows) == 12
    assert 0 < n_failed(rows) < 12
    errors = rows.loc[rows["finish_reason"] == "error", "error"]
    assert errors.str.contains(
        r"not executed in time \(batch_expired\) \(batch batch_1, expired\)"
    ).all()


def test_odd_results_lose_and_double_nothing(service):
    """Malformed, unknown, repeated, missing and refused lines: rows in = rows out + rows with a reason."""
    run, machine, server = service(n=1, batch={"requests": 100}, max_retries=0)
    seen: list[str] = []

    def line(custom_id, body):
        seen.append(custom_id)
        good = json.dumps(good_line(custom_id, body))
        return {
            1: good[:-9],  # torn
            2: good.replace(custom_id, "nobody"),
            3: f"{good}\n{good}",
            4: "",
            5: line_of(custom_id, 400, {"error": {"message": "max_tokens is too large"}}),
        }.get(len(seen), good)

    server.line = line
    rows = generate(run, "wc", machine)
    assert len(rows) == 6
    assert n_failed(rows) == 4
    errors = sorted(rows["error"])
    assert errors[2].startswith("HTTP 400: max_tokens is too large")
    assert (
        sum("no line of the batch's results is of this request" in error for error in errors) == 3
    )
    (record,) = records(run)
    assert record["odd_lines"] == {
        "no JSON": 1,
        "of an unknown custom_id": 1,
        "of a custom_id that came before": 1,
    }
    # 2 samples of 5 USD; the server says to have answered two more, which count as the most that they may cost:
    # 8 tokens of an answer, and of a prompt each byte and 16.
    assert record["n_completed"] == 4
    missing = [request for place, request in enumerate(server.requests()) if place in (0, 1, 3)]
    prices = sorted(
        len(json.dumps(request["body"]["messages"][0]).encode()) + 16 + 8 for request in missing
    )
    assert record["bill_usd"] == 10 + sum(prices[1:])


def test_a_refused_line_says_what_to_change_where_all_are_refused(service):
    body = {"error": {"message": "Unsupported parameter: 'max_tokens'", "param": "max_tokens"}}
    run, machine, server = service(lambda custom_id, asked: line_of(custom_id, 400, body))
    message = "Unsupported parameter.*max_tokens_name: max_completion_tokens"
    with pytest.raises(ValueError, match=message):
        generate(run, "wc", machine)
    assert n_failed(read_samples(run.path("02", "wc"))) == 12
    assert bill(run) == 0


def test_a_prompt_that_a_filter_refuses_is_kept_and_not_sent_again(service):
    refusal = {"error": {"code": "content_filter", "message": "The prompt was filtered"}}

    def line(custom_id, body):
        is_bad = body["seed"] % 2
        return line_of(custom_id, 400, refusal) if is_bad else good_line(custom_id, body)

    run, machine, server = service(line)
    rows = generate(run, "wc", machine)
    generate(run, "wc", machine)
    assert 0 < n_failed(rows) < 12
    assert len(server.requests()) == 12


def test_a_usage_that_cannot_be_counts_as_the_most_it_may_cost(service):
    run, machine, _ = service(
        lambda custom_id, body: good_line(custom_id, body, usage={"prompt_tokens": -3}),
        n=1,
        n_train=1,
    )
    generate(run, "wc", machine)
    (record,) = records(run)
    assert record["bill_usd"] == record["most_usd"] > 8


# ---------------------------------------------------------------------- what goes wrong with batches


def test_a_cancelled_batch_keeps_what_it_has_and_the_next_run_sends_the_rest(service):
    run, machine, server = service(
        lambda custom_id, body: "" if body["seed"] % 2 else good_line(custom_id, body)
    )
    server.final = "cancelled"
    with pytest.raises(
        ValueError, match="batch_0 .*: cancelled; what it left undone has no sample"
    ):
        generate(run, "wc", machine)
    rows = read_samples(run.path("02", "wc"))
    n_good = len(rows) - n_failed(rows)
    assert len(rows) == 12
    server.final, server.line = "completed", good_line
    rows = generate(run, "wc", machine)
    assert set(rows["finish_reason"]) == {"stop"}
    assert len(server.requests()) == 12 + 12 - n_good
    assert bill(run) == 60


def test_a_batch_that_fails_as_a_whole_says_why_and_costs_nothing(service):
    def finish(batch):
        batch["status"] = "failed"
        fault = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached for m"}
        batch["errors"] = {"object": "list", "data": [fault]}

    run, machine, server = service()
    server.finish = finish
    with pytest.raises(
        ValueError, match="failed: Enqueued token limit reached .*lower batch.requests"
    ):
        generate(run, "wc", machine)
    assert n_failed(read_samples(run.path("02", "wc"))) == 12
    assert bill(run) == 0
    del server.finish
    assert set(generate(run, "wc", machine)["finish_reason"]) == {"stop"}


def test_a_batch_that_takes_too_long_stops_the_run_and_the_next_goes_on(service):
    run, machine, server = service(n_looks=10**6, batch={"hours": 0.0001})
    with pytest.raises(ValueError, match=r"batch.hours: 0.0001 .*batch_0 \(.*run again"):
        generate(run, "wc", machine)
    server.n_looks = 1
    assert len(generate(run, "wc", machine)) == 12
    assert len(server.batches) == 3


def test_only_so_many_batches_are_at_the_server_at_a_time(service):
    at_once: list[int] = []

    def before(what, number):
        at_once.append(sum(batch["status"] == "validating" for batch in server.batches.values()))

    run, machine, server = service(n_looks=3, batch={"requests": 2, "at_once": 2})
    server.before = before
    assert len(generate(run, "wc", machine)) == 12
    assert max(at_once) == 2


@pytest.mark.parametrize("what", ["POST /files", "POST /batches", "GET /batches/batch_0"])
def test_a_server_that_is_busy_for_a_while_is_waited_for(service, what):
    busy = iter([503, 429])

    def before(called, number):
        status = next(busy, None) if called == what else None
        return (status, {"error": "busy"}) if status else None

    run, machine, server = service()
    server.before = before
    assert set(generate(run, "wc", machine)["finish_reason"]) == {"stop"}
    assert len(server.requests()) == 12


@pytest.mark.parametrize("is_metadata_kept", [True, False])
def test_a_start_whose_answer_is_lost_is_looked_up_and_not_repeated(service, is_metadata_kept):
    lost = iter([True])

    def before(what, number):
        if what == "POST /batches" and next(lost, False):
            file_id = next(iter(server.files))
            server.start({"endpoint": "e", "input_file_id": file_id, "completion_window": "24h"})
            return 502, "<html><title>Bad Gateway</title></html>"

    run, machine, server = service(batch={"requests": 100})
    server.is_metadata_kept = is_metadata_kept
    server.before = before
    assert len(generate(run, "wc", machine)) == 12
    assert len(server.batches) == 1


def test_a_start_that_the_list_shows_late_is_waited_for(service):
    """The list lacks the batch twice, and shows it before `settle_seconds` have passed."""
    lost = iter([True])
    lacking: list = []

    def before(what, number):
        if what == "POST /batches" and next(lost, False):
            file_id = next(iter(server.files))
            server.start({"endpoint": "e", "input_file_id": file_id, "completion_window": "24h"})
            lacking.extend([True, True])
            return 502, "<html><title>Bad Gateway</title></html>"
        if what == "GET /batches" and lacking and lacking.pop():
            return 200, {"object": "list", "data": [], "has_more": False}

    run, machine, server = service(batch={"requests": 100, "settle_seconds": 5.0})
    server.before = before
    assert len(generate(run, "wc", machine)) == 12
    assert len(server.batches) == 1
    assert not lacking


def test_a_batch_that_is_not_known_at_once_is_looked_at_again(service):
    unknown = iter([True])

    def before(what, number):
        if what == "GET /batches/batch_0" and next(unknown, False):
            return 404, {"error": "no such batch"}

    run, machine, server = service(batch={"settle_seconds": 5.0})
    server.before = before
    assert len(generate(run, "wc", machine)) == 12


def test_a_batch_of_another_account_is_named_with_its_record(service):
    run, machine, server = service(batch={"settle_seconds": 0.0})
    server.before = lambda what, number: (
        (404, {"error": "no such batch"}) if what == "GET /batches/batch_0" else None
    )
    with pytest.raises(ValueError, match=r"Batch batch_0 was started .*delete .*wcse-00001-.*json"):
        generate(run, "wc", machine)
    server.before = lambda what, number: None
    assert len(generate(run, "wc", machine)) == 12
    assert len(server.requests()) == 12


# ---------------------------------------------------------------------- refusals before any payment


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"n_per_call": 2}, "n_per_call: 2: each request of a batch is one sample"),
        ({"extra_body": {"stream": True}}, "extra_body.stream: .*leave it out"),
        ({"api_key_variable": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
    ],
)
def test_what_does_not_go_with_batches_is_refused_before_any_call(service, keys, message):
    run, machine, server = service(**keys)
    with pytest.raises(ValueError, match=message):
        generate(run, "wc", machine)
    assert not server.calls


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "takes no batches .*HTTP 404.*engine: openai"),
        (401, "GET /batches: HTTP 401: .*Check the key: it is read from OPENAI_API_KEY"),
    ],
)
def test_a_server_that_refuses_batches_is_named_before_anything_is_sent(service, status, message):
    run, machine, server = service()
    server.before = lambda what, number: (status, {"error": {"message": "no"}})
    with pytest.raises(ValueError, match=message):
        generate(run, "wc", machine)
    assert server.calls == ["GET /batches"]
    assert not records(run)


def test_a_price_without_its_batch_price_is_refused_by_the_plan(tmp_path):
    arm = {key: value for key, value in ARM.items() if key != "batch_discount"}
    with pytest.raises(StudyError, match="arms.wc.batch_discount: needed for engine: batch"):
        planned(tmp_path, arm)


def test_shards_are_refused(service):
    run, machine, server = service()
    with pytest.raises(StudyError, match="--shard: batches are sent and noted by one process"):
        generate(run, "wc", machine, (0, 2))


# ---------------------------------------------------------------------- the limit


def test_a_batch_that_would_pass_the_limit_is_named_and_not_sent(service):
    def line(custom_id, body):  # 68 USD
        return good_line(custom_id, body, usage={"prompt_tokens": 60, "completion_tokens": 8})

    run, machine, server = service(line, n=10, batch={"requests": 10}, limit_usd=2500.0)
    with pytest.raises(
        ValueError, match=r"limit_usd: 2500.*10 requests from problem \S+ to \S+, may"
    ):
        generate(run, "wc", machine)
    rows = read_samples(run.path("02", "wc"))
    assert 0 < len(rows) == len(server.requests()) < 60
    assert bill(run) == 68 * len(rows) <= 2500
    assert len(generate(run, "wc", again(machine, limit_usd=None))) == 60


def test_batches_at_the_server_count_with_the_most_they_may_cost(service):
    run, machine, server = service(n_looks=10**6, batch={"hours": 0.0001, "requests": 3})
    with pytest.raises(ValueError, match="batch.hours"):
        generate(run, "wc", machine)
    most = sum(record["most_usd"] for record in records(run))
    assert len(server.batches) == 4
    server.n_looks = 1
    more, _, _ = service(n=4, batch={"requests": 3})
    server.n_looks = 10**6
    with pytest.raises(ValueError, match="batch.hours"):
        generate(more, "wc", again(machine, limit_usd=most + 1))
    assert len(server.batches) == 4


def test_a_limit_without_prices_is_refused(service):
    unpriced = {"usd_per_million_tokens": None, "usd_per_million_prompt_tokens": None}
    run, machine, server = service(arm=unpriced | {"batch_discount": None}, limit_usd=5.0)
    with pytest.raises(ValueError, match="limit_usd: 5.0 needs both prices"):
        generate(run, "wc", machine)
    assert not server.calls


# ---------------------------------------------------------------------- kills

# Imports once, then draws in a fork for every line that it reads, and says how that ended.
FORKS = r"""
import os, sys
import openai
import wcse_lib.sample.engines.batch
from wcse_lib import sample
from wcse_lib.study import Run, load_machine
print("ready", flush=True)
for line in sys.stdin:
    folder, machine = line.rstrip("\n").split("\t")
    child = os.fork()
    if not child:
        sys.stdout = open(os.devnull, "w")
        try:
            sample.generate(Run(folder), "wc", load_machine(machine))
        except ValueError as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(status, flush=True)
"""


class Drawing:
    """A process that draws an arm as often as it is asked, each time in a fork that can be killed."""

    def __init__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = os.environ | {"OPENAI_API_KEY": "sk-nothing"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKS], cwd=ROOT, env=environment, text=True, **pipes
        )
        assert self.process.stdout.readline() == "ready\n"

    def start(self, run: Run, machine: Machine) -> int:
        """Draw in a fork; its process number."""
        path = run.folder / "machine.yaml"
        write_yaml(path, machine.model_dump(exclude_none=True))
        self.process.stdin.write(f"{run.folder}\t{path}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """How the last fork ended: 0, an error's 256, or the number of the signal that killed it."""
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def draws():
    drawing = Drawing()
    yield drawing
    drawing.close()


def check_nothing_was_sent_twice(run: Run, server: BatchServer, n: int) -> None:
    rows = read_samples(run.path("02", "wc"))  # raises where a key stands twice
    assert len(rows) == n
    assert set(rows["finish_reason"]) == {"stop"}
    seeds = [request["body"]["seed"] for request in server.requests()]
    assert len(seeds) == len(set(seeds)) == n
    assert rows["usd"].sum() == bill(run) == 5 * n
    assert all(record["batch_id"] in server.batches for record in records(run))


STEPS = ["POST /files", "POST /batches", "GET /batches/batch_1", "GET /files/file-3/content"]


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_between_a_step_and_its_note(service, draws, step, is_before):
    """Killed just before the server does something, and when it has done it but not yet answered."""
    run, machine, server = service(n_looks=2)
    child = 0
    killed = iter([True])

    def kill(what, number):
        if what == step and next(killed, False):
            os.kill(child, signal.SIGKILL)

    if is_before:
        server.before = lambda what, number: kill(what, number)
    else:
        server.after = kill
    with server.lock:  # until it is known who is to be killed
        child = draws.start(run, machine)
    assert draws.end() == signal.SIGKILL
    draws.start(run, machine)
    assert draws.end() == 0
    check_nothing_was_sent_twice(run, server, 12)
    uploaded = [name for name, _ in server.files.values() if name.endswith("input.jsonl")]
    assert len(uploaded) == len(set(uploaded)) == 3


def test_a_limit_that_was_lowered_since_stops_a_batch_that_was_only_planned(service, draws):
    run, machine, server = service()
    child = 0

    def kill(what, number):
        if what == "POST /files":
            os.kill(child, signal.SIGKILL)

    server.after = kill
    with server.lock:
        child = draws.start(run, machine)
    assert draws.end() == signal.SIGKILL
    server.after = lambda what, number: None
    with pytest.raises(ValueError, match="limit_usd: 20.0: 0.0.* USD are spent; the next batch"):
        generate(run, "wc", again(machine, limit_usd=20.0))
    assert not server.batches
    assert not records(run)
    assert len(generate(run, "wc", machine)) == 12


@pytest.mark.parametrize(
    "n_kills", [5, pytest.param(20, marks=pytest.mark.slow)], ids=["five", "twenty"]
)
def test_kills_at_random_moments(service, draws, n_kills):
    """Killed again and again between sending and collecting: nothing is sent twice, lost or doubled, and the limit
    holds. Batches end one after the other as kills go on, so that these fall into every step. Moments are counted in
    calls, so that a busy machine meets the same ones."""
    limit = 4000.0
    keys = {"batch": {"requests": 10, "at_once": 3}, "limit_usd": limit}
    run, machine, server = service(n=20, **keys)
    n_killed, moments = 0, random.Random(5)

    def is_due(batch_id: str) -> bool:
        return n_killed >= n_kills * int(batch_id.removeprefix("batch_")) / 12

    server.is_due = is_due
    server.after = lambda what, number: time.sleep(moments.uniform(0, 0.02))
    n_fewer = []  # batches that a kill left unfinished
    while n_killed < n_kills:
        n_calls = len(server.calls) + moments.randint(1, 12)
        child = draws.start(run, machine)
        while len(server.calls) < n_calls:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert draws.end() == signal.SIGKILL
        n_killed += 1
        at_most = [
            record["most_usd"] if record["bill_usd"] is None else record["bill_usd"]
            for record in records(run)
        ]
        assert sum(at_most) <= limit
        n_fewer.append(len(server.batches))
    assert n_fewer[0] < n_fewer[-1] < 12, "the kills did not fall between sending and collecting"
    draws.start(run, machine)
    assert draws.end() == 0
    check_nothing_was_sent_twice(run, server, 120)


# ---------------------------------------------------------------------- through the notebooks


@pytest.mark.slow
def test_notebooks_wait_for_batches_and_a_killed_study_goes_on_to_its_report(tmp_path, monkeypatch):
    """Killed while a batch waits in the server's queue; the second run sends nothing again and ends in the report."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing")
    server = BatchServer(lambda custom_id, body: good_line(custom_id, body, texts=["#### 5"]))
    server.is_due = lambda batch_id: False
    write_yaml(
        tmp_path / "study.yaml",
        {
            "study": "batched",
            "dataset": {"name": "nano", "n_train": 6, "levels": [1]},
            "arms": {"se": ARM, "wc": ARM | {"model": "n"}},
            "budget": {"reference": "se", "samples": {"one": 2}, "match": "count"},
            "sampling": {"max_tokens": 8},
        },
    )
    write_yaml(tmp_path / "machine.yaml", FAST | {"base_url": server.url, "batch": SOON})
    command = [sys.executable, "-m", "wcse_lib.pipeline", str(tmp_path / "study.yaml")]
    command += ["--machine", str(tmp_path / "machine.yaml"), "--outputs", str(tmp_path)]
    first = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    while "POST /batches" not in server.calls:
        assert first.poll() is None, "the first run ended before it sent a batch"
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    server.is_due = lambda batch_id: True
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    server.close()
    assert (tmp_path / "batched" / "report.html").exists()
    sent = [(request["custom_id"], request["body"]["model"]) for request in server.requests()]
    assert len(sent) == len(set(sent)) == 2 * 12
    ledger = pd.read_csv(tmp_path / "batched/06_analyze/tables/ledger.csv")
    billed = ledger[(ledger["unit"] == "usd") & ledger["kind"].isin(["sampling", "prompt"])]
    assert billed["spent"].sum() == 2 * 12 * 5
