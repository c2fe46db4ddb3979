"""openloop and rank.lua against a server whose behaviour is known: stalls, errors, closed connections.

Started by test_load.sh. Everything is on 127.0.0.1 and ends with this program.
"""
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
OPENLOOP = os.environ["OPENLOOP"]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, body):
        server = self.server
        with server.lock:
            server.asked += 1
            number = server.asked
            server.bodies.append((self.command, self.path, self.headers.get("Authorization"), body))
            if number == server.stall_at:
                time.sleep(server.stall)  # under the lock: every connection waits
        status = 503 if server.fail_every and number % server.fail_every == 0 else 200
        text = b'{"ranking": [' + b" " * server.padding + b"]}"
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        if server.close_every and number % server.close_every == 0:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.answer(None)

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, **traits):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.asked, self.bodies = threading.Lock(), 0, []
        self.stall_at = self.fail_every = self.close_every = self.padding = 0
        self.stall = 0.0
        self.__dict__.update(traits)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # the client's end of a run cuts what is under way

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="embsum-test-load-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def bodies(self, *arguments):
        path = self.folder / "bodies"
        path.write_bytes(subprocess.run([sys.executable, HERE / "bodies.py", *arguments], check=True,
                                        capture_output=True).stdout)
        return path

    def openloop(self, server, *arguments, code=0):
        done = subprocess.run([OPENLOOP, "--address", server.address, *map(str, arguments)], capture_output=True,
                              text=True, timeout=60)
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        return json.loads(done.stdout) if done.stdout else None


class OpenLoop(Case):
    def test_a_stall_counts_for_all_who_wait(self):
        """200 requests a second, one stall of half a second: a quarter of the second's requests feel it."""
        with Server(stall_at=200, stall=0.5) as server:
            seen = self.openloop(server, "--rate", 200, "--seconds", 2, "--warmup", 0, "--connections", 4)
        self.assertEqual((seen["scheduled"], seen["answered"], seen["unanswered"]), (400, 400, 0))
        self.assertGreater(seen["from_due_us"]["max"], 450e3)
        self.assertGreater(seen["from_due_us"]["p90"], 200e3)
        # What a closed loop would say: four bad figures among 400.
        self.assertLess(seen["from_send_us"]["p90"], 100e3)

    def test_answers(self):
        """Each different answer to each request once, with how often it came; in one piece or, when long, in many."""
        bodies = self.bodies("--count", "2")
        for padding in (0, 40000):
            with Server(fail_every=10, padding=padding) as server:
                start = time.monotonic_ns()
                seen = self.openloop(server, "--rate", 200, "--seconds", 1, "--warmup", 0, "--connections", 1,
                                     "--bodies", bodies, "--answers", self.folder / "answers", code=1)
            answers = [json.loads(line) for line in (self.folder / "answers").read_text().splitlines()]
            self.assertEqual(sorted((a["request"], a["status"], a["count"]) for a in answers),
                             [(0, 200, 100), (1, 200, 80), (1, 503, 20)])  # one in ten fails: of the second
            self.assertEqual(seen["answered"], 200)
            for answer in answers:
                self.assertEqual(answer["body"], {"ranking": []})
                self.assertTrue(start < answer["first_ns"] < answer["last_ns"] < time.monotonic_ns())

    def test_rate_is_kept(self):
        for extra in ((), ("--poisson",)):
            with Server() as server:
                seen = self.openloop(server, "--rate", 300, "--seconds", 2, "--warmup", 0.5, *extra)
            self.assertEqual(seen["answered"], seen["scheduled"])
            self.assertEqual(server.asked, seen["answered"])
            if extra:  # 750 expected, five standard deviations
                self.assertTrue(610 < seen["scheduled"] < 890, seen)
            else:
                self.assertEqual(seen["scheduled"], 750)
                self.assertEqual(seen["from_due_us"]["count"], 600)  # the warm-up is left out

    def test_requests_are_sent_whole_and_in_turn(self):
        token = self.folder / "token"
        token.write_text("secret\n")
        path = self.bodies("--candidates", "7000", "--contents", "9000", "--count", "3")
        lines = path.read_bytes().splitlines()
        with Server(padding=300000) as server:
            seen = self.openloop(server, "--bodies", path, "--requests", 8, "--warmup", 0, "--connections", 1,
                                 "--token-file", token, "--path", "/rank?x=1")
        self.assertEqual(seen["answered"], 8)
        self.assertEqual(server.bodies, [("POST", "/rank?x=1", "Bearer secret", lines[i % 3]) for i in range(8)])

    def test_errors_are_counted_and_decide_the_exit_code(self):
        with Server(fail_every=10) as server:
            seen = self.openloop(server, "--requests", 100, "--warmup", 0, code=1)
        self.assertEqual((seen["answered"], seen["not_200"], seen["from_due_us"]["count"]), (100, 10, 90))

    def test_closed_connections_are_made_anew(self):
        with Server(close_every=3) as server:
            seen = self.openloop(server, "--requests", 100, "--warmup", 0, "--connections", 2)
        self.assertEqual((seen["answered"], seen["failed"]), (100, 0))

    def test_nobody_there(self):
        with socket.socket() as taken:  # bound, but not listening
            taken.bind(("127.0.0.1", 0))
            done = subprocess.run([OPENLOOP, "--address", f"127.0.0.1:{taken.getsockname()[1]}"], capture_output=True,
                                  text=True, timeout=30)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("Connection refused", done.stderr)

    def test_hung_server_does_not_hold_it(self):
        with Server(stall_at=1, stall=5) as server:
            start = time.monotonic()
            seen = self.openloop(server, "--rate", 100, "--seconds", 0.5, "--warmup", 0, "--timeout-ms", 300, code=1)
            self.assertLess(time.monotonic() - start, 3)
        self.assertEqual((seen["answered"], seen["unanswered"]), (0, 50))

    def test_only_this_machine(self):
        for address, code in (("192.0.2.1:80", 1), ("nowhere", 1), ("localhost:80", 1)):
            done = subprocess.run([OPENLOOP, "--address", address], capture_output=True, text=True, timeout=30)
            self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)

    def test_usage(self):
        for arguments in ([], ["--rate", "x", "--address", "127.0.0.1:1"], ["--nonsense"], ["--connections", "0"]):
            done = subprocess.run([OPENLOOP, *arguments], capture_output=True, text=True, timeout=30)
            self.assertEqual(done.returncode, 2)
            self.assertIn("usage:", done.stderr)


