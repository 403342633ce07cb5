"""Runs the cases of Autobahn's test suite against a server that echoes lines: `driver.py CASES HOST PORT CALL`.

The suite is a program of Python 2. Its cases are plain descriptions: this client reads them unchanged, and performs their
steps against the server. Many cases run at once, as most of them only wait.
Prints a line of JSON for each case.
"""

import asyncio
import base64
import binascii
import importlib.abc
import importlib.util
import json
import os
import pathlib
import pickle
import re
import sys
import types

CASES, HOST, PORT, CALL = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
# Number of concurrent cases (those with large messages keep this program busy), time limit of a case, and time limit of a
# side to close.
TOGETHER, LARGE_TOGETHER, PATIENCE, CLOSING = 40, 2, 60, 5


class Protocol:
    """The parts of the original library that the cases use."""

    STATE_CLOSED, STATE_CONNECTING, STATE_CLOSING, STATE_OPEN = range(4)
    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_GOING_AWAY = 1001
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007


class Validator:
    """Tells whether a text is valid UTF-8, and ends with a whole character."""

    def reset(self):
        pass

    def validate(self, text):
        try:
            text.encode("latin-1").decode()
            return True, True
        except UnicodeDecodeError:
            return False, False


def hexed(text):
    return binascii.b2a_hex(text.encode("latin-1")).decode()


