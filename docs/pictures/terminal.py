"""Records a session of commands in a terminal, and draws it as an SVG that plays once."""

import html
import os
import pty
import re
import select
import signal
import time

COLUMNS = 102
LETTER, LINE, MARGIN, BAR = 8.4, 19, 16, 34
TYPING = 0.05
PAUSE = 0.9
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

STYLE = """
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d6deeb;
       white-space: pre; animation: appear 1ms backwards; }
.typed { fill: #ffffff; font-weight: 600; }
.prompt { fill: #7fdbca; }
@keyframes appear { from { opacity: 0; } }
@media (prefers-reduced-motion: reduce) { text { animation: none; } }
"""


class Session:
    """What stands where from which moment on."""

    def __init__(self):
        self.texts = []
        self.row = self.column = 0
        self.now = 0.3

    def write(self, text, kind="output"):
        for part in re.split(r"(\n)", CONTROLS.sub("", text).replace("\r", "")):
            if part == "\n":
                self.row, self.column = self.row + 1, 0
            while part and part != "\n":
                piece, part = part[: COLUMNS - self.column], part[COLUMNS - self.column :]
                self.texts.append((self.now, self.row, self.column, kind, piece))
                self.column += len(piece)
                if part:
                    self.row, self.column = self.row + 1, 0

    def type(self, text):
        for letter in text:
            self.now += TYPING
            self.write(letter, "typed")

    def run(self, command, answers=(), **options):
        """Runs a command. Each answer is a text that is waited for, and what is typed then: "^C" is Ctrl-C."""
        self.write("$ ", "prompt")
        self.now += PAUSE
        self.type(command)
        self.now += PAUSE / 3
        self.write("\n")
        self._conversation(command, list(answers), options)
        if self.column:
            self.write("\n")
        self.now += PAUSE

    def _conversation(self, command, answers, options):
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(options["directory"])
            os.environ.update(options["environment"], COLUMNS=str(COLUMNS), TERM="dumb")
            os.execvp("sh", ["sh", "-c", f"exec {command}"])
        began, offset, read = time.monotonic(), self.now, ""
        while True:
            ready, _, _ = select.select([terminal], [], [], 60)
            try:
                chunk = os.read(terminal, 4096).decode() if ready else ""
            except OSError:
                chunk = ""
            if not chunk:
                break
            self.now = max(self.now, offset + time.monotonic() - began)
            read += chunk
            self.write(chunk)
            if answers and answers[0][0] in read:
                _, typed = answers.pop(0)
                read = ""
                time.sleep(PAUSE)
                if typed == "^C":
                    os.write(terminal, b"\x03")
                else:
                    os.write(terminal, f"{typed}\n".encode())
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(pid, 0)

    def svg(self, title):
        """The whole session, with the size of all that was written."""
        rows = self.row + 1
        width = MARGIN * 2 + LETTER * COLUMNS
        height = BAR + MARGIN + LINE * rows
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img">',
            f"<title>{html.escape(title)}</title><style>{STYLE}</style>",
            f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#0b1622"/>',
        ]
        for at, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
            parts.append(f'<circle cx="{MARGIN + 6 + at * 20}" cy="{BAR / 2}" r="6" fill="{colour}"/>')
        for moment, row, column, kind, text in self.merged():
            if text.strip():
                x, y = MARGIN + LETTER * column, BAR + LINE * (row + 0.8)
                length = f'textLength="{LETTER * len(text):.1f}"'
                parts.append(
                    f'<text x="{x:.1f}" y="{y:.1f}" {length} class="{kind}" style="animation-delay:{moment:.2f}s">'
                    f"{html.escape(text)}</text>"
                )
        return "\n".join([*parts, "</svg>\n"])

    def merged(self):
        """Texts of the same moment and kind that follow each other are one."""
        merged = []
        for moment, row, column, kind, text in self.texts:
            if merged:
                before = merged[-1]
                follows = before[1] == row and before[2] + len(before[4]) == column
                if follows and before[3] == kind and moment - before[0] < 0.001:
                    merged[-1] = (*before[:4], before[4] + text)
                    continue
            merged.append((moment, row, column, kind, text))
        return merged
