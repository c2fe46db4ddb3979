"""The store's faults."""
import json
import multiprocessing
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from common import BUILD, Place, Redis, Steady, api, check, near, quantile, right_table


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
                    if scores.keys() != right[user].keys() or answer["user"] != user or not all(
                            near(scores[i], s) for i, s in right[user].items()):
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
    with Place() as place:
        redis = Redis(place.folder)
        api.publish(redis.url(), 1)
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


USERS, PROCESSES, CONNECTIONS = 20000, 4, 8


def is_right(result, user, right, status="present"):
    """Does this ranking have exactly the user's own scores?"""
    return result["user"] == user and result["user_status"] == status and all(
        near(item["score"], right[user][item["id"]]) for item in result["ranking"])


def ask_many(address, right, default, seed, wanted, pipe):
    """Some connections, asked in turn; counts of rankings that were right, wrong, refused, and by the default user because the
    user's own matrix came damaged, and this was told."""
    rng, count = random.Random(seed), {"right": 0, "wrong": 0, "unavailable": 0, "corrupt": 0, "unnoticed": 0}
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
                whole = len(result["ranking"]) == ranked
                if result.get("degraded") == ["user_corrupt"] and whole and is_right(result, user, {user: default}, "default"):
                    count["corrupt"] += 1
                    continue
                count["right" if whole and is_right(result, user, right) else "wrong"] += 1
                other = rng.choice(users)
                count["unnoticed"] += other != user and is_right(result, user, {user: right[other]})
    pipe.send(count)


class Wire:
    """Between a daemon and a Redis, with faults once it is told to work; each is one in so many commands."""

    def __init__(self, redis, rng, **faults):
        self.process = subprocess.Popen([BUILD / "tests/trust/wire", redis.path, str(rng.getrandbits(31)), "60",
                                         *(f"{fault}={one_in}" for fault, one_in in faults.items())],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"redis://127.0.0.1:{self.process.stdout.readline().strip()}"

    def turn(self):
        """On, or off again."""
        print(file=self.process.stdin, flush=True)

    def end(self):
        return json.loads(self.process.communicate()[0])


def ask_through(rng, wanted, repaired=None, **faults):
    """A daemon asks for users through a faulty wire until so many were ranked. What Redis was asked and what that met, counts
    of rankings, and the daemon's misses, late calls and seconds; repaired(daemon) is called when the faults have ended."""
    with Place() as place:
        redis = Redis(place.folder)
        api.publish(redis.url(), 1, USERS)
        right = {user: dict(zip(CONTENTS, scores)) for user, scores in right_table(1, USERS, CONTENTS).items()}
        wire = Wire(redis, rng, **faults)
        daemon = api.Daemon(wire.url, "memory.limit_bytes=1048576", "memory.preload=false", "rank.users_max=64",
                            "store.connections=8", "store.command_timeout_ms=20", "store.retry_min_ms=1", "store.retry_max_ms=5")
        while not (answer := daemon.rank({"user": "U1", "candidates": CONTENTS})[1]).get("ranking") or answer["missing"]:
            time.sleep(0.1)  # what all ask for comes into memory first
        default = {item["id"]: item["score"] for item in daemon.rank({"user": "nobody", "candidates": CONTENTS})[1]["ranking"]}
        wire.turn()
        start, pipes, processes = time.monotonic(), [], []
        for _ in range(PROCESSES):
            parent, child = multiprocessing.Pipe()
            process = multiprocessing.Process(target=ask_many, args=(Address(daemon), right, default, rng.random(),
                                                                     wanted // PROCESSES, child))
            process.start()
            child.close()
            pipes.append(parent)
            processes.append(process)
        counts = [pipe.recv() for pipe in pipes]
        for process in processes:
            process.join()
        seconds = time.monotonic() - start
        wire.turn()
        if repaired:
            repaired(daemon)
        count = {name: sum(c[name] for c in counts) for name in counts[0]}
        count["late"] = daemon.metric('embsum_store_errors_total{kind="timeout"}')
        misses = daemon.metric('embsum_hot_misses_total{kind="user"}')
        check(daemon.stop()[0] == 0, "the daemon ends with 0")
        answers = count["right"] + count["wrong"]
        check(count["wrong"] == 0 and count["right"] >= wanted, f"{count['wrong']} of {answers} rankings wrong, {count['unavailable']} refused, "
              f"{count['corrupt']} by the default user and told as damaged; {misses:.0f} users missed in memory, {seconds:.0f} s")
        check(count["unnoticed"] == 0, f"the judge takes {count['unnoticed']} of {answers} for another user's, too")
        return count, wire.end()


def timeouts(rng, short=False):
    """One in ten commands to Redis takes longer than the daemon waits: nobody gets the answer of another user."""
    count, met = ask_through(rng, 10000 if short else 200000, delay=10)
    fewest = met["commands"] / 10 - 5 * (0.09 * met["commands"]) ** 0.5  # five standard deviations below a tenth
    check(met["delay"] >= fewest and count["late"] >= met["delay"] / 2,
          f"{met['delay']} of {met['commands']} commands stalled, {count['late']:.0f} calls timed out")


def wire(rng, short=False):
    """A wire to Redis that delays, splits, cuts, swallows and garbles: what is answered is right, and all is well afterwards."""

    def repaired(daemon):
        start = time.monotonic()
        while any(daemon.rank({"user": f"U{rng.randrange(USERS)}", "candidates": CONTENTS})[1].get("user_status") != "present"
                  for _ in range(100)):
            time.sleep(0.01)
        seconds = time.monotonic() - start
        check(seconds <= 2, f"{seconds:.2f} s until 100 users one after the other are ranked")

    _, met = ask_through(rng, 10000 if short else 50000, repaired, delay=40, split=10, cut=40, hole=80, garbage=20)
    check(min(met.values()) > 0, ", ".join(f"{count} {name}" for name, count in met.items()))


class Address:
    """What a connection needs of a daemon, for another process."""

    def __init__(self, daemon):
        self.address = daemon.address

    def connect(self):
        return socket.create_connection(self.address, 15)