class Reader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Reads the modules of the cases: each byte of their texts is a character, as it was in Python 2."""

    def find_spec(self, name, path=None, target=None):
        file = CASES / f"{name}.py"
        return importlib.util.spec_from_loader(name, self) if file.exists() else None

    def exec_module(self, module):
        source = (CASES / f"{module.__name__}.py").read_bytes().decode("latin-1")
        source = re.sub(r"(?m)^(\s*)print (.*)$", r"\1print(\2)", source).replace("\t", "   ")
        source = re.sub(r"(?m)^#.*coding[:=].*$", "", source).replace("xrange", "range").replace("(object, Case", "(Case").replace(" / ", " // ")
        exec(compile(source, module.__name__, "exec"), module.__dict__)


def stand_in(name, **content):
    module = sys.modules[name] = types.ModuleType(name)
    module.__dict__.update(content)


class Client:
    """One connection, over which one case is played. The case sees the library's protocol."""

    factory = types.SimpleNamespace(isServer=False)
    for name, value in vars(Protocol).items():
        if name.startswith(("STATE", "CLOSE")):
            locals()[name] = value

    def __init__(self):
        self.state = self.STATE_CONNECTING
        self.closedByMe = self.failedByMe = self.droppedByMe = self.wasClean = False
        self.connectionWasOpen = self.createWirelog = False
        self.remoteCloseCode = self.localCloseReason = None
        self.autoFragmentSize = 0
        self.txFrameStats, self.timers = {}, []
        # The result of the call.
        self.verdict = ""
        # Sends in order, and reads in between.
        self.outgoing = asyncio.Queue()

    # Steps of the cases.

    def sendFrame(self, opcode, payload="", fin=True, rsv=0, mask=None, payload_len=None, chopsize=None, sync=False):
        data = as_bytes(payload)
        if payload_len is not None:
            data = (data * (payload_len // max(len(data), 1) + 1))[:payload_len]
        self.txFrameStats[opcode] = self.txFrameStats.get(opcode, 0) + 1
        self.put(framed(opcode, data, fin, rsv), chopsize)

    def sendMessage(self, payload, isBinary=False, binary=False, fragmentSize=None, **_):
        opcode, data = (2 if isBinary or binary else 1), as_bytes(payload)
        size = fragmentSize or self.autoFragmentSize or max(len(data), 1)
        for at in range(0, max(len(data), 1), size):
            self.sendFrame(opcode if at == 0 else 0, data[at : at + size], at + size >= len(data))

    def beginMessage(self, isBinary=False, binary=False, **_):
        self.first = 2 if isBinary or binary else 1

    def beginMessageFrame(self, length):
        self.left = length
        # A mask of zeroes, so that the message can be sent piece by piece.
        self.put(head(self.first, length, False, 0) + bytes(4))
        self.first = 0

    def sendMessageFrameData(self, payload, sync=False):
        self.put(as_bytes(payload))
        self.left -= len(payload)
        return self.left

    def endMessage(self):
        self.sendFrame(0, "", True)

    def sendClose(self, code=None, reason=None):
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code, reason)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        if self.state != self.STATE_OPEN:
            return
        payload = b"" if code is None else code.to_bytes(2, "big") + as_bytes(reasonUtf8 or "")
        self.put(framed(8, payload))
        self.state = self.STATE_CLOSING
        self.closedByMe = not isReply
        self.localCloseReason = reasonUtf8
        self.later(CLOSING, self.drop)

    def failConnection(self):
        if self.state == self.STATE_OPEN:
            self.failedByMe = True
            self.sendCloseFrame(self.CLOSE_STATUS_CODE_GOING_AWAY)

    def killAfter(self, delay):
        self.later(max(delay, PATIENCE_FACTOR), self.failConnection)

    def closeAfter(self, delay):
        self.later(max(delay, PATIENCE_FACTOR), self.sendClose)

    def continueLater(self, delay, then, tag=None):
        self.later(delay, lambda: self.state != self.STATE_CLOSED and then())

    def enableWirelog(self, _):
        pass

    def registerProducer(self, producer, _):
        producer.resumeProducing()

    # Implementation.

    def later(self, delay, then):
        self.timers.append(asyncio.get_running_loop().call_later(delay, then))

    def put(self, data, chopsize=None):
        if self.state in (self.STATE_OPEN, self.STATE_CLOSING):
            self.outgoing.put_nowait((data, chopsize))

    def drop(self):
        if self.state != self.STATE_CLOSED:
            self.droppedByMe = True
            self.writer.transport.abort()

    async def write(self):
        while True:
            data, chopsize = await self.outgoing.get()
            for at in range(0, len(data), chopsize or max(len(data), 1)):
                self.writer.write(data[at : at + (chopsize or len(data))])
                await self.writer.drain()

    async def play(self, case):
        """Plays a case to the end of the connection."""
        reader, self.writer = await asyncio.open_connection(HOST, PORT)
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(
            f"GET /api/v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in answer, answer
        self.state, self.connectionWasOpen = self.STATE_OPEN, True
        # Every socket of this server begins with a call.
        self.writer.write(framed(2, json.dumps({"call": CALL, "params": []}).encode()))
        await self.writer.drain()
        writing = asyncio.create_task(self.write())
        self.run = case(self)
        self.run.onOpen()
        try:
            await self.read(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        self.state = self.STATE_CLOSED
        for timer in self.timers:
            timer.cancel()
        writing.cancel()
        self.writer.close()
        self.run.onConnectionLost(self.failedByMe)
        return self.run

    async def read(self, reader):
        while True:
            first, second = await reader.readexactly(2)
            length = second & 0x7F
            if length > 125:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
            data = await reader.readexactly(length)
            opcode = first & 0x0F
            assert first & 0x70 == 0 and second & 0x80 == 0, "the server breaks the rules itself"
            if opcode == 8:
                self.closed(data)
            elif opcode == 9:
                self.put(framed(10, data))
                self.run.onPing(as_text(data))
            elif opcode == 10:
                self.run.onPong(as_text(data))
            else:
                assert first & 0x80, "this server sends whole messages"
                # The result of the call belongs to this server's protocol, and not to the cases.
                if opcode == 1:
                    self.run.onMessage(as_text(data), False)
                else:
                    self.verdict = as_text(data)

    def closed(self, data):
        self.remoteCloseCode = int.from_bytes(data[:2], "big") if len(data) >= 2 else None
        self.wasClean = True
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(self.remoteCloseCode or 1000, isReply=True)
        self.run.onClose(True, self.remoteCloseCode, as_text(data[2:]))


# The machine can be busy: the timeouts of the cases are extended by this factor.
PATIENCE_FACTOR = float(os.environ.get("AUTOBAHN_PATIENCE", "5"))


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def as_text(data):
    return data.decode("latin-1")


def head(opcode, length, fin=True, rsv=0):
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if length < 126:
        return bytes([first, 0x80 | length])
    if length < 1 << 16:
        return bytes([first, 0x80 | 126]) + length.to_bytes(2, "big")
    return bytes([first, 0x80 | 127]) + length.to_bytes(8, "big")


def framed(opcode, data, fin=True, rsv=0):
    mask = os.urandom(4)
    key = (mask * (len(data) // 4 + 1))[: len(data)]
    masked = (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")
    return head(opcode, len(data), fin, rsv) + mask + masked


# Binary messages are control messages of this server's protocol, and are not echoed. 9.9 is not a case.
BINARY = r"case(1_2|9_[24689])_"


def cases():
    """The cases of all chapters except those of extensions (12 and 13), which this server does not support."""
    found = {}
    for file in CASES.glob("case*.py"):
        if not re.fullmatch(r"case(\d|10)_.*", file.stem) or re.match(BINARY, file.stem):
            continue
        for value in vars(importlib.import_module(file.stem)).values():
            for case in value if isinstance(value, (list, tuple)) else [value]:
                name = getattr(case, "__name__", "")
                if isinstance(case, type) and re.fullmatch(r"Case\d+(_\d+)+", name):
                    found[tuple(int(it) for it in name[4:].split("_"))] = case
    # Some files contain the cases of two chapters.
    return {number: case for number, case in sorted(found.items()) if not re.match(BINARY, "case{}_{}_".format(*number[:2]))}


async def main():
    turns, large = asyncio.Semaphore(TOGETHER), asyncio.Semaphore(LARGE_TOGETHER)

    async def run(number, case):
        name = ".".join(map(str, number))
        async with large if number[0] == 9 else turns:
            try:
                told = await asyncio.wait_for(Client().play(case), PATIENCE)
                outcome = {"behavior": told.behavior, "close": told.behaviorClose, "result": told.result}
                outcome |= {"closing": told.resultClose, "verdict": told.p.verdict}
            except Exception as error:
                outcome = {"behavior": "ERROR", "close": "ERROR", "result": repr(error), "closing": ""}
        print(json.dumps({"case": name, **outcome}), flush=True)

    await asyncio.gather(*(run(number, case) for number, case in cases().items()))


stand_in("autobahn")
stand_in("autobahn.websocket")
stand_in("autobahn.websocket.protocol", WebSocketProtocol=Protocol)
stand_in("autobahn.websocket.utf8validator", Utf8Validator=Validator)
stand_in("binascii", b2a_hex=hexed)
sys.meta_path.insert(0, Reader())
asyncio.run(main())
