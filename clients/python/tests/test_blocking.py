"""Calls of a real server, without asyncio."""

import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import TOKEN, URL, live

from distillery_client import CallFailedError, Distillery, DistilleryError


@live
class Blocking(unittest.TestCase):
    def setUp(self):
        self.client = self.enterContext(Distillery(URL, token=TOKEN))

    def test_lines_and_result(self):
        with self.client.call("countdown", "1") as call:
            self.assertEqual(list(call), ["1", "liftoff"])
            self.assertTrue(call.result().success)

    def test_prompt_is_read_before_its_answer_is_written(self):
        said = []
        with self.client.call("ask") as call:
            for text in call.stdout.text():
                said.append(text)
                if text.endswith("? "):
                    call.write("Ada\n")
        self.assertEqual("".join(said), "What is your name? Hello, Ada!\n")

    def test_run_returns_output_and_raises_on_failure(self):
        self.assertEqual(self.client.run("echo", "1", input="one\n").stdout, "one\n")
        with self.assertRaisesRegex(CallFailedError, "a name is needed"):
            self.client.run("ask", input="\n")

    def test_value(self):
        with self.client.call("assemble", "1") as call:
            self.assertEqual(call.value(), {"parts": 1})

    def test_cancel_and_end_of_a_block(self):
        with self.client.call("countdown", "60") as call:
            for _ in call:
                call.cancel()
            self.assertEqual(call.result().reason, "client")
        with self.client.call("countdown", "60") as call:
            call.started()
        self.assertEqual(call.result().reason, "client")

    def test_timeouts(self):
        with self.assertRaises(TimeoutError):
            self.client.run("countdown", "60", timeout=0.3)
        with self.client.call("countdown", "60") as call:
            with self.assertRaises(TimeoutError):
                call.result(timeout=0.1)
            self.assertEqual(self.client.api.process(call.started().id)["outcome"], "running")

    def test_reading_continues_after_a_break(self):
        with self.client.call("echo", "2", input="one\ntwo\n") as call:
            for line in call:
                self.assertEqual(line, "one")
                break
            self.assertEqual(list(call), ["two"])

    def test_detach_and_attach(self):
        with self.client.call("conversation", "Ada", detach=True) as call:
            call.write("one\n")
            self.assertEqual(next(call.stdout.lines()), "hello Ada")
            ticket = call.detach()
        with self.client.attach(ticket) as again:
            again.end()
            self.assertEqual(list(again), ["echo: one"])

    def test_file_in_and_file_out(self):
        with tempfile.TemporaryDirectory() as directory:
            source, target = Path(directory, "in"), Path(directory, "out")
            source.write_bytes(bytes(range(256)) * 4096)
            with self.client.call("echo", input=source) as call:
                call.save(target)
            self.assertEqual(target.read_bytes(), source.read_bytes())
            with self.client.call("echo") as call, source.open("rb") as file:
                call.send(file)
                self.assertEqual(call.stdout.read(), source.read_bytes())

    def test_a_hundred_calls_run_in_parallel(self):
        numbers = [f"call {number}\n" for number in range(100)]
        with ThreadPoolExecutor(100) as pool:
            ran = list(pool.map(lambda number: self.client.run("echo", "1", input=number).stdout, numbers))
        self.assertEqual(ran, numbers)

    def test_event_can_cancel_but_not_wait(self):
        errors = []

        def on_event(event):
            if event["type"] == "started":
                try:
                    call.result()
                except DistilleryError as error:
                    errors.append(str(error))
                call.cancel()

        ready = threading.Event()
        with self.client.call("countdown", "60", on_event=lambda event: ready.wait() and on_event(event)) as call:
            ready.set()
            self.assertEqual(call.result().reason, "client")
        self.assertEqual(errors, ["this waits for the server, and so does on_event: set a flag there instead"])

    def test_end_of_the_client_ends_what_is_open(self):
        with Distillery(URL, token=TOKEN) as client:
            ticket = client.call("countdown", "60").started()
        while self.client.api.process(ticket.id)["outcome"] == "running":
            time.sleep(0.05)
        self.assertEqual(self.client.api.process(ticket.id)["message"], "the client disconnected")

    def test_api(self):
        self.assertEqual(self.client.api.auth()["User"], "ada")
        self.assertIn("echo", [call["name"] for call in self.client.api.calls()])


if __name__ == "__main__":
    unittest.main()
