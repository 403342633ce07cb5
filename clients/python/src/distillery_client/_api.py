"""The JSON API: questions that are answered at once. It needs no asyncio."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from . import _api_types as types
from .errors import ApiError, ConnectError, api_failure

# A request that takes longer has failed.
TIMEOUT = 30.0


class Api:
    """The requests of the JSON API. Each method returns the JSON of the answer."""

    def __init__(self, base: str, token: str | None, context: ssl.SSLContext | None) -> None:
        self._base = base
        self._token = token
        self._context = context

    def auth(self, explain: str | None = None) -> types.Caller:
        """Returns the caller. With a scope also whether it is allowed, and by which rule."""
        return self.request("GET", "/auth", query={"explain": explain})

    def tokens(self) -> list[types.Token]:
        """Lists your own tokens."""
        return self.request("GET", "/auth/tokens")

    def add_token(self, token: types.NewToken | None = None) -> types.Token:
        """Makes a token. Only this answer has its secret."""
        return self.request("POST", "/auth/tokens", body=token or {})

    def revoke_token(self, id: str) -> None:
        self.request("DELETE", f"/auth/tokens/{_segment(id)}")

    def calls(self) -> list[types.Call]:
        """Lists the calls that you can run, with their parameters."""
        return self.request("GET", "/calls")

    def schedules(self) -> list[types.Schedule]:
        """Lists the schedules that you can see."""
        return self.request("GET", "/schedules")

    def systems(self) -> list[types.System]:
        """Lists the public systems."""
        return self.request("GET", "/systems")

    def put_system(self, system: types.NewSystem) -> types.System:
        """Creates or replaces a system."""
        return self.request("POST", "/systems", body=system)

    def remove_system(self, slug: str) -> None:
        self.request("DELETE", f"/systems/{_segment(slug)}")

    def news(self) -> list[types.NewsItem]:
        """Lists the news, newest first."""
        return self.request("GET", "/news")

    def put_news(self, item: types.NewNews) -> types.NewsItem:
        """Creates or replaces an item."""
        return self.request("POST", "/news", body=item)

    def remove_news(self, id: str) -> None:
        self.request("DELETE", f"/news/{_segment(id)}")

    def processes(
        self,
        *,
        limit: int | None = None,
        before: str | None = None,
        call: str | None = None,
        user: str | None = None,
        outcome: str | None = None,
    ) -> list[types.Process]:
        """Lists running and past processes, newest first; with `before` only those that began before this one."""
        query = {"limit": limit, "before": before, "call": call, "user": user, "outcome": outcome}
        return self.request("GET", "/processes", query=query)

    def process(self, id: str) -> types.Process:
        return self.request("GET", f"/processes/{_segment(id)}")

    def cancel_process(self, id: str, *, force: bool = False) -> types.Process:
        """Tells a running process to stop; with `force` without its grace period."""
        return self.request("DELETE", f"/processes/{_segment(id)}", query={"force": True if force else None})

    def plugins(self) -> list[types.Plugin]:
        """Lists the plugins and their generations."""
        return self.request("GET", "/plugins")

    def reload_plugins(self) -> types.Reload:
        """Reads the configuration and all plugins again."""
        return self.request("POST", "/plugins/reload")

    def roll_back_plugin(self, name: str) -> types.Rollback:
        """Serves the previous generation of a plugin."""
        return self.request("POST", f"/plugins/{_segment(name)}/rollback")

    def request(self, method: str, route: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """Sends a request to a route below `/api/v1`, and returns the JSON of its answer."""
        given = {name: _written(value) for name, value in (query or {}).items() if value is not None}
        search = f"?{urlencode(given)}" if given else ""
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        payload = None if body is None else json.dumps(body).encode()
        base = urlsplit(self._base)
        connection = self._connection(base.netloc, base.scheme == "https")
        try:
            connection.request(method, f"{base.path}{route}{search}", payload, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            said = f"cannot reach {self._base}: {why}: does the server run, and is its URL right?"
            raise ConnectError(said) from error
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise ApiError(answer.status, api_failure(answer.status, message_of(text)))
        return json.loads(text) if text else None

    def _connection(self, host: str, is_tls: bool) -> http.client.HTTPConnection:
        if is_tls:
            return http.client.HTTPSConnection(host, timeout=TIMEOUT, context=self._context)
        return http.client.HTTPConnection(host, timeout=TIMEOUT)


def message_of(text: bytes) -> str | None:
    """Returns the message of an error answer."""
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        # An answer of something in front of the server.
        return None
    return message if isinstance(message, str) else None


def _segment(text: str) -> str:
    return quote(text, safe="")


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
