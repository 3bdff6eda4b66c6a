"""What servers say, read without one: finish reasons, contents in parts, errors, usage, proxies and remedies."""

import json
from types import SimpleNamespace

import pytest

from wcse_lib.sample.engines import Decoding, Request
from wcse_lib.sample.engines.endings import Ending, ending
from wcse_lib.sample.engines.failures import ErrorInReply, Unreadable, read_body, read_failure
from wcse_lib.sample.engines.proxies import is_loopback, proxy_for
from wcse_lib.sample.engines.remedies import remedy
from wcse_lib.sample.engines.replies import call_arguments, read_reply
from wcse_lib.sample.engines.spending import Spending
from wcse_lib.study import Endpoint

KEY = "sk-very-secret-0123456789"
CALL = [Request(("se", "p7", 0), [], 5, [{"role": "user", "content": "What is 1+1?"}])]
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
PRICES = Spending(price_in=1e6, price_out=1e6)  # one token, one dollar

ENDS = {
    Ending.STOP: """stop STOP eos eos_token end_turn endTurn stop_sequence stop_sequence_reached COMPLETE
        COMPLETED completed FINISH endoftext end_of_text FINISH_REASON_STOP REASON_STOP eosFound
        stopStringFound normal stop_criteria_met ALTERNATIVE_STATUS_FINAL stopped_word done
        <|im_end|> <|eot_id|> STOP_TOKEN completion
        hit_eos turn_end user.end""",
    Ending.LENGTH: """length LENGTH max_tokens MAX_TOKENS maxTokens model_length max_output_tokens
        max_new_tokens maximum_tokens model_context_window_exceeded length_limit token_limit REASON_MAX_LEN
        maxPredictedTokensReached contextLengthReached truncated incomplete stopped_limit
        max_token_limit limitReached truncation over_length ALTERNATIVE_STATUS_TRUNCATED_FINAL
        FINISH_REASON_MAX_TOKENS""",
    Ending.FILTERED: """content_filter content-filter content_filtered CONTENT_FILTERED SAFETY RECITATION
        refusal refused BLOCKLIST PROHIBITED_CONTENT SPII guardrail_intervened ERROR_TOXIC sensitive
        blacklist MODEL_ARMOR LANGUAGE IMAGE_SAFETY content_policy_violation HARM_CATEGORY SAFETY_STOP""",
    Ending.TOOL: "tool_calls TOOL_CALL toolCalls tool_use function_call MALFORMED_FUNCTION_CALL",
    Ending.FAILED: """error ERROR ERROR_LIMIT network_error abort aborted cancelled USER_CANCEL TIMEOUT
        time_limit insufficient_system_resource failed load unload userStopped malformed_model_output
        FINISH_REASON_UNSPECIFIED pause_turn abnormal unfinished not_finished""",
    Ending.UNKNOWN: "banana OTHER 5 repetition",
    Ending.MISSING: "null None",
}


@pytest.mark.parametrize(
    ("word", "meaning"), [(word, end) for end, words in ENDS.items() for word in words.split()]
)
def test_finish_reasons_of_real_servers(word, meaning):
    assert ending(word) == meaning


@pytest.mark.parametrize("reason", [None, "", " "])
def test_a_missing_finish_reason(reason):
    assert ending(reason) == Ending.MISSING


def read(message=None, end="stop", usage=USAGE, **choice):
    message = {} if message is None else {"message": message}
    body = {"choices": [{"finish_reason": end, **message, **choice}], "usage": usage}
    (output,), bill = read_reply(body, CALL, 8, PRICES)
    return output, bill


