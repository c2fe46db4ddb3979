"""The daemon over its socket: every status, framing, limits, balance, switches, outages, SIGTERM.

Started by tests/server/test_api, which fills the stores. Everything lives in a temporary folder, talks over
127.0.0.1 and unix sockets, and is ended by its process id.
"""
import http.client
import json
import os
import queue
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../trust"))
import framing  # noqa: E402  (tests/trust/framing.py: requests whose end is in doubt)
import hostile_json  # noqa: E402  (tests/trust/hostile_json.py: bodies that are no JSON, or no request)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../openapi"))
import document  # noqa: E402  (tests/openapi/document.py: what server/openapi.json says of an answer)

EMBSUMD = os.environ["EMBSUMD"]
TEST_API = os.environ["TEST_API"]
SLOW = int(os.environ.get("EMBSUM_SLOW", 1))  # sanitizers and valgrind are slower
RANK = document.Operation(document.load("openapi.json"), "/rank", "post")


def publish(url, seed, *size):
    return subprocess.run([TEST_API, "publish", url, *map(str, (seed, *size))], check=True, capture_output=True,
                          text=True).stdout.strip()


def right_scores(seed, user, contents):
    out = subprocess.run([TEST_API, "scores", str(seed), user, *contents], check=True, capture_output=True, text=True)
    return dict(zip(contents, map(float, out.stdout.split())))


def title(content):
    """Of content number i; every third has none (world.h)."""
    return None if content % 3 == 2 else f'The "title" of n\u00b0 {content}'


class Daemon:
    """embsumd on a port of the system's choice."""

    all = []

    def __init__(self, url, *settings, env=(), under=()):
        arguments = [*under, EMBSUMD, "--listen", "127.0.0.1:0", "--store", url]
        for setting in settings:
            arguments += ["--set", setting]
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env={**os.environ, **dict(env)})
        Daemon.all.append(self.process)
        self.lines, self.news = [], queue.Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        listening = self.wait_for("listening")
        host, port = listening["address"].rsplit(":", 1)
        if "admin" in listening:
            self.admin = ("127.0.0.1", int(listening["admin"].rsplit(":", 1)[1]))
        self.address = (host, int(port))

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            self.news.put(line)
        self.news.put(None)

    def wait_for(self, message):
        deadline = time.monotonic() + 20 * SLOW
        while True:
            line = self.news.get(timeout=max(0.01, deadline - time.monotonic()))
            if line is None:
                raise AssertionError("the daemon ended: " + "".join(self.lines))
            if line.startswith("{") and json.loads(line)["msg"] == message:
                return json.loads(line)

    def wait_for_while(self, message, act):
        deadline = time.monotonic() + 10 * SLOW
        while True:
            act()
            while not self.news.empty():
                line = self.news.get()
                if line and json.loads(line)["msg"] == message:
                    return
            if time.monotonic() > deadline:
                raise AssertionError(f"no \"{message}\" in: " + "".join(self.lines))
            time.sleep(0.05)

    def stop(self, ask=True):
        """SIGTERM, unless it has been sent; returns the exit code and the seconds it took."""
        start = time.monotonic()
        if ask and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.reader.join(10)
        self.process.stderr.close()
        if code != 0:
            print("".join(self.lines[-40:]))
        refused = [line for line in self.lines if "system call was refused" in line]
        if refused:  # whatever a test does, the sandbox leaves the daemon what it needs
            raise AssertionError("".join(refused))
        return code, time.monotonic() - start

    def connect(self, timeout=15):
        return socket.create_connection(self.address, timeout)

    def client(self, address=None):
        return http.client.HTTPConnection(*(address or self.address), timeout=15)

    def ask(self, method, path, body=None, headers=(), address=None):
        client = self.client(address)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
                headers = {"Content-Type": "application/json", **dict(headers)}
            client.request(method, path, body, dict(headers))
            answer = client.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            client.close()

    def rank(self, body):
        """Whatever a test asks for, the answer is one that the document knows."""
        status, headers, text = self.ask("POST", "/rank", body)
        problems, value = document.problems(RANK, status, {name.lower(): value for name, value in headers.items()}, text)
        if problems:
            raise AssertionError(problems)
        return status, value

    def metric(self, line):
        _, _, text = self.ask("GET", "/metrics")
        found = re.search("^" + re.escape(line) + " (.*)$", text.decode(), re.M)
        return float(found.group(1)) if found else None


def tearDownModule():
    """A test that failed half-way, or a daemon that does not stop, leaves no process behind."""
    for process in Daemon.all:
        if process.poll() is None:
            process.kill()
            process.wait(10)


class Raw:
    """One connection, spoken to in bytes."""

    def __init__(self, daemon):
        self.socket = daemon.connect()
        self.file = self.socket.makefile("rb")

    def send(self, *pieces, pause=0):
        for piece in pieces:
            try:
                self.socket.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                return
            if pause:
                time.sleep(pause)

    def receive(self, head=False):
        """status, headers, body of the next answer; None at the end of the connection."""
        try:
            line = self.file.readline()
            while line.startswith(b"HTTP/1.1 100"):
                self.file.readline()
                line = self.file.readline()
            if not line:
                return None
            status, headers = int(line.split()[1]), {}
            while (line := self.file.readline().strip()):
                name, value = line.decode().split(":", 1)
                headers[name.lower()] = value.strip()
            return status, headers, b"" if head else self.file.read(int(headers.get("content-length", 0)))
        except ConnectionResetError:
            return None

    def is_closed(self):
        try:
            return self.file.read(1) == b""
        except (ConnectionResetError, socket.timeout):
            return True

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def post(body, *extra):
    lines = ["POST /rank HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", *extra]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


GOOD = json.dumps({"user": "U1", "candidates": ["N1", "N2", "N3"]}).encode()
HEAD = b"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class Case(unittest.TestCase):
    settings = ()

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="embsum-test-api-")
        cls.url = f"lmdb:{cls.folder}/store"
        cls.generation = publish(cls.url, 1)
        cls.daemon = Daemon(cls.url, *cls.settings)

    @classmethod
    def tearDownClass(cls):
        code, _ = cls.daemon.stop()
        shutil.rmtree(cls.folder)
        if code != 0:
            raise AssertionError(f"the daemon ended with {code}")

    def check_error(self, answer, status, code):
        self.assertIsNotNone(answer, "no answer")
        self.assertEqual(answer[0], status, answer)
        error = json.loads(answer[2])["error"]
        self.assertEqual(sorted(error), ["code", "message", "request_id"])
        self.assertEqual(error["code"], code)

    def check_ranking(self, ranking, seed, user, contents):
        right = right_scores(seed, user, contents)
        self.assertEqual(sorted(item["id"] for item in ranking), sorted(contents))
        for item in ranking:
            wanted = right[item["id"]]
            self.assertLessEqual(abs(item["score"] - wanted), 1e-5 * max(1, abs(wanted)))
        scores = [item["score"] for item in ranking]
        self.assertEqual(scores, sorted(scores, reverse=True))


