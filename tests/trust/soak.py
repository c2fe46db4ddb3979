"""Mixed load for minutes, while something happens every few seconds: memory stays what it is, and every answer right."""
import collections
import json
import os
import random
import statistics
import subprocess
import threading
import time

from common import EMBSUM, OPENLOOP, Place, Redis, api, check, generations, publish_unhurried, status_of
from mixture import ALL, CHANGING, CHANGING_USERS, CONTENTS, HOT, USERS, Judge, Truth, draw, during, hot, large, unknown

RATE, SEGMENT, PAUSE = 500, 10, (0.5, 3)  # requests a second, seconds, seconds between events


class Threads:
    """Threads that do something again and again until the end; what went wrong in them."""

    def __init__(self):
        self.stopping, self.broken, self.threads = threading.Event(), [], []

    def start(self, act):
        self.threads.append(threading.Thread(target=self.run, args=(act,)))
        self.threads[-1].start()

    def run(self, act):
        while not self.stopping.is_set():
            try:
                act()
            except Exception as error:  # pylint: disable=broad-except  (told at the end; the others go on)
                self.broken.append(f"{act.__name__}: {error!r}")
                self.stopping.wait(1)

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


class Events:
    """What happens to a service in production, in random order. Each event ends when the daemon has followed."""

    def __init__(self, rng, daemon, redis, truth):
        self.rng, self.daemon, self.redis, self.truth = rng, daemon, redis, truth
        self.where, self.next, self.count = ["--store", redis.url()], [], collections.Counter()
        self.slowest = collections.Counter()

    def turn(self):
        if not self.next:
            self.next = [self.publish, self.publish, self.reload, self.roll_back, self.change_user, self.change_content,
                         self.content_goes, self.content_goes, self.restart_redis, self.restart_redis]
            self.rng.shuffle(self.next)
        event = self.next.pop()
        start = time.monotonic()
        event()
        name = event.__name__.replace("_", " ")
        self.count[name] += 1
        self.slowest[name] = max(self.slowest[name], time.monotonic() - start)
        time.sleep(self.rng.uniform(*PAUSE))

    def wait_until(self, seen):
        deadline = time.monotonic() + 30  # a second does, but on a busy machine
        while not seen():
            assert time.monotonic() < deadline, "the daemon does not follow"
            time.sleep(0.01)

    def embsum(self, *what):
        return subprocess.run([EMBSUM, "generations", *what, *self.where], check=True, capture_output=True, text=True).stdout

    def live(self):
        return json.loads(self.daemon.ask("GET", "/readyz")[2]).get("generation")

    def publish(self, hurry=False):
        seed = self.rng.choice(list(self.truth.tables))
        name, _ = publish_unhurried(self.redis.url(), seed, USERS, CONTENTS)
        self.truth.seed_of[name] = seed
        if hurry:
            assert self.daemon.ask("POST", "/generations/reload", address=self.daemon.admin)[0] == 200
        self.wait_until(lambda: self.live() == name)
        rows, _ = generations(self.where)
        for row in rows[:-5]:
            if row["state"] != "live":
                self.embsum("drop", row["generation"])

    def reload(self):
        self.publish(hurry=True)

    def roll_back(self):
        name = self.embsum("rollback").split()[0]
        self.wait_until(lambda: self.live() == name)

    def change(self, name, other, write, seen):
        """Write another matrix under a name (or none) and wait until the daemon ranks by it."""
        generation = self.live()
        self.truth.change(generation, name, other)
        write(generation)
        self.wait_until(seen)
        self.truth.settle(generation, name)

    def ranked(self, user, content):
        """The score, or None."""
        _, answer = self.daemon.rank({"user": user, "candidates": [content]})
        return next((item["score"] for item in answer["ranking"]), None)

    def change_matrix(self, name, others, score):
        seed = self.truth.seed_of[self.live()]
        other = self.rng.choice([other for other in others if other != name])
        before = score()

        def write(_):
            subprocess.run([api.TEST_API, "change", self.redis.url(), str(seed), name, other], check=True)
        self.change(name, other, write, lambda: score() != before)

    def change_user(self):
        name = self.rng.choice(CHANGING_USERS)
        self.change_matrix(name, [f"U{i}" for i in range(USERS)], lambda: self.ranked(name, HOT[0]))

    def change_content(self):
        name = self.rng.choice(CHANGING)
        self.change_matrix(name, ALL, lambda: self.ranked("U0", name))

    def content_goes(self):
        """And comes back."""
        name = self.rng.choice(CHANGING)
        before = self.truth.matrices(self.live(), name)[-1]

        def rename(generation, *places):
            self.redis.ask("RENAME " + " ".join(places))
            self.redis.ask(f"XADD {{embsum}}:{generation}:changes * c {name}")

        def key(generation):
            return f"embsum:{generation}:c:{name}"
        self.change(name, None, lambda g: rename(g, key(g), "aside"), lambda: self.ranked("U0", name) is None)
        self.change(name, before, lambda g: rename(g, "aside", key(g)), lambda: self.ranked("U0", name) is not None)

    def restart_redis(self):
        before = generations(self.where)
        self.truth.leave()
        self.redis.end()
        time.sleep(self.rng.random())
        self.redis.start()
        self.wait_until(self.well)
        self.truth.come_back()
        assert generations(self.where) == before, "Redis has lost data"

    def well(self):
        name = unknown(self.rng)
        status, answer = self.daemon.rank({"user": name, "candidates": [name]})
        return status == 200 and "degraded" not in answer