@pytest.mark.parametrize(
    ("end", "n_tokens", "finish_reason"),
    [(None, 2, "stop"), (None, 8, "length"), ("banana", 2, "stop"), ("banana", 8, "length")],
)
def test_an_end_that_is_not_known_is_a_stop_or_where_max_tokens_are_used_up_a_cut(
    end, n_tokens, finish_reason
):
    usage = {"prompt_tokens": 9, "completion_tokens": n_tokens}
    output, _ = read({"content": "4"}, end, usage)
    assert output.finish_reason == finish_reason
    assert f"ended it with {end!r}" in output.error
    assert f"taken as {finish_reason}" in output.error


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("12", "12"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "12"}], "12"),
        ([{"type": "output_text", "text": "1"}, {"type": "output_text", "text": "2"}], "12"),
        ([{"text": "12"}], "12"),
        (["1", "2"], "12"),
        ([["1"], [{"text": "2"}]], "12"),
        ({"parts": [{"text": "12"}]}, "12"),
        ({"type": "text", "text": "12"}, "12"),
        ([{"type": "text", "text": {"value": "12"}}], "12"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "12"}], "12"),
        ([{"type": "thinking", "thinking": "hm"}, {"text": "12"}], "<think>hm</think>12"),
        ([{"text": "712?", "thought": True}, {"text": "12"}], "<think>712?</think>12"),
        ([{"markdown": "1"}, {"type": "text", "value": "2"}], "12"),
        ([{"type": "rich_text", "body": "12", "id": "m1"}, {"type": "image", "url": "a.b"}], "12"),
        ([{"type": "text", "text": 12}], "12"),
        ([{"type": "reasoning", "text": "hm"}, {"text": "12"}], "<think>hm</think>12"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"text": "12"}],
            "<think>hm</think>12",
        ),
    ],
)
def test_content_in_parts(content, text):
    output, bill = read({"content": content})
    assert (output.text, output.finish_reason, bill) == (text, "stop", 11)


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning": None, "reasoning_content": "hm"},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"thinking": "hm"},
        {"reasoning": {"content": "hm"}},
    ],
)
def test_thoughts_that_come_apart(fields):
    output, _ = read({"content": "12", **fields})
    assert output.text == "<think>hm</think>12"


def test_a_thought_that_stands_in_both_is_written_once():
    output, _ = read({"content": "<think>hm</think>12", "reasoning_content": "hm"})
    assert output.text == "<think>hm</think>12"


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "refusal": "I cannot help with that."},
        {"content": [{"type": "refusal", "refusal": "I cannot help with that."}]},
    ],
)
def test_a_refusal_is_a_failure_that_is_kept(message):
    output, bill = read(message)
    assert (output.finish_reason, output.is_kept, bill) == ("error", True, 11)
    assert output.error == "the model refused: I cannot help with that."


@pytest.mark.parametrize(
    ("end", "is_kept"), [("SAFETY", True), ("tool_calls", True), ("ERROR", False)]
)
def test_what_no_model_ended_is_a_failure_with_the_servers_word(end, is_kept):
    output, bill = read({"content": "half"}, end)
    assert (output.finish_reason, output.is_kept, output.text) == ("error", is_kept, "half")
    assert output.error.startswith(f"the server ended it with {end!r}: ")
    assert bill == 11


def test_a_message_of_another_form():
    assert read({"content": "12"}, stop_reason="end_turn", end=None)[0].error == ""
    assert read(text="12")[0].text == "12"
    assert read(delta={"content": "12"})[0].text == "12"
    assert read("12")[0].text == "12"


def test_a_broken_choice_does_not_spoil_the_others():
    good = {"message": {"content": "12"}, "finish_reason": "stop"}
    for broken in (None, {}, {"message": {"content": 3}}, {"error": {"code": 500}}, "x"):
        outputs, _ = read_reply({"choices": [broken, good]}, CALL * 2, 8, PRICES)
        assert [output.text for output in outputs] == ["12"]