class Answers(Case):
    def test_rank(self):
        contents = [f"N{i}" for i in range(300)]
        status, answer = self.daemon.rank({"user": "U3", "candidates": contents + ["X", "N1"]})
        self.assertEqual(status, 200)
        self.assertEqual(answer["generation"], self.generation)
        self.assertEqual(answer["user_status"], "present")
        self.assertEqual(answer["missing"], [{"id": "X", "reason": "not_found"}])
        self.check_ranking(answer["ranking"], 1, "U3", contents)
        status, _, text = self.daemon.ask("GET", "/rank?user=U3&candidates=N5,N6,N7&top_k=2")
        self.assertEqual(status, 200)
        asked = {"user": "U3", "candidates": ["N5", "N6", "N7"], "top_k": 2}
        self.assertEqual(json.loads(text), self.daemon.rank(asked)[1])

    def test_category(self):
        contents = [f"N{i}" for i in range(300) if i % 7 == 3 and i != 10]
        asked = {"user": "U3", "category": "topic 3", "exclude": ["N10", "N11"], "top_k": 100}
        status, answer = self.daemon.rank(asked)
        self.assertEqual(status, 200)
        self.assertEqual((answer["missing"], answer["missing_count"]), ([], 0))
        self.check_ranking(answer["ranking"], 1, "U3", contents)
        status, _, text = self.daemon.ask("GET", "/rank?user=U3&category=topic%203&exclude=N10,N11&top_k=100")
        self.assertEqual((status, json.loads(text)), (200, answer))
        self.check_error(self.daemon.ask("GET", "/rank?user=U3&category=topic&top_k=1"), 404, "not_found")

    def test_headers(self):
        status, headers, _ = self.daemon.ask("POST", "/rank", json.loads(GOOD), {"X-Request-Id": "abc-1"})
        self.assertEqual(status, 200)
        self.assertEqual(headers["X-Request-Id"], "abc-1")
        self.assertEqual(headers["Content-Type"], "application/json")
        stages = re.fullmatch(r"parse;dur=[\d.]+, fetch;dur=[\d.]+, score;dur=[\d.]+, write;dur=[\d.]+",
                              headers["Server-Timing"])
        self.assertIsNotNone(stages, headers["Server-Timing"])
        made = set()
        for bad in ({}, {"X-Request-Id": ""}, {"X-Request-Id": "x" * 129}, {"X-Request-Id": "a b"}):
            _, headers, _ = self.daemon.ask("GET", "/livez", headers=bad)
            self.assertRegex(headers["X-Request-Id"], "^[0-9a-f]{16}$")
            made.add(headers["X-Request-Id"])
        self.assertEqual(len(made), 4)
        _, _, text = self.daemon.ask("GET", "/nothing", headers={"X-Request-Id": "mine"})
        self.assertEqual(json.loads(text)["error"]["request_id"], "mine")

    def test_errors(self):
        rows = [
            (400, "bad_request", "POST", "/rank", "{", {"Content-Type": "application/json"}),
            (400, "bad_request", "GET", "/rank?user=U1&what=1", None, {}),
            (404, "not_found", "GET", "/nothing", None, {}),
            (404, "not_found", "GET", "/users/nobody", None, {}),
            (404, "not_found", "GET", "/contents/nothing", None, {}),
            (405, "method_not_allowed", "DELETE", "/rank", None, {}),
            (405, "method_not_allowed", "POST", "/livez", "x", {}),
            (413, "payload_too_large", "POST", "/rank", "x" * 300000, {"Content-Type": "application/json"}),
            (413, "payload_too_large", "POST", "/rank", "x" * 1300000, {"Content-Type": "application/json"}),
            (414, "uri_too_long", "GET", "/rank?user=" + "u" * 9000, None, {}),
            (415, "unsupported_media_type", "POST", "/rank", "{}", {"Content-Type": "text/plain"}),
            (415, "unsupported_media_type", "POST", "/rank", "{}", {}),
            (431, "headers_too_large", "GET", "/livez", None, {"X-Large": "x" * 17000}),
        ]
        for status, code, method, path, body, headers in rows:
            with self.subTest(status=status, path=path[:20]):
                answer = self.daemon.ask(method, path, body, headers)
                self.check_error(answer, status, code)
                if status == 405:
                    self.assertIn("GET", answer[1]["Allow"])
        with Raw(self.daemon) as raw:
            raw.send(b"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n")
            self.check_error(raw.receive(), 411, "length_required")
        with Raw(self.daemon) as raw:  # longer than anybody would read to the end
            raw.send(HEAD + b"Content-Length: 99999999999\r\n\r\n")
            self.check_error(raw.receive(), 413, "payload_too_large")
            self.assertTrue(raw.is_closed())

    def test_endless_chunks(self):
        with Raw(self.daemon) as raw:
            raw.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"8000\r\n" + b"x" * 0x8000 + b"\r\n"] * 30)
            raw.send(*[b"8000\r\n" + b"x" * 0x8000 + b"\r\n"] * 30)
            answer = raw.receive()
            if answer:  # a reset may overtake it
                self.check_error(answer, 413, "payload_too_large")
            self.assertTrue(raw.is_closed())
        self.assertEqual(self.daemon.ask("GET", "/livez")[0], 200)

    def test_ambiguous_framing(self):
        for name, request, expected in framing.CASES:
            if expected == "refused":
                with self.subTest(case=name):
                    self.assertEqual(framing.outcome(*framing.ask(self.daemon.address, request, 15)), expected)

    def test_keep_alive(self):
        with Raw(self.daemon) as raw:
            for request, status in [(post(GOOD), 200), (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
                                    (post(b"{"), 400), (post(b"x" * 300000), 413), (post(b"{}", "X-Pad: 1"), 400),
                                    (b"GET http://x:1/livez HTTP/1.1\r\nHost: x:1\r\n\r\n", 200), (post(GOOD), 200)] * 3:
                raw.send(request)
                self.assertEqual(raw.receive()[0], status)
            raw.send(post(GOOD) + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + post(GOOD))  # pipelined
            self.assertEqual([raw.receive()[0] for _ in range(3)], [200, 200, 200])
            raw.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertEqual(raw.receive()[0], 200)
            self.assertTrue(raw.is_closed())

    def test_chunked_and_slow(self):
        chunks = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in GOOD) + b"0\r\n\r\n"
        with Raw(self.daemon) as raw:
            raw.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            self.assertEqual(raw.receive()[0], 200)
            raw.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(GOOD), GOOD)
            self.assertEqual(raw.receive()[0], 200)
            raw.send(*[bytes([byte]) for byte in post(GOOD)], pause=0.002)
            self.assertEqual(raw.receive()[0], 200)

    def test_head(self):
        with Raw(self.daemon) as raw:
            for path in (b"/livez", b"/readyz", b"/metrics", b"/version", b"/users/U1", b"/rank?user=U1&candidates=N1"):
                raw.send(b"HEAD " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                status, headers, _ = raw.receive(head=True)
                self.assertEqual(status, 200)
                self.assertGreater(int(headers["content-length"]), 0)

    def test_pages(self):
        user = json.loads(self.daemon.ask("GET", "/users/U2")[2])
        self.assertEqual((user["user"], user["user_status"], user["m"], user["n"], user["d"]), ("U2", "present", 4, 2, 16))
        self.assertEqual(user["summary"], 'Reads "news" number 2.')
        content = json.loads(self.daemon.ask("GET", "/contents/N4")[2])
        self.assertGreaterEqual(content.pop("age_s"), 0)
        self.assertEqual(content, {"content": "N4", "generation": self.generation, "title": title(4), "categories": content["categories"],
                                   "n": 2, "d": 16})
        titled = json.loads(self.daemon.ask("GET", "/rank?user=U1&candidates=N1,N2&titles=true")[2])
        self.assertEqual({item["id"]: item.get("title") for item in titled["ranking"]}, {"N1": title(1), "N2": None})
        self.assertEqual(json.loads(self.daemon.ask("GET", "/readyz")[2])["generation"], self.generation)
        self.assertEqual(json.loads(self.daemon.ask("GET", "/version")[2])["name"], "embsumd")
        self.assertEqual(self.daemon.metric("embsum_ready"), 1)
        status, headers, text = self.daemon.ask("GET", "/metrics")
        self.assertTrue(headers["Content-Type"].startswith("text/plain"))
        for line in text.decode().splitlines():
            self.assertRegex(line, r"^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+=\"[^\"]*\",?)*\})? -?[\d.e+-]+)$")

    def test_hostile_bodies(self):
        deep = b'{"user":' + b"[" * 100000 + b"]" * 100000 + b"}"
        bodies = [b"", b"{}" * 1000, b"[" + b"{}," * 80000 + b"{}]", deep, b'{"user":"\\ud800","candidates":[]}',
                  b'{"user":"\xff","candidates":[]}', b'{"user":"a\\u0000b","candidates":[]}', b"123 00", b"null",
                  b'{"user":"U1","user":"U2","candidates":[]}', GOOD[:-1], GOOD + b"x",
                  json.dumps({"user": "U1", "candidates": ["N"] * 10001}).encode()]
        for body in bodies:
            with self.subTest(body=body[:40]):
                answer = self.daemon.ask("POST", "/rank", body, {"Content-Type": "application/json"})
                self.check_error(answer, 400, "bad_request")
        self.assertEqual(self.daemon.rank(json.loads(GOOD))[0], 200)

    def test_hostile_json(self):
        """Every kind of text that is no JSON, or is no request, in every place; one connection serves them all."""
        with Raw(self.daemon) as raw:
            statuses, problems = hostile_json.play(raw, post, (body for _, _, body in hostile_json.bodies()))
            self.assertEqual(problems, [])
            self.assertGreater(statuses[400], 8000)
            self.assertEqual(hostile_json.play_queries(raw), [])


class Limits(Case):
    settings = ("server.connections_max=8", "server.idle_timeout_ms=1000", "server.body_timeout_ms=1000", "server.workers=2")

    def test_connection_limit(self):
        held = [Raw(self.daemon) for _ in range(8)]
        for raw in held:
            raw.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(raw.receive()[0], 200)
        for _ in range(100):
            with Raw(self.daemon) as raw:
                raw.send(post(GOOD))
                answer = raw.receive()
                self.check_error(answer, 503, "unavailable")
                self.assertEqual(answer[1]["retry-after"], "1")
                self.assertTrue(raw.is_closed())
        for _ in range(4):
            held.pop().close()
        deadline = time.monotonic() + 5
        while (status := self.daemon.ask("GET", "/livez")[0]) == 503 and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(status, 200)
        self.assertGreaterEqual(self.daemon.metric("embsum_http_connections_refused_total"), 100)
        for raw in held:
            raw.close()

    def test_full_daemon_tells_how_it_is(self):
        held = [Raw(self.daemon) for _ in range(8)]
        for raw in held:
            raw.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(raw.receive()[0], 200)
        for path in ("/livez", "/readyz", "/metrics"):
            with self.subTest(path=path):
                self.assertEqual(self.daemon.ask("GET", path)[0], 200)
        refused = self.daemon.metric("embsum_http_connections_refused_total")
        self.assertEqual(self.daemon.ask("GET", "/livez")[0], 200)
        self.assertEqual(self.daemon.ask("POST", "/rank", GOOD, {"Content-Type": "application/json"})[0], 503)
        self.assertEqual(self.daemon.metric("embsum_http_connections_refused_total"), refused + 1)
        for raw in held:
            raw.close()

    def test_slow_body_is_cut(self):
        with Raw(self.daemon) as raw:
            start = time.monotonic()
            raw.send(HEAD + b"Content-Length: 100\r\n\r\n")
            for _ in range(40):
                raw.send(b"x")
                time.sleep(0.1)
                if time.monotonic() - start > 1.5:
                    break
            answer = raw.receive()
            if answer:
                self.check_error(answer, 408, "timeout")
            self.assertTrue(raw.is_closed())
        self.assertGreaterEqual(self.daemon.metric('embsum_http_connections_cut_total{phase="body"}'), 1)

    def test_idle_is_cut(self):
        with Raw(self.daemon) as raw:
            start = time.monotonic()
            self.assertTrue(raw.is_closed())
            self.assertLess(time.monotonic() - start, 5)


class SlowClients(Case):
    """Each phase has a time in total, however often a byte comes; who is quick is not touched by it."""
    settings = ("server.header_timeout_ms=600", "server.body_timeout_ms=600", "server.write_timeout_ms=600",
                "server.idle_timeout_ms=5000", "rank.deadline_ms=60000", "server.body_max_bytes=4000000")

    def cut_after(self, raw, pieces):
        """Seconds until the connection is closed while it sends these, one a tenth of a second."""
        start = time.monotonic()
        for piece in pieces:
            try:
                raw.send(piece)
            except OSError:
                break
            if select.select([raw.socket], [], [], 0.1)[0]:
                break
        return time.monotonic() - start

    def test_header(self):
        request = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
        for name, start, pieces in (("first line", b"", request), ("fields", request, b"X-A: bcdefghijklmnopqrstuvwxyz"),
                                    ("silence", b"GET /li", [b""] * 30)):
            with self.subTest(name), Raw(self.daemon) as raw:
                raw.send(start)
                seconds = self.cut_after(raw, [bytes([c]) if isinstance(c, int) else c for c in pieces])
                self.assertGreater(seconds, 0.5)
                self.assertLess(seconds, 0.6 + 1 * SLOW)
                answer = raw.receive()
                if answer:
                    self.check_error(answer, 408, "timeout")
                self.assertTrue(raw.is_closed())

    def test_idle_is_not_a_header(self):
        """A connection that has been answered may be silent for longer than a header may take."""
        with Raw(self.daemon) as raw:
            for pause in (0, 0.05, 1.2, 0.3):
                time.sleep(pause)
                raw.send(post(GOOD))
                self.assertEqual(raw.receive()[0], 200)

    def test_reader(self):
        """An answer of megabytes that nobody reads does not keep its connection."""
        before = self.daemon.metric('embsum_http_connections_cut_total{phase="write"}')
        body = json.dumps({"user": "U1", "candidates": [f"{'x' * 100}{i}" for i in range(10000)]}).encode()
        with Raw(self.daemon) as raw:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.send(post(body))
            deadline = time.monotonic() + 10 * SLOW
            while self.daemon.metric('embsum_http_connections_cut_total{phase="write"}') == before:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.1)
        self.assertEqual(self.daemon.rank(json.loads(GOOD))[0], 200)


