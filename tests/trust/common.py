"""What the promises share: daemons of their own, steady clients, and what a promise is judged by."""
import multiprocessing
import os
import pathlib
import shutil
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