# ---------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("changes", "n_prompt_tokens", "n_tokens"),
    [
        ({}, 9, 2),
        ({"prompt_tokens": 9.0, "total_tokens": 11.0}, 9, 2),
        ({"prompt_tokens": 10**30, "total_tokens": 10**30 + 2}, -1, 2),
        ({"prompt_tokens": 1e30, "total_tokens": None}, -1, 2),
        ({"prompt_tokens": 2**63, "total_tokens": None}, -1, 2),
        ({"prompt_tokens": float("inf")}, -1, 2),
        ({"prompt_tokens": "9"}, -1, 2),
        ({"prompt_tokens": 0, "total_tokens": 2}, -1, 2),
        ({"completion_tokens": 9, "total_tokens": 18}, 9, -1),
        ({"completion_tokens": -2, "total_tokens": 7}, 9, -1),
        ({"completion_tokens": 0, "total_tokens": 9}, 9, -1),
        ({"total_tokens": 12}, 9, -1),
        ({"total_tokens": "11"}, 9, -1),
        # a thought that is counted beside the answer, in it, or cannot be
        ({"completion_tokens_details": {"reasoning_tokens": 6}, "total_tokens": 17}, 9, 8),
        ({"completion_tokens_details": {"reasoning_tokens": 50}, "total_tokens": 61}, 9, -1),
        ({"completion_tokens_details": {"reasoning_tokens": 1}}, 9, 2),
        (
            {
                "completion_tokens": 40,
                "completion_tokens_details": {"reasoning_tokens": 38},
                "total_tokens": 49,
            },
            9,
            -1,  # more than max_tokens, by themselves
        ),
        ({"completion_tokens_details": {"reasoning_tokens": 10**30}}, 9, 2),
        ({"completion_tokens_details": "none"}, 9, 2),
    ],
)
def test_usage_that_cannot_be_never_enters_the_books(changes, n_prompt_tokens, n_tokens):
    output, bill = read({"content": "12"}, usage=USAGE | changes)
    assert (output.n_prompt_tokens, output.n_tokens) == (n_prompt_tokens, n_tokens)
    is_known = -1 not in (n_prompt_tokens, n_tokens)
    assert bill == (n_prompt_tokens + n_tokens if is_known else None)
    assert ("usage missing or impossible" in output.error) == (not is_known)


