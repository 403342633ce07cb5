"""The examples, and the programs of the README, each run as its user would."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import TOKEN, URL, live

PACKAGE = Path(__file__).parents[1]
TIMEOUT = 60


@live
class Programs(unittest.TestCase):
    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.environment = {**os.environ, "DISTILLERY_URL": URL, "DISTILLERY_TOKEN": TOKEN}

    def command(self, program, *arguments):
        path = PACKAGE / "examples" / program
        return [sys.executable, "-W", "error", str(path), *map(str, arguments)]

    def run_example(self, *command, input=""):
        ended = subprocess.run(
            self.command(*command), input=input, capture_output=True, text=True, timeout=TIMEOUT, env=self.environment
        )
        return ended.returncode, ended.stdout, ended.stderr

    def interrupt_example(self, *command):
        """Interrupts a program after its first line of output. Its input stays open."""
        with subprocess.Popen(
            self.command(*command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        ) as child:
            first = child.stdout.readline()
            child.send_signal(signal.SIGINT)
            child.wait(TIMEOUT)
            return child.returncode, first + child.stdout.read(), child.stderr.read()

    def test_chat_is_a_conversation(self):
        said = (0, "What is your name? Hello, Ada!\n", "")
        self.assertEqual(self.run_example("chat.py", "ask", input="Ada\n"), said)
        status, _, error = self.run_example("chat.py", "ask", input="\n")
        self.assertEqual((status, error), (1, "exit status 2: a name is needed\n"))

    def test_chat_cancels_on_an_interrupt(self):
        ended = self.interrupt_example("chat.py", "countdown", "60")
        self.assertEqual(ended, (1, "60\ncountdown stopped at 60\n", "cancelled by the client\n"))

    def test_progress_ends_at_100_percent(self):
        status, out, _ = self.run_example("progress.py", "2")
        self.assertEqual((status, re.findall(r"\d+ %", out)), (0, ["0 %", "50 %", "100 %"]))

    def test_files_are_sent_and_received_and_a_failed_call_leaves_none(self):
        source, target = self.directory / "source", self.directory / "target"
        source.write_bytes(bytes(range(251)) * 4096)
        self.assertEqual(self.run_example("files.py", source, target), (0, "", ""))
        self.assertEqual(target.read_bytes(), source.read_bytes())
        status, _, _ = self.run_example("files.py", source, self.directory / "other", "nowhere")
        self.assertEqual(status, 1)
        self.assertEqual(sorted(it.name for it in self.directory.iterdir()), ["source", "target"])

    def test_a_hundred_calls_have_success(self):
        self.assertEqual(self.run_example("parallel.py"), (0, "100 of 100 calls had success\n", ""))

    def test_step_of_a_job_has_the_output_the_value_and_the_status(self):
        file = self.directory / "output"
        self.environment["GITHUB_OUTPUT"] = str(file)
        self.assertEqual(self.run_example("ci_step.py", "assemble", "1"), (0, "part 1 is on\n", ""))
        self.assertEqual(file.read_text(), 'value={"parts": 1}\n')
        status, out, _ = self.run_example("ci_step.py", "echo", "many")
        self.assertEqual(status, 1)
        self.assertTrue(out.startswith('::error::parameter "lines" does not match'), out)
        status, out, _ = self.interrupt_example("ci_step.py", "countdown", "60")
        self.assertEqual(out, "60\ncountdown stopped at 60\n::error::cancelled by the client\n")

    def test_programs_of_the_readme_run_as_they_are(self):
        readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
        programs = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
        self.assertGreaterEqual(len(programs), 6)

        def run(number):
            file = self.directory / f"readme_{number}.py"
            file.write_text(programs[number], encoding="utf-8")
            return subprocess.run(
                [sys.executable, "-W", "error", file],
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                env=self.environment,
                cwd=self.directory,
            )

        with ThreadPoolExecutor() as pool:
            ended = list(pool.map(run, range(len(programs))))
        for program, it in zip(programs, ended):
            self.assertEqual(it.returncode, 0, f"{program}\n{it.stderr}")
        self.assertEqual(ended[0].stdout, "one\ntwo\n\n3\n2\n1\nliftoff\nTrue None\n")
        self.assertEqual(ended[1].stdout, "one\ntwo\n\n3\n2\n1\nliftoff\nTrue\n")
        self.assertEqual(ended[2].stdout, "What is your name? Hello, Ada!\n")


if __name__ == "__main__":
    unittest.main()
