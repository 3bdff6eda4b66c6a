"""What a failed call says: the server's own words, whether waiting can help, and whether it may be billed."""

from __future__ import annotations

import email.utils
import html
import json
import random
import re
import time
from dataclasses import dataclass
from typing import Any

from wcse_lib.sample.engines.keys import number_of_json, without_key
from wcse_lib.sample.engines.proxies import without_user
from wcse_lib.store import visible

TRY_AGAIN = (408, 409, 425, 429)  # refusals that may pass; other 4xx do not
NO_API = (501, 505)  # and so do not these failures
WORDS_SHOWN = 300  # characters of what a server says
MOST_READ = 200_000  # characters of an answer that are looked at for them
# In which keys servers put what they say, and how they number it.
MESSAGES = "message detail msg error_msg status_msg error_message description reason title text exception error".split()
CODES = "code status status_code http_status error_code type".split()
ERROR_LINE = re.compile(
    r"(?!data:|event:)[A-Za-z0-9][^\n<>{}\[\]]{0,200}"
)  # an answer that is no JSON
HTTP_STATUS = re.compile(r"[345]\d\d$")
MOST_DOUBLINGS = 6  # of the pause between tries
NEVER_STOOD = ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol", "PoolTimeout")

QUOTA = re.compile(
    r"(?i)insufficient[_ ]?(quota|balance|credit|fund)|credit balance is|out of credit"
)
FILTER = re.compile(
    r"(?i)content[_ ]?(filter|policy|management)|responsible ?ai|safety (system|filter)|moderation"
    r"|data_?inspection|sensitive[_ ](content|word|info)|\bflagged\b|recitation|prohibited[_ ]content|block_?reason"
)
# The HTTP status that an error's words stand for, where an answer says 200 and names no such status.
STATUS_OF_WORDS = {
    401: r"unauthenticated|unauthori[sz]ed|authentication|(invalid|incorrect|wrong|missing).{0,9}\bkey",
    402: rf"{QUOTA.pattern[4:]}|payment|billing_",
    403: r"permission|forbidden|access.?denied|not allowed",
    429: r"rate.?limit|too.?many|exhausted|throttl|quota|slow down",
    503: r"overload|unavailable|capacity|\bbusy\b|try again|temporar",
    504: r"time.?out|timed.?out|deadline",
    404: r"not.?found|(does|do).?not.?exist|(unknown|no such) model",
    500: r"internal|server.?error|api_error|upstream|gateway",
    400: r"invalid|bad.?request|unsupported|not.?supported|context.?length|too.?long|unprocessable"
    r"|unrecogni[sz]ed|unexpected|maximum",
}
SECRETS = re.compile(
    r"(?i)\b(bearer\s+|(sk|pk|gsk|hf|xai|nvapi|r8)[-_]|AIza)(?=[\w*-]*[\d*])[\w*-]{6,}"
)


class EndpointDown(ValueError):
    """`max_failures` calls in a row failed; their samples are error rows, the rest is undone."""


class EndpointRefused(ValueError):
    """A call was refused as every other would be (a wrong key, model, address or argument); the rest is undone."""

    def __init__(self, words: str, status: int | None = None):
        super().__init__(words)
        self.status = status


class Unreadable(ValueError):
    """An answer with status 200 that holds neither a sample nor an error, such as a web page."""


class ErrorInReply(Exception):
    """An answer with status 200 that is an error; billed at most where a text came with it."""

    def __init__(self, said: Any, maybe_billed: bool = False):
        super().__init__(said)
        self.said, self.maybe_billed = said, maybe_billed


@dataclass(frozen=True)
class Failure:
    """One failed call. `status` is HTTP's, or what an error inside a 200 stands for; None where no answer came."""

    words: str
    status: int | None = None
    retry_after: float = 0.0  # seconds that the server asks for
    maybe_billed: bool = False
    is_page: bool = False  # a web page came, whatever its status
    has_connected: bool = True

    @property
    def stops(self) -> bool:
        """Whether every other call would be refused as well, however long one waits."""
        if self.status is None:
            return "[SSL: " in self.words  # no certificate, or no TLS
        is_refusal = 300 <= self.status < 500 and self.status not in TRY_AGAIN
        return is_refusal or self.status in NO_API or bool(QUOTA.search(self.words))

    @property
    def is_filter(self) -> bool:
        """Whether it is this one prompt that is refused, for what it says."""
        is_refusal = self.status is not None and 400 <= self.status < 500
        return is_refusal and self.status not in (401, 404) and bool(FILTER.search(self.words))

    def __str__(self) -> str:
        return f"HTTP {self.status}: {self.words}" if self.status else self.words


