"""A mixture of requests, and the judge of what is answered while generations, matrices and the store come and go."""
import json
import time

from common import api, near, right_table

USERS, CONTENTS, CATEGORIES = 1000, 2500, 7  # more than a memory of 1 MiB has room for
ALL = [f"N{i}" for i in range(CONTENTS)]
OFTEN = ALL[:1000]  # in memory, most of them: lists that are longer than memory push out what is hot
HOT_USERS, HOT = [f"U{i}" for i in range(10)], ALL[:20]
CHANGING_USERS, CHANGING = [f"U{i}" for i in range(20, 30)], ALL[30:45]


class Request:
    """What is asked, and what can be said about its answer beforehand."""

    def __init__(self, kind, status, text, users=(), pool=(), top_k=None, several=False):
        self.kind, self.status, self.text = kind, status, text
        self.users, self.pool, self.top_k, self.several = users, pool, top_k, several


def ranking(kind, users, candidates, several=False, **more):
    body = {"users" if several else "user": users if several else users[0], "candidates": candidates, **more}
    return Request(kind, 200, json.dumps(body), users, set(candidates), more.get("top_k"), several)


def unknown(rng):
    return f"x{rng.getrandbits(60):x}"


def anybody(rng):
    return f"U{rng.randrange(USERS)}"


def hot(rng):
    return ranking("hot", [rng.choice(HOT_USERS)], rng.sample(HOT, rng.randint(5, 20)))


def cold(rng):
    return ranking("cold", [anybody(rng)], rng.sample(ALL, rng.randint(5, 60)))


def changing(rng):
    return ranking("changing", [rng.choice(CHANGING_USERS)], rng.sample(CHANGING, rng.randint(2, 10)))


def unknown_user(rng):
    return ranking("unknown user", [unknown(rng)], rng.sample(HOT, 5))


def unknown_contents(rng):
    candidates = rng.sample(HOT, 5) + [unknown(rng) for _ in range(rng.choice((1, 10, 300)))]
    return ranking("unknown contents", [rng.choice(HOT_USERS)], rng.sample(candidates, len(candidates)))


def several(rng):
    users = {rng.choice((anybody, anybody, unknown))(rng) for _ in range(rng.randint(1, 12))}
    return ranking("several users", sorted(users), rng.sample(ALL, 5), True)


def explained(rng):
    return ranking("explained", [anybody(rng)], rng.sample(ALL, 2), explain=True)


def large(rng):
    return ranking("large", [anybody(rng)], rng.choices(OFTEN, k=rng.choice((1000, 8000))), top_k=100)


def catalogue(rng):
    user, top_k, exclude = anybody(rng), rng.choice((1, 10, 100)), rng.sample(ALL, rng.choice((0, 3)))
    text = json.dumps({"user": user, "top_k": top_k, "exclude": exclude})
    return Request("catalogue", 200, text, [user], set(ALL).difference(exclude), top_k)


def category(rng):
    user, top_k, which = anybody(rng), rng.choice((1, 10, 100)), rng.randrange(CATEGORIES)
    text = json.dumps({"user": user, "top_k": top_k, "category": f"topic {which}"})
    return Request("category", 200, text, [user], set(ALL[which::CATEGORIES]), top_k)


BAD = ['{', '[]', '{"user":1,"candidates":["N1"]}', '{"user":"U1"}', '{"user":"U1","candidates":[""]}', '{"user":"U1","top_k":0}',
       '{"user":"U1","candidates":["N1"],"what":1}', '{"user":"U1","candidates":["N1"]}x', '{"user":"U1","candidates":"N1"}',
       '{"user":"\\ud800","candidates":["N1"]}', '{"users":[],"candidates":["N1"]}', "[" * 2000,
       '{"user":"U1","candidates":[%s"N1"]}' % ('"N1",' * 10000)]


def bad(rng):
    if rng.random() < 0.2:
        return Request("bad", 404, '{"user":"U1","category":"nothing","top_k":1}')
    return Request("bad", 400, rng.choice(BAD))


MIXTURE = {hot: 45, cold: 20, changing: 10, unknown_user: 5, unknown_contents: 5, several: 5, explained: 3, large: 1, catalogue: 1,
           category: 2, bad: 3}


def draw(rng, count):
    return [kind(rng) for kind in rng.choices(list(MIXTURE), MIXTURE.values(), k=count)]


class Wrong(Exception):
    pass


def expect(holds, *what):
    if not holds:
        raise Wrong(" ".join(map(str, what)))


SLACK = 1e9  # nanoseconds: what was asked for before is answered until then


def during(spans, first, last):
    """Those of [since, until, ...] that have something in common with a time."""
    return [span for span in spans if span[0] <= last and span[1] >= first]


