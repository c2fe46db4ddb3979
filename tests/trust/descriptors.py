"""A daemon that has no descriptor left: it does not spin, serves those whom it has, and is back as soon as there are some."""
import json
import socket
import time

from common import Place, Redis, api, check
from faults import CONTENTS

CLIENTS, SECONDS = 200, 5
ULIMIT = ("sh", "-c", 'ulimit -n 64 && exec "$0" "$@"')


class Client:
    """One connection that was there before; it asks ten times a second for what is in memory and for what is nowhere."""

    def __init__(self, daemon):
        self.raw, self.seed = api.Raw(daemon), 1
        self.number, self.right, self.wrong, self.reasons = 0, api.right_scores(1, "U1", CONTENTS), [], {}

    def ask(self):
        """The reason why the unknown content is missing."""
        self.number += 1
        self.raw.send(api.post(json.dumps({"user": "U1", "candidates": [*CONTENTS, f"nobody{self.number}"]}).encode()))
        answer = self.raw.receive()
        body = json.loads(answer[2]) if answer else {}
        scores = {item["id"]: item["score"] for item in body.get("ranking", ())}
        if scores.keys() != self.right.keys() or any(abs(scores[i] - s) > 1e-5 * max(1, abs(s)) for i, s in self.right.items()):
            self.wrong.append(body)
            return None
        return body["missing"][0]["reason"]

    def ask_for(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            reason = self.ask()
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            time.sleep(0.1)

    def until_found(self, daemon):
        """Seconds until a new client is served, and until the store is asked again."""
        start = time.monotonic()
        while daemon.ask("GET", "/livez")[0] != 200:
            time.sleep(0.01)
        served = time.monotonic() - start
        while self.ask() != "not_found" and time.monotonic() < start + 20:
            time.sleep(0.01)
        return served, time.monotonic() - start

    def end(self):
        self.raw.close()
        return f"{self.number} answers for who was there, {len(self.wrong)} wrong"


def ready(daemon):
    while daemon.ask("GET", "/readyz")[0] != 200:
        time.sleep(0.02)
    return daemon


def starve(where, daemon, redis=None):
    """More clients than the daemon may have, for some seconds; Redis restarts meanwhile."""
    client = Client(ready(daemon))
    client.ask()
    with api.Starved(daemon, CLIENTS) as starved:
        if redis:
            redis.end()
            client.ask_for(1)  # descriptors of the store go to clients who wait
            redis.start()
            client.ask_for(1)
            client.reasons.clear()
        share = starved.share(SECONDS, client.ask_for)
    served, found = client.until_found(daemon)
    reasons = ", ".join(f"{count} x {reason}" for reason, count in client.reasons.items())
    check(share <= 0.1, f"{where}: {100 * share:.1f} % of a processor while there are none, over {SECONDS} s")
    check(served <= 2 and found <= 2, f"{where}: a new client is served {served:.2f} s after they are back, the store asked after {found:.2f} s")
    check(not client.wrong, f"{where}: {client.end()}; who is in no memory was {reasons} meanwhile")
    if redis:
        check("not_found" not in client.reasons, f"{where}: the store was out of reach all the time")
    check(daemon.stop()[0] == 0, f"{where}: the daemon ends with 0")


def limited(where, daemon, redis=None):
    """Under `ulimit -n 64`: the descriptors are shared out, so that clients never take those of the store."""
    client = Client(ready(daemon))
    client.ask()
    held = [api.Raw(daemon) for _ in range(CLIENTS)]
    answers = {}
    for raw in held:
        raw.send(api.post(api.GOOD))
        answer = raw.receive()
        status = answer[0] if answer else "none"
        answers[status] = answers.get(status, 0) + 1
    check(answers.keys() == {200, 503}, f"{where}: {CLIENTS} clients at once, answered with " + ", ".join(f"{n} x {s}" for s, n in answers.items()))
    if redis:
        redis.end()
        client.ask_for(1)
        redis.start()
        found = client.until_found(daemon)[1]
        check(found <= 2, f"{where}: the store is asked {found:.2f} s after it is back, while the clients are there")
    for raw in held:
        raw.close()
    start = time.monotonic()
    while daemon.ask("POST", "/rank", api.GOOD, {"Content-Type": "application/json"})[0] != 200:
        time.sleep(0.01)
    seconds = time.monotonic() - start
    check(seconds <= 2, f"{where}: a new client is served {seconds:.2f} s after the others have gone")
    check(not client.wrong, f"{where}: {client.end()}")
    check(daemon.stop()[0] == 0, f"{where}: the daemon ends with 0")


def descriptors(rng):
    """No descriptor left, for clients or for the store: no spinning, and all is well as soon as there are some."""
    settings = ("server.workers=2", "memory.preload=false")
    with Place() as place:
        limited("ulimit -n 64", api.Daemon(place.url, *settings, under=ULIMIT))
        starve("none left", api.Daemon(place.url, *settings))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Place() as place:
        redis = Redis(place.folder, port)
        api.publish(redis.url(), 1)
        limited("ulimit -n 64, Redis restarts", api.Daemon(redis.url(), *settings, under=ULIMIT), redis)
        starve("none left, Redis restarts", api.Daemon(redis.url(), *settings), redis)
        # a name takes descriptors to be looked up
        starve("none left, Redis by name restarts", api.Daemon(f"redis://localhost:{port}", *settings), redis)