def read_failure(error: Exception, api_key: str, timeout_seconds: float) -> Failure:
    """What became of a call that raised `error`; no text of it holds the key.

    Time-outs and torn answers may be billed; refusals, errors inside a 200 and connections that never stood are not.
    """
    cause = type(error.__cause__).__name__
    response = getattr(error, "response", None)
    if isinstance(error, ErrorInReply):
        said = _scrubbed(_said(error.said), api_key)
        status = _status_of(error.said, said)
        return Failure(_short(said), status, maybe_billed=error.maybe_billed)
    if response is not None:
        return _read_response(response, api_key)
    if cause in NEVER_STOOD:
        words = _scrubbed(f"no connection ({cause}: {error.__cause__})", api_key)
        return Failure(_short(words), has_connected=False)
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return Failure(f"no answer within {timeout_seconds:g} seconds", maybe_billed=True)
    words = f"{error}"
    if not isinstance(error, Unreadable):
        words = f"{type(error).__name__}: {error}"
        if error.__cause__:
            words += f" ({cause}: {error.__cause__})"
    is_web_page = isinstance(error, Unreadable) and "a web page" in words
    return Failure(_short(_scrubbed(words, api_key)), maybe_billed=True, is_page=is_web_page)


def failure_of_line(said: Any, status: int | None, api_key: str) -> Failure:
    """What a line of a batch's results says of a request that has no sample; such are not billed.

    Args: said: the body of its answer, or its error; status: HTTP's, None where no answer came.
    """
    words = _short(_scrubbed(_said(error_in(said) or said), api_key))
    return Failure(words, status or _status_of_words(words))


def pause_after(failure: Failure, n_tries: int, backoff_seconds: float) -> float:
    """Seconds until the next try: doubled at each, with jitter, and no less than the server asks for."""
    doubled = backoff_seconds * 2 ** min(n_tries - 1, MOST_DOUBLINGS)
    return max(failure.retry_after, doubled * random.uniform(0.5, 1.5))


def read_body(text: str, api_key: str) -> Any:
    """The JSON of an answer with status 200, without the key. Raises Unreadable with what stands there instead,
    ErrorInReply where that is a line of an error's words, such as "Too Many Requests"."""
    try:
        body = json.loads(text.removeprefix("\ufeff"), parse_int=number_of_json)
        return without_key(body, api_key)
    except (ValueError, RecursionError) as error:
        words = server_words(_scrubbed(text[:MOST_READ], api_key))
        if ERROR_LINE.fullmatch(text.strip()) and _status_of_words(text):
            raise ErrorInReply(words) from error
        raise Unreadable(f"no JSON, but {words or 'an empty answer'}") from error


def _read_response(response: Any, api_key: str) -> Failure:
    """The failure that an HTTP status of 300 or more is."""
    text = _scrubbed(response.text[:MOST_READ], api_key)
    words = server_words(text) or response.reason_phrase
    if location := response.headers.get("location"):
        words += f" (it points to {without_user(location)})"
    asked_for = retry_after(response.headers)
    if asked_for:
        words += f" (it asks for a pause of {asked_for:,.0f} seconds)"
    words = _scrubbed(words, api_key)
    return Failure(words, response.status_code, asked_for, is_page=is_page(text))