class Truth:
    """What is right, and when. Whoever changes something says so before it is done, and when it was seen."""

    def __init__(self, seeds):
        self.tables = {seed: {**right_table(seed, USERS, ALL), "default": list(api.right_scores(seed, "", ALL).values())}
                       for seed in seeds}
        self.seed_of = {}  # of each generation
        self.changes = {}  # of (generation, id): [since, until, whose matrix it has: another id, or None if it is gone]
        self.away = []  # [since, until] of the store

    def change(self, generation, name, other):
        """A matrix that will be another one from now on; the one before is seen until settle()."""
        self.changes.setdefault((generation, name), [[0, float("inf"), name]]).append([time.monotonic_ns(), float("inf"), other])

    def settle(self, generation, name):
        self.changes[generation, name][-2][1] = time.monotonic_ns() + SLACK

    def matrices(self, generation, name, first=0, last=float("inf")):
        """Whose matrices this id may have had; None where it may have been gone."""
        spans = self.changes.get((generation, name))
        return [span[2] for span in during(spans, first, last)] if spans else [name]

    def leave(self):
        self.away.append([time.monotonic_ns(), float("inf")])

    def come_back(self):
        self.away[-1][1] = time.monotonic_ns() + SLACK


class Judge:
    """Of one answer, which came between two moments."""

    def __init__(self, truth, request, first, last):
        self.truth, self.request, self.first, self.last = truth, request, first, last
        self.away = during(truth.away, first, last)
        self.may_lack = bool(self.away) and request.kind != "hot"

    def verdict(self, status, body):
        """What is wrong, or None; and whether something was unavailable."""
        try:
            return None, self.judge(status, body)
        except (Wrong, LookupError, TypeError) as error:
            return f"{self.request.kind} of {self.request.users}: {error!r}: status {status}, {str(body)[:300]}", False

    def judge(self, status, body):
        if status == 503 and self.request.status == 200:
            expect(self.may_lack and body["error"]["code"] == "unavailable", "503 while the store is there")
            return True
        expect(status == self.request.status, "not", self.request.status)
        if status != 200:
            return False
        self.generation = body["generation"]
        deadline = time.monotonic() + 10  # it may be seen before its writer has told its name
        while self.generation not in self.truth.seed_of and time.monotonic() < deadline:
            time.sleep(0.01)
        self.table = self.truth.tables[self.truth.seed_of[self.generation]]
        lacks = self.judge_missing(body["missing"])
        results = body["results"] if self.request.several else [body]
        expect([result["user"] for result in results] == self.request.users, "other users")
        for result in results:
            lacks |= self.judge_result(result, {missing["id"] for missing in body["missing"]}, body.get("missing_count", 0))
        expect("degraded" not in body or self.away, "degraded while the store is there")
        return lacks

    def matrices(self, name):
        return self.truth.matrices(self.generation, name, self.first, self.last)

    def judge_missing(self, missing):
        lacks = False
        for item in missing:
            name, reason = item["id"], item["reason"]
            expect(name in self.request.pool, name, "was not asked for")
            absent = name[0] == "x" or None in self.matrices(name)
            expect((reason == "not_found" and absent) or (reason == "unavailable" and self.may_lack), name, reason)
            lacks |= reason == "unavailable"
        return lacks

    def judge_result(self, result, missing, missing_count):
        user, ranked = result["user"], result["ranking"]
        if result["user_status"] == "unavailable":
            expect(self.may_lack and not ranked, "the user is unavailable")
            return True
        known = user in self.table
        expect(result["user_status"] == ("present" if known else "default"), "user_status")
        rows = [self.table[other] for other in self.matrices(user)] if known else [self.table["default"]]
        scores = {item["id"]: item["score"] for item in ranked}
        expect(len(scores) == len(ranked) and self.request.pool.issuperset(scores), "not what was asked for")
        expect(list(scores.values()) == sorted(scores.values(), reverse=True), "not in order")
        for name, score in scores.items():
            right = [row[int(other[1:])] for row in rows for other in self.matrices(name) if other]
            expect(any(near(score, s) for s in right), name, score, "instead of", right)
        if self.request.top_k is None:
            expect(self.request.pool == scores.keys() | missing, "some are neither ranked nor missing")
        else:
            expect(len(scores) == self.request.top_k, "not top_k of them")
            self.judge_left_out(rows, scores, missing, missing_count)
        return False

    def judge_left_out(self, rows, scores, missing, missing_count):
        """Nobody who is left out is better than the last."""
        if missing_count > len(missing):
            expect(self.may_lack, missing_count, "are missing")
            return
        least = min(scores.values())
        for name in self.request.pool.difference(scores, missing):
            if (self.generation, name) not in self.truth.changes:
                better = min(row[int(name[1:])] for row in rows)
                expect(better <= least or near(better, least), name, "is left out and has", better)
