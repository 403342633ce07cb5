"""The URL of a server, and the rules for a token."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
_LOOPBACK = re.compile(r"localhost|.*\.localhost|127(\.\d+){3}|::1")


@dataclass(frozen=True)
class Address:
    """The addresses of a server."""

    # The base of the JSON API, without a slash at the end.
    api: str
    # The websocket.
    socket: str
    # Whether others on the network cannot read along.
    is_private: bool


def parse_address(text: str) -> Address:
    """Reads the URL of a server: `https://host`, with a port and the path of a proxy if there is one."""
    error = ValueError(
        f"{json.dumps(text)} is not the URL of a server: write http://host:port or https://host, "
        "with the path of a proxy if there is one"
    )
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise error from None
    scheme = _SCHEMES.get(url.scheme)
    if scheme is None or not host or url.username or url.password or url.query or url.fragment:
        raise error
    name = f"[{host}]" if ":" in host else host
    place = f"://{name}{'' if port is None else f':{port}'}{url.path.rstrip('/')}"
    return Address(
        api=f"{scheme}{place}/api/v1",
        socket=f"{'wss' if scheme == 'https' else 'ws'}{place}/api/v1/ws",
        is_private=scheme == "https" or _LOOPBACK.fullmatch(host) is not None,
    )


def parse_token(text: str) -> str:
    """Returns the token without surrounding space."""
    token = text.strip()
    # What a header can hold.
    if re.fullmatch(r"[A-Za-z0-9._~+-]+", token) is None:
        raise ValueError("this is not a token: make one with `distillery token add`")
    return token
