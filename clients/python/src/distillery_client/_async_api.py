"""The JSON API for programs that use asyncio. Requests run in threads, so that nothing waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from . import _api_types as types
from ._api import Api


class AsyncApi:
    """The requests of the JSON API. Each method returns the JSON of the answer."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def auth(self, explain: str | None = None) -> types.Caller:
        """Returns the caller. With a scope also whether it is allowed, and by which rule."""
        return await asyncio.to_thread(self._api.auth, explain)

    async def tokens(self) -> list[types.Token]:
        """Lists your own tokens."""
        return await asyncio.to_thread(self._api.tokens)

    async def add_token(self, token: types.NewToken | None = None) -> types.Token:
        """Makes a token. Only this answer has its secret."""
        return await asyncio.to_thread(self._api.add_token, token)

    async def revoke_token(self, id: str) -> None:
        await asyncio.to_thread(self._api.revoke_token, id)

    async def calls(self) -> list[types.Call]:
        """Lists the calls that you can run, with their parameters."""
        return await asyncio.to_thread(self._api.calls)

    async def schedules(self) -> list[types.Schedule]:
        """Lists the schedules that you can see."""
        return await asyncio.to_thread(self._api.schedules)

    async def systems(self) -> list[types.System]:
        """Lists the public systems."""
        return await asyncio.to_thread(self._api.systems)

    async def put_system(self, system: types.NewSystem) -> types.System:
        """Creates or replaces a system."""
        return await asyncio.to_thread(self._api.put_system, system)

    async def remove_system(self, slug: str) -> None:
        await asyncio.to_thread(self._api.remove_system, slug)

    async def news(self) -> list[types.NewsItem]:
        """Lists the news, newest first."""
        return await asyncio.to_thread(self._api.news)

    async def put_news(self, item: types.NewNews) -> types.NewsItem:
        """Creates or replaces an item."""
        return await asyncio.to_thread(self._api.put_news, item)

    async def remove_news(self, id: str) -> None:
        await asyncio.to_thread(self._api.remove_news, id)

    async def processes(
        self,
        *,
        limit: int | None = None,
        before: str | None = None,
        call: str | None = None,
        user: str | None = None,
        outcome: str | None = None,
    ) -> list[types.Process]:
        """Lists running and past processes, newest first; with `before` only those that began before this one."""
        return await asyncio.to_thread(
            self._api.processes, limit=limit, before=before, call=call, user=user, outcome=outcome
        )

    async def process(self, id: str) -> types.Process:
        return await asyncio.to_thread(self._api.process, id)

    async def cancel_process(self, id: str, *, force: bool = False) -> types.Process:
        """Tells a running process to stop; with `force` without its grace period."""
        return await asyncio.to_thread(self._api.cancel_process, id, force=force)

    async def plugins(self) -> list[types.Plugin]:
        """Lists the plugins and their generations."""
        return await asyncio.to_thread(self._api.plugins)

    async def reload_plugins(self) -> types.Reload:
        """Reads the configuration and all plugins again."""
        return await asyncio.to_thread(self._api.reload_plugins)

    async def roll_back_plugin(self, name: str) -> types.Rollback:
        """Serves the previous generation of a plugin."""
        return await asyncio.to_thread(self._api.roll_back_plugin, name)

    async def request(
        self, method: str, route: str, *, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> Any:
        """Sends a request to a route below `/api/v1`, and returns the JSON of its answer."""
        return await asyncio.to_thread(self._api.request, method, route, query=query, body=body)