def server_words(text: str) -> str:
    """What an answer says, for people: the messages of a JSON error, the words of a web page, else its beginning.

    >>> server_words('{"error": {"message": "no such model", "code": "model_not_found"}}')
    'no such model (model_not_found)'
    >>> server_words("<html><head><title>502</title><style>b {}</style></head><body><b>Bad&nbsp;Gateway</b></body>")
    'a web page: 502 Bad Gateway'
    """
    if is_page(text):
        text = re.sub(r"(?is)<(script|style|svg)\b.*?</\1\s*>|<!--.*?-->", " ", text)
        words = html.unescape(re.sub(r"(?s)<[^>]*>", " ", text))
        return f"a web page: {_short(words)}"
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return _short(text)
    return _short(_said(body)) if body else ""


def is_page(text: str) -> bool:
    return bool(re.search(r"(?i)<(!doctype html|html|head|body|title|h1)\b", text[:2000]))


def error_in(body: Any) -> Any:
    """What of an answer's body is an error; None where there is none.

    >>> error_in([{"error": {"code": 429}}])
    {'code': 429}
    >>> error_in({"object": "error", "message": "no such model"})
    {'object': 'error', 'message': 'no such model'}
    """
    if isinstance(body, list) and body:
        return error_in(body[0])
    if not isinstance(body, dict):
        return None
    words = json.dumps(body, ensure_ascii=False)
    body = _with_small_keys(body)
    for name in ("error", "errors", "fault", "base_resp"):
        if body.get(name):
            return body if body[name] is True else body[name]
    has_code = any(HTTP_STATUS.match(str(body.get(name))) for name in CODES)
    if has_code or any(body.get(name) for name in MESSAGES):
        return body
    if FILTER.search(words):
        return {"code": 400, "message": f"a content filter left no answer: {words}"}
    return None


def _with_small_keys(body: dict) -> dict:
    """A mapping in which `Error` and `statusCode` are found as `error` and `status_code`; what is so already wins."""
    small = {}
    for name, value in body.items():
        if value:
            small[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(name)).lower()] = value
    return small | body


def _said(body: Any) -> str:
    """An error's messages, with its codes behind them where the messages do not have them."""
    if isinstance(body, list):
        return "; ".join(_said(part) for part in body)
    if not isinstance(body, dict):
        return str(body)
    body = _with_small_keys(body)
    said = [_said(body[name]) for name in MESSAGES if body.get(name)]
    raw = body.get("metadata")
    if isinstance(raw, dict) and raw.get("raw"):  # a provider's error, passed on
        said.append(_said(raw["raw"]))
    place = body.get("loc")
    if isinstance(place, list):
        said.insert(0, ".".join(str(step) for step in place))
    text = ": ".join(said) or json.dumps(body, ensure_ascii=False, default=str)
    codes = [str(body[name]) for name in CODES if body.get(name) and said]
    missing = [
        code for code in dict.fromkeys(codes) if code not in text and not HTTP_STATUS.match(code)
    ]
    return f"{text} ({', '.join(missing)})" if missing else text


def _status_of(error: Any, said: str) -> int:
    """The HTTP status that an error inside a 200 stands for: its code, else its words, else 500."""
    codes = _with_small_keys(error) if isinstance(error, dict) else {}
    found = [codes.get(name) for name in CODES]
    for code in found:
        if HTTP_STATUS.match(str(code)):
            return int(code)
    return _status_of_words(said) or 500


def _status_of_words(said: str) -> int | None:
    for status, pattern in STATUS_OF_WORDS.items():
        if re.search(pattern, said, re.IGNORECASE):
            return status
    return None


def _short(text: str) -> str:
    words = visible(" ".join(text.split()))
    return words if len(words) <= WORDS_SHOWN else f"{words[:WORDS_SHOWN]} …"


def _scrubbed(text: str, api_key: str) -> str:
    """A text without the key, without what looks like one, and without passwords in addresses."""
    text = without_key(text, api_key)
    if api_key:
        text = re.sub(rf"(?<!\w){re.escape(api_key)}(?!\w)", "***", text)
    return SECRETS.sub("***", without_user(text))


def retry_after(headers: Any) -> float:
    """Seconds that the server asks for, as a number or an HTTP date; 0 when it does not say."""
    asked_for = headers.get("retry-after") or ""
    try:
        date = email.utils.parsedate_tz(asked_for)
        seconds = email.utils.mktime_tz(date) - time.time() if date else float(asked_for)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, seconds)
