"""The door to OpenAI's client: the key from the environment, the proxy, and no retries of the client's own."""

from __future__ import annotations

import os
from urllib.parse import SplitResult, urlsplit

from wcse_lib.sample.engines.proxies import is_loopback, proxy_for, without_user
from wcse_lib.study import Endpoint


def open_client(endpoint: Endpoint, api_key: str, is_async: bool = True):
    """OpenAI's client; it takes the environment's proxies, but not to servers on this machine.

    Raises ValueError where the package is not installed, or the environment's proxy is no address.
    """
    try:
        import openai
    except ImportError as error:
        message = "engine: 'openai' and 'batch' need the openai client: pip install -e '.[api]'"
        raise ValueError(message) from error
    open_one, open_http = openai.OpenAI, openai.DefaultHttpxClient
    if is_async:
        open_one, open_http = openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient
    host = urlsplit(endpoint.base_url).hostname
    try:
        return open_one(
            base_url=endpoint.base_url,
            api_key=api_key or "none",
            timeout=endpoint.timeout_seconds,
            max_retries=0,  # retries are made here, where the limit is known
            # A redirected call would lose its body, or take key and prompt to another host.
            http_client=open_http(trust_env=not is_loopback(host), follow_redirects=False),
        )
    except Exception as error:  # each client has its own for a proxy's address
        proxy = proxy_for(endpoint.base_url) or "the environment's proxy"
        raise ValueError(
            f"{proxy}: calls cannot go through it ({without_user(str(error))}); mend or unset that "
            f"variable, or name {host} in NO_PROXY"
        ) from error


def read_key(endpoint: Endpoint) -> str:
    """The key that the environment holds; empty where none is named. Raises ValueError, without the key's value."""
    url, variable = urlsplit(endpoint.base_url), endpoint.api_key_variable
    if not _is_address(url):
        raise ValueError(
            "base_url: must be http(s)://host[:port]/path, without user, password or query"
        )
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(
            f"api_key_variable: the environment variable {variable} is not set, so {url.hostname} gets no key: set "
            "it, name another, or write api_key_variable: null into the machine file where the server needs none"
        )
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"api_key_variable: the value of {variable} has characters that no header can hold"
        )
    return key


def _is_address(url: SplitResult) -> bool:
    """Whether a URL is one of a server, without user, password or query."""
    try:
        _ = url.port
    except ValueError:  # no number of a port
        return False
    is_web = url.scheme in ("http", "https")
    return bool(is_web and url.hostname) and not (url.username or url.query)
