"""clients/python/embsum_client.py against embsumd on the demo's data, through restarts, and against servers that are slow, busy
or broken in known ways.

Started by test_python.sh. Everything is on 127.0.0.1 and ends with this program.
"""
import contextlib
import io
import json
import pathlib
import re
import socket
import sys
import textwrap
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent.parent / "clients/python")]
import demo  # noqa: E402
import embsum_client as embsum  # noqa: E402

TOKEN = "example-token-0123456789"
IDS = ["N1183", "N1149", "N1014"]


def client_of(daemon, **options):
    return embsum.Client("http://{}:{}".format(*daemon.address), **{"timeout": 5.0 * demo.SLOW, **options})


def wait_until_ready(daemon):
    with client_of(daemon) as client:
        for _ in range(400 * demo.SLOW):
            if client.ready():
                return
            time.sleep(0.02)
    raise AssertionError("the daemon does not get ready")


def setUpModule():
    World.world = demo.World().__enter__()


def tearDownModule():
    World.world.__exit__()


class World(unittest.TestCase):
    """A daemon on the demo's data."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = cls.world.daemon()
        wait_until_ready(cls.daemon)

    def setUp(self):
        self.client = client_of(self.daemon)
        self.addCleanup(self.client.close)


class Calls(World):
    def test_rank(self):
        ranking = self.client.rank("U35", [*IDS, "N7"], top_k=2, request_id="mine-1")
        self.assertEqual([(item.id, type(item.score)) for item in ranking.items], [("N1014", float), ("N1149", float)])
        self.assertGreater(ranking.items[0].score, ranking.items[1].score)
        self.assertEqual(ranking.missing, (embsum.Missing("N7", "not_found"),))
        self.assertEqual((ranking.user, ranking.user_status, ranking.missing_count, ranking.degraded, ranking.request_id),
                         ("U35", "present", 1, (), "mine-1"))
        self.assertRegex(ranking.generation, r"^\d{8}T\d{6}Z-[0-9a-f]{8}$")
        self.assertEqual(self.client.rank("somebody-new", IDS).user_status, "default")
        self.assertEqual(self.client.rank("U35", []).items, ())

    def test_users(self):
        rankings = self.client.rank_users(["U35", "U20"], [*IDS, "N7"])
        self.assertEqual([r.user for r in rankings.results], ["U35", "U20"])
        self.assertEqual(rankings.missing, (embsum.Missing("N7", "not_found"),))
        for result in rankings.results:
            alone = self.client.rank(result.user, [*IDS, "N7"])
            self.assertEqual((result.items, result.missing), (alone.items, alone.missing))

    def test_catalogue(self):
        best = self.client.rank("U35", category="space", top_k=3)
        rest = self.client.rank("U35", category="space", exclude=[best.items[0].id], top_k=2)
        self.assertEqual(rest.items, best.items[1:])
        self.assertEqual((best.missing, best.missing_count), ((), 0))
        self.assertEqual(len(self.client.rank("U35", top_k=288).items), 288)

    def test_explain(self):
        item = self.client.rank("U35", ["N1014"], explain=True).items[0]
        self.assertEqual((len(item.weights), len(item.weights[0]), len(item.top_pairs)), (16, 4, 5))
        summed = sum(w * s for pair in zip(item.weights, item.similarities) for w, s in zip(*pair))
        self.assertAlmostEqual(summed, item.score, delta=1e-4)
        top = item.top_pairs[0]
        self.assertEqual(item.weights[top.user_code][top.content_code], top.weight)
        self.assertIsNone(self.client.rank("U35", ["N1014"]).items[0].weights)

    def test_words(self):
        """Titles; and in a generation that explains, what a code is about."""
        self.assertEqual(self.client.rank("U35", ["N1014"], titles=True).items[0].title,
                         "Next Moon orbiter will carry a seed bank and a very small violin")
        self.assertIsNone(self.client.rank("U35", ["N1014"]).items[0].title)
        self.assertEqual(self.client.rank_users(["U35"], ["N1014"], explain=True).results[0].items[0].top_pairs[0].items, ())
        url = f"lmdb:{self.world.folder}/explained"
        self.world.refresh(url, "--explain")
        daemon = self.world.daemon(url=url)
        wait_until_ready(daemon)
        with client_of(daemon) as client:
            pair = client.rank("U35", ["N1014"], explain=True).items[0].top_pairs[0]
        self.assertEqual((len(pair.items), len(pair.tokens)), (3, 5))
        self.assertGreaterEqual(pair.items[0].weight, pair.items[1].weight)
        self.assertTrue(all(item.id == "" or item.title for item in pair.items))

    def test_contents(self):
        content = self.client.content("N1014")
        self.assertEqual((content.content, content.categories, content.n), ("N1014", ("space",), 4))
        with self.assertRaises(embsum.NotFound):
            self.client.content("a/b")
        self.assertEqual(self.client.hot("user", "U35"), ["U35"])
        self.assertEqual(len(self.client.hot("content", limit=7)), 7)
        self.assertEqual(self.client.hot("content", "a&b=c"), [])
        with self.assertRaises(embsum.AnswerError):
            self.client.hot("title")

    def test_pages(self):
        user = self.client.user("U35")
        self.assertEqual((user.user, user.user_status, user.m, user.n), ("U35", "present", 16, 4))
        self.assertTrue(user.summary)
        self.assertEqual(self.client.version().name, "embsumd")
        self.assertIs(self.client.ready(), True)
        self.assertIn("\nembsum_ready 1\n", self.client.metrics())
        self.assertEqual(self.client.openapi()["openapi"], "3.1.0")

    def test_ids(self):
        """Whatever an id may hold arrives as it is."""
        for name in ("a/b", "a?b=c&d", "100%", "a+b", "\u00e9\u4e2d\U0001f600", '"quoted\\', "..", "#x"):
            self.assertEqual(self.client.rank(name, [name]).missing, (embsum.Missing(name, "not_found"),))
            with self.assertRaises(embsum.NotFound) as caught:
                self.client.user(name)
            self.assertEqual(caught.exception.code, "not_found")

    def test_errors(self):
        with self.assertRaises(embsum.AnswerError) as caught:
            self.client.rank("two words", IDS, request_id="mine-2")
        error = caught.exception
        self.assertEqual((error.status, error.code, error.request_id), (400, "bad_request", "mine-2"))
        self.assertIn("user: an id holds", error.message)
        self.assertIn("mine-2", str(error))
        with self.assertRaises(embsum.NotFound):
            self.client.rank("U35", category="astrology", top_k=3)
        with self.assertRaises(TypeError):
            self.client.rank("U35", "N1014")
        with self.assertRaises(ValueError):
            self.client.rank("U35", IDS, request_id="a\r\nX-Evil: 1")
        self.assertEqual(self.client.rank("U35", IDS).user, "U35")
        for url in ("127.0.0.1:8080", "ftp://x", "http://", "http://x?y", "http://me@x"):
            with self.assertRaises(ValueError):
                embsum.Client(url)

    def test_readme(self):
        """Its code, and what it says that this prints."""
        text = (HERE.parent.parent / "clients/README.md").read_text()
        code, shown = (textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.M)[-2:])
        printed, names = io.StringIO(), {}
        with contextlib.redirect_stdout(printed):
            exec(code.replace("127.0.0.1:8080", "{}:{}".format(*self.daemon.address)).replace("0.5", "5.0"), names)
        names["client"].close()
        self.assertEqual(printed.getvalue().strip(), shown.strip())

    def test_threads(self):
        """Each caller gets its own answer, on connections that are kept."""
        users, wrong = [f"U{i}" for i in range(1, 9)], []
        right = {user: self.client.rank(user, IDS).items for user in users}

        def go(user):
            for _ in range(40):
                ranking = self.client.rank(user, IDS)
                if ranking.user != user or ranking.items != right[user]:
                    wrong.append(ranking)
        threads = [threading.Thread(target=go, args=(user,)) for user in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        self.assertTrue(1 <= len(self.client._pool.idle) <= 9)


class Tokens(World):
    def test_tokens(self):
        daemon = self.world.daemon(f"server.token_file={self.world.file('tokens', TOKEN)}")
        wait_until_ready(daemon)
        turns = iter(["wrong-token-0123456789", TOKEN])
        for client in (client_of(daemon), client_of(daemon, token=lambda: next(turns))):
            with self.assertRaises(embsum.Unauthorized) as caught:
                client.rank("U35", IDS)
            self.assertEqual(caught.exception.code, "unauthorized")
        self.assertEqual(client.rank("U35", IDS).user, "U35")  # the function's next one
        self.assertEqual(client_of(daemon, token=TOKEN).user("U35").user, "U35")

    def test_not_ready(self):
        daemon = self.world.daemon(url=f"lmdb:{self.world.folder}/empty")
        with client_of(daemon, timeout=0.5 * demo.SLOW) as client:
            self.assertIs(client.ready(), False)
            start = time.monotonic()
            with self.assertRaises(embsum.Unavailable) as caught:
                client.rank("U35", IDS)
            self.assertEqual((caught.exception.code, caught.exception.retry_after), ("unavailable", 1.0))
            if demo.SLOW == 1:
                self.assertLess(time.monotonic() - start, 0.4)  # a second's pause would have ended too late


class Restarts(World):
    def test_restart(self):
        self.client.rank("U35", IDS)
        self.assertEqual(len(self.client._pool.idle), 1)
        self.assertEqual(self.daemon.stop(), 0)
        impatient = client_of(self.daemon, retries=0)
        with self.assertRaises(embsum.ConnectionFailed):
            impatient.rank("U35", IDS)
        self.daemon.restart()
        wait_until_ready(self.daemon)
        self.assertEqual(self.client.rank("U35", IDS, retries=0).user, "U35")  # the connection kept is noticed to be gone

    def test_under_load(self):
        """A daemon that ends and comes back: every call is answered, and only those that found nobody there had to wait."""
        stopping, failed, answered = threading.Event(), [], []

        def go():
            client = client_of(self.daemon, retries=50, timeout=15 * demo.SLOW)
            client._budget.spend = lambda: True
            while not stopping.is_set():
                try:
                    answered.append(client.rank("U35", IDS).items[0].id)
                except embsum.EmbsumError as error:
                    failed.append(error)
                time.sleep(0.002)
            client.close()
        threads = [threading.Thread(target=go) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                before = len(answered)
                self.daemon.stop()
                time.sleep(0.1)
                self.daemon.restart()
                wait_until_ready(self.daemon)
                deadline = time.monotonic() + 10 * demo.SLOW
                while len(answered) < before + 20 and time.monotonic() < deadline:
                    time.sleep(0.01)
        finally:
            stopping.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failed, [])
        self.assertGreater(len(answered), 40)


# ---- servers that misbehave ----

OK = b'{"status":"ready","generation":"g"}'


def answer(status, body=b"{}", *headers):
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def error(status, code, *headers):
    return answer(status, json.dumps({"error": {"code": code, "message": "m", "request_id": "r"}}).encode(), *headers)


class Server:
    """Answers request after request with the next of the given: bytes, sent as they are; a number, slept; None: the connection
    is closed. The last is given again and again."""

    def __init__(self, *script):
        self.script, self.heads, self.connections, self.lock = list(script), [], 0, threading.Lock()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        file = connection.makefile("rb")
        try:
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = file.readline()
                    if not line:
                        return
                    head += line
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                file.read(int(length[0].split(b":")[1]) if length else 0)
                with self.lock:
                    self.heads.append(head.decode())
                    steps = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                for step in steps if isinstance(steps, list) else [steps]:
                    if step is None:
                        return
                    if isinstance(step, bytes):
                        connection.sendall(step)
                    else:
                        time.sleep(step)
        except OSError:
            pass
        finally:
            file.close()
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def drip(data, pause):
    return [step for byte in data for step in (bytes([byte]), pause)]


class Servers(unittest.TestCase):
    def ask(self, server, **options):
        client = embsum.Client(server.url, **{"timeout": 5.0, "backoff": 0.01, **options})
        self.addCleanup(client.close)
        return client

    def expect(self, kind, server, requests, **options):
        with self.assertRaises(kind) as caught:
            self.ask(server, **options).version()
        self.assertEqual(len(server.heads), requests)
        return caught.exception

    GOOD = answer(200, b'{"name":"embsumd","version":"1.2.3","dtype":"int8","kernel":null,"later":[1]}')

    def test_connections_are_kept(self):
        with Server(self.GOOD) as server:
            client = self.ask(server)
            for _ in range(5):
                self.assertEqual(client.version(), embsum.Version("embsumd", "1.2.3", "int8", None))
        self.assertEqual((server.connections, len(server.heads)), (1, 5))
        self.assertNotIn("X-Timeout-Ms", server.heads[0])

    def test_connections_are_closed(self):
        """By the server's wish, without an announcement, by age, and by close()."""
        with Server(answer(200, OK, "Connection: close")) as server:
            client = self.ask(server)
            for _ in range(3):
                self.assertTrue(client.ready())
            self.assertEqual((server.connections, client._pool.idle), (3, []))
        with Server([self.GOOD, None]) as server:
            client = self.ask(server, retries=0)
            for _ in range(5):
                client.version()
            self.assertEqual((server.connections, len(server.heads)), (5, 5))
        with Server(self.GOOD) as server:
            client = self.ask(server, idle_seconds=0.0)
            client.version()
            client.version()
            self.assertEqual(server.connections, 2)
            client.close()
            client.version()
            self.assertEqual(client._pool.idle, [])

    def test_closed_while_it_was_idle(self):
        """The end of a kept connection that shows only when it is used costs no retry, and nothing else does."""
        with Server(self.GOOD, None, self.GOOD) as server:
            client = self.ask(server, retries=0)
            client.version()
            client.version()
            self.assertEqual((server.connections, len(server.heads)), (2, 3))
        with Server(self.GOOD, None) as server:
            client = self.ask(server, retries=0)
            client.version()
            with self.assertRaises(embsum.ConnectionFailed):
                client.version()
            self.assertEqual(len(server.heads), 3)

    def test_503(self):
        with Server(error(503, "unavailable", "Retry-After: 0"), self.GOOD) as server:
            self.assertEqual(self.ask(server).version().version, "1.2.3")
            ids = [line for head in server.heads for line in head.split("\r\n") if line.startswith("X-Request-Id")]
            self.assertEqual((len(ids), len(set(ids))), (2, 1))
        with Server(error(503, "unavailable", "Retry-After: 0")) as server:
            caught = self.expect(embsum.Unavailable, server, 3)
            self.assertEqual((caught.status, caught.code, caught.retry_after), (503, "unavailable", 0.0))

    def test_retry_after(self):
        start = time.monotonic()
        with Server(error(503, "unavailable", "Retry-After: 1"), self.GOOD) as server:
            self.ask(server).version()
        self.assertGreaterEqual(time.monotonic() - start, 1)
        start = time.monotonic()
        with Server(error(503, "unavailable", "Retry-After: 30")) as server:  # nothing to wait for
            self.expect(embsum.Unavailable, server, 1)
        with Server(error(503, "unavailable", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT")) as server:
            self.assertIsNone(self.expect(embsum.Unavailable, server, 1, retries=0).retry_after)
        self.assertLess(time.monotonic() - start, 3)

    def test_what_is_not_tried_again(self):
        for status, code, kind in ((400, "bad_request", embsum.AnswerError), (401, "unauthorized", embsum.Unauthorized),
                                   (404, "not_found", embsum.NotFound), (413, "payload_too_large", embsum.AnswerError),
                                   (500, "internal", embsum.AnswerError)):
            with Server(error(status, code)) as server:
                caught = self.expect(kind, server, 1)
                self.assertEqual((caught.status, caught.code, caught.message), (status, code, "m"))

    def test_budget(self):
        """Where everything fails there are ten retries, and then as many requests as calls."""
        with Server(error(503, "unavailable", "Retry-After: 0")) as server:
            client = self.ask(server, backoff=0.0)
            for _ in range(30):
                with self.assertRaises(embsum.Unavailable):
                    client.version()
            self.assertEqual(len(server.heads), 40)

    def test_slow(self):
        """The time is over when it is over, wherever the answer has got to."""
        for script in ([5], drip(self.GOOD, 0.05), [b"HTTP/1.1 200 OK\r\n", *drip(b"X: " + b"x" * 200, 0.05)],
                       [answer(200, b"x" * 10)[:-5], 5]):
            with Server(script) as server:
                start = time.monotonic()
                caught = self.expect(embsum.DeadlineExceeded, server, 1, timeout=0.3)
                self.assertTrue(0.25 < time.monotonic() - start < 2, time.monotonic() - start)
                self.assertTrue(caught.request_id)
        with socket.create_server(("127.0.0.1", 0), backlog=1) as nobody:  # accepted by the kernel alone
            client = embsum.Client(f"http://127.0.0.1:{nobody.getsockname()[1]}", timeout=0.3)
            with self.assertRaises(embsum.DeadlineExceeded):
                client.version()

    def test_slow_but_in_time(self):
        with Server([0.2, *drip(self.GOOD, 0.001)]) as server:
            self.assertEqual(self.ask(server).version().version, "1.2.3")

    def test_deadline_is_told(self):
        with Server(error(400, "bad_request")) as server:
            with self.assertRaises(embsum.AnswerError):
                self.ask(server).rank("U", ["N"], timeout=2.5, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
            head = server.heads[0].split("\r\n")
        told = [int(line.split(": ")[1]) for line in head if line.startswith("X-Timeout-Ms")]
        self.assertTrue(told and 1000 <= told[0] <= 2500, told)
        self.assertIn("traceparent: 00-" + "1" * 32 + "-" + "2" * 16 + "-01", head)

    def test_broken(self):
        for script, kind, requests in (
                ([b"SSH-2.0-OpenSSH\r\n", None], embsum.BadAnswer, 1),
                (answer(200, b"<html>"), embsum.BadAnswer, 1),
                (answer(200, b"[1]"), embsum.BadAnswer, 1),
                (answer(200, b'{"name": "x"}'), embsum.BadAnswer, 1),
                ([self.GOOD[:-10], None], embsum.ConnectionFailed, 3),
                (None, embsum.ConnectionFailed, 3),
                (answer(502, b"<html>bad gateway</html>"), embsum.Unavailable, 3),
                (answer(404, b"<html>"), embsum.NotFound, 1)):
            with self.subTest(script=script), Server(script) as server:
                caught = self.expect(kind, server, requests)
                self.assertTrue(caught.request_id)
                if isinstance(caught, embsum.AnswerError):
                    self.assertEqual((caught.code, caught.message), ("", "Reason"))

    def test_nobody(self):
        with socket.socket() as taken:  # bound, but not listening
            taken.bind(("127.0.0.1", 0))
            start = time.monotonic()
            with self.assertRaises(embsum.ConnectionFailed):
                embsum.Client(f"http://127.0.0.1:{taken.getsockname()[1]}").version()
        self.assertLess(time.monotonic() - start, 3)

    def test_behind_a_proxy(self):
        """A path before that of the daemon."""
        with Server(self.GOOD) as server:
            client = embsum.Client(server.url + "/embsum/")
            client.version()
            client.close()
            self.assertTrue(server.heads[0].startswith("GET /embsum/version HTTP/1.1"))


if __name__ == "__main__":
    unittest.main()