class Visitors:
    """Connections that are opened for one request, and closed."""

    def __init__(self, rng, daemon, truth):
        self.rng, self.daemon, self.truth, self.count = rng, daemon, truth, collections.Counter()

    def turn(self):
        visit = self.rng.choice((self.page, self.page, self.operator, self.get, self.pieces, self.too_large, self.leaves))
        visit()
        self.count[visit.__name__.replace("_", " ")] += 1
        time.sleep(0.02)

    def page(self):
        for path, status in (("/livez", 200), ("/readyz", 200), ("/version", 200), ("/nothing", 404)):
            assert self.daemon.ask("GET", path)[0] == status
        first = time.monotonic_ns()
        status = self.daemon.ask("GET", "/users/" + self.rng.choice(("U1", unknown(self.rng))))[0]
        assert status in (200, 404) or (status == 503 and during(self.truth.away, first, time.monotonic_ns()))

    def operator(self):
        assert self.daemon.ask("GET", "/generations", address=self.daemon.admin)[0] == 200

    def judged(self, request, ask):
        first = time.monotonic_ns()
        status, _, text = ask()
        wrong, _ = Judge(self.truth, request, first, time.monotonic_ns()).verdict(status, json.loads(text))
        assert not wrong, wrong

    def get(self):
        request = hot(self.rng)
        body = json.loads(request.text)
        self.judged(request, lambda: self.daemon.ask("GET", f"/rank?user={body['user']}&candidates={','.join(body['candidates'])}"))

    def pieces(self):
        """In chunks, and slowly."""
        request = hot(self.rng)
        body = request.text.encode()
        pieces = [body[i:i + 40] for i in range(0, len(body), 40)]
        with api.Raw(self.daemon) as raw:
            raw.send(api.HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
                     *[b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces], b"0\r\n\r\n", pause=0.002)
            self.judged(request, raw.receive)

    def too_large(self):
        assert self.daemon.ask("POST", "/rank", "x" * 300000, {"Content-Type": "application/json"})[0] == 413

    def leaves(self):
        """In the middle of a request, or without waiting for the answer."""
        with api.Raw(self.daemon) as raw:
            request = api.post(hot(self.rng).text.encode())
            raw.send(request[:self.rng.choice((10, 100, len(request)))])


class Samples:
    """The resident memory under load, once a second; /metrics is read as often."""

    def __init__(self, daemon):
        self.daemon, self.start, self.rows = daemon, time.monotonic(), []

    def turn(self):
        self.rows.append((time.monotonic() - self.start, status_of(self.daemon.process)["VmRSS"] / 1024))
        assert self.daemon.metric("embsum_ready") == 1
        time.sleep(1)

    def tell(self):
        """Of each minute the median, in MiB."""
        minutes = collections.defaultdict(list)
        for at, mib in self.rows:
            minutes[int(at / 60)].append(mib)
        print("  resident memory under load, minute by minute, in MiB: "
              + ", ".join(f"{statistics.median(minute):.1f}" for minute in minutes.values()))


