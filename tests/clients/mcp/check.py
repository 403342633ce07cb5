"""Speaks the Model Context Protocol to a server with the official SDK, and prints what it saw as JSON.

Arguments: where the server is (a URL, or a command and its arguments), the mode of the SDK, the directory of the
plugins, and a directory that becomes one of them.
"""

import asyncio
import json
import os
import sys

import anyio
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError


async def check(server, mode, plugins, prepared):
    seen = {"questions": [], "progress": []}
    changed = asyncio.Event()

    async def elicit(_, params):
        seen["questions"].append(params.message)
        return types.ElicitResult(action="accept", content={"answer": "Ada"})

    async def progress(done, total, message):
        seen["progress"].append([done, message])

    async def on_message(message):
        if isinstance(message, types.ToolListChangedNotification):
            changed.set()

    async with Client(server, mode=mode, elicitation_callback=elicit, message_handler=on_message) as client:
        tools = {tool.name: tool for tool in (await client.list_tools(cache_mode="bypass")).tools}
        seen["tools"] = sorted(tools)
        seen["schema"] = tools["countdown"].input_schema
        seen["echo"] = shown(await client.call_tool("echo", {"stdin": "one\ntwo\n"}))
        seen["ask"] = shown(await client.call_tool("ask", {}))
        seen["countdown"] = shown(await client.call_tool("countdown", {"from": 1}, progress_callback=progress))
        seen["value"] = shown(await client.call_tool("assemble", {"parts": 1}))
        seen["error"] = shown(await client.call_tool("test_error_handling", {}))
        for name, arguments in [("nothing", {}), ("echo", {"stdin": {}})]:
            try:
                await client.call_tool(name, arguments)
            except MCPError as error:
                seen.setdefault("refused", []).append(error.error.message)
        # The server says in its log that the process was cancelled.
        with anyio.move_on_after(1):
            await client.call_tool("grind", {})
        os.rename(prepared, os.path.join(plugins, "added"))
        if mode == "legacy":
            await asyncio.wait_for(changed.wait(), 20)
        else:
            for _ in range(200):
                if "added" in {tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools}:
                    break
                await asyncio.sleep(0.1)
        seen["added"] = "added" in {tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools}
    print(json.dumps(seen))


def shown(result):
    content = [block.text if block.type == "text" else block.type for block in result.content]
    return [content, result.structured_content, result.is_error]


if __name__ == "__main__":
    *where, mode, plugins, prepared = sys.argv[1:]
    is_url = where[0].startswith("http")
    server = where[0] if is_url else StdioServerParameters(command=where[0], args=where[1:])
    asyncio.run(check(server, mode, plugins, prepared))
