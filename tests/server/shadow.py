"""The shadow generation from outside: daemons, embsum and a store, and the figures against a comparison of its own.

Started by tests/server/test_shadow_daemons.sh. The overlap, Kendall's tau-b and the difference of the scores are computed here,
by their definitions, from what the daemons answer from either generation. Everything lives in a temporary folder and on
unix sockets and 127.0.0.1, and is ended by its process id.
"""
import ctypes
import ctypes.util
import json
import math
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

os.environ.setdefault("TEST_API", "none")
from api import Daemon, SLOW, tearDownModule  # noqa: E402,F401  (daemons that are left behind end with the module)

EMBSUM = os.environ["EMBSUM"]


# ---- matrices to import ----

def write_npy(path, shape, numbers):
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }" % ", ".join(map(str, shape))
    text += " " * (-(len(text) + 11) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() +
                     struct.pack(f"<{len(numbers)}f", *numbers))


def write_matrices(folder, d, users, contents, proj):
    """users and contents: id to rows of d numbers."""
    folder.mkdir()
    for name, matrices in (("user", users), ("content", contents)):
        rows = len(next(iter(matrices.values())))
        write_npy(folder / f"{name}.npy", (len(matrices), rows, d),
                  [x for matrix in matrices.values() for row in matrix for x in row])
        (folder / f"{name}.ids").write_text("".join(i + "\n" for i in matrices))
    write_npy(folder / "score_proj.npy", (d, d), [x for row in proj for x in row])


def write_scores(folder, scores):
    """Every user gives content i the score scores[i]."""
    write_matrices(folder, 2, {i: [[1, 0]] for i in ["", *(f"U{u}" for u in range(5))]},
                   {f"N{i}": [[score, 0]] for i, score in enumerate(scores)}, [[0, 0], [0, 0]])


def write_random(folder, seed, contents):
    """m 3, n 2, d 8. Some contents are each other's twins: their scores are tied."""
    chance = random.Random(seed)

    def matrix(rows):
        return [[chance.gauss(0, 0.7) for _ in range(8)] for _ in range(rows)]

    items = {f"N{i}": matrix(2) for i in range(contents)}
    for i in range(5, contents, 7):
        items[f"N{i}"] = items[f"N{i - 3}"]
    write_matrices(folder, 8, {i: matrix(3) for i in ["", *(f"U{u}" for u in range(12))]}, items, matrix(8))


# ---- the comparison ----

def best(scores):
    return set(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:10])


def tau_b(x, y):
    same = inverted = tied_x = tied_y = 0
    for i in range(len(x)):
        for k in range(i):
            a, b = (x[i] > x[k]) - (x[i] < x[k]), (y[i] > y[k]) - (y[i] < y[k])
            same += a * b > 0
            inverted += a * b < 0
            tied_x += a == 0 and b != 0
            tied_y += a != 0 and b == 0
    return (same - inverted) / math.sqrt((same + inverted + tied_x) * (same + inverted + tied_y))


def difference(x, y):
    mean = sum(x) / len(x)
    return math.sqrt(sum((b - a) ** 2 for a, b in zip(x, y)) / sum((a - mean) ** 2 for a in x))


# ---- the service ----