class Leaving(Case):
    """Clients that go away in the middle hold no connection until a deadline, nor the daemon back when it stops."""

    def connections(self):
        return self.daemon.metric("embsum_http_connections") - 1  # but for the one that asks

    def wait_until_alone(self):
        deadline = time.monotonic() + 2 * SLOW
        while self.connections():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_clients_leave(self):
        for what, sent in (("head", b"GET /liv"), ("fields", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-"), ("nothing", b""),
                           ("body", HEAD + b"Content-Length: 100\r\n\r\n{"), ("whole", post(GOOD))):
            with self.subTest(what):
                for _ in range(20):  # the end comes together with the bytes, most times
                    with self.daemon.connect() as client:
                        client.sendall(sent)
                self.wait_until_alone()
        self.assertEqual(self.daemon.metric('embsum_http_connections_cut_total{phase="header"}'), 0)  # not for being slow

    def test_who_will_send_no_more_is_answered(self):
        for _ in range(20):
            with Raw(self.daemon) as raw:
                raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                raw.send(post(GOOD))
                raw.socket.shutdown(socket.SHUT_WR)
                self.assertEqual(raw.receive()[0], 200)
                start = time.monotonic()
                self.assertTrue(raw.is_closed())
                self.assertLess(time.monotonic() - start, 2 * SLOW)
        self.wait_until_alone()

    def test_who_waits_is_kept(self):
        with Raw(self.daemon) as raw:
            for piece in (b"GET /livez HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n"):
                raw.send(piece)
                time.sleep(1)
            self.assertEqual(raw.receive()[0], 200)


class Balance(Case):
    settings = ("server.workers=2", "server.io_threads=2")

    def counts(self, thread):
        return [self.daemon.metric(f'embsum_{thread}_requests_total{{{thread}="{i}"}}') for i in range(2)]

    def test_balance(self):
        """With 32 connections busy no thread is idle for long: workers take from one queue, whatever the connections;
        loops, which answer short requests themselves, have as many connections each. Who else uses the machine may
        slow down one thread for a while, but not three times in a row; connections that fall unevenly stay so."""
        for thread, explain in (("loop", False), ("worker", True)):
            with self.subTest(thread=thread):
                ratios = []
                while len(ratios) < 3 * SLOW and not (ratios and ratios[-1] <= 1.2):
                    before = self.counts(thread)
                    load = Load(self.daemon, 32, is_200, explain=explain)
                    time.sleep(max(2, 0.5 * SLOW))
                    load.stopping.set()
                    load.join()
                    self.assertEqual((load.lost, load.wrong), ([], []))
                    counts = [after - b for after, b in zip(self.counts(thread), before)]
                    self.assertGreaterEqual(sum(counts), 500)
                    ratios.append(max(counts) / max(min(counts), 1))
                self.assertLessEqual(ratios[-1], 1.2, ratios)


class Starved:
    """A daemon that may open a few more descriptors than it has, which clients take and more of them wait for. The limit stays."""

    def __init__(self, daemon, clients=100):
        self.pid = daemon.process.pid
        in_use = len(os.listdir(f"/proc/{self.pid}/fd"))
        before = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (in_use + 20, before[1]))
        self.held = [Raw(daemon) for _ in range(clients)]
        time.sleep(0.2)

    def share(self, seconds, meanwhile=time.sleep):
        """Of a processor, that the daemon takes."""
        before, start = self.processor_seconds(), time.monotonic()
        meanwhile(seconds)
        return (self.processor_seconds() - before) / (time.monotonic() - start)

    def processor_seconds(self):
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for raw in self.held:
            raw.close()


class Descriptors(Case):
    settings = ("server.workers=2",)

    def test_out_of_descriptors(self):
        """No spinning while there are none, and the daemon is back as soon as there are some."""
        with Starved(self.daemon) as starved:
            self.assertLessEqual(starved.share(1), 0.1 * SLOW)
        self.assertEqual(self.daemon.ask("GET", "/livez")[0], 200)
        self.assertEqual(self.daemon.rank(json.loads(GOOD))[0], 200)

    def test_limit_of_the_system(self):
        """The soft limit is raised; where the hard one is low, who is one too many is refused."""
        for limit, warned in (("-S -n 64", False), ("-n 64", True)):
            daemon = Daemon(self.url, under=("sh", "-c", f'ulimit {limit} && exec "$0" "$@"'))
            held = [Raw(daemon) for _ in range(100)]
            try:
                statuses = []
                for raw in held:
                    raw.send(post(GOOD))
                    statuses.append(raw.receive()[0])
                self.assertEqual(503 in statuses, warned)
                self.assertGreaterEqual(statuses.count(200), 16)
                self.assertEqual(any("too few descriptors" in line for line in daemon.lines), warned)
                self.assertEqual(daemon.ask("GET", "/livez")[0], 200)
            finally:
                for raw in held:
                    raw.close()
            self.assertEqual(daemon.stop()[0], 0)


