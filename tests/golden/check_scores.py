"""Ask a running daemon to rank contents for every user, and hold order and scores against float64.

    check_scores.py --address HOST:PORT --matrices DIR --reference DIR [--redis SOCKET] [--contents N]

--matrices is what `embsum encode` wrote with the model that the daemon's store was filled from: the scores of these
float32 matrices, computed in float64, must come back within 1e-5 x max(1, |s|), in their order. --reference is what
reference.py made of the same texts: its scores, float64 from the texts on, must come back within 2e-5 x max(1, |s|),
the bound that A and B have. --redis also reads the blobs and summaries as they lie in that Redis, and demands the
matrices' very bytes and the reference's very texts.
"""
import argparse
import http.client
import json
import pathlib
import random
import socket
import struct
import sys

import numpy as np

import scores

BOUND, BOUND_FROM_TEXTS = 1e-5, 2e-5


class Matrices:
    """A folder as `embsum encode` leaves it."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.user_ids = (folder / "user.ids").read_text().split("\n")[:-1]
        self.content_ids = (folder / "content.ids").read_text().split("\n")[:-1]
        self.users, self.contents = np.load(folder / "user.npy"), np.load(folder / "content.npy")
        self.score_proj = np.load(folder / "score_proj.npy")
        rows = [json.loads(line) for line in (folder / "summaries.jsonl").read_text().splitlines()]
        self.summaries = {row["user"]: row["summary"] for row in rows}
        self.gates = scores.gates(self.contents, self.score_proj)
        self.column = {id: i for i, id in enumerate(self.content_ids)}

    def score(self, user, candidates):
        """{candidate: score}; a user that is not there is the default user, whose id is empty."""
        row = self.user_ids.index(user if user in self.user_ids else "")
        columns = [self.column[id] for id in candidates]
        return dict(zip(candidates, scores.scores(self.users[row], self.contents[columns], self.gates[columns])))


class Daemon:
    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.link = http.client.HTTPConnection(host, int(port), timeout=60)

    def rank(self, body):
        self.link.request("POST", "/rank", json.dumps(body), {"Content-Type": "application/json"})
        answer = self.link.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise SystemExit(f"/rank answered {answer.status}: {text}")
        return json.loads(text)


def check_ranking(who, ranking, candidates, exact, bound):
    """The largest error as a share of max(1, |s|). Every candidate is there once; scores fall; where two scores
    are apart by more than float32 can blur, their order is the exact one; equal scores keep the order asked."""
    if sorted(row["id"] for row in ranking) != sorted(candidates):
        raise SystemExit(f"{who}: the ranking is not a permutation of the candidates")
    got = {row["id"]: row["score"] for row in ranking}
    error = max(abs(got[id] - exact[id]) / max(1, abs(exact[id])) for id in candidates)
    if not error <= bound:
        raise SystemExit(f"{who}: a score is wrong by {error:.1e}, allowed is {bound:.0e}")
    for upper, lower in zip(ranking, ranking[1:]):
        if upper["score"] < lower["score"]:
            raise SystemExit(f"{who}: {lower['id']} has a higher score than {upper['id']} above it")
        if upper["score"] == lower["score"] and candidates.index(upper["id"]) > candidates.index(lower["id"]):
            raise SystemExit(f"{who}: {upper['id']} and {lower['id']} are equal and not in the order asked")
    return error


def check_order(who, ranking, candidates, exact):
    """True if the order is the exact one. Candidates that changed places must be closer than float32's blur."""
    expected = sorted(candidates, key=lambda id: -exact[id])  # stable: ties stay in the order asked
    ranked = [row["id"] for row in ranking]
    for ours, theirs in zip(ranked, expected):
        if ours != theirs and abs(exact[ours] - exact[theirs]) > 2e-6 * max(1, abs(exact[theirs])):
            raise SystemExit(f"{who}: {ours} stands where {theirs} belongs")
    return ranked == expected


