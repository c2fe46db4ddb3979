#!/usr/bin/env python3
"""Bodies for POST /rank, one a line: what openloop sends.

    tests/load/bodies.py --candidates 1000 --contents 100000 --users 1000 --count 256 >bodies

Ids are the lines of a file (--content-ids, --user-ids) or a prefix and a number from 0. --disjoint gives each body
contents that no earlier one has, for measuring what is not in memory yet.
"""
import argparse
import json
import random


def ids(path, prefix, count):
    if path:
        with open(path, encoding="utf-8") as file:
            return [line.rstrip("\n") for line in file if line != "\n"]
    return [f"{prefix}{i}" for i in range(count)]


def bodies(contents, users, candidates, count, top_k=0, seed=1, disjoint=False):
    """count bodies as text. candidates 0 leaves the list out: the whole catalogue."""
    draw = random.Random(seed)
    if disjoint:
        if candidates * count > len(contents):
            raise ValueError(f"{count} x {candidates} different contents are wanted of {len(contents)}")
        order = draw.sample(contents, candidates * count)
    for i in range(count):
        body = {"user": draw.choice(users)}
        if candidates:
            body["candidates"] = (order[i * candidates:(i + 1) * candidates] if disjoint
                                  else draw.sample(contents, candidates))
        if top_k:
            body["top_k"] = top_k
        yield json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--contents", type=int, default=1000)
    parser.add_argument("--content-prefix", default="N")
    parser.add_argument("--content-ids")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--user-prefix", default="U")
    parser.add_argument("--user-ids")
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--disjoint", action="store_true")
    a = parser.parse_args()
    contents = ids(a.content_ids, a.content_prefix, a.contents)
    users = ids(a.user_ids, a.user_prefix, a.users)
    try:
        for body in bodies(contents, users, a.candidates, a.count, a.top_k, a.seed, a.disjoint):
            print(body)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
