"""What the promises share: stores and daemons of their own, steady clients, and what a promise is judged by."""
import json
import multiprocessing
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
os.environ.setdefault("EMBSUMD", str(BUILD / "embsumd"))
os.environ.setdefault("TEST_API", str(BUILD / "tests/server/test_api"))
sys.path.insert(0, str(ROOT / "tests/server"))
import api  # noqa: E402  (tests/server/api.py: daemons, connections)

EMBSUM = BUILD / "embsum"
OPENLOOP = BUILD / "tests/load/openloop"

failures = []


def check(holds, text, judged=True):
    """What is not judged is shown all the same."""
    print(f"  {('ok  ' if holds else 'FAIL') if judged else 'seen'} {text}", flush=True)
    if judged and not holds:
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


class Redis:
    """A redis-server on a unix socket, and on a port of this machine if asked, whose data outlive it; each of its databases
    can be a store of its own."""

    def __init__(self, folder, port=0):
        self.folder, self.path, self.port = folder, f"{folder}/redis.sock", port
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["/usr/bin/redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.path, "--dir",
             self.folder, "--save", "", "--appendonly", "yes", "--appendfsync", "no", "--databases", "64"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        api.Daemon.all.append(self.process)  # ended with the place
        deadline = time.monotonic() + 20
        while not self.answers():
            if time.monotonic() > deadline:
                raise AssertionError("redis-server does not answer")
            time.sleep(0.01)

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(self.path)
            client.sendall(command.encode() + b"\r\n")
            return client.recv(64)

    def answers(self):
        try:
            return self.ask("PING").startswith(b"+PONG")
        except OSError:
            return False

    def url(self, database=0):
        return f"redis+unix:{self.path}?db={database}"

    def end(self):
        self.process.kill()
        self.process.wait()


# ---- generations ----

def publish_unhurried(url, seed, *size):
    """A generation from a process that runs when nobody else wants to and so takes no time from the daemon, as a refresh
    elsewhere would not: its name, and when it was live."""
    name = subprocess.run(["chrt", "--idle", "0", api.TEST_API, "publish", url, *map(str, (seed, *size))], check=True,
                          capture_output=True, text=True).stdout.strip()
    return name, time.monotonic_ns()


def generations(where):
    """Rows of the table, the oldest first, and the live one's name."""
    out = subprocess.run([EMBSUM, "generations", "list", "--json", *where], check=True, capture_output=True, text=True)
    rows = [json.loads(line) for line in out.stdout.splitlines()]
    return rows, next((row["generation"] for row in rows if row["state"] == "live"), "")


def right_table(seed, users, contents):
    """The right scores of U0, U1, ..., each a list."""
    out = subprocess.run([api.TEST_API, "table", str(seed), str(users), *contents], check=True, capture_output=True,
                         text=True)
    return {f"U{u}": [float(score) for score in line.split()] for u, line in enumerate(out.stdout.splitlines())}


def near(score, right):
    return abs(score - right) <= 1e-5 * max(1, abs(right))


# ---- figures ----

def status_of(process):
    """The numbers that the kernel tells of it: VmRSS and others in KiB, Threads, ..."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        pairs = [line.replace(":", " ").split() for line in file]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def resident(process):
    """Bytes of memory."""
    return status_of(process)["VmRSS"] * 1024


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
