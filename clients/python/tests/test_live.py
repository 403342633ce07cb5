"""Calls of a real server, with asyncio."""

import asyncio
import hashlib
import json
import tempfile
import unittest
import urllib.request
from dataclasses import asdict
from pathlib import Path

from support import TOKEN, URL, VECTORS, Events, lines_of, live

from distillery_client import (
    ApiError,
    AsyncDistillery,
    CallEndedError,
    CallFailedError,
    ConnectError,
    DistilleryError,
    OutputLostError,
)

MIB = 1 << 20


@live
class Live(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.anonymous = AsyncDistillery(URL)
        self.ada = AsyncDistillery(URL, token=TOKEN)

    async def test_conversations_are_as_in_the_table(self):
        for case in VECTORS["conversations"]:
            with self.subTest(case["name"]):
                async with self.anonymous.call(case["call"], *case["params"], input=case.get("input")) as call:
                    self.assertEqual(await call.stdout.read_text(), case["stdout"])
                    self.assertEqual(asdict(await call.result()), case["outcome"])

    async def test_prompt_is_read_before_its_answer_is_written(self):
        said = []
        async with self.anonymous.call("ask") as call:
            async for text in call.stdout.text():
                said.append(text)
                if text.endswith("? "):
                    await call.write("Ada\n")
            self.assertTrue((await call.result()).success)
        self.assertEqual("".join(said), "What is your name? Hello, Ada!\n")

    async def test_run_returns_the_output_and_the_value(self):
        ran = await self.anonymous.run("assemble", "1")
        self.assertEqual((ran.stdout, ran.value, ran.success), ("part 1 is on\n", {"parts": 1}, True))
        async with self.anonymous.call("assemble", "1") as call:
            self.assertEqual(await call.value(), {"parts": 1})

    async def test_run_and_value_raise_if_the_call_fails(self):
        async def value():
            async with self.anonymous.call("ask", input="\n") as call:
                await call.value()

        for failing in (self.anonymous.run("ask", input="\n"), value()):
            with self.assertRaisesRegex(CallFailedError, 'call "ask" failed: exit status 2: a name is') as caught:
                await failing
            self.assertEqual(caught.exception.result.status, 2)

    async def test_stderr_is_forwarded_if_the_manifest_says_so(self):
        async with self.anonymous.call("stderr_words") as call:
            out, err = await asyncio.gather(call.stdout.read_text(), call.stderr.read_text())
        self.assertEqual((out, err), ("trying\n", "warning: the flux is low\nno capacitor at hand\n\n\n"))

    async def test_cancel_leaves_the_process_its_last_words(self):
        events, lines = Events(), []
        async with self.anonymous.call("countdown", "60", on_event=events) as call:
            async for line in call:
                lines.append(line)
                if len(lines) == 1:
                    call.cancel()
            result = await call.result()
        self.assertEqual(lines, ["60", "countdown stopped at 60"])
        self.assertEqual((result.success, result.kind, result.reason), (False, "cancelled", "client"))
        self.assertEqual(events.kinds, ["started", "cancelling", "ended"])

    async def test_forced_cancel_has_no_grace(self):
        async with self.anonymous.call("grind") as call:
            await call.started()
            call.cancel(force=True)
            self.assertEqual((await call.result()).stop, "interrupted")

    async def test_cancelled_task_cancels_its_call(self):
        events = Events()
        task = asyncio.create_task(self.ada.run("countdown", "60", on_event=events))
        await events.until("started")
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.assertEqual(events.kinds, ["started", "cancelling", "ended"])

    async def test_timeout_cancels_the_call(self):
        for detach in (None, True):
            events = Events()
            with self.assertRaises(TimeoutError):
                await self.ada.run("countdown", "60", on_event=events, timeout=0.5, detach=detach)
            self.assertEqual(events.kinds[-1], "ended")

    async def test_cancel_that_waits_behind_input_reaches_the_process(self):
        # The server stops reading at limits.input, and what follows the input waits.
        async def pieces():
            sent = 0
            while True:
                yield bytes(MIB)
                sent += 1
                if sent == 17:
                    call.cancel(force=True)

        async with self.ada.call("never_reads", input=pieces()) as call:
            result = await call.result()
        self.assertEqual((result.kind, result.reason), ("cancelled", "operator"))

    async def test_call_ends_although_its_input_never_does(self):
        # Every write succeeds at once, as the server drops what follows the end. The result must be read all the same.
        async def pieces():
            while True:
                yield b"\n" * MIB

        async with self.anonymous.call("echo", "1", input=pieces()) as call:
            self.assertTrue((await call.result()).success)

    async def test_file_goes_in_and_out_in_bounded_memory(self):
        with tempfile.TemporaryDirectory() as directory:
            source, target = Path(directory, "in"), Path(directory, "out")
            content = b"".join(number.to_bytes(4, "little") for number in range(6 * MIB))
            source.write_bytes(content)
            most = 0
            async with self.anonymous.call("echo", input=source) as call:
                push = call.stdout._push

                def watched(data):
                    nonlocal most
                    push(data)
                    most = max(most, call.stdout.buffered)

                call.stdout._push = watched
                await call.save(target)
                self.assertTrue((await call.result()).success)
            self.assertEqual(hashlib.sha256(target.read_bytes()).digest(), hashlib.sha256(content).digest())
            self.assertLessEqual(most, 2 * MIB)
            self.assertEqual([it.name for it in Path(directory).iterdir() if it.name.startswith(".")], [])

    async def test_file_of_a_broken_output_is_not_there(self):
        with tempfile.TemporaryDirectory() as directory:
            async with self.anonymous.call("countdown", "60") as call:
                saving = asyncio.create_task(call.save(Path(directory, "out")))
                await call.started()
                saving.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await saving
            self.assertEqual(list(Path(directory).iterdir()), [])

    async def test_input_that_fails_does_not_look_complete(self):
        def lines():
            yield "one\n"
            raise OSError("the disk is gone")

        async with self.anonymous.call("echo", input=lines()) as call:
            with self.assertRaisesRegex(OSError, "the disk is gone"):
                await call.result()

    async def test_result_without_a_reader_drops_output_and_says_so(self):
        async with self.anonymous.call("many_lines", "100000") as call:
            self.assertTrue((await call.result()).success)
            with self.assertRaises(OutputLostError):
                await lines_of(call)
            # The next read continues behind the gap.
            rest = await lines_of(call)
        self.assertEqual(rest[-1], "line 100000 of 100000, which is as long as such lines are")

    async def test_output_is_read_in_one_place(self):
        async with self.anonymous.call("echo", "1", input="one\n") as call:
            first = call.stdout.lines()
            await anext(first)
            with self.assertRaisesRegex(DistilleryError, "read it in one place"):
                await anext(call.stdout.bytes())
            del first
            self.assertEqual(await lines_of(call), [])

    async def test_reading_continues_after_a_break(self):
        async with self.anonymous.call("echo", "2", input="one\ntwo\n") as call:
            async for line in call:
                self.assertEqual(line, "one")
                break
            self.assertEqual(await lines_of(call), ["two"])

    async def test_end_of_a_block_cancels_the_call(self):
        async with self.anonymous.call("countdown", "60") as call:
            await call.started()
        self.assertEqual((await call.result()).reason, "client")

    async def test_write_after_the_end_is_an_error(self):
        async with self.anonymous.call("ask", input="Ada\n") as call:
            await call.result()
            with self.assertRaises(CallEndedError):
                await call.write("more")

    async def test_a_hundred_calls_run_in_parallel(self):
        numbers = [f"call {number}\n" for number in range(100)]
        ran = await asyncio.gather(*(self.anonymous.run("echo", "1", input=number) for number in numbers))
        self.assertEqual([it.stdout for it in ran], numbers)

    async def test_api_answers_with_its_types(self):
        api = self.ada.api
        self.assertTrue((await api.auth("call:echo"))["Explain"]["Allowed"])
        self.assertEqual(await self.anonymous.api.auth(), {"User": "", "Token": False, "Scopes": []})
        echo = next(call for call in await api.calls() if call["name"] == "echo")
        self.assertEqual([param["name"] for param in echo["params"]], ["lines"])
        await api.put_system({"Slug": "python", "URL": "https://a.example"})
        self.assertIn("python", [system["Slug"] for system in await api.systems()])
        await api.remove_system("python")
        item = await api.put_news({"Title": "A", "Content": "*b*"})
        self.assertTrue(any(it["ID"] == item["ID"] and "<em>" in it["Content"] for it in await api.news()))
        await api.remove_news(item["ID"])
        token = await api.add_token({"label": "test", "scopes": ["call:echo"]})
        self.assertEqual((await AsyncDistillery(URL, token=token["token"]).api.auth())["Scopes"], ["call:echo"])
        await api.revoke_token(token["id"])

    async def test_processes_are_listed_and_cancelled(self):
        async with self.ada.call("countdown", "60") as call:
            ticket = await call.started()
            running = await self.ada.api.processes(outcome="running", call="countdown")
            self.assertIn(ticket.id, [process["id"] for process in running])
            await self.ada.api.cancel_process(ticket.id)
            self.assertEqual((await call.result()).kind, "cancelled")
        self.assertEqual((await self.ada.api.process(ticket.id))["outcome"], "cancelled")

    async def test_errors_say_what_to_do(self):
        stranger = AsyncDistillery(URL, token="dst_nonsense")
        for asked in (stranger.api.calls(), stranger.run("echo", "1")):
            with self.assertRaisesRegex(ApiError, "token add") as caught:
                await asked
            self.assertEqual(caught.exception.status, 401)
        nowhere = AsyncDistillery("http://127.0.0.1:9")
        for asked in (nowhere.api.calls(), nowhere.run("echo")):
            with self.assertRaisesRegex(ConnectError, "does the server run"):
                await asked
        with self.assertRaisesRegex(TypeError, r"use str\(value\)"):
            self.anonymous.call("echo", 3)

    async def test_every_operation_of_the_api_has_a_method(self):
        with urllib.request.urlopen(f"{URL}/api/v1/openapi.json") as answer:
            paths = json.load(answer)["paths"]
        asked = {case["operation"] for case in VECTORS["requests"]} | set(VECTORS["operations_without_a_method"])
        operations = [
            operation["operationId"]
            for path in paths.values()
            for operation in path.values()
            if isinstance(operation, dict) and "operationId" in operation
        ]
        self.assertGreater(len(operations), 20)
        self.assertEqual([it for it in operations if it not in asked], [])


if __name__ == "__main__":
    unittest.main()
