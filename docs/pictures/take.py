"""Takes the pictures of the README: `take.py BINARY`. Needs the built example plugins, Chromium and its driver."""

import base64
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import terminal

HERE = pathlib.Path(__file__).parent
TOP = HERE.parent.parent
PLUGINS = ["ask", "assemble", "countdown", "echo", "grind"]
PATIENCE = 30


class Server:
    """A server with the example plugins in a directory of its own, on a free port."""

    def __init__(self, binary, directory):
        self.directory = directory
        (directory / "bin").mkdir()
        (directory / "bin/distillery").symlink_to(binary)
        for plugin in PLUGINS:
            (directory / "plugins" / plugin).mkdir(parents=True)
            for file in ("plugin.yaml", f"{plugin}.wasm"):
                shutil.copy(TOP / "plugins" / plugin / file, directory / "plugins" / plugin)
        config = {"http": {"listen": "127.0.0.1:0", "api": True}, "log": {"format": "json"}}
        (directory / "distillery.yaml").write_text(json.dumps(config))
        command = [directory / "bin/distillery", "serve"]
        self.process = subprocess.Popen(command, cwd=directory, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            listening = re.search(r'"listening".*?"address":"([^"]+)"', line)
            if listening:
                self.url = f"http://{listening.group(1)}"
                return
        sys.exit("the server does not start")

    def stop(self):
        self.process.terminate()
        self.process.communicate()


class Browser:
    """Chromium with a window of a fixed size, driven over WebDriver."""

    def __init__(self, directory):
        command = ["chromedriver", "--port=0", f"--log-path={directory}/driver.log"]
        self.driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        port = next(filter(None, (re.search(r"successfully on port (\d+)", line) for line in self.driver.stdout))).group(1)
        self.base = f"http://127.0.0.1:{port}/session"
        self.opened = False
        self.home = f"{directory}/home"

    def open(self):
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,860"]
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": [*options, f"--user-data-dir={self.home}"]}}
        session = self.send("", {"capabilities": {"alwaysMatch": wanted}})
        self.base += "/" + session["sessionId"]
        self.opened = True

    def send(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]

    def run(self, script):
        return self.send("/execute/sync", {"script": script, "args": []})

    def until(self, expression):
        began = time.monotonic()
        while not self.run(f"return {expression}"):
            assert time.monotonic() - began < PATIENCE, f"not in the page: {expression}"
            time.sleep(0.05)

    def press(self, name):
        found = f"[...document.querySelectorAll('button, a')].find((it) => it.textContent.trim() === {json.dumps(name)})"
        self.until(f"{found} !== undefined")
        self.run(f"{found}.click()")

    def sees(self, text):
        self.until(f"document.body.innerText.includes({json.dumps(text)})")

    def type(self, text):
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.send("/actions", {"actions": [{"type": "key", "id": "keys", "actions": keys}]})

    def picture(self):
        return base64.b64decode(self.send("/screenshot"))

    def stop(self):
        if self.opened:
            self.send("", method="DELETE")
        self.driver.terminate()
        self.driver.wait()


def console(server, directory):
    """The page of a process that cleaned up after its cancel, while another one runs."""
    browser = Browser(directory)
    try:
        browser.open()
        browser.send("/url", {"url": f"{server.url}/#/calls/countdown"})
        browser.press("Run")
        browser.sees("8")
        browser.send("/url", {"url": f"{server.url}/#/calls/assemble"})
        browser.press("Run")
        browser.sees("part 3 is on")
        browser.press("Cancel")
        browser.sees("part 1 is off")
        time.sleep(0.5)
        (HERE / "console.png").write_bytes(browser.picture())
    finally:
        browser.stop()


def session(server):
    """Calls at the command line: a question, a cancel, and what is recorded of both."""
    path = f"{server.directory}/bin:/usr/bin:/bin"
    where = {"directory": server.directory, "environment": {"PATH": path}}
    recorded = terminal.Session()
    recorded.run("distillery calls", **where)
    recorded.run("distillery call ask", [("name? ", "Ada")], **where)
    recorded.run("distillery call countdown 60", [("58", "^C")], **where)
    recorded.run("distillery ps --all", **where)
    (HERE / "terminal.svg").write_text(recorded.svg("Calls of a distillery at the command line"))


def main(binary):
    with tempfile.TemporaryDirectory(prefix="distillery-pictures-") as directory:
        server = Server(pathlib.Path(binary).resolve(), pathlib.Path(directory))
        try:
            session(server)
            console(server, directory)
        finally:
            server.stop()


if __name__ == "__main__":
    main(sys.argv[1])
