"""Promises about generations: switches under load, writers that are paused, refreshes that are killed."""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import struct
import subprocess
import threading
import time

from common import BUILD, EMBSUM, OPENLOOP, ROOT, Place, Redis, api, check, generations, near, publish_unhurried


# ---- switches ----

class Asking:
    """openloop asking a daemon for three candidates at a time, 10,000 times a second."""

    def __init__(self, daemon, folder, seconds):
        self.answers = f"{folder}/answers"
        arguments = [OPENLOOP, "--address", "%s:%d" % daemon.address, "--bodies", f"{folder}/bodies", "--answers", self.answers,
                     "--rate", "10000", "--warmup", "0", "--connections", "64", "--seconds", str(seconds)]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    def end(self):
        """What openloop says, and each different answer."""
        figures = json.loads(self.process.communicate()[0])
        with open(self.answers, encoding="ascii") as file:
            return figures, [json.loads(line) for line in file]


def count_wrong(answers, seed_of):
    """How many answers are not, score for score, what the generation that they name gives."""
    wanted, wrong = {}, 0
    for answer in answers:
        body = answer["body"]
        key = seed_of.get(body.get("generation")), body.get("user")
        if answer["status"] == 200 and key[0] is not None and key not in wanted:
            wanted[key] = api.right_scores(*key, [f"N{i}" for i in range(6)])
        right = [near(item["score"], wanted[key][item["id"]]) for item in body.get("ranking", ())] if key in wanted else []
        wrong += answer["count"] * (right != [True] * 3)
    return wrong


def switch(rng):
    """200 new generations under 10,000 requests a second; each answer is compared with the generation that it names."""
    rounds, switches, pause = 5, 40, 0.3
    seeds = iter(range(first := rng.randrange(2**31) * 1000, first + 1000))
    seed_of, live_at, seen, left, p99 = {}, {}, {}, {}, ([], [])
    answered, bad, wrong = 0, 0, 0
    with Place() as place:
        with open(f"{place.folder}/bodies", "w", encoding="ascii") as file:
            for user in ("U1", "U2"):
                for i in range(4):
                    print(json.dumps({"user": user, "candidates": [f"N{i}", f"N{i + 1}", f"N{i + 2}"]}), file=file)
        name, _ = publish_unhurried(place.url, seed := next(seeds))
        seed_of[name] = seed
        order = [name]
        daemon = api.Daemon(place.url)
        while daemon.ask("GET", "/readyz")[0] != 200:
            time.sleep(0.05)
        for _ in range(rounds):
            asking = Asking(daemon, place.folder, 5)
            figures, quiet = asking.end()
            p99[0].append(figures["from_due_us"]["p99"])
            asking = Asking(daemon, place.folder, switches * (pause + 0.3))
            for _ in range(switches):
                time.sleep(pause)
                name, when = publish_unhurried(place.url, seed := next(seeds))
                seed_of[name], live_at[name] = seed, when
                order.append(name)
                while json.loads(daemon.ask("GET", "/readyz")[2])["generation"] != name and time.monotonic_ns() < when + 5e9:
                    time.sleep(0.1)  # rarely: this asks for the cores, too, and openloop tells when a generation was first seen
                seen[name] = time.monotonic_ns()
            figures, switching = asking.end()
            p99[1].append(figures["from_due_us"]["p99"])
            answered += figures["answered"]
            bad += figures["not_200"] + figures["failed"] + figures["unanswered"]
            wrong += count_wrong(quiet + switching, seed_of)
            for answer in switching:
                name = answer["body"].get("generation")
                seen[name] = min(seen.get(name, answer["first_ns"]), answer["first_ns"])
                left[name] = max(left.get(name, 0), answer["last_ns"])
        delays = [(seen.get(name, float("inf")) - live_at[name]) / 1e9 for name in order[1:]]
        lags = [(left.get(old, 0) - live_at[name]) / 1e9 for old, name in zip(order, order[1:])]
        check(daemon.stop()[0] == 0, "the daemon ends with 0")
    check(wrong == 0 and answered >= 1000000, f"{wrong} of {answered} answers mix generations, over {len(delays)} switches")
    check(bad == 0, f"{bad} requests were refused, lost or not answered")
    check(max(delays) <= 1 and max(lags) <= 1, f"a new generation is seen within {max(delays):.2f} s (median "
          f"{statistics.median(delays):.2f} s), the old one at most {max(lags):.2f} s after the switch")
    print("  p99 in ms, without and during switches: " + ", ".join(f"{a / 1e3:.1f} {b / 1e3:.1f}" for a, b in zip(*p99)))
    ratio = statistics.median(p99[1]) / statistics.median(p99[0])
    check(ratio <= 2, f"p99 {statistics.median(p99[1]) / 1e3:.2f} ms during switches, {statistics.median(p99[0]) / 1e3:.2f} ms "
          f"without: {ratio:.2f} times (medians of {rounds} rounds)")