class Load:
    """Clients that ask all the time on connections they keep. An answer that does not come is counted as lost,
    unless the daemon had asked to close the connection or did not accept it."""

    def __init__(self, daemon, count, check, extra=None, **more):
        self.daemon, self.check, self.extra, self.more = daemon, check, extra, more
        self.stopping, self.answered, self.lost, self.wrong = threading.Event(), 0, [], []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        raw, count = None, 0
        body = json.dumps({"user": f"U{number}", "candidates": ["N1", "N2", "N3", "N4"], **self.more}).encode()
        request = post(body)
        while not self.stopping.is_set():
            if raw is None:
                try:
                    raw = Raw(self.daemon)
                except OSError:  # not accepted any more
                    break
                fresh = True
            raw.send(post(body, self.extra()) if self.extra else request)
            answer = raw.receive()
            if answer is None:
                if fresh:  # the kernel's queue, never accepted by the daemon
                    break
                with self.lock:
                    self.lost.append((number, count))
                break
            fresh, count = False, count + 1
            problem = self.check(number, answer)
            if problem:
                self.wrong.append(problem)
            if answer[1].get("connection", "").lower() == "close":
                raw.close()
                raw = None
        if raw:
            raw.close()
        with self.lock:
            self.answered += count

    def join(self):
        for thread in self.threads:
            thread.join(30)


def is_200(_, answer):
    return None if answer[0] == 200 else answer


class Sandbox(Case):
    def limits(self, daemon):
        """What the kernel says of each thread: no new privileges, a filter of system calls."""
        found = set()
        for task in os.listdir(f"/proc/{daemon.process.pid}/task"):
            with open(f"/proc/{daemon.process.pid}/task/{task}/status") as file:
                status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
            found.add((status["NoNewPrivs"], status["Seccomp"]))
        return found

    def names(self, daemon):
        """Of its threads, as tools show them."""
        names = set()
        for task in os.listdir(f"/proc/{daemon.process.pid}/task"):
            with open(f"/proc/{daemon.process.pid}/task/{task}/comm", encoding="ascii") as file:
                names.add(file.read().strip())
        return names

    def test_on_and_off(self):
        self.assertEqual(self.daemon.ask("GET", "/livez")[0], 200)
        line = next(json.loads(line) for line in self.daemon.lines if '"msg":"sandbox"' in line)
        if line["calls"] != "seccomp":
            self.skipTest(f"the sandbox is {line['calls']}")
        self.assertEqual(self.limits(self.daemon), {("1", "2")})
        self.assertEqual(self.daemon.metric("embsum_sandbox_refused_total"), 0)
        wanted, until = {"rank", "store", "watcher", "acceptor", "deadlines", "connections"}, time.monotonic() + 10
        while not self.names(self.daemon) >= wanted and time.monotonic() < until:
            time.sleep(0.01)  # a thread names itself when it runs
        self.assertGreaterEqual(self.names(self.daemon), wanted)
        daemon = Daemon(self.url, "server.sandbox=false")
        self.assertEqual(self.limits(daemon), {("0", "0")})
        line = next(json.loads(line) for line in daemon.lines if '"msg":"sandbox"' in line)
        self.assertEqual((line["level"], line["files"], line["calls"]), ("info", "off", "off"))
        self.assertEqual(daemon.stop()[0], 0)