class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="embsum-test-shadow-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.url = f"lmdb:{self.folder}/store"

    def embsum(self, *arguments, code=0):
        done = subprocess.run([EMBSUM, *map(str, arguments), "--store", self.url], capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def bring_in(self, name, *flags):
        return json.loads(self.embsum("import", "--in", self.folder / name, "--quiet", *flags))["generation"]

    def shadow_of(self, generation):
        rows = [json.loads(line) for line in self.embsum("generations", "list", "--json").splitlines()]
        return next(row for row in rows if row["generation"] == generation).get("shadow")

    def daemon(self, *settings, wait=True, **more):
        daemon = Daemon(self.url, "shadow.share=1", "store.poll_ms=50", *settings, **more)
        self.addCleanup(daemon.stop)
        if wait:
            self.await_shadow(daemon)
        return daemon

    def await_shadow(self, daemon):
        """The log may have said so before it said that the daemon listens."""
        deadline = time.monotonic() + 20 * SLOW
        while b"\nembsum_shadow_info{" not in daemon.ask("GET", "/metrics")[2]:
            self.assertLess(time.monotonic(), deadline, "".join(daemon.lines))
            time.sleep(0.01)

    def compared(self, daemon):
        return int(daemon.metric("embsum_shadow_requests_total") or 0)

    def sampled(self, daemon):
        """Compared or left out."""
        page = daemon.ask("GET", "/metrics")[2].decode()
        return sum(int(n) for n in re.findall(r"^embsum_shadow_(?:requests_total|skipped_total{.*}) (\d+)$", page, re.M))

    def rank(self, daemon, user, count, times=1):
        """Until so many more have been compared: when the machine is busy samples are left out."""
        until, deadline = self.compared(daemon) + times, time.monotonic() + 30 * SLOW
        while self.compared(daemon) < until:
            before = self.sampled(daemon)
            status, answer = daemon.rank({"user": user, "candidates": [f"N{i}" for i in range(count)]})
            self.assertEqual(status, 200)
            while self.sampled(daemon) == before:
                self.assertLess(time.monotonic(), deadline, "".join(daemon.lines))
                time.sleep(0.002)
        return answer


SCORES = [100.0 - i for i in range(60)]
SWAPPED = SCORES[:7] + SCORES[50:53] + SCORES[10:50] + SCORES[7:10] + SCORES[53:]  # three of the ten best fall behind


class Figures(Case):
    def test_known(self):
        """Two daemons, one of them twice; what the figures allow and what not; the switch without a load."""
        write_scores(self.folder / "a", SCORES)
        write_scores(self.folder / "b", SWAPPED)
        self.check_known()

    def check_known(self):
        live = self.bring_in("a")
        other = self.bring_in("b", "--no-promote")
        self.assertIsNone(self.shadow_of(other))
        self.assertIn("no request has been ranked",
                      self.embsum("generations", "promote", other, "--min-overlap", "0.1", code=1))
        first, second = self.daemon(), self.daemon()
        self.rank(first, "U1", 60, 12)
        answer = self.rank(second, "U2", 60, 8)
        self.assertEqual(answer["generation"], live)
        self.assertEqual([item["score"] for item in answer["ranking"]], SCORES)
        counted = self.compared(first) + self.compared(second)
        for daemon in (first, second):
            self.assertEqual(daemon.metric('embsum_shadow_overlap_bucket{le="0.6"}'), 0)
            self.assertEqual(daemon.metric('embsum_shadow_overlap_bucket{le="0.7"}'), self.compared(daemon))
            self.assertEqual(daemon.stop()[0], 0)  # what was not saved is now
        shadow = self.shadow_of(other)
        self.assertEqual((shadow["live"], shadow["requests"], shadow["rankings"]), (live, counted, counted))
        self.assertAlmostEqual(shadow["overlap"], 0.7, 12)
        self.assertAlmostEqual(shadow["tau"], tau_b(SCORES, SWAPPED), 5)
        self.assertAlmostEqual(shadow["difference"], difference(SCORES, SWAPPED), 4)
        self.assertEqual(shadow["candidates_both"], 60 * counted)
        self.assertRegex(self.embsum("generations", "list"),
                         f"{other} +ready .*overlap 0.7000, tau 0.* over {counted} requests beside {live}")

        # Started again, the figures go on.
        third = self.daemon()
        self.rank(third, "U3", 60, 5)
        deadline = time.monotonic() + 30 * SLOW  # they are saved every five seconds
        while self.shadow_of(other)["requests"] == counted and time.monotonic() < deadline:
            time.sleep(0.1)
        counted += self.compared(third)
        self.assertEqual(self.shadow_of(other)["requests"], counted)

        promote = ("generations", "promote", other, "--min-overlap")
        refused = self.embsum(*promote, "0.71", "--min-requests", "10", code=1)
        self.assertRegex(refused, f"overlap with {live} is 0.7000 .*over {counted} requests.* 0.71 is asked for")
        self.assertRegex(self.embsum(*promote, "0.5", code=1), f"rests on {counted} requests, and 1000 are asked for")
        self.assertRegex(self.embsum(*promote, "0.5", "--min-requests", counted + 1, code=1), f"{counted + 1} are asked")
        self.assertEqual(third.rank({"user": "U1", "candidates": ["N1"]})[1]["generation"], live)
        for wrong in (("promote", other, "--min-overlap", "1.1"), ("promote", other, "--min-overlap", "x"),
                      ("promote", other, "--min-requests", "5"), ("list", "--min-overlap", "0.5")):
            self.embsum("generations", *wrong, code=2)
        self.assertIn(f"{other} is live", self.embsum(*promote, "0.7", "--min-requests", counted))
        third.wait_for("generation live")
        self.embsum(*promote, "1")  # it is live already
        answer = third.rank({"user": "U1", "candidates": [f"N{i}" for i in range(60)]})[1]
        self.assertEqual(answer["generation"], other)
        self.assertEqual([item["score"] for item in answer["ranking"]], SCORES)  # in another order
        self.assertEqual(third.metric("embsum_shadow_loads_total"), 1)
        self.assertEqual(third.metric("embsum_generation_loads_total"), 2)

        # Against the one that was live the figures say nothing about the one that is.
        third_generation = self.bring_in("b", "--no-promote")
        self.await_shadow(third)
        self.rank(third, "U1", 60, 3)
        counted = self.compared(third)
        self.assertEqual(third.stop()[0], 0)
        shadow = self.shadow_of(third_generation)
        self.assertEqual(shadow["requests"], counted)
        self.assertEqual((shadow["live"], shadow["overlap"], shadow["tau"], shadow["difference"]), (other, 1, 1, 0))
        self.embsum("generations", "promote", live)
        self.assertIn("no request has been ranked", self.embsum("generations", "promote", third_generation,
                                                                "--min-overlap", "0.1", code=1))
        return third_generation, counted

    def test_random(self):
        """Scores as they are answered from either, ties among them; of 60 contents the other generation has 50."""
        write_random(self.folder / "a", 1, 60)
        write_random(self.folder / "b", 2, 50)
        live = self.bring_in("a")
        other = self.bring_in("b", "--no-promote")
        daemon = self.daemon()
        right = []
        for u in range(12):
            answer = self.rank(daemon, f"U{u}", 60)
            self.assertEqual(answer["generation"], live)
            scores = {item["id"]: item["score"] for item in answer["ranking"]}
            right.append([scores[f"N{i}"] for i in range(50)])
        self.assertEqual(self.compared(daemon), 12)
        self.assertEqual(daemon.metric('embsum_shadow_candidates_total{in="live"}'), 120)
        if shutil.which("promtool"):
            page = daemon.ask("GET", "/metrics")[2]
            self.assertEqual(subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True).returncode, 0)
        self.embsum("generations", "promote", other)
        daemon.wait_for("generation live")
        found = []
        for u in range(12):
            answer = daemon.rank({"user": f"U{u}", "candidates": [f"N{i}" for i in range(50)]})[1]
            self.assertEqual(answer["generation"], other)
            scores = {item["id"]: item["score"] for item in answer["ranking"]}
            found.append([scores[f"N{i}"] for i in range(50)])
        self.assertEqual(daemon.stop()[0], 0)
        shadow = self.shadow_of(other)
        pairs = list(zip(right, found))
        self.assertEqual(shadow["requests"], 12)
        self.assertTrue(any(len(set(x)) < 50 for x, _ in pairs))  # there are ties
        self.assertAlmostEqual(shadow["overlap"], sum(len(best(x) & best(y)) for x, y in pairs) / 120, 12)
        self.assertAlmostEqual(shadow["tau"], sum(tau_b(x, y) for x, y in pairs) / 12, 5)
        self.assertAlmostEqual(shadow["difference"], sum(difference(x, y) for x, y in pairs) / 12, 4)

    def test_writer_that_was_stopped(self):
        """Somebody holds LMDB's writers' mutex for ever: answers go on, and so does the end."""
        write_scores(self.folder / "a", SCORES)
        self.bring_in("a")
        other = self.bring_in("a", "--no-promote")
        daemon = self.daemon()
        self.rank(daemon, "U1", 60, 3)
        lmdb = ctypes.CDLL(ctypes.util.find_library("lmdb") or "liblmdb.so.0")
        env, transaction = ctypes.c_void_p(), ctypes.c_void_p()
        self.assertEqual(lmdb.mdb_env_create(ctypes.byref(env)), 0)
        self.assertEqual(lmdb.mdb_env_set_mapsize(env, ctypes.c_size_t(1 << 30)), 0)
        self.assertEqual(lmdb.mdb_env_open(env, f"{self.folder}/store".encode(), 0, 0o660), 0)
        self.assertEqual(lmdb.mdb_txn_begin(env, None, 0, ctypes.byref(transaction)), 0)
        try:
            self.rank(daemon, "U2", 60, 3)
            code, seconds = daemon.stop()
            self.assertEqual(code, 0)
            self.assertLess(seconds, 10 * SLOW)
        finally:
            lmdb.mdb_txn_abort(transaction)
            lmdb.mdb_env_close(env)
        self.assertIn((self.shadow_of(other) or {}).get("requests", 0), (0, 3))


