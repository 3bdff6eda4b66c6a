"""What to do about a failed call: the key of the params or machine file that the server's words point to."""

from __future__ import annotations

import re

from wcse_lib.sample.engines.failures import QUOTA, Failure
from wcse_lib.sample.engines.proxies import proxy_for
from wcse_lib.study import Endpoint

BASE_URL = "Check base_url, which mostly ends with /v1"
CREDIT = "Add credit to the account, then run again"
# What these words ask for, whatever the status.
BY_WORDS = {
    QUOTA.pattern: CREDIT,
    r"(?i)context.{0,9}(length|window|size)|max_model_len|(too|very) (long|large)|at most \d"
    r"|reduce the length|maximum.{0,20}(token|length)|token limit|exceeds? the (max|limit)": (
        "Lower sampling.max_tokens (of a judge: model_judge.max_tokens), or ask with a shorter prompt"
    ),
    r"^no JSON, but data:": (
        "The server streams its answers: write extra_body: {stream: false} into the machine file"
    ),
    r"(?i)chat.?template\b": (
        "The model has no chat template there: write prompt.style: plain into the params file"
    ),
    r"\[SSL: ": (
        "Check base_url: without TLS it starts with http://; for a certificate of your own set SSL_CERT_FILE"
    ),
}
# What an argument asks for that the server refuses by name.
BY_ARGUMENT = {
    "top_k": "Leave sampling.top_k out of the params file",
    "top_p": "Leave sampling.top_p out of the params file",
    "stop": "Leave sampling.stop out of the params file; worked examples of plain prompts add one",
    "n": "Write n_per_call: 1 into the machine file",
    "temperature": (
        "Write a sampling.temperature that this model takes, or leave it out of the calls by "
        "extra_body: {temperature: null} in the machine file"
    ),
    "max_tokens": "Write max_tokens_name: max_completion_tokens into the machine file",
    "max_completion_tokens": "Write max_tokens_name: max_tokens into the machine file",
    "system": "Leave prompt.system out of the params file",
}
# Its value is refused, and not its name.
OUT_OF_RANGE = (
    r"(?i)(must|should|has to|needs? to) be|at least|at most|minimum|(less|greater) than"
    r"|out of range|between \d"
)
OTHER_TOKENS = "Write a sampling.max_tokens (of a judge: model_judge.max_tokens) that it takes"
OTHER_ARGUMENT = "Leave it out of the calls by extra_body: {{{name}: null}} in the machine file"
# A name without "_" counts only where the words show that it is an argument.
NAMED = (
    r"(['\"`]|body\.|(?:parameter|argument|field|property|input|key)s?"
    r"(?: (?:supplied|named|called|given|provided|passed|received))?:? ){name}\b|^{name}:"
)
UNKNOWN_MODEL = (
    r"(?i)models?\b.{0,60}(not.?found|not.?exist|unknown|not.?supported|invalid|available|access)"
    r"|(no such|unknown|invalid|unsupported|not a valid).{0,9}model"
)
# What a status asks for; {model}, {base_url} and {key} stand for the endpoint's own.
BY_STATUS = {
    401: "Check the key: it is read from {key}",
    402: CREDIT,
    403: "Ask for access to {model}, or take another key: it is read from {key}",
    404: BASE_URL + ", and whether {model} is served there",
    405: BASE_URL,
    301: BASE_URL,
    302: BASE_URL,
    413: "Ask with a shorter prompt",
    501: BASE_URL,
}
NO_MODEL = (
    "Name a model that is served there; {base_url}/models lists them, the params file says {model}"
)
REFUSED = (
    "Change what the server names: sampling and prompt stand in the params file, extra_body in the "
    "machine file"
)


def remedy(failure: Failure, model: str, endpoint: Endpoint, sent: dict) -> str:
    """A sentence that says what to do; empty where nothing but waiting helps.

    Args: sent: the call's arguments, of which the server may refuse one by name.
    """
    if on_the_way := _remedy_on_the_way(failure, endpoint):
        return on_the_way
    for pattern, text in BY_WORDS.items():
        if re.search(pattern, failure.words):
            return text
    if failure.status in (None, 401, 402, 429, 502, 503, 504):
        text = BY_STATUS.get(failure.status, "")
    elif refused := _refused_argument(failure.words, sent):
        return refused
    elif re.search(UNKNOWN_MODEL, failure.words):
        text = NO_MODEL
    else:
        text = BY_STATUS.get(failure.status, REFUSED if failure.stops else "")
    key = endpoint.api_key_variable or "nowhere (api_key_variable: null)"
    return text.format(model=repr(model), base_url=endpoint.base_url, key=key)


def _remedy_on_the_way(failure: Failure, endpoint: Endpoint) -> str:
    """What to do where a call has not reached the server that was meant."""
    is_astray = failure.is_page or not failure.has_connected or failure.status == 407
    proxy = proxy_for(endpoint.base_url)
    if is_astray and proxy:
        return (
            f"Calls go through the environment's proxy, {proxy}: unset that variable, or name the "
            "host in NO_PROXY"
        )
    if "it points to" in failure.words:
        return "Write the address that it points to as base_url"
    if failure.is_page and failure.status is None:
        return BASE_URL
    if not failure.has_connected and not failure.stops:
        return "Check base_url, and whether a server runs there"
    return ""


def _refused_argument(words: str, sent: dict) -> str:
    """What to do about the first of the sent arguments that the server's words name."""
    extra = sent.get("extra_body", {})
    names = [name for name in [*sent, *extra] if name not in ("model", "messages", "prompt")]
    for name in [*names, "system"]:
        escaped = re.escape(name)
        is_long = "_" in name and re.search(rf"(?<!\w){escaped}(?!\w)", words)
        if is_long or re.search(NAMED.format(name=escaped), words):
            if name.startswith("max_") and re.search(OUT_OF_RANGE, words):
                return OTHER_TOKENS
            return BY_ARGUMENT.get(name, OTHER_ARGUMENT.format(name=name))
    return ""