class AccessLog(unittest.TestCase):
    TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="embsum-test-api-")
        self.generation = publish(f"lmdb:{self.folder}/store", 1)
        os.mkdir(f"{self.folder}/log")
        self.path = f"{self.folder}/log/access.log"

    def tearDown(self):
        shutil.rmtree(self.folder)

    def start(self, *settings):
        return Daemon(f"lmdb:{self.folder}/store", *settings)

    def read(self, path=None):
        with open(path or self.path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def test_lines(self):
        daemon = self.start(f"log.access={self.path}")
        parent = f"00-{self.TRACE}-{self.PARENT}-01"
        headers = {"X-Request-Id": "traced", "traceparent": parent}
        status, answered, body = daemon.ask("POST", "/rank", json.loads(GOOD), headers)
        self.assertEqual((status, answered["X-Request-Id"]), (200, "traced"))
        span = re.fullmatch(rf"00-{self.TRACE}-([0-9a-f]{{16}})-01", answered["traceresponse"]).group(1)
        self.assertNotIn(span, (self.PARENT, "0" * 16))
        self.assertIsNone(answered["traceparent"])
        for value in ("", "ff" + parent[2:], parent.upper(), parent + "-x", parent[:-3]):
            status, answered, _ = daemon.ask("GET", "/livez", headers={"traceparent": value, "X-Request-Id": "untraced"})
            self.assertEqual((status, answered["traceresponse"]), (200, None))
        with Raw(daemon) as raw:  # two of them, white space, a refusal
            head = f"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: raw\r\nTraceParent: \t{parent} \r\n"
            raw.send(f"{head}traceparent: {parent}\r\n\r\n".encode(), f"{head}\r\n".encode())
            self.assertNotIn("traceresponse", raw.receive()[1])
            self.assertIn(self.TRACE, raw.receive()[1]["traceresponse"])
            raw.send(f"{head}Host: y\r\n\r\n".encode())
            status, headers, _ = raw.receive()
            self.assertEqual((status, headers["x-request-id"]), (400, "raw"))
            self.assertIn(self.TRACE, headers["traceresponse"])
        self.assertEqual(daemon.ask("GET", "/nothing?token=secret")[0], 404)
        self.assertEqual(daemon.stop()[0], 0)

        lines = self.read()
        line = next(line for line in lines if line["request_id"] == "traced")
        self.assertEqual((line["trace_id"], line["parent_id"], line["span_id"]), (self.TRACE, self.PARENT, span))
        self.assertEqual((line["client"], line["method"], line["path"], line["route"]), ("127.0.0.1", "POST", "/rank", "/rank"))
        self.assertEqual((line["status"], line["bytes"], line["generation"]), (200, len(body), self.generation))
        self.assertEqual((line["users"], line["present"], line["candidates"], line["missing"]), (1, 1, 3, 0))
        self.assertEqual(len([line for line in lines if line["request_id"] == "untraced" and "trace_id" not in line]), 5)
        raw = [(line["route"], line["status"], "trace_id" in line) for line in lines if line["request_id"] == "raw"]
        self.assertEqual(sorted(raw), [("/livez", 200, False), ("/livez", 200, True), ("refused", 400, True)])
        self.assertEqual(len(lines), 10)
        text = json.dumps(lines)
        for secret in ("secret", '"U1"'):
            self.assertNotIn(secret, text)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640 & ~self.umask())

    @staticmethod
    def umask():
        mask = os.umask(0)
        os.umask(mask)
        return mask

    def test_renamed_inside_the_sandbox(self):
        daemon = self.start(f"log.access={self.path}")
        daemon.ask("GET", "/livez", headers={"X-Request-Id": "before"})
        os.rename(self.path, self.path + ".1")
        deadline, asked = time.monotonic() + 20 * SLOW, 1
        while not (os.path.exists(self.path) and os.stat(self.path).st_size) and time.monotonic() < deadline:
            daemon.ask("GET", "/livez", headers={"X-Request-Id": "after"})
            asked += 1
            time.sleep(0.02)
        self.assertEqual(daemon.stop()[0], 0)  # which looks for refused system calls
        old, new = self.read(self.path + ".1"), self.read()
        self.assertEqual(old[0]["request_id"], "before")
        self.assertGreater(len(new), 0)
        self.assertEqual(len(old) + len(new), asked)

    def test_under_load(self):
        """On the stderr that the other lines go to: none is torn, and what is not there was counted."""
        daemon = self.start("log.access=stderr", "server.workers=2", "server.io_threads=2")
        load = Load(daemon, 8, is_200)
        time.sleep(1)
        load.stopping.set()
        load.join()
        self.assertEqual((load.lost, load.wrong), ([], []))
        deadline = time.monotonic() + 10 * SLOW
        count = lambda name: daemon.metric(name) or 0  # noqa: E731
        while count("embsum_access_log_lines_total") + count('embsum_access_log_dropped_total{reason="full"}') < load.answered:
            self.assertLess(time.monotonic(), deadline, "lines that are neither written nor counted")
            time.sleep(0.05)
        dropped = count('embsum_access_log_dropped_total{reason="full"}')
        self.assertEqual(daemon.stop()[0], 0)
        lines = [json.loads(line) for line in daemon.lines]
        ranked = [line for line in lines if line["msg"] == "request" and line["route"] == "/rank"]
        self.assertEqual(len(ranked) + dropped, load.answered)
        self.assertGreater(len(ranked), 100)
        self.assertEqual(len({line["request_id"] for line in ranked}), len(ranked))
        print(f"{len(ranked)} lines, {dropped:.0f} left out", end=" ")

    def test_it_cannot_be_opened(self):
        for where in (f"{self.folder}/nowhere/access.log", "fd:77"):
            done = subprocess.run([EMBSUMD, "--store", f"lmdb:{self.folder}/store", "--listen", "127.0.0.1:0", "--set",
                                   f"log.access={where}"], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn(where, done.stderr)


class Stop(unittest.TestCase):
    def test_sigterm_under_load(self):
        folder = tempfile.mkdtemp(prefix="embsum-test-api-")
        try:
            publish(f"lmdb:{folder}/store", 1)
            answered = 0
            for _ in range(5):
                daemon = Daemon(f"lmdb:{folder}/store", "server.workers=2")
                load = Load(daemon, 8, is_200)
                time.sleep(0.3 * SLOW)
                code, seconds = daemon.stop()
                load.stopping.set()
                load.join()
                self.assertEqual(code, 0)
                self.assertLess(seconds, 5 * SLOW)
                self.assertEqual((load.lost, load.wrong), ([], []))
                answered += load.answered
            self.assertGreater(answered, 100)
            print(f"{answered} answers, none lost", end=" ")
        finally:
            shutil.rmtree(folder)

    def test_signals_at_any_moment(self):
        folder = tempfile.mkdtemp(prefix="embsum-test-api-")
        try:
            publish(f"lmdb:{folder}/store", 1)
            for _ in range(10):
                daemon = Daemon(f"lmdb:{folder}/store")
                daemon.process.send_signal(signal.SIGTERM)
                daemon.process.send_signal(signal.SIGINT)
                self.assertEqual(daemon.stop()[0], 0)
        finally:
            shutil.rmtree(folder)

    def test_idle_connections_do_not_hold_it(self):
        folder = tempfile.mkdtemp(prefix="embsum-test-api-")
        try:
            publish(f"lmdb:{folder}/store", 1)
            daemon = Daemon(f"lmdb:{folder}/store")
            with Raw(daemon) as idle, Raw(daemon) as half:
                idle.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertEqual(idle.receive()[0], 200)
                half.send(b"GET /livez HTT")
                code, seconds = daemon.stop()
                self.assertEqual(code, 0)
                self.assertLess(seconds, 3 * SLOW)
        finally:
            shutil.rmtree(folder)

    def test_slow_request_is_finished(self):
        folder = tempfile.mkdtemp(prefix="embsum-test-api-")
        try:
            publish(f"lmdb:{folder}/store", 1)
            daemon = Daemon(f"lmdb:{folder}/store")
            with Raw(daemon) as raw:
                request = post(GOOD)
                raw.send(request[:-5])
                time.sleep(0.2)
                daemon.process.send_signal(signal.SIGTERM)
                time.sleep(0.5)
                raw.send(request[-5:])
                answer = raw.receive()
                self.assertEqual(answer[0], 200)
                self.assertEqual(answer[1]["connection"].lower(), "close")
            self.assertEqual(daemon.stop(ask=False)[0], 0)
        finally:
            shutil.rmtree(folder)


class Switch(Case):
    settings = ("server.workers=2", "store.poll_ms=50")

    def test_switches_under_load(self):
        contents = ["N1", "N2", "N3", "N4"]
        right = {(seed, user): right_scores(seed, f"U{user}", contents) for seed in (1, 2) for user in range(4)}
        seed_of = {self.generation: 1}

        def check(user, answer):
            if answer[0] != 200:
                return answer
            body = json.loads(answer[2])
            wanted = right[seed_of[body["generation"]], user]
            for item in body["ranking"]:
                if abs(item["score"] - wanted[item["id"]]) > 1e-5 * max(1, abs(wanted[item["id"]])):
                    return body
            return None if len(body["ranking"]) == 4 else body

        class Names(dict):  # a new name may be seen before publish() has told it
            def __missing__(self, name):
                deadline = time.monotonic() + 5
                while name not in self and time.monotonic() < deadline:
                    time.sleep(0.001)
                return dict.__getitem__(self, name)

        seed_of = Names(seed_of)
        load = Load(self.daemon, 4, check)
        for number in range(6):
            seed = 2 - number % 2
            name = publish(self.url, seed)
            seed_of[name] = seed
            start = time.monotonic()
            while json.loads(self.daemon.ask("GET", "/readyz")[2])["generation"] != name:
                self.assertLess(time.monotonic() - start, 1 * SLOW)
                time.sleep(0.01)
        load.stopping.set()
        load.join()
        self.assertEqual((load.lost, load.wrong), ([], []))
        self.assertGreater(load.answered, 100)


class Late(unittest.TestCase):
    def test_daemon_before_its_store(self):
        folder = tempfile.mkdtemp(prefix="embsum-test-api-")
        try:
            url = f"lmdb:{folder}/store"
            daemon = Daemon(url, "store.poll_ms=50")
            status, headers, _ = daemon.ask("GET", "/readyz")
            self.assertEqual((status, headers["Retry-After"]), (503, "1"))
            self.assertEqual(daemon.rank(json.loads(GOOD))[0], 503)
            self.assertEqual(daemon.ask("GET", "/livez")[0], 200)
            publish(url, 1)
            daemon.wait_for("generation live")
            self.assertEqual(daemon.rank(json.loads(GOOD))[0], 200)
            self.assertEqual(daemon.stop()[0], 0)
        finally:
            shutil.rmtree(folder)


def put_tokens(path, *tokens):
    """As an operator would: the file is whole whenever somebody looks."""
    with open(path + ".new", "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write("".join(token + "\n" for token in tokens))
    os.replace(path + ".new", path)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


class Tokens(Case):
    """Without one of them nobody is ranked for, and no output shows one."""

    OLD, NEW, ADMIN = "hunter2-old-0123456789", "hunter2-new-0123456789", "hunter2-admin-0123456789"

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="embsum-test-api-")
        cls.url = f"lmdb:{cls.folder}/store"
        cls.generation = publish(cls.url, 1)
        cls.file, cls.admin_file = f"{cls.folder}/tokens", f"{cls.folder}/admin-tokens"
        put_tokens(cls.file, cls.OLD)
        put_tokens(cls.admin_file, cls.ADMIN)
        cls.daemon = Daemon(cls.url, f"server.token_file={cls.file}", "admin.listen=127.0.0.1:0",
                            f"admin.token_file={cls.admin_file}", "store.poll_ms=60000", "log.level=debug")

    def setUp(self):
        put_tokens(self.file, self.OLD)
        self.wait_for(200, self.OLD)
        self.wait_for(401, self.NEW)

    def rank(self, headers):
        return self.daemon.ask("POST", "/rank", json.loads(GOOD), headers)

    def wait_for(self, status, token):
        deadline = time.monotonic() + 5 * SLOW
        while self.rank(bearer(token))[0] != status:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_who_may(self):
        for method, path in (("POST", "/rank"), ("GET", "/rank?user=U1&candidates=N1"), ("GET", "/users/U1"), ("GET", "/contents/N1"),
                             ("DELETE", "/rank"), ("POST", "/users/U1")):
            for headers in ({}, bearer(self.NEW), bearer(self.ADMIN), bearer(""), {"Authorization": self.OLD}):
                with self.subTest(method=method, path=path, headers=headers):
                    answer = self.daemon.ask(method, path, None, headers)
                    self.check_error(answer, 401, "unauthorized")
                    self.assertTrue(answer[1]["WWW-Authenticate"].startswith("Bearer "))
                    self.assertEqual("invalid_token" in answer[1]["WWW-Authenticate"], bool(headers))
        self.assertEqual(self.rank(bearer(self.OLD))[0], 200)
        self.assertEqual(self.daemon.ask("GET", "/rank?user=U1&candidates=N1", None, bearer(self.OLD))[0], 200)
        self.assertEqual(self.daemon.ask("GET", "/users/U1", None, bearer(self.OLD))[0], 200)
        for path in ("/livez", "/readyz", "/version", "/metrics"):
            self.assertEqual(self.daemon.ask("GET", path)[0], 200)
        self.assertGreater(self.daemon.metric('embsum_http_requests_total{route="/rank",code="401"}'), 0)

    def test_rotation_under_load(self):
        """A client that changes over while both are valid never sees a refusal."""
        token = [self.OLD]
        load = Load(self.daemon, 4, is_200, extra=lambda: f"Authorization: Bearer {token[0]}")
        for before, after in ((self.OLD, self.NEW), (self.NEW, self.OLD)):
            put_tokens(self.file, before, after)
            self.wait_for(200, after)
            token[0] = after
            time.sleep(0.2 * SLOW)  # what was sent with the one before is answered
            put_tokens(self.file, after)
            self.wait_for(401, before)
        load.stopping.set()
        load.join()
        self.assertEqual((load.lost, load.wrong), ([], []))
        self.assertGreater(load.answered, 100)

    def test_broken_file(self):
        os.chmod(self.file, 0o644)
        self.daemon.wait_for_while("tokens cannot be read: the ones before stay valid",
                                   lambda: self.assertEqual(self.rank(bearer(self.OLD))[0], 200))
        self.assertEqual(self.rank(bearer(self.NEW))[0], 401)
        os.chmod(self.file, 0o600)
        self.daemon.wait_for_while("tokens read", lambda: self.assertEqual(self.rank(bearer(self.OLD))[0], 200))

    def test_admin(self):
        admin = self.daemon.admin
        for headers in ({}, bearer(self.OLD), bearer("x" * 20)):
            for method, path in (("GET", "/generations"), ("POST", "/generations/reload")):
                self.check_error(self.daemon.ask(method, path, None, headers, admin), 401, "unauthorized")
        self.check_error(self.daemon.ask("GET", "/generations/reload", None, bearer(self.ADMIN), admin), 405,
                         "method_not_allowed")
        for path in ("/rank", "/", "/metrics", "/generations/x"):  # what is on one listener is not on the other
            self.check_error(self.daemon.ask("GET", path, None, bearer(self.ADMIN), admin), 404, "not_found")
        for path in ("/generations", "/generations/reload"):
            self.check_error(self.daemon.ask("GET", path, None, bearer(self.OLD)), 404, "not_found")

        def generations():
            status, _, text = self.daemon.ask("GET", "/generations", None, bearer(self.ADMIN), admin)
            self.assertEqual(status, 200)
            return json.loads(text)
        before = generations()
        self.assertEqual((before["in_memory"], before["refused"]), (self.generation, None))
        self.assertIn({"generation": self.generation, "state": "live"}, before["stored"])
        name = publish(self.url, 2)
        self.assertEqual(generations()["in_memory"], self.generation)  # store.poll_ms is a minute
        status, _, text = self.daemon.ask("POST", "/generations/reload", None, bearer(self.ADMIN), admin)
        self.assertEqual((status, json.loads(text)), (200, {"status": "looking"}))
        deadline = time.monotonic() + 10 * SLOW
        while generations()["in_memory"] != name:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.assertIn({"generation": self.generation, "state": "retired"}, generations()["stored"])
        type(self).generation = name

    def test_nothing_shows_a_secret(self):
        for token in (self.OLD, self.NEW, self.ADMIN):
            self.rank({**bearer(token), "X-Request-Id": "shown"})
            self.daemon.ask("GET", "/users/" + token, None, {"Authorization": token})
            self.daemon.ask("GET", "/nothing", None, bearer(token), self.daemon.admin)
            with Raw(self.daemon) as raw:
                raw.send(f"GET /livez HTTP/1.1\r\nHost: x y\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
                raw.receive()
        with open(f"/proc/{self.daemon.process.pid}/cmdline") as file:
            shown = file.read()
        with open(f"/proc/{self.daemon.process.pid}/environ") as file:
            shown += file.read()
        shown += self.daemon.ask("GET", "/metrics")[2].decode() + "".join(self.daemon.lines)
        self.assertIn("server.token_file", shown)  # the search would find something
        self.assertNotIn("hunter2", shown)

    def test_start(self):
        """What is not closed does not start, and says why."""
        rows = [
            ("server.listen", ["--listen", "0.0.0.0:0"]),
            ("server.token_file", ["--set", "server.token_file=/nonexistent/tokens"]),
            ("open to everybody", ["--set", f"server.token_file={self.folder}/open"]),
            ("is no token", ["--set", f"admin.token_file={self.folder}/short"]),
            ("admin.listen", ["--set", "admin.listen=[::]:0", "--set", "server.allow_anonymous=true"]),
        ]
        put_tokens(f"{self.folder}/open", self.OLD)
        os.chmod(f"{self.folder}/open", 0o644)
        put_tokens(f"{self.folder}/short", "hunter2")
        for words, arguments in rows:
            with self.subTest(words=words):
                done = subprocess.run([EMBSUMD, "--store", self.url, "--listen", "127.0.0.1:0", *arguments],
                                      capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(words, done.stderr)
                self.assertNotIn("hunter2", done.stderr)


class Proxy:
    """Between the daemon and its Redis: when told to, it swallows requests that hold certain bytes, ends the
    connection of the first one that does, or answers itself."""

    def __init__(self, path, target):
        self.target, self.swallow, self.cut, self.reply, self.requests = target, None, None, None, 0
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            upstream = socket.socket(socket.AF_UNIX)
            try:
                upstream.connect(self.target)
            except OSError:
                client.close()
                upstream.close()
                continue
            for source, sink, filtered in ((client, upstream, True), (upstream, client, False)):
                threading.Thread(target=self.copy, args=(source, sink, filtered), daemon=True).start()

    def copy(self, source, sink, filtered):
        try:
            while (data := source.recv(65536)):
                self.requests += filtered
                if filtered and self.cut and self.cut in data:
                    self.cut = None
                    break
                if filtered and self.reply:
                    source.sendall(self.reply)
                elif not (filtered and self.swallow and self.swallow in data):
                    sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):  # the other thread's recv ends with it
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        source.close()

    def close(self):
        self.server.close()


class Redis(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="embsum-test-api-")
        cls.path = f"{cls.folder}/redis.sock"
        cls.url = f"redis+unix:{cls.path}"
        cls.addClassCleanup(cls.end_redis)
        cls.start_redis()
        cls.generation = publish(cls.url, 1)
        cls.proxy = Proxy(f"{cls.folder}/proxy.sock", cls.path)
        cls.daemon = Daemon(f"redis+unix:{cls.folder}/proxy.sock", "store.poll_ms=50", "server.workers=2")

    @classmethod
    def start_redis(cls):
        cls.redis = subprocess.Popen(
            ["/usr/bin/redis-server", "--port", "0", "--unixsocket", cls.path, "--dir", cls.folder, "--save", "",
             "--appendonly", "yes"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.settimeout(5)
                    probe.connect(cls.path)
                    probe.sendall(b"PING\r\n")
                    if probe.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    @classmethod
    def end_redis(cls):
        cls.redis.terminate()
        cls.redis.wait(10)

    @classmethod
    def tearDownClass(cls):
        cls.proxy.close()
        super().tearDownClass()

    def wait_until(self, condition):
        deadline = time.monotonic() + 10 * SLOW
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_rank(self):
        contents = [f"N{i}" for i in range(300)]
        status, answer = self.daemon.rank({"user": "U3", "candidates": contents})
        self.assertEqual(status, 200)
        self.check_ranking(answer["ranking"], 1, "U3", contents)
        status, answer = self.daemon.rank({"user": "U3", "top_k": 300})
        self.check_ranking(answer["ranking"], 1, "U3", contents)

    def run_redis(self, command):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(self.path)
            client.sendall(command.encode() + b"\r\n")
            self.assertNotEqual(client.recv(64)[:1], b"-", command)

    def test_content_of_category_goes(self):
        def ranked():
            status, answer = self.daemon.rank({"user": "U3", "category": "topic 5", "top_k": 300})
            self.assertEqual(status, 200)
            return answer

        def change(command):
            self.run_redis(command)
            self.run_redis(f"XADD {{embsum}}:{self.generation}:changes * c N12")

        contents = [f"N{i}" for i in range(5, 300, 7)]
        key = f"embsum:{self.generation}:c:N12"
        self.check_ranking(ranked()["ranking"], 1, "U3", contents)
        change(f"RENAME {key} aside")
        others = [content for content in contents if content != "N12"]
        self.wait_until(lambda: len(ranked()["ranking"]) == len(others) and ranked()["missing_count"] == 0)
        self.check_ranking(ranked()["ranking"], 1, "U3", others)
        change(f"RENAME aside {key}")
        self.wait_until(lambda: len(ranked()["ranking"]) == len(contents))
        self.check_ranking(ranked()["ranking"], 1, "U3", contents)

    def test_missed_changes(self):
        def loads():
            return self.daemon.metric("embsum_generation_loads_total")

        def count():
            return len(self.daemon.rank({"user": "U3", "top_k": 300})[1]["ranking"])

        stream = f"{{embsum}}:{self.generation}:changes"
        key = f"embsum:{self.generation}:c:N30"
        followed = self.daemon.metric("embsum_generation_changes_total")
        self.run_redis(f"XADD {stream} * c N31")
        self.wait_until(lambda: self.daemon.metric("embsum_generation_changes_total") > followed)
        before = loads()
        # One step: the change is trimmed before the daemon can read it. The manifest says that one may be missing.
        self.run_redis(f'''EVAL "local m = string.gsub(redis.call('GET', KEYS[4]), '}}$', ', \\"contents_least\\": 299}}') '''
                       f'''redis.call('SET', KEYS[4], m) '''
                       f'''redis.call('RENAME', KEYS[2], KEYS[3]) redis.call('XADD', KEYS[1], '*', 'c', 'N30') '''
                       f'''redis.call('XADD', KEYS[1], '*', 'c', 'N31') return redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)" '''
                       f'''4 {stream} {key} aside embsum:{self.generation}:manifest''')
        self.wait_until(lambda: loads() == before + 1)
        self.assertEqual(count(), 299)
        self.run_redis(f"RENAME aside {key}")
        self.run_redis(f"XADD {stream} * c N30")
        self.wait_until(lambda: count() == 300)
        self.assertEqual(loads(), before + 1)

    def test_contents_unavailable(self):
        self.assertEqual(self.daemon.rank({"user": "U1", "candidates": ["N1", "N2"]})[0], 200)
        self.proxy.swallow = b":c:"
        try:
            status, answer = self.daemon.rank({"user": "U1", "candidates": ["N1", "never-seen", "N2"]})
        finally:
            self.proxy.swallow = None
        self.assertEqual(status, 200)
        self.assertEqual(answer["degraded"], ["store_unavailable"])
        self.assertEqual(answer["missing"], [{"id": "never-seen", "reason": "unavailable"}])
        self.check_ranking(answer["ranking"], 1, "U1", ["N1", "N2"])
        self.wait_until(lambda: "degraded" not in self.daemon.rank({"user": "U1", "candidates": ["never-seen"]})[1])

    def test_one_reader_fails(self):
        """What it had asked for cannot be known; the rest is read by the others."""
        for number in range(4):
            settled = {"user": "U1", "candidates": [f"before-{number}"]}
            self.wait_until(lambda: "degraded" not in self.daemon.rank(settled)[1])
        errors = self.daemon.metric('embsum_store_errors_total{kind="io"}')
        self.proxy.cut = b":c:cut"
        status, answer = self.daemon.rank({"user": "U1", "candidates": [f"cut-{i}" for i in range(600)]})
        reasons = [missing["reason"] for missing in answer["missing"]]
        self.assertEqual((status, len(reasons), self.proxy.cut), (200, 600, None))
        self.assertEqual(reasons.count("not_found") + reasons.count("unavailable"), 600)
        self.assertLessEqual(reasons.count("unavailable"), 64)  # two shares of 32 are under way at most
        self.assertEqual(self.daemon.metric('embsum_store_errors_total{kind="io"}'), errors + 1)

    def test_others_go_on_while_one_waits(self):
        """The HTTP library puts a request that waits for the store aside; the busy connections beside it must not
        starve, nor it beside them."""
        held = [Raw(self.daemon) for _ in range(100)]
        waited = []
        # A connection that failed in another test is not tried again for a moment, and says so without waiting.
        for number in range(4):  # the readers take turns
            settled = {"user": "U1", "candidates": [f"settled-{number}"]}
            self.wait_until(lambda: "degraded" not in self.daemon.rank(settled)[1])

        def wait_for_store():
            start = time.monotonic()
            status, answer = self.daemon.rank({"user": "U1", "candidates": ["N1", "beside-a-hundred"]})
            waited.append((status, answer["missing"], time.monotonic() - start))
        self.proxy.swallow = b":c:"
        try:
            thread = threading.Thread(target=wait_for_store)
            thread.start()
            slowest, meanwhile = 0, 0
            while thread.is_alive():
                start = time.monotonic()
                for raw in held:
                    raw.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                for raw in held:
                    self.assertEqual(raw.receive()[0], 200)
                    meanwhile += thread.is_alive()
                slowest = max(slowest, time.monotonic() - start)
            thread.join()
        finally:
            self.proxy.swallow = None
        for raw in held:
            raw.close()
        self.assertEqual(waited[0][:2], (200, [{"id": "beside-a-hundred", "reason": "unavailable"}]))
        self.assertLess(waited[0][2], 2 * SLOW)  # store.command_timeout_ms is 200
        self.assertLess(slowest, 1 * SLOW)
        self.assertGreaterEqual(meanwhile, 50)

    def test_users_unavailable(self):
        unknown = {"user": "somebody", "candidates": ["N1"]}
        self.proxy.swallow = b":u:"
        try:
            status, headers, text = self.daemon.ask("POST", "/rank", unknown)
            self.assertEqual(self.daemon.rank(json.loads(GOOD))[0], 200)  # in memory
        finally:
            self.proxy.swallow = None
        self.check_error((status, headers, text), 503, "unavailable")
        self.assertEqual(headers["Retry-After"], "1")
        self.wait_until(lambda: self.daemon.rank(unknown)[0] == 200)

    def test_outage(self):
        """Who is in memory is ranked all the same; the others get 503, and are back with the store."""
        unknown = {"user": "somebody-else", "candidates": ["N1"]}
        self.redis.kill()
        self.redis.wait(10)
        self.assertEqual(self.daemon.rank(unknown)[0], 503)
        status, answer = self.daemon.rank({"user": "U2", "candidates": ["N1", "N2"]})
        self.assertEqual(status, 200)
        self.check_ranking(answer["ranking"], 1, "U2", ["N1", "N2"])
        self.assertEqual(self.daemon.ask("GET", "/readyz")[0], 200)  # a verified generation is in memory
        self.assertEqual(self.daemon.ask("GET", "/livez")[0], 200)
        type(self).start_redis()
        self.wait_until(lambda: self.daemon.rank(unknown)[0] == 200)
        self.assertGreater(self.daemon.metric('embsum_store_errors_total{kind="io"}') +
                           self.daemon.metric('embsum_store_errors_total{kind="connect"}'), 0)


    # ---- the breaker, and deadlines ----

    def is_open(self):
        return self.daemon.metric("embsum_store_breaker_open") == 1

    def ask_unknown(self):
        """For somebody whom neither memory nor the store knows; seconds, status."""
        type(self).strangers += 1
        start = time.monotonic()
        status, _ = self.daemon.rank({"user": f"stranger-{self.strangers}", "candidates": ["N1"]})
        return time.monotonic() - start, status

    strangers = 0

    def open_breaker(self):
        def fail():
            self.assertEqual(self.ask_unknown()[1], 503)
            return self.is_open()
        self.wait_until(fail)

    def close_breaker(self):
        """It closes by itself, and within two seconds."""
        start = time.monotonic()
        self.wait_until(lambda: not self.is_open())
        self.assertLess(time.monotonic() - start, 2 * SLOW)
        self.wait_until(lambda: self.ask_unknown()[1] == 200)
        self.assertLess(time.monotonic() - start, 2 * SLOW)

    def check_hot(self, degraded):
        status, answer = self.daemon.rank({"user": "U4", "candidates": ["N1", "N2", "N3"]})
        self.assertEqual(status, 200)
        self.assertEqual(answer.get("degraded"), ["store_unavailable"] if degraded else None)
        self.check_ranking(answer["ranking"], 1, "U4", ["N1", "N2", "N3"])
        status, titled = self.daemon.rank({"user": "U4", "candidates": ["N1", "N2", "N3"], "titles": True})
        titles = {item["id"]: item.pop("title", None) for item in titled["ranking"]}
        self.assertEqual((status, titled), (200, answer))
        self.assertEqual(titles, {"N1": None if degraded else title(1), "N2": None, "N3": None if degraded else title(3)})

    def test_refusals(self):
        """What a Redis may say in place of an answer is no "not found", opens the breaker, and is counted by its kind."""
        for kind, reply in (("loading", "LOADING Redis is loading the dataset in memory"),
                            ("noauth", "NOAUTH Authentication required."),
                            ("readonly", "READONLY You can't write against a read only replica."),
                            ("oom", "OOM command not allowed when used memory > 'maxmemory'."),
                            ("misconf", "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to"),
                            ("other", "ERR something else"), ("io", None), ("timeout", "")):
            with self.subTest(kind=kind):
                self.wait_until(lambda: self.ask_unknown()[1] == 200)
                self.check_hot(False)
                lines = len(self.daemon.lines)
                name = f'embsum_store_errors_total{{kind="{kind}"}}'
                before = self.daemon.metric(name)
                if kind == "io":
                    self.end_redis()
                elif kind == "timeout":
                    self.proxy.swallow = b"\r"
                else:
                    self.proxy.reply = f"-{reply}\r\n".encode()
                try:
                    self.open_breaker()
                    self.check_hot(True)
                    status, answer = self.daemon.rank({"user": "U4", "candidates": ["N1", f"no-{kind}"]})
                    self.assertEqual((status, answer["missing"]), (200, [{"id": f"no-{kind}", "reason": "unavailable"}]))
                    self.assertEqual(self.daemon.ask("GET", "/users/U1")[0], 503)
                    self.assertEqual(self.daemon.ask("GET", "/contents/N1")[0], 503)
                    self.assertEqual(self.daemon.ask("GET", "/readyz")[0], 200)
                    self.assertGreater(self.daemon.metric(name), before)
                finally:
                    self.proxy.reply = self.proxy.swallow = None
                    if kind == "io":
                        type(self).start_redis()
                self.close_breaker()
                self.check_hot(False)
                states = [json.loads(line)["msg"] for line in self.daemon.lines[lines:] if "store breaker" in line]
                self.assertEqual(states, ["store breaker opened", "store breaker closed"])

    def test_open_breaker_asks_once_a_second(self):
        self.wait_until(lambda: self.ask_unknown()[1] == 200)
        self.proxy.swallow = b"\r"
        try:
            self.open_breaker()
            time.sleep(0.5 * SLOW)  # what was on its way
            before, times = self.proxy.requests, []
            end = time.monotonic() + 3
            while time.monotonic() < end:
                seconds, status = self.ask_unknown()
                times.append(seconds)
                self.assertEqual(status, 503)
            probes = self.proxy.requests - before
        finally:
            self.proxy.swallow = None
        self.assertGreaterEqual(probes, 2)
        self.assertLessEqual(probes, 3)
        self.assertGreater(len(times), 30)
        self.assertLess(sorted(times)[len(times) // 2], 0.05 * SLOW)  # but for the probes nobody waits
        self.close_breaker()

    @unittest.skipIf(SLOW > 4, "30 ms are too few under valgrind")
    def test_deadline(self):
        """A store that hangs keeps nobody for longer than the request may take; what it says later harms nobody."""
        self.wait_until(lambda: self.ask_unknown()[1] == 200)
        self.check_hot(False)
        for number in range(3):
            self.redis.send_signal(signal.SIGSTOP)
            try:
                for timeout_ms, user, wanted in ((60, "U4", 200), (60, f"slow-{number}", 503), (30, "U4", 200)):
                    missing = [f"late-{number}-{timeout_ms}-{i}" for i in range(50)]
                    start = time.monotonic()
                    status, _, text = self.daemon.ask("POST", "/rank", {"user": user, "candidates": ["N1", *missing]},
                                                      {"X-Timeout-Ms": str(timeout_ms)})
                    seconds = time.monotonic() - start
                    self.assertEqual(status, wanted)
                    self.assertLess(seconds, timeout_ms / 1e3 + 0.1 * SLOW)  # 20 ms on a machine that is ours
                    if status == 200:
                        answer = json.loads(text)
                        self.assertEqual(answer["degraded"], ["store_unavailable"])
                        self.assertEqual(answer["missing"], [{"id": i, "reason": "unavailable"} for i in missing])
                        self.check_ranking(answer["ranking"], 1, "U4", ["N1"])
                    if number == 0:  # it was the deadline, not the breaker
                        self.assertGreaterEqual(seconds, timeout_ms / 1e3 - 0.001)
            finally:
                self.redis.send_signal(signal.SIGCONT)
            self.close_breaker()
            self.check_hot(False)


    def test_deadline_of_many_windows(self):
        """Thousands of candidates, none of the first thousand in memory: time is left for those that are."""
        self.wait_until(lambda: self.ask_unknown()[1] == 200)
        hot = [f"N{i}" for i in range(300)]
        self.assertEqual(self.daemon.rank({"user": "U4", "candidates": hot})[1]["missing"], [])
        missing = [f"window-{i}" for i in range(3000)]
        self.redis.send_signal(signal.SIGSTOP)
        try:
            start = time.monotonic()
            status, _, text = self.daemon.ask("POST", "/rank", {"user": "U4", "candidates": missing + hot},
                                              {"X-Timeout-Ms": "120"})
            seconds = time.monotonic() - start
        finally:
            self.redis.send_signal(signal.SIGCONT)
        self.assertEqual(status, 200, text)
        self.assertLess(seconds, 0.12 + 0.1 * SLOW)
        answer = json.loads(text)
        self.assertEqual(answer["degraded"], ["store_unavailable"])
        self.assertEqual([m["id"] for m in answer["missing"]], missing)
        self.check_ranking(answer["ranking"], 1, "U4", hot)
        self.close_breaker()


class RedisByName(unittest.TestCase):
    def test_connecting_again(self):
        """A name is looked up, and a connection made, when the sandbox is closed."""
        try:
            socket.getaddrinfo("localhost", 1)
        except OSError:
            self.skipTest("this machine knows no name, not even localhost")
        folder = tempfile.mkdtemp(prefix="embsum-test-api-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        def start():
            redis = subprocess.Popen(["/usr/bin/redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder,
                                      "--save", "", "--appendonly", "yes"], stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 10 * SLOW
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    return redis
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
        redis = start()
        try:
            url = f"redis://localhost:{port}/0"
            publish(url, 1)
            patient = [f"store.{key}_timeout_ms={200 * SLOW}" for key in ("connect", "command")]
            daemon = Daemon(url, "store.poll_ms=50", "memory.preload=false", f"rank.deadline_ms={1000 * SLOW}", *patient)
            self.assertEqual(daemon.rank(json.loads(GOOD))[0], 200)
            redis.kill()
            redis.wait(10)
            unknown = {"user": "somebody-else", "candidates": ["N1"]}
            self.assertEqual(daemon.rank(unknown)[0], 503)
            redis = start()
            deadline = time.monotonic() + 10 * SLOW
            while daemon.rank(unknown)[0] != 200:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)
            self.assertEqual(daemon.stop()[0], 0)
        finally:
            redis.kill()
            redis.wait(10)
            shutil.rmtree(folder)


class CommandLine(unittest.TestCase):
    def run_daemon(self, *arguments, env=()):
        return subprocess.run([EMBSUMD, *arguments], capture_output=True, text=True, timeout=60,
                              env={**os.environ, **dict(env)})

    def test_information(self):
        shown = self.run_daemon("--help")
        self.assertEqual(shown.returncode, 0)
        for option in ("--config FILE", "--store URL", "--listen ADDR:PORT", "--set KEY=VALUE", "--help", "--version"):
            self.assertIn(option, shown.stdout)
        self.assertRegex(self.run_daemon("--version").stdout, r"^embsumd \d+\.\d+\.\d+\n$")

    def test_order_of_sources(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"rank": {"users_max": 7, "candidates_max": 70}, "server": {"workers": 3}}, file)
            file.flush()
            printed = self.run_daemon("--config", file.name, "--set", "rank.users_max=9", "--listen=[::1]:0",
                                      "--print-config", env={"EMBSUM_RANK_USERS_MAX": "8", "EMBSUM_SERVER_WORKERS": "4"})
            self.assertEqual(printed.returncode, 0, printed.stderr)
            config = json.loads(printed.stdout)
            self.assertEqual((config["rank"]["users_max"], config["rank"]["candidates_max"]), (9, 70))
            self.assertEqual((config["server"]["workers"], config["server"]["listen"]), (4, "[::1]:0"))
        with tempfile.NamedTemporaryFile("w", suffix=".json") as again:
            again.write(printed.stdout)
            again.flush()
            self.assertEqual(self.run_daemon("--config", again.name, "--print-config").stdout, printed.stdout)

    def test_mistakes(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file, socket.socket() as taken:
            file.write('{"rank": {"users": 1}}')
            file.flush()
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            rows = [
                (2, "--nonsense", ["--nonsense"]),
                (2, "needs FILE", ["--config"]),
                (2, "takes no argument", ["--help=1"]),
                (2, "server.nothing", ["--set", "server.nothing=1"]),
                (2, "KEY=VALUE", ["--set", "server.workers"]),
                (2, "server.listen", ["--listen", "nowhere"]),
                (1, '"users" in rank', ["--config", file.name]),
                (1, "No such file", ["--config", "/nonexistent/embsum.json"]),
                (1, "scheme", ["--store", "ftp://x", "--listen", "127.0.0.1:0"]),
                (1, "scoring.kernel: no kernel", ["--set", "scoring.kernel=avx512-vnni", "--store", "lmdb:/nonexistent/x"]),
                (1, "in use", ["--store", "lmdb:/nonexistent/embsum", "--listen", f"127.0.0.1:{port}"]),
            ]
            for code, words, arguments in rows:
                with self.subTest(arguments=arguments):
                    done = self.run_daemon(*arguments)
                    self.assertEqual(done.returncode, code, done.stderr)
                    self.assertIn(words, done.stderr)

    def test_secrets_are_not_logged(self):
        done = self.run_daemon("--store", "redis://someone:hunter2@127.0.0.1:1/0", "--listen", "127.0.0.1:0")
        self.assertEqual(done.returncode, 1)
        self.assertIn("password", done.stderr)
        daemon = Daemon("redis://someone@127.0.0.1:1/0", env={"EMBSUM_STORE_PASSWORD": "hunter2"})
        self.assertEqual(daemon.ask("GET", "/readyz")[0], 503)
        self.assertNotIn(b"hunter2", daemon.ask("GET", "/metrics")[2])
        self.assertEqual(daemon.stop()[0], 0)
        self.assertNotIn("hunter2", done.stderr + "".join(daemon.lines))


if __name__ == "__main__":
    unittest.main()
