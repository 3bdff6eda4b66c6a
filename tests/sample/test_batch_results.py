"""What lines of a batch's results give, whatever they are: every request ends once, and the bill is bounded."""

import json

from batch_server import good_line, line_of
from hypothesis import given
from hypothesis import strategies as st

from wcse_lib.sample.engines import Request
from wcse_lib.sample.engines.batch_results import Reader
from wcse_lib.sample.engines.spending import Spending

N = 4
ASKED = {
    f"b-{i}": Request(("wc", "p", i), [], i, [{"role": "user", "content": "?"}]) for i in range(N)
}
MOST = (
    8 + 16 + len(json.dumps({"role": "user", "content": "?"}))
)  # USD: 8 tokens, and a prompt's bytes


def line(kind: str, place: int) -> str:
    custom_id, body = f"b-{place}", {"seed": place, "messages": []}
    good = good_line(custom_id, body)
    lines = {
        "good": good,
        "without usage": good_line(custom_id, body, usage=None),
        "filtered": good_line(custom_id, body, end="content_filter"),
        "refused": line_of(custom_id, 400, {"error": {"message": "no"}}),
        "busy": line_of(custom_id, 503, "busy"),
        "status as text": line_of(custom_id, "500", {}),
        "expired": {"custom_id": custom_id, "response": None, "error": {"code": "batch_expired"}},
        "empty answer": line_of(custom_id, 200, {}),
        "error inside": line_of(custom_id, 200, {"error": {"message": "overloaded"}}),
        "body as text": line_of(custom_id, 200, json.dumps(good["response"]["body"])),
        "nothing": {"custom_id": custom_id},
        "stranger": {"custom_id": "b-99", "response": {}},
        "list as id": {"custom_id": [1]},
        "no object": [custom_id],
    }
    return "{" if kind == "torn" else json.dumps(lines[kind])


KINDS = [
    *("good", "without usage", "filtered", "refused", "busy", "status as text", "expired", "torn"),
    *(
        "empty answer",
        "error inside",
        "body as text",
        "nothing",
        "stranger",
        "list as id",
        "no object",
    ),
]
LINES = st.lists(st.builds(line, st.sampled_from(KINDS), st.integers(0, N - 1)), max_size=9)


def read(lines: list[str], n_completed: int | None = None):
    return Reader(8, Spending(1e6, 1e6), "").read(lines, ASKED, n_completed)


@given(LINES, st.none() | st.integers(0, N))
def test_every_request_ends_once_and_the_bill_is_at_most_what_was_set_aside(lines, n_completed):
    results = read(lines, n_completed)
    ended = [*results.samples, *results.failures, *results.missing]
    assert sorted(ended) == sorted(request.key for request in ASKED.values())
    assert 0 <= results.bill_usd <= N * MOST
    told = {custom_id for text in lines if (custom_id := _id(text)) in ASKED}
    assert {key[2] for key in results.missing} == {i for i in range(N) if f"b-{i}" not in told}


def _id(text: str):
    entry = {} if text == "{" else json.loads(text)
    return str(entry.get("custom_id")) if isinstance(entry, dict) else None


def test_the_first_sample_counts_wherever_failures_stand():
    results = read([line("busy", 0), line("good", 0), line("without usage", 0), line("expired", 0)])
    assert results.samples[("wc", "p", 0)].text == "text 0"
    assert not results.failures
    assert results.odd_lines["of a custom_id that came before"] == 3
    assert (
        results.bill_usd == 5 + 3 * MOST
    )  # the others have no line, and nobody says how many were answered


def test_requests_without_a_line_are_billed_as_the_server_counts():
    assert read([line("good", 0)], n_completed=1).bill_usd == 5
    assert read([line("good", 0)], n_completed=3).bill_usd == 5 + 2 * MOST


def test_separators_that_json_allows_within_a_text_break_no_line():
    body = {"seed": 0, "messages": []}
    text = json.dumps(good_line("b-0", body, texts=["a\u2028b\u0085c"]), ensure_ascii=False)
    assert read([text], 1).samples[("wc", "p", 0)].text == "a\u2028b\u0085c"
