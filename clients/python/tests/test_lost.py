"""Connections that are lost."""

import asyncio
import unittest
from dataclasses import asdict, replace

from support import SOON, TOKEN, URL, Events, Proxy, lines_of, live

from distillery_client import (
    AsyncDistillery,
    ConnectionLostError,
    DetachedError,
    InputLostError,
    Reconnect,
    Ticket,
)


@live
class Lost(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.proxy = await self.enterAsyncContext(Proxy())
        self.client = self.proxy.client()
        self.direct = AsyncDistillery(URL, token=TOKEN)

    async def test_detached_call_misses_no_byte_however_often_it_is_broken(self):
        self.proxy.break_after = 200_000
        # Less than limits.kept_output: without a client the process does not wait.
        async with self.client.call("many_lines", "15000", detach=True, reconnect=SOON) as call:
            lines = await lines_of(call)
            self.assertTrue((await call.result()).success)
        said = "which is as long as such lines are"
        self.assertEqual(lines, [f"line {number} of 15000, {said}" for number in range(1, 15001)])
        self.assertGreaterEqual(self.proxy.accepted, 4)

    async def test_connection_that_is_lost_is_opened_again_at_the_right_byte(self):
        events, lines = Events(), []
        async with self.client.call("countdown", "3", detach=True, reconnect=SOON, on_event=events) as call:
            async for line in call:
                lines.append(line)
                self.proxy.break_all()
            self.assertTrue((await call.result()).success)
        self.assertEqual(lines, ["3", "2", "1", "liftoff"])
        self.assertGreaterEqual(self.proxy.accepted, 2)
        self.assertIn("reconnecting", events.kinds)
        self.assertIn("attached", events.kinds)

    async def test_input_goes_on_after_a_lost_connection_if_it_was_confirmed(self):
        events = Events()
        async with self.client.call("echo", "2", detach=True, reconnect=SOON, on_event=events) as call:
            await call.write("one\n")
            await call.flush()
            self.proxy.break_all()
            await events.until("attached")
            lines = call.stdout.lines()
            self.assertEqual(await anext(lines), "one")
            await call.write("two\n")
            self.assertEqual(await anext(lines), "two")
            self.assertTrue((await call.result()).success)

    async def test_input_that_was_on_its_way_ends_the_call_with_an_error(self):
        async with self.client.call("echo", "2", detach=True, reconnect=SOON) as call:
            ticket = await call.started()
            await call.write("one\n")
            await call.flush()
            self.proxy.swallows = True
            await call.write("two\n")
            self.proxy.break_all()
            with self.assertRaises(InputLostError) as caught:
                await call.result()
        error = caught.exception
        self.assertEqual((error.confirmed, error.sent, error.ticket.id), (4, 8, ticket.id))
        self.proxy.swallows = False
        async with self.client.attach(error.ticket, input="three\n") as again:
            self.assertEqual(await lines_of(again), ["one", "three"])

    async def test_call_that_is_not_detached_ends_with_its_connection(self):
        async with self.client.call("countdown", "60") as call:
            await call.started()
            self.proxy.break_all()
            with self.assertRaisesRegex(ConnectionLostError, "detach=True") as caught:
                await call.result()
        self.assertIsNone(caught.exception.ticket)

    async def test_attempts_end_and_their_error_has_the_ticket(self):
        async with self.client.call("countdown", "600", detach=True, reconnect=replace(SOON, attempts=3)) as call:
            lines = call.stdout.lines()
            await anext(lines)
            self.proxy.stop()
            with self.assertRaisesRegex(ConnectionLostError, "not opened again in 3 attempts") as caught:
                await call.result()
            with self.assertRaises(ConnectionLostError):
                await anext(lines)
        async with self.direct.attach(caught.exception.ticket) as again:
            again.cancel()
            rest = await lines_of(again)
        # The starter had read the first line, and the ticket continues behind it.
        self.assertNotIn("600", rest)
        self.assertTrue(rest[-1].startswith("countdown stopped"), rest)

    async def test_reconnecting_can_be_turned_off(self):
        async with self.client.call("countdown", "600", detach=True, reconnect=Reconnect(attempts=0)) as call:
            ticket = await call.started()
            self.proxy.break_all()
            with self.assertRaises(ConnectionLostError):
                await call.result()
        await self.direct.api.cancel_process(ticket.id)

    async def test_detached_client_leaves_a_ticket_at_the_byte_it_has_read(self):
        async with self.client.call("conversation", "Ada", detach=True) as call:
            lines = call.stdout.lines()
            await call.write("one\ntwo\n")
            self.assertEqual([await anext(lines), await anext(lines)], ["hello Ada", "echo: one"])
            ticket = await call.detach()
            self.assertEqual(ticket.stdout, len("hello Ada\necho: one\n"))
            with self.assertRaises(DetachedError):
                await anext(lines)
            with self.assertRaises(DetachedError):
                await call.result()
        async with self.client.attach(Ticket(**asdict(ticket))) as again:
            await again.end()
            self.assertEqual(await lines_of(again), ["echo: two"])
            self.assertTrue((await again.result()).success)

    async def test_anonymous_client_continues_with_its_key(self):
        events = Events()
        client = AsyncDistillery(self.proxy.url)
        async with client.call("echo", "2", detach=True, reconnect=SOON, on_event=events) as call:
            self.assertTrue((await call.started()).key)
            await call.write("one\n")
            await call.flush()
            self.proxy.break_all()
            await events.until("attached")
            await call.write("two\n")
            self.assertEqual(await lines_of(call), ["one", "two"])

    async def test_cancel_during_a_lost_connection_is_sent_with_the_next(self):
        def cancel(event):
            if event["type"] == "reconnecting":
                call.cancel()

        async with self.client.call("countdown", "600", detach=True, reconnect=SOON, on_event=cancel) as call:
            await anext(call.stdout.lines())
            self.proxy.break_all()
            self.assertEqual((await call.result()).reason, "client")

    async def test_cancel_that_was_lost_with_its_connection_is_repeated(self):
        events = Events()
        async with self.client.call("grind", detach=True, reconnect=SOON, on_event=events) as call:
            await call.started()
            self.proxy.swallows = True
            call.cancel()
            # The message leaves with the next turn of the loop.
            await asyncio.sleep(0.1)
            self.proxy.break_all()
            self.proxy.swallows = False
            self.assertEqual((await call.result()).reason, "client")
        self.assertEqual(events.kinds.count("cancelling"), 1)

    async def test_end_of_a_block_leaves_a_detached_call_running(self):
        async with self.client.call("countdown", "600", detach=True) as call:
            # Also if it has not started yet.
            pass
        self.assertEqual((await self.direct.api.process(call.id))["outcome"], "running")
        await self.direct.api.cancel_process(call.id)
        async with self.client.call("nowhere", detach=True) as call:
            pass
        self.assertEqual((await call.result()).kind, "refused")

    async def test_process_that_is_not_there_is_refused(self):
        async with self.client.attach("019abf7d-51f3-7c2a-9d50-3c1f6d2b7a10") as call:
            result = await call.result()
        self.assertEqual(result.kind, "refused")
        self.assertIn("there is no process", result.message)


if __name__ == "__main__":
    unittest.main()
