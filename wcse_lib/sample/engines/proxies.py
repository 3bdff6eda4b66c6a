"""The proxy that the environment names for an address; servers on this machine are reached without one."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def proxy_for(url: str) -> str:
    """`VARIABLE=proxy`, without user and password, where calls of `url` go through a proxy; else an empty text."""
    address = urlsplit(url)
    host, proxies = address.hostname or "", getproxies()
    scheme = address.scheme if proxies.get(address.scheme) else "all"
    proxy = proxies.get(scheme)
    if not proxy or is_loopback(host) or proxy_bypass(host):
        return ""
    names = [name for name in os.environ if name.lower() == f"{scheme}_proxy"]
    variable = names[0] if names else "the system's proxy"
    return f"{variable}={without_user(proxy)}"


def without_user(text: str) -> str:
    """A text whose addresses show neither user nor password.

    >>> without_user("http://ann:secret@proxy:3128")
    'http://***@proxy:3128'
    """
    text = re.sub(r"(?<=//)[^\s/]*@", "***@", text)
    return re.sub(r"^[^\s/@]+:[^\s/@]+@", "***@", text)
