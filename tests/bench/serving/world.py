"""The machine as the rows see it: a temporary folder, a Redis of its own, the data in it, the systems that run."""
import json
import os
import pathlib
import shutil
import socket
import tempfile
import time

import numpy as np

from .children import Children, NotMeasured, available_bytes, free_port, wait_until
from .data import D, M, N, Data
from .load import rank
from .report import Results
from .systems import all_systems, config_keys

MARGIN = 1 << 30  # bytes that stay free


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


class World:
    def __init__(self, args, build):
        self.args, self.build = args, pathlib.Path(build)
        self.embsumd, self.embsum = self.build / "embsumd", self.build / "embsum"
        self.openloop = self.build / "tests/load/openloop"
        for program in (self.embsumd, self.embsum, self.openloop):
            if not program.exists():
                raise SystemExit(f"{program} is not built: make bench does it")
        for program in ("wrk", "redis-server"):
            if not shutil.which(program):
                raise SystemExit(f"{program} is not installed: sh deploy/install-packages bench")
        self.children, self.results = Children(), Results()
        self.keys = config_keys(self.embsumd)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="embsum-bench-", dir=args.folder))
        self.folder.chmod(0o711)  # nginx's workers give up root and have to reach their sockets
        self.redis = self.data = self.url = self.url_tcp = None
        self.redis_filled = False
        self.running, self.refused, self.capacity, self.stores = {}, {}, {}, {}
        self.limit_contents = args.contents

    def close(self):
        self.children.end_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- Redis and the data ----

    def start_redis(self):
        self.redis_socket, self.redis_port = self.folder / "redis.sock", free_port()
        self.redis = self.children.start(
            ["redis-server", "--port", self.redis_port, "--bind", "127.0.0.1", "--unixsocket", self.redis_socket, "--dir",
             self.folder, "--save", "", "--appendonly", "no"], self.folder / "redis.log")

        def turns():
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(5)
                probe.connect(str(self.redis_socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")

        wait_until(turns, self.redis, 20)
        self.url = f"redis+unix:{self.redis_socket}"
        self.url_tcp = f"redis://127.0.0.1:{self.redis_port}/0"

    def prepare(self):
        """The main data set, in Redis and in files for the peers, once."""
        if self.data:
            return
        self.start_redis()
        args = self.args
        say(f"data: {args.contents} contents, {args.users} users, m {M}, n {N}, d {D}")
        self.data = Data(self.folder / "data", args.contents, args.users).write()
        self.generation = self.data.publish(self.embsum, self.url, "bfloat16")
        self.data.write_blocks(self.generation)
        say(f"generation {self.generation} is in Redis, in bfloat16")

    # ---- systems ----

    def systems(self, names=None):
        """Those that are wanted, started, warm and known to answer rightly."""
        self.prepare()
        for system in all_systems(self):
            wanted = not self.args.systems or system.name in self.args.systems or (
                system.ours and "ours" in self.args.systems)
            if not wanted or system.name in self.running or system.name in self.refused:
                continue
            if names and not any(system.name == n or (n == "ours" and system.ours) for n in names):
                continue
            try:
                needed = system.content_bytes * self.data.contents + MARGIN
                if needed > available_bytes():
                    raise NotMeasured(f"needs {needed / 1e9:.1f} GB of memory, {available_bytes() / 1e9:.1f} are free")
                say(f"starting {system.label}")
                system.start()
                self.warm(system)
                error = self.check(system)
                self.running[system.name] = system
                self.results.setdefault("errors", {})[system.name] = error
                say(f"  warm; scores off by {error['rms']:.1e} of their deviation (rms), at most {error['max']:.1e}")
            except (NotMeasured, OSError) as problem:
                self.refuse(system, str(problem))
        order = [s.name for s in all_systems(self)]
        return [self.running[n] for n in sorted(self.running, key=order.index)
                if not names or n in names or (self.running[n].ours and "ours" in names)]

    def refuse(self, system, reason):
        system.stop()
        self.running.pop(system.name, None)
        self.refused[system.name] = reason
        self.results.setdefault("not_measured", {})[system.name] = reason
        say(f"not measured: {system.label}: {reason}")

    def free_memory(self, ours=True):
        """End what an earlier row started; a later one may start it again."""
        for name in [n for n, s in self.running.items() if ours or not s.ours]:
            self.running.pop(name).stop()

    def warm(self, system, data=None, chunk=1000):
        """Every content and user is asked for once."""
        data = data or self.data
        if system.name == "redis":
            return
        for first in range(0, data.contents, chunk):
            user = data.user_ids[first // chunk % data.users]
            body = {"user": user, "candidates": data.content_ids[first:first + chunk], "top_k": 1}
            for _ in range(3):  # on a busy machine Redis may miss a deadline of the daemon's
                answer, _ = rank(system.address, body, 60)
                if not answer["missing"]:
                    break
            else:
                raise NotMeasured(f"it misses contents that are there: {answer['missing'][0]}")
        if system.ours:
            if system.hot("evictions_total"):
                raise NotMeasured("its memory is too small for all contents")
            for user in data.user_ids:
                rank(system.address, {"user": user, "candidates": data.content_ids[:1]})

    def check(self, system, data=None, requests=2, count=200):
        """Answers against the definition in float64. Raises NotMeasured if they are not what they should be."""
        data = data or self.data
        draw = np.random.default_rng(1)
        errors = []
        for _ in range(requests):
            user, index = int(draw.integers(data.users)), draw.choice(data.contents, count, replace=False)
            right = data.scores(user, index)
            answer, _ = rank(system.address, {"user": data.user_ids[user],
                                              "candidates": [data.content_ids[i] for i in index]})
            if answer["generation"] != self.generation and data is self.data:
                raise NotMeasured(f"it answers from generation {answer['generation']}")
            got = {item["id"]: item["score"] for item in answer["ranking"]}
            scores = [item["score"] for item in answer["ranking"]]
            if scores != sorted(scores, reverse=True) or sorted(got) != sorted(data.content_ids[i] for i in index):
                raise NotMeasured("wrong answers: not the candidates in the order of their scores")
            errors.append((np.array([got[data.content_ids[i]] for i in index]) - right) / right.std())
        errors = np.concatenate(errors)
        error = {"rms": float(np.sqrt((errors ** 2).mean())), "max": float(np.abs(errors).max())}
        if error["rms"] > system.rms_error or error["max"] > system.max_error:
            raise NotMeasured(f"wrong answers: scores are off by {error['rms']:.1e} of their deviation (rms), at most "
                              f"{error['max']:.1e}")
        return error

    def start_one(self, system, data=None, warm=True):
        """A system of one row alone; the caller stops it."""
        try:
            system.start()
            if warm:
                self.warm(system, data)
        except BaseException:
            system.stop()
            raise
        return system


def load_average():
    return os.getloadavg()[0]


def describe(world):
    """What the figures depend on, for the table's head and the JSON."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    about = {"cpu": model, "cores": os.cpu_count(), "memory_gb": round(os.sysconf("SC_PAGE_SIZE") *
             os.sysconf("SC_PHYS_PAGES") / 1e9, 1), "contents": world.args.contents, "users": world.args.users,
             "m": M, "n": N, "d": D, "rounds": world.args.rounds, "seconds": world.args.seconds,
             "load_average_before": round(load_average(), 2),
             "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "(unset)")}
    world.results["machine"] = about
    print(json.dumps(about), flush=True)