@pytest.mark.parametrize(
    ("changes", "n_cached", "n_reasoning", "usd"),
    [
        ({}, -1, -1, 11),
        ({"prompt_tokens_details": {"cached_tokens": 4}}, 4, -1, 5 + 4 * 0.1 + 2),
        ({"prompt_cache_hit_tokens": 9}, 9, -1, 9 * 0.1 + 2),
        ({"prompt_tokens_details": {"cached_tokens": 0}}, 0, -1, 11),
        ({"prompt_tokens_details": {"cached_tokens": 10}}, -1, -1, 11),  # more than the prompt has
        ({"prompt_tokens_details": {"cached_tokens": "4"}}, -1, -1, 11),
        ({"prompt_tokens_details": None, "completion_tokens_details": []}, -1, -1, 11),
        ({"completion_tokens_details": {"reasoning_tokens": 1}}, -1, 1, 11),
        ({"completion_tokens_details": {"reasoning_tokens": 5}}, -1, -1, 11),  # of two tokens
        # beside the answer: then it is paid, too
        ({"completion_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 16}, -1, 5, 16),
        ({"completion_tokens_details": {"reasoning_tokens": -5}}, -1, -1, 11),
    ],
)
def test_what_was_cached_or_thought_is_kept_and_priced(changes, n_cached, n_reasoning, usd):
    body = {"choices": [{"finish_reason": "stop", "message": {"content": "12"}}]}
    prices = Spending(price_in=1e6, price_out=1e6, price_cached=1e5)
    (output,), bill = read_reply(body | {"usage": USAGE | changes}, CALL, 8, prices)
    assert (output.n_cached_tokens, output.n_reasoning_tokens) == (n_cached, n_reasoning)
    assert bill == pytest.approx(usd)
    unpriced = Spending(price_in=1e6, price_out=1e6)
    _, bill = read_reply(body | {"usage": USAGE | changes}, CALL, 8, unpriced)
    assert bill == output.n_prompt_tokens + output.n_tokens, "a cache without a price costs as much"


def test_usage_in_other_words():
    output, bill = read({"content": "12"}, usage={"input_tokens": 9, "output_tokens": 2})
    assert (output.n_prompt_tokens, output.n_tokens, bill) == (9, 2, 11)


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"code": 429, "message": "slow"}}, 429),
        ({"error": {"code": "429", "message": "slow"}}, 429),
        ({"error": {"code": 401}}, 401),
        ([{"error": {"code": 404, "status": "NOT_FOUND"}}], 404),
        ({"error": {"type": "overloaded_error", "message": "Overloaded"}, "type": "error"}, 503),
        ({"error": {"type": "rate_limit_error"}}, 429),
        ({"error": {"status": "RESOURCE_EXHAUSTED"}}, 429),
        ({"error": {"status": "UNAUTHENTICATED"}}, 401),
        ({"error": {"status": "PERMISSION_DENIED"}}, 403),
        ({"error": {"code": "invalid_api_key", "message": "Incorrect API key provided"}}, 401),
        ({"error": {"code": "insufficient_quota"}}, 402),
        ({"error": {"code": "model_not_found"}}, 404),
        ({"error": {"type": "invalid_request_error", "message": "top_k: what?"}}, 400),
        ({"error": {"type": "server_error"}}, 500),
        ({"error": "upstream connect error"}, 500),
        ({"error": True, "message": "too many requests"}, 429),
        ({"object": "error", "message": "The model `x` does not exist.", "code": 404}, 404),
        ({"detail": "Not authenticated: missing key"}, 401),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, 429),
        ({"choices": [{"error": {"code": 502, "message": "Provider down"}}]}, 502),
        ({"choices": [], "error": {"code": 503}}, 503),
        ({"error": {"message": "who knows"}}, 500),
        ({"Error": {"Message": "Unauthorized"}}, 401),
        ({"errorCode": "Throttling", "errorMessage": "Slow down"}, 429),
        ({"StatusCode": 503}, 503),
        ({"exception": "ModelNotFound"}, 404),
        ({"choices": [{"message": {"content": None, "error": {"code": 429}}}]}, 429),
    ],
)
def test_an_error_inside_a_200_counts_as_its_code_or_words_and_costs_nothing(body, status):
    with pytest.raises(ErrorInReply) as caught:
        read_reply(body, CALL, 8, PRICES)
    failure = read_failure(caught.value, KEY, 5)
    assert failure.status == status
    assert failure.stops == (status in (400, 401, 402, 403, 404))
    assert not failure.maybe_billed


@pytest.mark.parametrize("line", ["Too Many Requests", "upstream timed out\n", "429 slow down"])
def test_a_line_of_an_errors_words_costs_nothing(line):
    with pytest.raises(ErrorInReply) as caught:
        read_body(line, KEY)
    assert not read_failure(caught.value, KEY, 5).maybe_billed


@pytest.mark.parametrize(
    "keys",
    [
        {"finishReason": "MAX_TOKENS"},
        {"finish_reason": None, "native_finish_reason": "length"},
        {"finish_details": {"type": "max_tokens"}},
    ],
)
def test_a_cut_is_seen_whatever_the_key_of_its_reason(keys):
    choice = {"message": {"content": "12"}, **keys}
    (output,), _ = read_reply({"choices": [choice], "usage": USAGE}, CALL, 8, PRICES)
    assert (output.finish_reason, output.error) == ("length", "")


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}},
        {"choices": [], "prompt_filter_results": [{"content_filter_results": {}}]},
    ],
)
def test_an_answer_that_a_filter_left_empty_is_the_prompts_own_failure(body):
    with pytest.raises(ErrorInReply) as caught:
        read_reply(body, CALL, 8, PRICES)
    failure = read_failure(caught.value, KEY, 5)
    assert failure.is_filter
    assert "a content filter left no answer" in str(failure)


def test_a_text_beside_an_error_may_be_billed():
    body = {"choices": [{"message": {"content": "half"}}], "error": {"code": 500}}
    with pytest.raises(ErrorInReply) as caught:
        read_reply(body, CALL, 8, PRICES)
    assert read_failure(caught.value, KEY, 5).maybe_billed