def check_all(daemon, matrices, reference, count):
    rng = random.Random(1)
    worst, worst_from_texts, exact_orders, spread = 0.0, 0.0, 0, []
    users = [user for user in matrices.user_ids if user] + ["nobody-knows-me"]
    for user in users:
        candidates = rng.sample(matrices.content_ids, count)
        answer = daemon.rank({"user": user, "candidates": candidates})
        status = "present" if user in matrices.user_ids else "default"
        if answer["user_status"] != status or answer["missing"] or answer.get("degraded"):
            raise SystemExit(f"{user}: status {answer['user_status']}, expected {status}; missing {answer['missing']}")
        exact, from_texts = matrices.score(user, candidates), reference.score(user, candidates)
        worst = max(worst, check_ranking(user, answer["ranking"], candidates, exact, BOUND))
        error = check_ranking(user, answer["ranking"], candidates, from_texts, BOUND_FROM_TEXTS)
        worst_from_texts = max(worst_from_texts, error)
        exact_orders += check_order(user, answer["ranking"], candidates, exact)
        spread.append(np.std(list(exact.values())))

    # the same candidates for several users at once, and the best few alone
    several = daemon.rank({"users": users, "candidates": candidates})
    for user, result in zip(users, several["results"], strict=True):
        check_ranking(user, result["ranking"], candidates, matrices.score(user, candidates), BOUND)
        best = daemon.rank({"user": user, "candidates": candidates, "top_k": 7})
        if result["user"] != user or best["ranking"] != result["ranking"][:7]:
            raise SystemExit(f"{user}: the best 7 are not the first 7 of all")
    print(
        f"{len(users)} users x {count} contents, scores spread by {min(spread):.2g} to {max(spread):.2g}: "
        f"error {worst:.1e} (allowed {BOUND:.0e}), from the texts on {worst_from_texts:.1e} "
        f"(allowed {BOUND_FROM_TEXTS:.0e}), {exact_orders} of {len(users)} orders exact, the others within 2e-6"
    )
    if not min(spread) > 1e-4:
        raise SystemExit("the scores hardly differ: this order proves nothing")


# ---- the blobs in Redis --------------------------------------------------------------------------------


class Redis:
    """GET, spoken by hand."""

    def __init__(self, path):
        link = socket.socket(socket.AF_UNIX)
        link.connect(path)
        self.file = link.makefile("rwb")

    def get(self, key):
        key = key.encode()
        self.file.write(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key))
        self.file.flush()
        line = self.file.readline()
        if line[:1] != b"$" or line == b"$-1\r\n":
            raise SystemExit(f"Redis: GET {key.decode()}: {line!r}")
        value = self.file.read(int(line[1:]))
        self.file.read(2)
        return value


def check_blobs(path, matrices, reference):
    redis = Redis(path)
    generation = redis.get("{embsum}:live").decode()
    wanted = [("w", "", matrices.score_proj)]
    wanted += [("u", id, matrix) for id, matrix in zip(matrices.user_ids, matrices.users)]
    wanted += [("c", id, matrix) for id, matrix in zip(matrices.content_ids, matrices.contents)]
    for kind, id, matrix in wanted:
        key = f"embsum:{generation}:{kind}" + (f":{id}" if kind != "w" else "")
        blob = redis.get(key)
        magic, version, letter, dtype, zero, rows, columns = struct.unpack_from("<4sBcBBII", blob)
        header = (magic, version, letter.decode(), dtype, zero, (rows, columns))
        if header != (b"EMBS", 1, kind, 0, 0, matrix.shape) or blob[40:64] != bytes(24):
            raise SystemExit(f"{key}: header {header}")
        if blob[64:] != matrix.astype("<f4").tobytes():
            raise SystemExit(f"{key}: its matrix is not the one that embsum encode wrote")
    for user, summary in reference.summaries.items():
        if redis.get(f"embsum:{generation}:s:{user}").decode() != summary:
            raise SystemExit(f"{user}: its summary in Redis is not '{summary}'")
    print(f"{len(wanted)} blobs and {len(reference.summaries)} summaries in Redis are the very ones")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("address", "matrices", "reference"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--redis")
    parser.add_argument("--contents", type=int, default=50)
    args = parser.parse_args()
    matrices = Matrices(args.matrices)
    reference = Matrices(args.reference)
    check_all(Daemon(args.address), matrices, reference, args.contents)
    if args.redis:
        check_blobs(args.redis, matrices, reference)


if __name__ == "__main__":
    sys.exit(main())
