"""The demo catalogue in a store, and embsumd on it, for tests that speak to the daemon as a client does. The data are those
that `sh deploy/quickstart` shows. Everything is in a temporary folder, on 127.0.0.1, and ends with the program.

    with demo.World() as world:
        daemon = world.daemon("rank.default_user=false")
        daemon.address, daemon.admin        ("127.0.0.1", port) of each listener
"""
import atexit
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EMBSUM, EMBSUMD = os.environ["EMBSUM"], os.environ["EMBSUMD"]
SLOW = int(os.environ.get("EMBSUM_SLOW", 1))  # sanitizers and valgrind are slower

processes = []


@atexit.register
def end():
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait(10)


class Daemon:
    def __init__(self, url, *settings, listen="127.0.0.1:0"):
        self.arguments = [EMBSUMD, "--listen", listen, "--store", url, "--set", "admin.listen=127.0.0.1:0"]
        for setting in settings:
            self.arguments += ["--set", setting]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.arguments, stderr=subprocess.PIPE, text=True)
        processes.append(self.process)
        self.lines, news = [], queue.Queue()
        self.reader = threading.Thread(target=self.read, args=(self.process.stderr, self.lines, news), daemon=True)
        self.reader.start()
        deadline = time.monotonic() + 20 * SLOW
        while True:
            line = news.get(timeout=max(0.01, deadline - time.monotonic()))
            if line is None:
                raise AssertionError("the daemon ended: " + "".join(self.lines))
            if '"msg":"listening"' in line:
                break
        where = json.loads(line)
        self.address, self.admin = (("127.0.0.1", int(where[key].rsplit(":", 1)[1])) for key in ("address", "admin"))

    @staticmethod
    def read(pipe, lines, news):
        for line in pipe:
            lines.append(line)
            news.put(line)
        news.put(None)

    def stop(self):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.reader.join(10)
        self.process.stderr.close()
        return code

    def restart(self):
        """On the same port."""
        self.arguments[2] = "{}:{}".format(*self.address)
        self.start()


class World:
    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="embsum-test-demo-")
        self.url = f"lmdb:{self.folder}/store"
        self.daemons = []
        self.refresh(self.url)
        return self

    def __exit__(self, *_):
        codes = [daemon.stop() for daemon in self.daemons if daemon.process.poll() is None]
        end()
        shutil.rmtree(self.folder)
        if any(codes):
            raise AssertionError(f"daemons ended with {codes}")

    @staticmethod
    def refresh(url, *more):
        data = ROOT / "deploy/demo"
        subprocess.run([EMBSUM, "refresh", "--quiet", "--model", data / "model", "--news", data / "news.tsv",
                        "--behaviors", data / "behaviors_valid.tsv", "--store", url, *more], check=True, stdout=subprocess.DEVNULL)

    def daemon(self, *settings, url=None):
        daemon = Daemon(url or self.url, *settings)
        self.daemons.append(daemon)
        return daemon

    def file(self, name, text):
        """A file that only its owner may read."""
        path = os.path.join(self.folder, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        return path

    def redis(self):
        """A redis-server with the demo in it: process and URL; None where none is installed."""
        if not shutil.which("redis-server"):
            return None
        path = f"{self.folder}/redis.sock"
        process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--dir", self.folder, "--save", "",
                                    "--appendonly", "no"], stdout=subprocess.DEVNULL)
        processes.append(process)
        deadline = time.monotonic() + 10 * SLOW
        while not os.path.exists(path):
            if time.monotonic() > deadline:
                raise AssertionError("redis-server does not answer")
            time.sleep(0.01)
        self.refresh(f"redis+unix:{path}")
        return process, f"redis+unix:{path}"
