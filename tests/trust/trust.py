#!/usr/bin/python3
"""make trust: what the daemon promises under hostile or unlucky clients, and when its store fails, each with a figure; minutes.

    tests/trust/trust.py [--seed N] [NAME...]      slow, worst, stop, outage, timeouts; all of them unless named

Talks to daemons of its own on 127.0.0.1, and ends them. Exit code 1 if a promise is not kept.
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build")
os.environ.setdefault("EMBSUMD", str(BUILD / "embsumd"))
os.environ.setdefault("TEST_API", str(BUILD / "tests/server/test_api"))
sys.path.insert(0, str(ROOT / "tests/server"))
import api  # noqa: E402  (tests/server/api.py: daemons, connections)

failures = []


def check(holds, text):
    print(f"  {'ok  ' if holds else 'FAIL'} {text}", flush=True)
    if not holds:
        failures.append(text)


class Place:
    """A store in a temporary folder, and daemons on it."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="embsum-trust-")
        self.url = f"lmdb:{self.folder}/store"
        api.publish(self.url, 1)
        return self

    def __exit__(self, *_):
        api.tearDownModule()
        shutil.rmtree(self.folder)


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


class Steady:
    """Well-behaved clients, each asking some times a second; latencies of their answers. A process of its own: threads
    of this one would wait for each other."""

    def __init__(self, daemon, clients=8, pause=0.02):
        self.latencies, self.failed = [], 0
        self.parent, child = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=self.work, args=(daemon, clients, pause, child))
        self.process.start()

    def work(self, daemon, clients, pause, pipe):
        stopping = threading.Event()
        threads = [threading.Thread(target=self.run, args=(daemon, pause, stopping)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        pipe.recv()
        stopping.set()
        for thread in threads:
            thread.join()
        pipe.send((self.latencies, self.failed))

    def run(self, daemon, pause, stopping):
        with api.Raw(daemon) as raw:
            while not stopping.is_set():
                start = time.monotonic()
                raw.send(api.post(api.GOOD))
                answer = raw.receive()
                self.latencies.append(time.monotonic() - start)
                if not answer or answer[0] != 200:
                    self.failed += 1
                    return
                time.sleep(pause)

    def end(self):
        self.parent.send(None)
        self.latencies, self.failed = self.parent.recv()
        self.process.join()
        return self.latencies


# ---- slow clients ----

LONG_ASK = api.post(json.dumps({"user": "U1", "candidates": [f"{'x' * 100}{i}" for i in range(2000)]}).encode())
STARTS = {"first line": b"", "fields": b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: ", "silence": b"GET /livez HTTP/1.1\r\n",
          "body": api.HEAD + b"Content-Length: 200000\r\n\r\n{", "read": LONG_ASK}


class Slow:
    """A client that sends or reads one byte now and then; when it began, and when it was cut off."""

    def __init__(self, daemon, kind, start):
        self.socket = socket.socket()
        if kind == "read":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(daemon.address)
        self.socket.setblocking(False)
        self.kind, self.ended, self.pieces = kind, None, memoryview(STARTS[kind])
        self.next = self.start = start

    def turn(self):
        """Something small happens; False when the connection is at its end."""
        try:
            if self.kind == "read":
                if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return False  # bytes that came before can still be read
                if self.pieces:
                    self.pieces = self.pieces[self.socket.send(self.pieces):]
                return self.socket.recv(1) != b""
            if self.pieces:
                self.pieces = self.pieces[self.socket.send(self.pieces):]
            elif self.kind != "silence":
                self.socket.send(b"a")
            return self.socket.recv(4096) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


def slow(rng):
    """1,000 slow clients of five kinds beside well-behaved ones."""
    kinds, count, deadline = ("first line", "fields", "body", "read", "silence"), 1000, 3.0
    settings = [f"server.{phase}_timeout_ms={int(deadline * 1000)}" for phase in ("header", "body", "write")]
    with Place() as place:
        daemon = api.Daemon(place.url, "server.connections_max=1500", "server.body_max_bytes=1000000", "server.bodies_max_bytes=1000000000", *settings)
        steady = Steady(daemon)
        time.sleep(5)
        alone = steady.end()
        steady = Steady(daemon)
        start = time.monotonic() + 0.5
        clients = [Slow(daemon, kinds[i % len(kinds)], start + 5 * rng.random()) for i in range(count)]
        end = start + 5 + 4 * deadline
        while time.monotonic() < end and any(c.ended is None for c in clients):
            now = time.monotonic()
            for client in clients:
                if client.ended is None and client.next <= now:
                    client.next = now + 0.25
                    if not client.turn():
                        client.ended = time.monotonic()
            time.sleep(0.01)
        beside = steady.end()
        late = [c for c in clients if c.ended is None or c.ended - c.start > deadline + 2]
        for kind in kinds:
            seconds = [c.ended - c.start for c in clients if c.kind == kind and c.ended]
            print(f"  {kind}: {len(seconds)} of {sum(c.kind == kind for c in clients)} cut after "
                  f"{min(seconds, default=0):.1f} to {max(seconds, default=0):.1f} s, deadline {deadline:.0f} s")
        check(not late, f"{len(late)} of {count} slow clients are still there 2 s after the deadline")
        check(steady.failed == 0, f"{len(beside)} well-behaved requests, {steady.failed} without an answer")
        p99 = quantile(beside, 0.99), quantile(alone, 0.99)
        check(p99[0] <= 2 * p99[1], f"p99 {p99[0] * 1e3:.1f} ms beside {p99[1] * 1e3:.1f} ms without slow clients")
        for client in clients:
            client.socket.close()
        check(daemon.stop()[0] == 0, "the daemon ends with 0")


# ---- hostile bodies ----

def resident(daemon):
    with open(f"/proc/{daemon.process.pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def worst_bodies(size):
    """As large as is allowed, each costly in its own way."""
    def fill(head, piece, tail):
        return head + piece * ((size - len(head) - len(tail)) // len(piece)) + tail
    start = b'{"user":"U1","candidates":['
    numbered = b",".join(b'"%x"' % i for i in range(size // 9))
    return [fill(b"", b"[", b""), fill(b"", b'{"a":', b""), fill(start, b'"",', b'""]}'), fill(start, b'"a",', b'"a"]}'),
            start + numbered + b"]}", fill(start + b'"', b"\\u0041", b'"]}'), fill(start + b'"', b"\\ud83d\\ude00", b'"]}'),
            fill(b"", b" ", b"{}"), fill(b'{"top_k":1', b"0", b"}"), fill(b'{"', b"k", b'":1}'),
            fill(b'{"user":"', "\u00e9".encode(), b'"}'), fill(b"", b"\x00", b""), fill(b'{"users":[', b'"U1",', b'"U2"]}'),
            fill(b'{"explain":true,"user":"U1","candidates":["N1"', b' ', b']}')]


def worst(rng):
    """64 of the worst bodies at once, again and again."""
    size = 262144
    with Place() as place:
        daemon = api.Daemon(place.url)
        daemon.rank(json.loads(api.GOOD))
        before, most, answers, lost = resident(daemon), 0, {}, []
        bodies = worst_bodies(size)

        def ask(number):
            order = random.Random(number).sample(bodies, len(bodies))
            for body in order * 2:
                with api.Raw(daemon) as raw:
                    raw.send(api.post(body))
                    answer = raw.receive()
                    if answer is None:
                        lost.append(body[:20])
                    else:
                        answers[answer[0]] = answers.get(answer[0], 0) + 1

        threads = [threading.Thread(target=ask, args=(rng.random(),)) for _ in range(64)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, resident(daemon))
            time.sleep(0.02)
        grown = (most - before) / 2**20
        check(not lost, f"{sum(answers.values())} answers ({', '.join(f'{n} x {s}' for s, n in sorted(answers.items()))}), "
              f"{len(lost)} without")
        check(grown <= 128, f"memory grew by {grown:.0f} MiB at most")
        check(daemon.rank(json.loads(api.GOOD))[0] == 200, "it still ranks")
        check(daemon.stop()[0] == 0, "the daemon ends with 0")


# ---- SIGTERM ----

def stop(rng):
    """SIGTERM under load, 50 times."""
    answered, lost, slowest, codes = 0, 0, 0, set()
    with Place() as place:
        for _ in range(50):
            daemon = api.Daemon(place.url)
            load = api.Load(daemon, 8, lambda number, answer: None if answer[0] in (200, 503) else answer)
            time.sleep(0.1 + 0.3 * rng.random())
            code, seconds = daemon.stop()
            load.stopping.set()
            load.join()
            answered, lost = answered + load.answered, lost + len(load.lost) + len(load.wrong)
            slowest = max(slowest, seconds)
            codes.add(code)
    check(lost == 0 and answered >= 10000, f"{lost} of {answered} accepted requests lost")
    check(codes == {0} and slowest <= 5, f"exit codes {sorted(codes)}, at most {slowest:.2f} s")


# ---- the store's faults ----

class Redis:
    """A redis-server on a unix socket, with a generation in it that outlives it."""

    def __init__(self, users=20):
        self.folder = tempfile.mkdtemp(prefix="embsum-trust-")
        self.path = f"{self.folder}/redis.sock"
        self.start()
        subprocess.run([api.TEST_API, "publish", f"redis+unix:{self.path}", "1", str(users)], check=True,
                       stdout=subprocess.DEVNULL)

    def start(self):
        self.process = subprocess.Popen(
            ["/usr/bin/redis-server", "--port", "0", "--unixsocket", self.path, "--dir", self.folder, "--save", "",
             "--appendonly", "yes"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self.answers():
            if time.monotonic() > deadline:
                raise AssertionError("redis-server does not answer")
            time.sleep(0.01)

    def answers(self):
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(5)
                probe.connect(self.path)
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def end(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        api.tearDownModule()
        self.end()
        shutil.rmtree(self.folder)


DEADLINE = 0.1
CONTENTS = [f"N{i}" for i in range(1, 6)]


class Mixed(Steady):
    """Clients that ask for what is hot, for contents that are not in memory, and for users that are not. Each answer is
    judged: kind, seconds, status, degraded, what is wrong with it."""

    def run(self, daemon, pause, stopping):
        sys.setswitchinterval(0.0005)
        rng = random.Random(threading.get_ident())
        users = [f"U{i}" for i in range(20)]
        right = {user: api.right_scores(1, user, CONTENTS) for user in users}
        with api.Raw(daemon) as raw:
            while not stopping.is_set():
                kind = rng.choices(("hot", "cold content", "cold user"), (6, 3, 1))[0]
                unknown = f"x{rng.getrandbits(60):x}"
                user = unknown if kind == "cold user" else rng.choice(users)
                candidates = CONTENTS + [unknown] * (kind == "cold content")
                body = json.dumps({"user": user, "candidates": candidates}).encode()
                start = time.monotonic()
                raw.send(api.post(body, f"X-Timeout-Ms: {DEADLINE * 1e3:.0f}"))
                status, _, text = raw.receive()
                seconds = time.monotonic() - start
                answer = json.loads(text)
                wrong = None
                if status == 200 and kind != "cold user":
                    scores = {item["id"]: item["score"] for item in answer["ranking"]}
                    if scores.keys() != right[user].keys() or answer["user"] != user or any(
                            abs(scores[i] - s) > 1e-5 * max(1, abs(s)) for i, s in right[user].items()):
                        wrong = answer
                elif status != 200 and (status, kind) != (503, "cold user"):
                    wrong = answer
                self.latencies.append((start, kind, seconds, status, "degraded" in answer, wrong))
                time.sleep(pause)


def outage(rng):
    """Redis stopped, hung, restarted, LOADING, READONLY, NOAUTH, OOM, MISCONF: who is hot is ranked, nobody waits for long."""
    texts = {"LOADING": "LOADING Redis is loading the dataset in memory", "READONLY": "READONLY You can't write against a read only replica.",
             "NOAUTH": "NOAUTH Authentication required.", "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
             "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."}
    with Redis() as redis:
        proxy = api.Proxy(f"{redis.folder}/proxy.sock", redis.path)
        daemon = api.Daemon(f"redis+unix:{redis.folder}/proxy.sock")

        def begin(fault):
            if fault == "hung":
                redis.process.send_signal(signal.SIGSTOP)
            elif fault in texts:
                proxy.reply = f"-{texts[fault]}\r\n".encode()
            else:
                redis.end()

        def repair(fault):
            if fault == "hung":
                redis.process.send_signal(signal.SIGCONT)
            elif fault in texts:
                proxy.reply = None
            else:
                redis.start()

        def recovered():
            unknown = f"y{rng.getrandbits(60):x}"
            status, answer = daemon.rank({"user": unknown, "candidates": CONTENTS + [unknown]})
            return status == 200 and "degraded" not in answer

        for fault in ("stopped", "hung", "restarted", *texts):
            mixed, recovery, spans = Mixed(daemon, clients=8, pause=0.005), 0, []
            time.sleep(1)
            for _ in range(6 if fault == "hung" else 2):
                while not recovered():
                    time.sleep(0.01)
                start = time.monotonic()
                begin(fault)
                if fault != "restarted":
                    time.sleep(1 + rng.random())
                repair(fault)
                repaired = time.monotonic()
                while not recovered():
                    time.sleep(0.01)
                spans.append((start, time.monotonic()))
                recovery = max(recovery, time.monotonic() - repaired)
                time.sleep(0.2)
            answers = [a for a in mixed.end() if any(begin <= a[0] <= end for begin, end in spans)]
            hot, missed = ([a for a in answers if (a[1] == "hot") == wanted] for wanted in (True, False))
            waited = [a for a in missed if a[2] >= 0.9 * DEADLINE]
            p99 = [quantile([a[2] for a in which], 0.99) * 1e3 if which else 0 for which in (hot, missed, waited)]
            marked = sum(a[4] for a in hot)
            good = all(a[3] == 200 for a in hot) and not any(a[5] for a in answers)
            check(good, f"{fault}: {sum(a[3] == 200 for a in hot)} of {len(hot)} for hot users answered ({marked} marked), "
                  f"{sum(a[5] is not None for a in answers)} of {len(answers)} wrong")
            check(max(p99) <= 1e3 * DEADLINE + 20, f"{fault}: p99 {p99[0]:.1f} ms hot, {p99[1]:.1f} ms with misses, {p99[2]:.1f} ms of "
                  f"the {len(waited)} that waited until their deadline of {DEADLINE * 1e3:.0f} ms")
            check(recovery <= 2, f"{fault}: {recovery:.2f} s until all is well again, at most")
        check(daemon.process.poll() is None and daemon.metric("embsum_store_breaker_open") == 0, "the same daemon all the time")
        proxy.close()
        check(daemon.stop()[0] == 0, "the daemon ends with 0")


USERS, WANTED, PROCESSES, CONNECTIONS = 20000, 200000, 4, 8


def is_right(result, user, right):
    """Does this ranking have exactly the user's own scores?"""
    return result["user"] == user and result["user_status"] == "present" and all(
        abs(item["score"] - right[user][item["id"]]) <= 1e-5 * max(1, abs(right[user][item["id"]])) for item in result["ranking"])


def ask_many(address, right, seed, wanted, pipe):
    """Some connections, asked in turn; counts of rankings that were right, wrong, and refused."""
    rng, count = random.Random(seed), {"right": 0, "wrong": 0, "unavailable": 0, "unnoticed": 0}
    raws = [api.Raw(address) for _ in range(CONNECTIONS)]
    users = list(right)
    while count["right"] < wanted:
        asked = [rng.sample(users, rng.randint(1, 12)) for _ in raws]
        for raw, whom in zip(raws, asked):
            raw.send(api.post(json.dumps({"users": whom, "candidates": CONTENTS}).encode()))
        for raw, whom in zip(raws, asked):
            status, _, text = raw.receive()
            if status == 503:
                count["unavailable"] += len(whom)
                time.sleep(0.02)  # the breaker is open, perhaps
                continue
            answer = json.loads(text)
            assert status == 200 and len(answer["results"]) == len(whom), answer
            ranked = len(CONTENTS) - len(answer["missing"])
            for user, result in zip(whom, answer["results"]):
                if result["user_status"] == "unavailable" or not ranked:
                    count["unavailable"] += 1
                    continue
                count["right" if len(result["ranking"]) == ranked and is_right(result, user, right) else "wrong"] += 1
                other = rng.choice(users)
                count["unnoticed"] += other != user and is_right(result, user, {user: right[other]})
    pipe.send(count)


def timeouts(rng):
    """One in ten commands to Redis takes longer than the daemon waits: nobody gets the answer of another user."""
    with Redis(USERS) as redis:
        table = subprocess.run([api.TEST_API, "table", "1", str(USERS), *CONTENTS], check=True, capture_output=True, text=True)
        right = {f"U{u}": dict(zip(CONTENTS, map(float, line.split()))) for u, line in enumerate(table.stdout.splitlines())}
        wire = subprocess.Popen([BUILD / "tests/trust/stall", f"{redis.folder}/wire.sock", redis.path, "10", "60", str(rng.getrandbits(31))],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        wire.stdout.readline()
        daemon = api.Daemon(f"redis+unix:{redis.folder}/wire.sock", "memory.limit_bytes=1048576", "memory.preload=false", "rank.users_max=64",
                            "store.connections=8", "store.command_timeout_ms=20", "store.retry_min_ms=1", "store.retry_max_ms=5")
        while not (answer := daemon.rank({"user": "U1", "candidates": CONTENTS})[1]).get("ranking") or answer["missing"]:
            time.sleep(0.1)  # what all ask for comes into memory first
        print("x", file=wire.stdin, flush=True)
        start, pipes, processes = time.monotonic(), [], []
        for _ in range(PROCESSES):
            parent, child = multiprocessing.Pipe()
            process = multiprocessing.Process(target=ask_many, args=(Address(daemon), right, rng.random(), WANTED // PROCESSES, child))
            process.start()
            child.close()
            pipes.append(parent)
            processes.append(process)
        counts = [pipe.recv() for pipe in pipes]
        for process in processes:
            process.join()
        seconds = time.monotonic() - start
        count = {name: sum(c[name] for c in counts) for name in counts[0]}
        late = daemon.metric('embsum_store_errors_total{kind="timeout"}')
        misses = daemon.metric('embsum_hot_misses_total{kind="user"}')
        check(daemon.stop()[0] == 0, "the daemon ends with 0")
        commands, stalled = map(int, wire.communicate()[0].split())
        answers = count["right"] + count["wrong"]
        check(count["wrong"] == 0 and count["right"] >= WANTED, f"{count['wrong']} of {answers} rankings wrong, {count['unavailable']} refused; "
              f"{misses:.0f} users missed in memory, {seconds:.0f} s")
        check(stalled >= commands / 12 and late >= stalled / 2, f"{stalled} of {commands} commands stalled, {late:.0f} calls timed out")
        check(count["unnoticed"] == 0, f"the judge takes {count['unnoticed']} of {answers} for another user's, too")


class Address:
    """What a connection needs of a daemon, for another process."""

    def __init__(self, daemon):
        self.address = daemon.address

    def connect(self):
        return socket.create_connection(self.address, 15)


PROMISES = {"slow": slow, "worst": worst, "stop": stop, "outage": outage, "timeouts": timeouts}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in PROMISES]
    if unknown:
        parser.error(f"no promise {', '.join(unknown)}; there are {', '.join(PROMISES)}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    print(f"seed {args.seed}")
    for name in args.names or PROMISES:
        print(f"{name}: {PROMISES[name].__doc__}", flush=True)
        PROMISES[name](random.Random(args.seed))
    print(f"{len(failures)} promises broken")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