class Load:
    """openloop with requests that are new each time, and the judge of the answers."""

    def __init__(self, rng, daemon, truth, folder):
        self.rng, self.daemon, self.truth, self.folder = rng, daemon, truth, folder
        self.answered, self.unavailable, self.lost, self.wrong = collections.Counter(), 0, 0, []
        self.tried, self.unnoticed = 0, 0  # answers said to be of another generation, and those that the judge took for that

    def run(self, seconds, calm=False):
        requests = [self.rng.choice((hot, large))(self.rng) for _ in range(RATE)] if calm else draw(self.rng, int(RATE * seconds))
        with open(f"{self.folder}/bodies", "w", encoding="ascii") as file:
            file.writelines(request.text + "\n" for request in requests)
        out = subprocess.run([OPENLOOP, "--address", "%s:%d" % self.daemon.address, "--bodies", f"{self.folder}/bodies", "--answers",
                              f"{self.folder}/answers", "--rate", str(RATE), "--poisson", "--warmup", "0", "--connections",
                              "4" if calm else "32", "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True, check=False)
        figures = json.loads(out.stdout)
        self.lost += figures["failed"] + figures["unanswered"]
        with open(f"{self.folder}/answers", encoding="ascii") as file:
            return requests, [json.loads(line) for line in file]

    def judge(self, requests, answers):
        for answer in answers:
            request, body = requests[answer["request"]], answer["body"]
            judge = Judge(self.truth, request, answer["first_ns"], answer["last_ns"])
            wrong, lacks = judge.verdict(answer["status"], body)
            self.answered[request.kind] += answer["count"]
            self.unavailable += lacks * answer["count"]
            self.wrong += [wrong] * (wrong is not None) * answer["count"]
            if request.kind == "hot" and not wrong and self.rng.random() < 0.1:
                others = [name for name, seed in self.truth.seed_of.items() if seed != self.truth.seed_of[body["generation"]]]
                if others:
                    self.tried += 1
                    self.unnoticed += judge.verdict(200, {**body, "generation": self.rng.choice(others)})[0] is None


class Rest:
    """What the daemon holds when it was asked by few at a time lately, and by nobody now."""

    def __init__(self, daemon, load, events):
        load.judge(*load.run(2, calm=True))
        events.publish()  # with the generation before goes what can be spared
        deadline = time.monotonic() + 5
        while daemon.metric("embsum_http_connections") > 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        status = status_of(daemon.process)
        self.mib, self.threads = status["VmRSS"] / 1024, status["Threads"]
        self.files = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def soak(rng, short=False):
    """Ten minutes (SOAK_SECONDS) of everything at once: nothing grows, nobody gets a wrong answer."""
    seconds = 12 if short else float(os.environ.get("SOAK_SECONDS") or 600)
    rounds = 1 if short else 10
    with Place() as place:
        redis = Redis(place.folder)
        truth = Truth([rng.getrandbits(31) for _ in range(2 if short else 3)])
        daemon = api.Daemon(redis.url(), "memory.limit_bytes=1048576", "admin.listen=127.0.0.1:0", "store.command_timeout_ms=2000",
                            "rank.deadline_ms=5000")  # a busy machine is no outage
        events, visitors = Events(rng, daemon, redis, truth), Visitors(random.Random(rng.random()), daemon, truth)
        load, samples, broken = Load(random.Random(rng.random()), daemon, truth, place.folder), Samples(daemon), []
        for _ in range(2):
            events.publish()
        visitors.operator()
        rests = [Rest(daemon, load, events)]  # what is hot is in memory before the store goes away for the first time
        for _ in range(rounds):
            broken += work(seconds / rounds, load, events, visitors, samples)
            rests.append(Rest(daemon, load, events))
        lines = len(daemon.lines)
        for text in (load.wrong + broken)[:5]:
            print(f"  {text}")
        print("  events: " + ", ".join(f"{count} {name} (at most {events.slowest[name]:.1f} s)" for name, count in events.count.most_common()))
        for what, counts in (("visits", visitors.count), ("requests", load.answered)):
            print(f"  {what}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
        answered, happened = sum(load.answered.values()), sum(events.count.values())
        check(not load.wrong and not load.lost and answered >= RATE * seconds / 2,
              f"{len(load.wrong)} of {answered} answers wrong, {load.lost} lost; {load.unavailable} lacked something while Redis was away, "
              "none of them what is hot")
        # A short one may end before there is another generation to take an answer for.
        check(load.tried and not load.unnoticed, f"the judge takes {load.unnoticed} of {load.tried} for another generation's, too",
              judged=load.tried or seconds >= 60)
        check(not broken and happened >= seconds / 6,
              f"{len(broken)} of {happened} events and {sum(visitors.count.values())} visits went wrong")
        if not short:
            judge_memory([rest.mib for rest in rests[1:]], samples)
        last = rests[-1]
        check(last.threads == rests[0].threads and last.files <= rests[0].files,
              f"{last.threads} threads and {last.files} descriptors, {rests[0].threads} and {rests[0].files} before")
        check(lines <= 10 * happened + 50, f"{lines} lines in the log")
        check(daemon.stop()[0] == 0, "the daemon ends with 0")


def judge_memory(levels, samples):
    """Rounds 3 to 5 against the last three. So small a daemon's spare buffers come and go by a quarter of a MiB: 1 % of 25 MiB."""
    samples.tell()
    early, late = statistics.median(levels[2:5]), statistics.median(levels[-3:])
    print("  resident memory at rest, in MiB: " + ", ".join(f"{level:.2f}" for level in levels))
    check(late - early <= max(0.01 * early, 0.25),
          f"it grew by {1024 * (late - early):+.0f} KiB ({late / early - 1:+.1%}) since the fourth minute")


def work(seconds, load, events, visitors, samples):
    """All of it at once; what went wrong beside the load."""
    threads, judging, end = Threads(), None, time.monotonic() + seconds
    for turn in (events.turn, visitors.turn, samples.turn):
        threads.start(turn)
    while (left := end - time.monotonic()) > 1:
        done = load.run(min(SEGMENT, left))
        if judging:
            judging.join()
        judging = threading.Thread(target=load.judge, args=done)
        judging.start()
    judging.join()
    threads.end()
    return threads.broken
