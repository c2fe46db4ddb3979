"""Slow clients, hostile bodies, SIGTERM under load."""
import json
import random
import socket
import threading
import time

from common import Place, Steady, api, check, quantile, resident


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


def slow(rng, short=False):
    """1,000 slow clients of five kinds beside well-behaved ones."""
    kinds, count, deadline = ("first line", "fields", "body", "read", "silence"), 200 if short else 1000, 1.0 if short else 3.0
    spread = 1 if short else 5  # seconds until all have come
    settings = [f"server.{phase}_timeout_ms={int(deadline * 1000)}" for phase in ("header", "body", "write")]
    with Place() as place:
        daemon = api.Daemon(place.url, "server.connections_max=1500", "server.body_max_bytes=1000000", "server.bodies_max_bytes=1000000000", *settings)
        steady = Steady(daemon)
        time.sleep(spread)
        alone = steady.end()
        steady = Steady(daemon)
        start = time.monotonic() + 0.5
        clients = [Slow(daemon, kinds[i % len(kinds)], start + spread * rng.random()) for i in range(count)]
        end = start + spread + 4 * deadline
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
        check(p99[0] <= 2 * p99[1], f"p99 {p99[0] * 1e3:.1f} ms beside {p99[1] * 1e3:.1f} ms without slow clients", judged=not short)
        for client in clients:
            client.socket.close()
        check(daemon.stop()[0] == 0, "the daemon ends with 0")


# ---- hostile bodies ----

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


def worst(rng, short=False):
    """64 of the worst bodies at once, again and again."""
    size, rounds = 262144, 1 if short else 2
    with Place() as place:
        daemon = api.Daemon(place.url)
        daemon.rank(json.loads(api.GOOD))
        before, most, answers, lost = resident(daemon.process), 0, {}, []
        bodies = worst_bodies(size)

        def ask(number):
            order = random.Random(number).sample(bodies, len(bodies))
            for body in order * rounds:
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
            most = max(most, resident(daemon.process))
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