def refused(status, body, **headers):
    text = body if isinstance(body, str) else json.dumps(body)
    response = SimpleNamespace(
        status_code=status, text=text, reason_phrase="Reason", headers=headers
    )
    error = Exception("ours")
    error.response = response
    return read_failure(error, KEY, 5)


PAGE = """<!DOCTYPE html><html><head><title>502 Bad Gateway</title><style>a {b: c}</style>
<script>var x = "y";</script></head><body><!-- no --><h1>Bad&nbsp;Gateway</h1><p>nginx</p></body></html>"""


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, {"error": {"message": "No.", "code": "bad"}}, "HTTP 400: No. (bad)"),
        (
            422,
            {"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs", "type": "extra"}]},
            "HTTP 422: body.top_k: Extra inputs (extra)",
        ),
        (502, PAGE, "HTTP 502: a web page: 502 Bad Gateway Bad Gateway nginx"),
        (503, "", "HTTP 503: Reason"),
        (503, {}, "HTTP 503: Reason"),
        (500, "upstream  died\n", "HTTP 500: upstream died"),
        (
            401,
            f"key {KEY} and Bearer abc12345 and sk-proj-99aa88bb",
            "HTTP 401: key *** and *** and ***",
        ),
        (
            403,
            {"error": {"message": "Provider says", "metadata": {"raw": "blocked"}}},
            "HTTP 403: Provider says: blocked",
        ),
    ],
)
def test_a_refusals_words(status, body, words):
    assert str(refused(status, body)) == words


def test_long_words_are_shortened_and_no_part_of_the_key_stays():
    failure = refused(400, "x" * 290 + f" {KEY} " + "y" * 9_000)
    assert len(str(failure)) < 330
    assert "sk-" not in str(failure)


def test_a_page_with_status_200():
    with pytest.raises(ValueError) as caught:
        read_body(PAGE, KEY)
    failure = read_failure(caught.value, KEY, 5)
    assert "no JSON, but a web page: 502 Bad Gateway" in str(failure)
    assert failure.maybe_billed and not failure.stops


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON, but an empty answer"),
        ("[" * 100_000, "no JSON, but [[["),
        ('{"choices": [{"mess', 'no JSON, but {"choices": [{"mess'),
        ('data: {"choices": []}', 'no JSON, but data: {"choices": []}'),
    ],
)
def test_a_body_that_is_no_json(text, words):
    with pytest.raises(Unreadable) as caught:
        read_body(text, KEY)
    assert str(read_failure(caught.value, KEY, 5)).startswith(words)


def test_a_body_with_a_mark_and_a_number_of_thousands_of_digits():
    body = read_body('\ufeff{"usage": {"prompt_tokens": ' + "9" * 6_000 + "}}", KEY)
    assert body["usage"]["prompt_tokens"] == float("inf")


def test_an_answer_in_a_list_is_read():
    outputs, _ = read_reply([{"choices": [{"text": "12"}]}], CALL, 8, PRICES)
    assert outputs[0].text == "12"


def test_a_redirect_says_where_to_go():
    failure = refused(308, "", location="https://ann:pw@other/v1/chat/completions")
    assert str(failure) == "HTTP 308: Reason (it points to https://***@other/v1/chat/completions)"
    assert "Write the address" in remedy(failure, "m", Endpoint(), {})


def test_a_prompt_that_a_filter_refuses_is_no_refusal_of_all():
    said = {"error": {"code": "content_filter", "message": "The response was filtered"}}
    assert refused(400, said).is_filter
    assert not refused(401, said).is_filter
    assert not refused(400, {"error": "top_k is case-sensitive"}).is_filter


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, 0), ({"retry-after": "7"}, 7), ({"retry-after": "soon"}, 0), ({"retry-after": "nan"}, 0)],
)
def test_retry_after(headers, seconds):
    failure = refused(429, {}, **headers)
    assert failure.retry_after == seconds
    assert ("a pause of 7 seconds" in str(failure)) == (seconds == 7)