class Bodies(Case):
    def test_disjoint(self):
        bodies = [json.loads(line) for line in self.bodies("--candidates", "50", "--contents", "1000", "--count", "20",
                                                           "--disjoint").read_text().splitlines()]
        ids = [i for body in bodies for i in body["candidates"]]
        self.assertEqual((len(ids), len(set(ids))), (1000, 1000))

    def test_whole_catalogue(self):
        body = json.loads(self.bodies("--candidates", "0", "--top-k", "3", "--count", "1").read_text())
        self.assertEqual((sorted(body), body["top_k"]), (["top_k", "user"], 3))


@unittest.skipUnless(shutil.which("wrk"), "wrk is not installed")
class Wrk(Case):
    def wrk(self, server, **parameters):
        done = subprocess.run(["wrk", "-t1", "-c4", "-d1s", "-s", HERE / "rank.lua", f"http://{server.address}"],
                              check=True, capture_output=True, text=True, timeout=30,
                              env={**os.environ, **{k: str(v) for k, v in parameters.items()}})
        return json.loads(done.stdout.splitlines()[-1])

    def test_requests(self):
        with Server() as server:
            seen = self.wrk(server, CANDIDATES=5, CONTENTS=50, USERS=3, TOP_K=2, BODIES=10, CHECK=1)
            self.assertGreater(seen["requests"], 10)
            self.assertEqual((seen["wrong"], seen["status_errors"]), (0, 0))
            self.assertGreaterEqual(seen["checked"], seen["requests"])
            sent = {body for _, _, _, body in server.bodies}
            self.assertEqual({entry[:2] for entry in server.bodies}, {("POST", "/rank")})
            self.assertEqual(len(sent), 10)
            for text in sent:
                body = json.loads(text)
                self.assertEqual(len(set(body["candidates"])), 5)
                self.assertTrue(set(body["candidates"]) <= {f"N{i}" for i in range(50)})
                self.assertIn(body["user"], ("U0", "U1", "U2"))
                self.assertEqual(body["top_k"], 2)

    def test_ids_from_files(self):
        names = ["a", "b/c", 'd"e', "f\\g"]
        (self.folder / "ids").write_text("\n".join(names) + "\n")
        with Server() as server:
            self.wrk(server, CANDIDATES=4, CONTENT_IDS=self.folder / "ids", USER_IDS=self.folder / "ids", BODIES=2)
            self.assertEqual(sorted(json.loads(server.bodies[0][3])["candidates"]), sorted(names))

    def test_errors(self):
        with Server(fail_every=2) as server:
            seen = self.wrk(server, CANDIDATES=1, CHECK=1)
        self.assertGreater(seen["status_errors"], 0)
        self.assertGreater(seen["wrong"], 0)


if __name__ == "__main__":
    unittest.main()
