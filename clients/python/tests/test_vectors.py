"""The table that all libraries share: clients/vectors.json."""

import asyncio
import json
import re
import threading
import unittest
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer

from support import VECTORS

from distillery_client import Distillery, ProtocolError, Result, Ticket
from distillery_client._address import parse_address, parse_token
from distillery_client._client import Peer
from distillery_client._messages import CANCEL, DETACH, END, LIST, Data, attach_message, call_message, decode
from distillery_client._output import Output
from distillery_client._retry import Reconnect, delay_of
from distillery_client._session import CallStart, Detached, Ended, Gap, Piece, Refused, Session, Told
from distillery_client.errors import api_failure, failure

SIGNALS = {"end": END, "cancel": CANCEL, "detach": DETACH, "list": LIST}


def frame_of(frame):
    return frame["text"] if "text" in frame else bytes.fromhex(frame["binary"])


def given(step):
    """Returns a step in the form of the table."""
    match step:
        case None:
            return None
        case Piece(stream, data):
            return {"data": [stream, data.hex()]}
        case Gap(stream, start, stop):
            return {"lost": [stream, start, stop]}
        case Told(message):
            return {"message": message}
        case Ended(result):
            return {"ended": asdict(result)}
        case Detached():
            return {"detached": True}
        case Refused(message):
            return {"refused": message}


async def read_pieces(pieces, read):
    """Returns what a reader gets if each piece arrives after it has read the one before."""
    left = [bytes.fromhex(piece) for piece in pieces]
    loop = asyncio.get_running_loop()

    def next_piece():
        if left:
            output._push(left.pop(0))
        else:
            output._end()

    # The reader asks for more once it has nothing to read.
    output = Output("stdout", lambda: loop.call_soon(next_piece), False)
    return [item async for item in read(output)]


class Vectors(unittest.TestCase):
    def cases(self, section):
        for case in VECTORS[section]:
            with self.subTest(case.get("name", str(case))):
                yield case

    def test_messages_are_written(self):
        for case in self.cases("messages"):
            if "call" in case:
                call = case["call"]
                written = call_message(call["name"], call["params"], call.get("detach"))
            elif "attach" in case:
                written = attach_message(Ticket(**case["attach"]))
            else:
                written = SIGNALS[case["signal"]]
            self.assertEqual(json.loads(written), case["json"])

    def test_frames_are_read(self):
        for case in self.cases("frames"):
            if "error" in case:
                says = f"the server sent {case['error']}: use the client of its release"
                with self.assertRaisesRegex(ProtocolError, re.escape(says)):
                    decode(frame_of(case["frame"]))
                continue
            read = decode(frame_of(case["frame"]))
            if isinstance(read, Data):
                read = {"type": "data", "stream": read.stream, "offset": read.offset, "bytes": read.bytes.hex()}
            self.assertEqual({"type": "unknown"} if read is None else read, case["event"])

    def test_sessions_continue_where_they_were(self):
        for case in self.cases("sessions"):
            start = case["start"]
            session = Session(Ticket(**start["attach"]) if "attach" in start else CallStart(**start))
            for step in case["steps"]:
                if "open" in step:
                    self.assertEqual(json.loads(session.open()), step["open"])
                elif "error" in step:
                    with self.assertRaisesRegex(ProtocolError, re.escape(step["error"])):
                        session.on(frame_of(step["frame"]))
                else:
                    self.assertEqual(given(session.on(frame_of(step["frame"]))), step["gives"])
            self.assertEqual(session.kept, case["kept"])

    def test_outputs_are_read_as_lines_text_and_bytes(self):
        for case in self.cases("outputs"):
            pieces = case["pieces"]
            self.assertEqual(asyncio.run(read_pieces(pieces, Output.lines)), case["lines"])
            self.assertEqual(asyncio.run(read_pieces(pieces, Output.text)), case["text"])
            read = asyncio.run(read_pieces(pieces, Output.bytes))
            self.assertEqual([piece.hex() for piece in read], pieces)

    def test_addresses_are_read(self):
        for case in self.cases("addresses"):
            if case.get("error"):
                with self.assertRaises(ValueError):
                    parse_address(case["url"])
                continue
            address = parse_address(case["url"])
            expected = (case["api"], case["socket"], case["private"])
            self.assertEqual((address.api, address.socket, address.is_private), expected)

    def test_tokens_are_read(self):
        for case in self.cases("tokens"):
            if case.get("error"):
                with self.assertRaises(ValueError):
                    parse_token(case["text"])
            else:
                self.assertEqual(parse_token(case["text"]), case["token"])

    def test_token_needs_a_private_connection(self):
        with self.assertRaisesRegex(ValueError, "use https"):
            Distillery("http://calls.example.org", token="dst_a")
        Distillery("http://calls.example.org", token="dst_a", insecure=True)
        Distillery("http://127.0.0.1:8080", token="dst_a")

    def test_secrets_are_not_shown(self):
        self.assertNotIn("secret", repr(Ticket("id", key="secret")))
        self.assertNotIn("secret", repr(Peer.of("http://127.0.0.1:8080", "dst_secret", False, None)))

    def test_attempts_wait_longer_and_longer(self):
        for case in self.cases("retries"):
            policy = case["policy"]
            reconnect = Reconnect(policy["attempts"], policy["delay"], policy["maxDelay"])
            delays = []
            while (delay := delay_of(len(delays), reconnect)) is not None:
                delays.append(delay)
            self.assertEqual(delays, case["delays"])

    def test_failures_say_what_to_do(self):
        for case in self.cases("failures"):
            self.assertEqual(failure(case["call"], Result(**case["result"])), case["says"])
        for case in self.cases("api_failures"):
            self.assertEqual(api_failure(case["status"], case["message"]), case["says"])

    def test_requests_are_those_of_the_api(self):
        heard = []

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("Content-Length", 0))
                heard.append((self.command, self.path, self.rfile.read(length), self.headers["Authorization"]))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"[]")

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = Distillery(f"http://127.0.0.1:{server.server_port}/prefix", token="dst_a").api
        for case in self.cases("requests"):
            arguments, options = case["arguments"], {}
            method = re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", case["method"])
            # What is an object of options there has names here.
            if method in ("processes", "cancel_process") and arguments and isinstance(arguments[-1], dict):
                *arguments, options = arguments
            getattr(api, method)(*arguments, **options)
            verb, path, body, token = heard.pop()
            self.assertEqual([verb, path], [case["sends"][0], f"/prefix/api/v1{case['sends'][1]}"])
            self.assertEqual(json.loads(body) if body else None, case.get("body"))
            self.assertEqual(token, "Bearer dst_a")
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    unittest.main()