@pytest.mark.parametrize(
    ("status", "said", "what_to_do"),
    [
        (401, "Incorrect API key", "Check the key: it is read from OPENAI_API_KEY"),
        (402, "Payment Required", "Add credit"),
        (429, "You are out: insufficient_quota", "Add credit"),
        (403, "Country not supported", "another key"),
        (404, "The model `gpt-9` does not exist", "http://h/v1/models lists them"),
        (400, "invalid model ID", "lists them"),
        (404, "Not Found", "Check base_url, which mostly ends with /v1"),
        (405, "Method Not Allowed", "/v1"),
        (400, 'Unknown name "top_k": Cannot find field', "sampling.top_k out"),
        (400, "Unrecognized request argument supplied: top_k", "sampling.top_k out"),
        (400, "Unrecognized request argument supplied: seed", "extra_body: {seed: null}"),
        (400, "Invalid 'max_tokens': must be at least 16", "Write a sampling.max_tokens"),
        (422, "body.top_k: Extra inputs are not permitted", "sampling.top_k out"),
        (400, "Unsupported parameter: 'seed'", "extra_body: {seed: null}"),
        (400, "Unsupported value: 'temperature' does not support 0.7", "temperature: null"),
        (400, "property 'chat_template_kwargs' is unsupported", "{chat_template_kwargs: null}"),
        (
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "max_tokens_name: max_completion_tokens",
        ),
        (
            400,
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            "Lower sampling.max_tokens",
        ),
        (400, "max_tokens is too large: 5000. This model supports at most 4096", "Lower"),
        (
            400,
            "As of transformers v4.44, default chat template is no longer allowed",
            "style: plain",
        ),
        (400, "Something else", "Change what the server names"),
        (413, "Payload Too Large", "shorter prompt"),
        (503, "Overloaded", ""),
        (502, PAGE, ""),
        (401, PAGE, "Check the key"),
        (404, PAGE, "Check base_url"),
        (301, "Moved", "Check base_url"),
    ],
)
def test_what_to_do_about_it(status, said, what_to_do):
    endpoint = Endpoint(base_url="http://h/v1", extra_body={"chat_template_kwargs": {"x": 1}})
    decoding = Decoding(top_k=3, max_tokens=8, stop=("Q:",))
    sent = call_arguments("gpt-9", CALL, decoding, endpoint)
    assert what_to_do in remedy(refused(status, said), "gpt-9", endpoint, sent)
    assert bool(what_to_do) == bool(remedy(refused(status, said), "gpt-9", endpoint, sent))


def test_a_null_in_extra_body_leaves_an_argument_out():
    endpoint = Endpoint(extra_body={"seed": None, "temperature": None, "mine": 1})
    sent = call_arguments("m", CALL, Decoding(max_tokens=8), endpoint)
    assert sent["extra_body"] == {"mine": 1, "max_tokens": 8}


# ---------------------------------------------------------------------- proxies

PROXIES = (
    "http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY".split()
)


@pytest.fixture
def no_proxies(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "url", "shown"),
    [
        ({"HTTP_PROXY": "http://p:1"}, "http://host/v1", "HTTP_PROXY=http://p:1"),
        ({"http_proxy": "http://p:1"}, "http://host/v1", "http_proxy=http://p:1"),
        ({"HTTPS_PROXY": "http://a:b@p:1"}, "https://host/v1", "HTTPS_PROXY=http://***@p:1"),
        ({"HTTPS_PROXY": "a:b@p:1"}, "https://host/v1", "HTTPS_PROXY=***@p:1"),
        ({"all_proxy": "socks5://p:1"}, "https://host/v1", "all_proxy=socks5://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://host/v1", ""),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "host"}, "http://host/v1", ""),
        ({"HTTP_PROXY": "http://p:1"}, "http://127.0.0.1:8/v1", ""),
        ({}, "http://host/v1", ""),
    ],
)
def test_the_proxy_of_an_address(monkeypatch, no_proxies, variables, url, shown):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == shown


@pytest.mark.parametrize(
    "host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0"]
)
def test_hosts_that_are_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "localhost.example.org"])
def test_hosts_that_are_not(host):
    assert not is_loopback(host)