# ---- writers that are paused ----

def write_npy(path, rng, *shape):
    count = 1
    for size in shape:
        count *= size
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (63 - (10 + len(head)) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
        file.write(struct.pack(f"<{count}f", *(rng.random() for _ in range(count))))


def write_matrices(folder, rng, users=500, contents=1500):
    os.mkdir(folder)
    write_npy(f"{folder}/user.npy", rng, users, 4, 16)
    write_npy(f"{folder}/content.npy", rng, contents, 2, 16)
    write_npy(f"{folder}/score_proj.npy", rng, 16, 16)
    for kind, letter, count in (("user", "U", users), ("content", "N", contents)):
        with open(f"{folder}/{kind}.ids", "w", encoding="ascii") as file:
            file.writelines(f"{letter}{i}\n" for i in range(count))


class Race:
    """Two imports into one store. The first is stopped while it holds the lock, and woken after the second is done."""

    def __init__(self, where, matrices):
        self.where, self.matrices = where, matrices
        process = self.start()
        begun = time.monotonic()
        assert process.wait(60) == 0
        self.seconds = time.monotonic() - begun

    def start(self):
        """It holds the lock when this returns, unless it could not have it."""
        process = subprocess.Popen([EMBSUM, "import", "--in", self.matrices, *self.where], text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        api.Daemon.all.append(process)  # ended with the place, even if it is stopped
        process.said = process.stderr.readline()
        return process

    def stop_first(self, rng):
        """Start it until it is caught between the lock and the switch."""
        while True:
            _, self.live = generations(self.where)
            self.first = self.start()
            time.sleep(self.seconds * rng.random())
            self.first.send_signal(signal.SIGSTOP)
            rows, live = generations(self.where)
            if live == self.live and any(row["state"] == "building" for row in rows):
                return
            self.first.send_signal(signal.SIGCONT)
            self.first.wait(60)

    def expire(self):
        """End the lease of the first, sooner; one that sleeps in LMDB's write transaction keeps everybody out all the same."""
        try:
            subprocess.run([api.TEST_API, "expire", self.where[1]], check=True, timeout=2)
        except subprocess.TimeoutExpired:
            pass

    def run_second(self):
        starting = threading.Thread(target=self.start_second)
        starting.start()
        starting.join(5)
        self.blocked = starting.is_alive()  # the first sleeps in the middle of LMDB's write transaction
        self.starting, self.between = starting, generations(self.where)[1]

    def start_second(self):
        self.second = self.start()
        self.second.wait(60)

    def wake_first(self):
        self.first.send_signal(signal.SIGCONT)
        self.first.wait(60)
        self.starting.join(60)
        self.codes = self.first.returncode, self.second.returncode
        self.after = generations(self.where)[1]
        self.said = "".join(process.said + process.stderr.read() for process in (self.first, self.second)
                            if process.returncode != 0)

    def verdict(self):
        """None, or what is wrong. Whoever began later and was done is live, whatever the other does when it wakes."""
        names = [json.loads(process.stdout.read())["generation"] if process.returncode == 0 else None
                 for process in (self.first, self.second)]
        seen = f"exit codes {self.codes}, the pointer from {self.live} over {self.between} to {self.after}: {self.said}"
        if self.after != (names[1] or names[0]) or self.between != (self.live if self.blocked else names[1]):
            return seen
        if not self.blocked and self.codes not in ((1, 0), (3, 0)):
            return seen
        reason = "another writer.* (has taken over|holds the lock)|no answer within"  # the last: it slept in a question to Redis
        if self.codes.count(0) < 2 and not re.search(reason, self.said):
            return seen
        rows, _ = generations(self.where)
        return None if all(row["state"] != "building" for row in rows) else f"left behind: {rows}"


def fence(rng, short=False):
    """100 races of two imports, 50 on each store; the first is stopped past its lease of 30 s and woken."""
    count = 3 if short else 50
    with Place() as place:
        write_matrices(f"{place.folder}/matrices", rng)
        redis = Redis(place.folder)
        wheres = [["--store", f"lmdb:{place.folder}/race{i}"] for i in range(count)]
        wheres += [["--store", redis.url(i)] for i in range(count)]
        races = [Race(where, f"{place.folder}/matrices") for where in wheres]
        for race in races:
            race.stop_first(rng)
        steps = [Race.run_second, Race.wake_first]
        if short:
            steps.insert(0, Race.expire)
        else:
            time.sleep(31)
        for step in steps:
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                list(pool.map(step, races))
        wrong = [text for text in map(Race.verdict, races) if text]
        for text in wrong[:5]:
            print(f"  {text}")
        codes = [race.codes for race in races]
        print("  exit codes of the paused writer and the other: "
              + ", ".join(f"{pair[0]} and {pair[1]} {codes.count(pair)} times" for pair in sorted(set(codes)))
              + f"; in {sum(race.blocked for race in races)} the paused one held LMDB's writer mutex")
        check(not wrong, f"the pointer went back, or the loser did not say why, in {len(wrong)} of {len(races)} races")


# ---- refreshes that are killed ----

TINY = ROOT / "tests/golden/tiny"
QUESTIONS = [{"user": user, "candidates": ["N1000", "N1007", "N1014"]} for user in ("U100", "U101", "nobody")]


class Readers(threading.Thread):
    """Asks a daemon 500 times a second until the end; each different answer, without the generation's name."""

    def __init__(self, daemon, folder):
        super().__init__()
        self.daemon_process, self.folder = daemon, folder
        self.stopping = threading.Event()
        self.answered, self.failed, self.bodies, self.names = 0, 0, {}, set()
        with open(f"{folder}/questions", "w", encoding="ascii") as file:
            file.writelines(json.dumps(question) + "\n" for question in QUESTIONS)
        self.start()

    def run(self):
        while not self.stopping.is_set():
            out = subprocess.run(
                [OPENLOOP, "--address", "%s:%d" % self.daemon_process.address, "--bodies", f"{self.folder}/questions",
                 "--answers", f"{self.folder}/answers", "--rate", "500", "--warmup", "0", "--seconds", "5"],
                stdout=subprocess.PIPE, text=True, check=False)
            figures = json.loads(out.stdout)
            self.answered += figures["answered"]
            self.failed += figures["not_200"] + figures["failed"] + figures["unanswered"]
            with open(f"{self.folder}/answers", encoding="ascii") as file:
                for answer in map(json.loads, file):
                    self.names.add(answer["body"].pop("generation", None))
                    text = json.dumps(answer["body"])
                    self.bodies[text] = self.bodies.get(text, 0) + answer["count"]

    def end(self):
        self.stopping.set()
        self.join()


def other_inputs(folder):
    """News and behaviours that differ from the tiny ones in every way: contents new, gone and changed, users new, gone and
    with another history; what the readers ask for stays."""
    news = (TINY / "news.tsv").read_text("utf-8").splitlines()
    rows = [row for row in news if row.split("\t")[0] not in ("N1203", "N1126")]
    rows = [row.replace("Rain", "Sunshine, then rain") if row.startswith("N1084\t") else row for row in rows]
    rows.append("N2000\tsports\tnew\tA new item about a small trial\tand what came of it\t\t\t")
    users = (TINY / "behaviors.tsv").read_text("utf-8").splitlines()
    users = [row for row in users if "\tUequal\t" not in row]
    users = [row.replace("N1119 N1000 N1168", "N1119 N1000 N1168 N2000") for row in users]
    users.append("99\tUnew\t11/24/2026 3:00:00 AM\tN2000 N1014\t")
    for name, lines in (("news.tsv", rows), ("behaviors.tsv", users)):
        pathlib.Path(f"{folder}/{name}").write_text("".join(line + "\n" for line in lines), "utf-8")
    return folder


class Refreshes:
    """Refreshes of one model and two sets of texts, in turn, into a store: each set gives the same matrices, inside a generation
    or in a new one, after whatever was killed before."""

    def __init__(self, folder, url):
        self.url, self.names, self.broken, self.turns = url, [], [], 0
        self.inputs = [TINY, other_inputs(folder)]
        self.command = [EMBSUM, "refresh", "--model", f"{folder}/model", "--keep", "1", "--max-shrink", "100"]
        self.right = [self.undisturbed(f"lmdb:{folder}/right{i}", i) for i in range(2)]
        self.seconds = {full: min(self.whole(full) for _ in range(4)) for full in (False, True)}

    def arguments(self, url, turn, full):
        inputs = self.inputs[turn]
        return [*self.command, "--news", f"{inputs}/news.tsv", "--behaviors", f"{inputs}/behaviors.tsv", "--store", url,
                *(["--full"] if full else [])]

    def undisturbed(self, url, turn):
        subprocess.run(self.arguments(url, turn, False), check=True, capture_output=True)
        out = self.dump(url)
        shutil.rmtree(url.removeprefix("lmdb:"))
        return out

    @staticmethod
    def dump(url):
        return subprocess.run([BUILD / "tests/trust/dump", url], check=True, capture_output=True, text=True).stdout

    def whole(self, full):
        """One that is left alone: its seconds. What have the killed ones before left behind, and is the end right?"""
        start = time.monotonic()
        out = subprocess.run(self.arguments(self.url, self.turns % 2, full), capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
        if out.returncode:
            self.broken.append(f"exit code {out.returncode}: {out.stderr.splitlines()[-1]}")
            return seconds
        rows, _ = generations(["--store", self.url])
        known = {row["generation"] for row in rows}
        for name in self.names:
            keys = 0 if name in known else int(subprocess.run([api.TEST_API, "keys", self.url, name],
                                                              check=True, capture_output=True).stdout)
            if keys:
                self.broken.append(f"{name} is gone and has {keys} keys")
        if any(row["state"] not in ("live", "retired") for row in rows):
            self.broken.append(f"left behind: {rows}")
        if self.dump(self.url) != self.right[self.turns % 2]:
            self.broken.append(f"the end of turn {self.turns} is not that of an undisturbed run")
        self.names.clear()
        self.turns += 1
        return seconds

    def killed(self, full, after=None, at_write=None):
        """True if it was killed, after so many seconds or at a write."""
        more = {"LD_PRELOAD": str(BUILD / "tests/trust/kill_at.so"), "KILL_AT": str(at_write)} if at_write else {}
        process = subprocess.Popen(self.arguments(self.url, self.turns % 2, full), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, env={**os.environ, **more})
        if after is not None:
            time.sleep(after)
            process.kill()
        said = process.communicate(timeout=60)[1]
        self.names += re.findall("^generation (.*) is new$", said, re.M)
        if process.returncode == -signal.SIGKILL:
            subprocess.run([api.TEST_API, "expire", self.url], check=True)
            return True
        if process.returncode:
            self.broken.append(f"exit code {process.returncode}: {said.splitlines()[-1]}")
        self.turns += 1  # it is done, and the store is as its inputs say
        return False


def kill_refreshes(name, folder, url, rng, short):
    refreshes = Refreshes(folder, url)
    daemon = api.Daemon(url, "store.poll_ms=50")
    while daemon.ask("GET", "/readyz")[0] != 200:
        time.sleep(0.05)
    readers = Readers(daemon, folder)
    step, wanted = (8, 4) if short else (1, 100)
    writes, moments = 0, 0
    for full in (False, True):
        at = rng.randint(1, step)
        while refreshes.killed(full, at_write=at):
            writes, at = writes + 1, at + step
            refreshes.whole(full)
        killed = 0
        for _ in range(5 * wanted):
            if killed < wanted and refreshes.killed(full, after=refreshes.seconds[full] * rng.random()):
                killed += 1
                if rng.random() < 0.7:  # else another one is killed on top
                    refreshes.whole(full)
        moments += killed
        refreshes.whole(full)
    readers.end()
    for text in refreshes.broken[:5]:
        print(f"  {text}")
    check(not refreshes.broken and writes >= 15 // step and moments == 2 * wanted,
          f"{name}: killed at {writes} writes, {'each' if step == 1 else 'one in 8'}, and at {moments} random moments, inside a generation and "
          f"in new ones; {len(refreshes.broken)} refreshes afterwards failed, left something behind or ended otherwise than an "
          "undisturbed one")
    check(readers.failed == 0 and len(readers.bodies) == len(QUESTIONS),
          f"{name}: {readers.failed} of {readers.answered} answers failed, {len(readers.bodies)} different ones to "
          f"{len(QUESTIONS)} questions, from {len(readers.names)} generations")
    check(daemon.stop()[0] == 0, "the daemon ends with 0")


def kill(rng, short=False):
    """A refresh killed at each of its writes and at 200 random moments, under readers, on each store."""
    with Place() as place:
        subprocess.run([EMBSUM, "init", "--config", ROOT / "tests/golden/tiny.json", "--vocab", TINY / "spiece.model",
                        "--out", f"{place.folder}/model", "--seed", str(rng.randrange(2**31)), "--quiet"], check=True)
        kill_refreshes("LMDB", place.folder, f"lmdb:{place.folder}/killed", rng, short)
        kill_refreshes("Redis", place.folder, Redis(place.folder).url(), rng, short)