@unittest.skipUnless(shutil.which("redis-server"), "redis-server is not installed")
class Redis(Case):
    def setUp(self):
        super().setUp()
        self.socket = self.folder / "redis.sock"
        self.server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no",
             "--dir", str(self.folder)], stdout=subprocess.DEVNULL)
        self.addCleanup(self.server.wait, 10)
        self.addCleanup(self.server.kill)
        self.url = f"redis+unix:{self.socket}"
        deadline = time.monotonic() + 20 * SLOW
        while self.cli("PING") != "PONG":
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def cli(self, *arguments):
        return subprocess.run(["redis-cli", "-s", str(self.socket), *arguments], capture_output=True, text=True).stdout.strip()

    def test_known(self):
        write_scores(self.folder / "a", SCORES)
        write_scores(self.folder / "b", SWAPPED)
        last, counted = Figures.check_known(self)
        self.assertEqual(self.cli("HGET", f"{{embsum}}:{last}:shadow", "requests"), str(counted))

    def test_damaged(self):
        """A shadow that is damaged is refused, and the live generation goes on."""
        write_scores(self.folder / "a", SCORES)
        self.bring_in("a")
        other = self.bring_in("a", "--no-promote")
        for i in range(30):
            self.cli("SETRANGE", f"embsum:{other}:c:N{i}", "70", "x")
        daemon = self.daemon(wait=False)
        deadline = time.monotonic() + 20 * SLOW
        while daemon.metric("embsum_shadow_refusals_total") != 1:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        for _ in range(20):
            status, answer = daemon.rank({"user": "U1", "candidates": [f"N{i}" for i in range(60)]})
            self.assertEqual((status, [item["score"] for item in answer["ranking"]]), (200, SCORES))
        self.assertEqual(daemon.metric("embsum_shadow_refusals_total"), 1)
        self.assertEqual(daemon.metric("embsum_shadow_loads_total"), 0)
        self.assertEqual(daemon.metric("embsum_ready"), 1)
        self.assertEqual(daemon.stop()[0], 0)

    def test_store_away(self):
        """Nobody who asks notices; what was counted meanwhile is not counted twice."""
        write_scores(self.folder / "a", SCORES)
        write_scores(self.folder / "b", SWAPPED)
        self.bring_in("a")
        other = self.bring_in("b", "--no-promote")
        daemon = self.daemon()
        self.rank(daemon, "U1", 60, 5)
        self.server.send_signal(signal.SIGSTOP)
        try:
            daemon.wait_for("store breaker opened")
            answer = self.rank(daemon, "U1", 60, 5)  # both generations are in memory
            self.assertEqual([item["score"] for item in answer["ranking"]], SCORES)
        finally:
            self.server.send_signal(signal.SIGCONT)
        daemon.wait_for("store breaker closed")
        self.rank(daemon, "U1", 60, 5)
        counted = self.compared(daemon)
        self.assertEqual(daemon.stop()[0], 0)
        shadow = self.shadow_of(other)
        self.assertTrue(5 <= shadow["requests"] <= counted, (shadow, counted))
        self.assertAlmostEqual(shadow["overlap"], 0.7, 12)

    def test_no_right_to_write(self):
        write_scores(self.folder / "a", SCORES)
        self.bring_in("a")
        other = self.bring_in("a", "--no-promote")
        self.assertEqual(self.cli("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+@connection"), "OK")
        self.url += "?user=reader"
        daemon = self.daemon(env={"EMBSUM_STORE_PASSWORD": "secret"})
        self.url = f"redis+unix:{self.socket}"
        self.rank(daemon, "U1", 60, 4)
        self.assertIn("NOPERM", daemon.wait_for("shadow: the store does not take the figures, which are in /metrics "
                                                "alone")["detail"])
        self.rank(daemon, "U1", 60, 2)
        self.assertEqual(daemon.metric("embsum_shadow_unsaved_requests"), self.compared(daemon))
        self.assertEqual(daemon.metric("embsum_store_breaker_open"), 0)
        self.assertEqual(daemon.stop()[0], 0)
        self.assertEqual(sum("does not take the figures" in line for line in daemon.lines), 1)
        self.assertIsNone(self.shadow_of(other))


if __name__ == "__main__":
    unittest.main()
