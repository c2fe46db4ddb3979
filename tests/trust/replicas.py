"""Promises about a store of many servers: a cluster that is resharded and loses a master, a master that its sentinels depose."""
import concurrent.futures
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from common import Steady, api, check
from generations import EMBSUM, Race, generations, write_matrices


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Servers:
    """redis-servers on ports of 127.0.0.1, in a temporary folder."""

    def __init__(self):
        self.folder, self.processes, self.arguments = tempfile.mkdtemp(prefix="embsum-trust-"), {}, {}

    def start(self, *options, port=None):
        """A new one, or one that has ended, as it was; its port."""
        if port is None:
            port = free_port()
            folder = f"{self.folder}/{port}"
            subprocess.run(["mkdir", folder], check=True)
            self.arguments[port] = [*options[:1], "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "",
                                    "--repl-diskless-sync-delay", "0", *options[1:]]
        process = subprocess.Popen(["/usr/bin/redis-server", *(a for a in self.arguments[port] if a is not None)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        api.Daemon.all.append(process)  # ended with the place
        self.processes[port] = process
        self.wait(port, "ping", "PONG")
        return port

    def ask(self, port, *command):
        return subprocess.run(["redis-cli", "-p", str(port), *command], capture_output=True, text=True).stdout

    def wait(self, port, command, text, seconds=30):
        deadline = time.monotonic() + seconds
        while text not in (said := self.ask(port, *command.split())):
            if time.monotonic() > deadline:
                raise AssertionError(f"redis on {port} never said {text}: {said}")
            time.sleep(0.02)

    def kill(self, port):
        self.processes[port].kill()
        self.processes[port].wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        api.tearDownModule()
        shutil.rmtree(self.folder)


# ---- a cluster ----

USERS, CONTENTS = 20000, [f"N{i}" for i in range(1, 6)]


class Cluster(Servers):
    def __enter__(self):
        self.ports = [self.start(None, "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "2000")
                      for _ in range(6)]
        hosts = [f"127.0.0.1:{port}" for port in self.ports]
        subprocess.run(["redis-cli", "--cluster", "create", *hosts, "--cluster-replicas", "1", "--cluster-yes"], check=True,
                       stdout=subprocess.DEVNULL)
        for port in self.ports:
            self.wait(port, "cluster info", "cluster_state:ok")
            self.wait(port, "role", "connected" if "slave" in self.ask(port, "role") else "master")
        self.url = "redis+cluster://" + ",".join(hosts)
        return self

    def owner(self, key):
        """The port of the master that has a key."""
        said = self.ask(self.ports[0], "get", key)
        return int(said.rsplit(":", 1)[1]) if said.startswith("MOVED") else self.ports[0]

    def reshard(self, slots, port):
        """Slots from all masters to one of them."""
        to = self.ask(port, "cluster", "myid").strip()
        while subprocess.run(["redis-cli", "--cluster", "check", f"127.0.0.1:{port}"], capture_output=True).returncode:
            time.sleep(0.1)  # they do not agree yet about the move before
        begun = time.monotonic()
        out = subprocess.run(["redis-cli", "--cluster", "reshard", f"127.0.0.1:{self.ports[0]}", "--cluster-from", "all", "--cluster-to",
                              to, "--cluster-slots", str(slots), "--cluster-pipeline", "2", "--cluster-yes"], capture_output=True, text=True)
        moved = len(re.findall("^Moving slot", out.stdout, re.M))
        assert out.returncode == 0, out.stdout[-500:] + out.stderr
        return moved, time.monotonic() - begun


class Asking(Steady):
    """Clients that ask for users who are hot, and for others. Each answer: when, whose, whether it was given, what is wrong."""

    def run(self, daemon, pause, stopping):
        rng = random.Random(threading.get_ident())
        with api.Raw(daemon) as raw:
            while not stopping.is_set():
                hot = rng.random() < 0.5
                user = f"U{rng.randrange(20 if hot else USERS)}"
                start = time.monotonic()
                raw.send(api.post(json.dumps({"user": user, "candidates": CONTENTS}).encode()))
                status, _, text = raw.receive()
                answer = json.loads(text)
                scores = {item["id"]: item["score"] for item in answer.get("ranking", ())}
                good = status == 200 and answer["user"] == user and answer["user_status"] == "present" and scores.keys() == set(CONTENTS)
                self.latencies.append((start, hot, good, user, scores if good else {}, None if good or status == 503 else answer))
                time.sleep(pause)


def judge(answers, name):
    """Every ranking is compared with the scores that its user has."""
    right = {}
    table = subprocess.run([api.TEST_API, "table", "1", str(USERS), *CONTENTS], check=True, capture_output=True, text=True)
    for number, line in enumerate(table.stdout.splitlines()):
        right[f"U{number}"] = dict(zip(CONTENTS, map(float, line.split())))
    wrong = [a for a in answers if a[5] or any(abs(s - right[a[3]][i]) > 1e-5 * max(1, abs(right[a[3]][i])) for i, s in a[4].items())]
    hot = [a for a in answers if a[1]]
    others = [a for a in answers if not a[1]]
    for answer in wrong[:3]:
        print(f"  {answer}")
    check(not wrong, f"{name}: {len(wrong)} of {len(answers)} answers wrong")
    check(hot and all(a[2] for a in hot), f"{name}: {sum(a[2] for a in hot)} of {len(hot)} for hot users answered, "
          f"{sum(a[2] for a in others)} of {len(others)} for others")


def cluster(rng):
    """Three masters and their replicas under load: 1,000 slots move, then a master is killed; nobody mends anything by hand."""
    with Cluster() as redis:
        subprocess.run([api.TEST_API, "publish", redis.url, "1", str(USERS)], check=True, stdout=subprocess.DEVNULL)
        daemon = api.Daemon(redis.url, "memory.preload=false", "store.poll_ms=200")
        for user in range(20):
            while daemon.rank({"user": f"U{user}", "candidates": CONTENTS})[1].get("missing") != []:
                time.sleep(0.05)
        asking = Asking(daemon, clients=8, pause=0.01)
        time.sleep(1)
        moves = [redis.reshard(1000, port) for port in redis.ports[:3]]  # create makes the first three masters
        answers = asking.end()
        judge(answers, " and ".join(f"{moved} slots moved in {seconds:.1f} s" for moved, seconds in moves))
        check(all(moved >= 1000 for moved, _ in moves) and all(a[2] for a in answers), "and everybody was answered")
        asking = Asking(daemon, clients=8, pause=0.01)
        time.sleep(1)
        victim = redis.owner("{embsum}:live")
        redis.kill(victim)
        killed = time.monotonic()
        time.sleep(8 + rng.random())
        answers = asking.end()
        judge(answers, "a master killed")
        back = max((a[0] for a in answers if not a[2]), default=killed) - killed
        check(back <= 6, f"the last refusal {back:.1f} s after its death (cluster-node-timeout 2 s)")
        name = subprocess.run([api.TEST_API, "publish", redis.url, "2", "20"], check=True, capture_output=True, text=True).stdout.strip()
        deadline = time.monotonic() + 10
        while (seen := daemon.rank({"user": "U1", "candidates": CONTENTS})[1].get("generation")) != name and time.monotonic() < deadline:
            time.sleep(0.05)
        check(seen == name, "a generation published afterwards is the one that is served")
        redis.start(port=victim)
        redis.wait(victim, "role", "slave")
        old = subprocess.run([EMBSUM, "generations", "list", "--store", redis.url, "--json"], stdout=subprocess.PIPE, text=True, check=True)
        gone = [json.loads(line)["generation"] for line in old.stdout.splitlines() if json.loads(line)["state"] == "retired"]
        check(subprocess.run([EMBSUM, "generations", "drop", "--store", redis.url, *gone], capture_output=True).returncode == 0
              and not any(redis.ask(port, "--scan", "--pattern", f"embsum:{gone[0]}:*") for port in redis.ports),
              "the old one is dropped, and no node has a key of it")
        check(daemon.stop()[0] == 0, "the daemon ends with 0")


# ---- sentinels ----

DOWN_AFTER = 1.0


class Sentinels(Servers):
    def __enter__(self):
        self.nodes = [self.start(None)]
        self.nodes.append(self.start(None, "--replicaof", f"127.0.0.1 {self.nodes[0]}"))
        self.wait(self.nodes[1], "role", "connected")
        self.sentinels = []
        for number in range(3):
            config = f"{self.folder}/sentinel{number}.conf"
            with open(config, "w", encoding="ascii") as file:
                file.write(f"sentinel monitor embsum 127.0.0.1 {self.nodes[0]} 2\n"
                           f"sentinel down-after-milliseconds embsum {int(DOWN_AFTER * 1000)}\nsentinel failover-timeout embsum 3000\n")
            self.sentinels.append(self.start(config, "--sentinel"))
        for sentinel in self.sentinels:
            self.wait(sentinel, "info sentinel", "slaves=1,sentinels=3")
        self.url = "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in self.sentinels) + "/embsum"
        return self

    def master(self):
        return int(self.ask(self.sentinels[0], "sentinel", "get-master-addr-by-name", "embsum").split()[1])

    def await_other(self, port):
        while any(self.ask(s, "sentinel", "get-master-addr-by-name", "embsum").split()[1] == str(port) for s in self.sentinels):
            time.sleep(0.02)


def sentinel_kills(redis, rounds):
    """A writer that goes on writing while masters die."""
    names = [subprocess.run([api.TEST_API, "publish", redis.url, str(seed), "20"], check=True, capture_output=True, text=True).stdout.strip()
             for seed in (1, 2)]
    longest = 0
    for number in range(rounds):
        victim = redis.master()
        redis.kill(victim)
        killed = time.monotonic()
        while subprocess.run([EMBSUM, "generations", "promote", names[number % 2], "--store", redis.url], capture_output=True).returncode:
            assert time.monotonic() < killed + 30
        longest = max(longest, time.monotonic() - killed)
        live = generations(["--store", redis.url])[1]
        if live != names[number % 2]:
            check(False, f"{live} is live, not the one that was promoted")
        redis.start(port=victim)
        redis.wait(victim, "role", "connected", 60)
        for sentinel in redis.sentinels:
            redis.wait(sentinel, "sentinel replicas embsum", str(victim))
        time.sleep(7)  # they do not fail over again sooner than twice failover-timeout
    check(longest <= DOWN_AFTER + 3, f"{rounds} masters killed: writes came back after {longest:.1f} s at most, down-after is {DOWN_AFTER:.0f} s")


class Deposed(Race):
    """Two imports; the first is stopped while it holds the lock on a master that is deposed meanwhile, and both wake."""

    def verdict(self):
        name = json.loads(self.second.stdout.read())["generation"] if self.codes[1] == 0 else None
        if self.codes[0] == 0 or self.codes[1] != 0 or not self.after == self.between == name:
            return f"exit codes {self.codes}, the pointer from {self.live} over {self.between} to {self.after}: {self.said}"
        return None


def sentinel_races(redis, rng, count):
    write_matrices(f"{redis.folder}/matrices", rng, users=100, contents=300)
    races = [Deposed(["--store", redis.url, "--prefix", f"p{i}"], f"{redis.folder}/matrices") for i in range(count)]
    for race in races:
        race.stop_first(rng)
    old = redis.master()
    redis.processes[old].send_signal(signal.SIGSTOP)
    redis.await_other(old)
    time.sleep(31)  # the lease
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(Race.run_second, races))
        redis.processes[old].send_signal(signal.SIGCONT)
        list(pool.map(Race.wake_first, races))
    moved = [i for i, race in enumerate(races) if redis.ask(old, "get", f"{{p{i}}}:live").strip() not in (race.live, race.between)]
    wrong = [text for text in (race.verdict() for race in races) if text]
    for text in wrong[:5]:
        print(f"  {text}")
    reasons = [re.sub("127.0.0.1:[0-9]+", "...", race.said.strip().splitlines()[-1])[:110] for race in races]
    for reason in sorted(set(reasons)):
        print(f"  {reasons.count(reason)} times: {reason}")
    check(not wrong, f"the writer of a deposed master moved the pointer, or did not say that it failed, in {len(wrong)} of {count} races")
    check(not moved, f"nor did it on the deposed master itself, in {count - len(moved)} of {count}")


def sentinel(rng):
    """A master, its replica and three sentinels: masters are killed, and one wakes up deposed with its writers."""
    with Sentinels() as redis:
        sentinel_kills(redis, 3)
        sentinel_races(redis, rng, 16)
