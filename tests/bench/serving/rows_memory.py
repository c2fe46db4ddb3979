"""Rows about what is in memory and what is not: growth, misses, the whole catalogue, the exact top of int8."""
import json
import re
import subprocess

from .children import NotMeasured, available_bytes, resident_bytes
from .data import Data
from .load import closed_loop, open_loop, rank, write_bodies
from .report import median, micro, table
from .systems import Ours, dtypes
from .world import MARGIN, say


def score_us(system, data, candidates, repeats, **more):
    """The scoring stage of single requests, by Server-Timing; microseconds."""
    times = []
    for i in range(repeats):
        body = {"user": data.user_ids[i % data.users], "top_k": 10, **more}
        if candidates:
            start = i * 7919 * 13 % max(1, data.contents - candidates)
            step = max(1, (data.contents - start) // candidates)
            body["candidates"] = data.content_ids[start::step][:candidates]
        _, headers = rank(system.address, body, 60)
        times.append(1000 * float(re.search(r"score;dur=([\d.]+)", headers["Server-Timing"]).group(1)))
    return median(times[repeats // 5:])


def flatness(values):
    return max(values) / min(values)


def row_candidates(world):
    """Time by the candidate, from 10 to 10,000 of them, all hot."""
    world.prepare()
    world.free_memory(ours=False)
    results = {}
    for system in world.systems(["ours"]):
        rows, per_score, per_cpu = [], {}, {}
        for count in (10, 30, 100, 300, 1000, 3000, 10000):
            if count > world.data.contents:
                continue
            figures = closed_loop(system, None, max(1, world.args.seconds // 2), 8, CANDIDATES=count,
                                  CONTENTS=world.data.contents, USERS=world.data.users, BODIES=max(20, 20000 // count),
                                  SEED=7, TOP_K=10)
            per_score[count] = score_us(system, world.data, count, 25) / count
            per_cpu[count] = figures["cpu_us"] / count
            rows.append([f"{count:,}", micro(figures["cpu_us"]), micro(per_cpu[count]), micro(per_score[count])])
        table(f"By the candidate, 10 to 10,000 candidates, top_k 10: {system.label}",
              ["candidates", "CPU a request", "CPU a candidate", "score stage a candidate"], rows,
              f"largest / smallest, score stage {flatness(list(per_score.values())):.2f}; from 100 candidates on: CPU "
              f"{flatness([per_cpu[c] for c in per_cpu if c >= 100]):.2f}, score stage "
              f"{flatness([per_score[c] for c in per_score if c >= 100]):.2f}\n"
              "CPU includes HTTP and the network, the same for each request; the score stage is by the clock, of one\n"
              "request at a time, and asks for an idle machine")
        results[system.name] = {"cpu_us_per_candidate": per_cpu, "score_us_per_candidate": per_score}
    world.results["candidates"] = results


# ---- what is not in memory -----------------------------------------------------------------------------------------


def row_cold(world):
    """1,000 candidates none of which is in memory, one request after the other, beside a bare pipelined read."""
    world.prepare()
    world.free_memory()
    data, warmup = world.data, 3
    count = 1000 if data.contents >= 10000 else 100
    requests = min(30, data.contents // count - warmup)
    bare = world.build / "tests/bench/peers/bare_read"
    if not bare.exists():
        raise NotMeasured(f"{bare} is not built")
    dtype = "bfloat16" if "scoring.dtype" in world.keys else None
    settings = ["memory.preload=false"] if "memory.preload" in world.keys else []
    rows, results = [], {}
    for way, url, where in (("loopback TCP", world.url_tcp, f"tcp:127.0.0.1:{world.redis_port}"),
                            ("unix socket", world.url, f"unix:{world.redis_socket}")):
        ours, least = [], []
        for number in range(world.args.rounds):
            bodies = write_bodies(world.folder / "bodies-cold", data.content_ids, data.user_ids[:1], count,
                                  requests + warmup, seed=number, disjoint=True)
            lines = bodies.read_text().splitlines()
            lists = world.folder / "lists-cold"
            lists.write_text("".join(" ".join(json.loads(line)["candidates"]) + "\n" for line in lines[warmup:]))
            system = world.start_one(Ours(world, dtype, name="cold", url=url, settings=settings), warm=False)
            try:
                for line in lines[:warmup]:
                    rank(system.address, json.loads(line))
                bodies.write_text("".join(line + "\n" for line in lines[warmup:]))
                run = open_loop(world.openloop, system.address, bodies, 0, 60, "--connections", 1, "--warmup", 0,
                                "--requests", requests)
                if run["not_200"] or run["failed"] or run["unanswered"]:
                    raise NotMeasured(f"requests failed: {run}")
                missing = {n: v for n, v in system.metrics().items() if n.startswith("embsum_missing_total") and v}
                if missing:
                    raise NotMeasured(f"candidates were not scored: {missing}")
            finally:
                system.stop()
            ours.append(run["from_send_us"]["p50"])
            done = subprocess.run([bare, where, f"embsum:{world.generation}:c:", lists], check=True,
                                  capture_output=True, text=True, timeout=120)
            least.append(json.loads(done.stdout)["us"]["p50"])
        ratio = median([a / b for a, b in zip(ours, least)])
        rows.append([way, micro(median(ours)), micro(median(least)), f"{ratio:.2f} x"])
        results[way] = {"ours_us": ours, "bare_us": least, "ratio": ratio}
    table(f"Cold: {count:,} candidates, none in memory, one request after the other; blobs in bfloat16 in Redis",
          ["", "embsumd, p50", "bare pipelined read, p50", "ratio"], rows,
          "embsumd: the whole request, with HTTP, JSON, checksums, gelu(B W_s) and scores")
    world.results["cold"] = results


# ---- the exact top of int8 -----------------------------------------------------------------------------------------


def row_exact(world):
    """Top 10 of 1,000: an int8 pass and float32 for what its bound cannot exclude, against float32 alone."""
    world.prepare()
    world.free_memory()
    data = world.data
    plain = world.start_one(Ours(world, "float32", name="plain"))
    try:
        exact = world.start_one(Ours(world, "float32+int8", name="exact"))
        try:
            different = 0
            bodies = write_bodies(world.folder / "bodies-top", data.content_ids, data.user_ids, 1000, 200, 10, seed=9)
            for line in bodies.read_text().splitlines():
                answers = [rank(s.address, json.loads(line))[0]["ranking"] for s in (plain, exact)]
                different += answers[0] != answers[1]
            named = dict(CANDIDATES=1000, CONTENTS=data.contents, USERS=data.users, TOP_K=10, BODIES=200)
            runs = {s.name: [] for s in (plain, exact)}
            for _ in range(world.args.rounds):
                for system in (plain, exact):
                    runs[system.name].append(closed_loop(system, None, world.args.seconds, 8, **named))
        finally:
            exact.stop()
    finally:
        plain.stop()
    cpu = {name: median([r["cpu_us"] for r in some]) for name, some in runs.items()}
    table("Exact top 10 of 1,000 candidates", ["", "CPU a request"],
          [["float32", micro(cpu["plain"])], ["int8, then float32 for the rescued", micro(cpu["exact"])]],
          f"{cpu['plain'] / cpu['exact']:.2f} x faster; {different} of 200 answers differ")
    world.results["exact"] = {"runs": runs, "different": different}
    if different:
        raise RuntimeError(f"{different} of 200 exact answers differ from float32's")


# ---- the whole catalogue, and growth -------------------------------------------------------------------------------


def own_store(world, contents, dtype="bfloat16", users=64):
    """A catalogue of this size in an embedded store: its pages are the kernel's cache, which gives way."""
    if contents in world.stores:
        return world.stores[contents]
    say(f"a catalogue of {contents:,} contents")
    folder = world.folder / f"data-{contents}"
    data = Data(folder, contents, users).write()
    url = f"lmdb:{world.folder}/store-{contents}"
    data.publish(world.embsum, url, dtype)
    (folder / "content.npy").unlink()
    world.stores[contents] = data, url
    return data, url


def row_catalogue(world):
    """No candidates: everything live is ranked, by one worker."""
    world.free_memory()
    sizes = [2500, 5000, 10000] if world.args.quick else [25000, 50000, 100000]
    dtype = "int8" if "scoring.dtype" in world.keys else None
    rows, per, cpu = [], {}, {}
    for size in sizes:
        data, url = own_store(world, size)
        world.limit_contents = size
        system = world.start_one(Ours(world, dtype, name=f"catalogue-{size}", url=url, settings=["server.workers=1"]),
                                 data)
        try:
            whole = score_us(system, data, 0, 15)
            per[size] = whole / size
            figures = closed_loop(system, None, max(2, world.args.seconds), 1, CANDIDATES=0, TOP_K=10, USERS=data.users)
        finally:
            system.stop()
        cpu[size] = figures["cpu_us"] / size
        rows.append([f"{size:,}", micro(whole), micro(figures["p50_us"]), micro(figures["cpu_us"]),
                     f"{1000 * cpu[size]:,.0f} ns"])
    world.limit_contents = world.args.contents
    table(f"Whole catalogue, top_k 10, one worker{', ' + dtype if dtype else ''}",
          ["contents", "score stage", "whole request, p50", "CPU", "CPU a content"], rows,
          f"by the content, largest / smallest: CPU {flatness(list(cpu.values())):.2f}, score stage "
          f"{flatness(list(per.values())):.2f}")
    world.results["catalogue"] = {"score_us_per_content": per, "cpu_us_per_content": cpu}


def row_growth(world):
    """1,000 candidates out of 1,000 to 1,000,000 contents in memory; memory by the content."""
    world.free_memory()
    sizes = [1000, 10000] if world.args.quick else [1000, 10000, 100000, 1000000]
    results = {}
    for dtype in dtypes(world):
        results[dtype or "float32"] = {}
    rows = []
    for size in sizes:
        for dtype in dtypes(world):
            word = dtype or "float32"
            if world.args.systems and f"ours-{word}" not in world.args.systems and "ours" not in world.args.systems:
                continue
            needed = int(1.3 * Ours(world, dtype).content_bytes * size) + 2 * MARGIN
            if needed > available_bytes():
                rows.append([f"{size:,}", word, f"not measured: needs {needed / 1e9:.0f} GB", "", "", ""])
                continue
            data, url = own_store(world, size)
            world.limit_contents = size
            system = world.start_one(Ours(world, dtype, name=f"growth-{size}-{word}", url=url), warm=False)
            try:
                empty = resident_bytes(system.processes[0])
                world.warm(system, data, 10000)
                named = dict(CANDIDATES=1000, CONTENTS=size, USERS=data.users, BODIES=200)
                figures = [closed_loop(system, None, world.args.seconds, 8, **named) for _ in range(world.args.rounds)]
                score = score_us(system, data, 1000, 40) / 1000
                entries, per = system.hot("entries"), system.hot("bytes") / size
            finally:
                system.stop()
            cpu = median([f["cpu_us"] for f in figures]) / 1000
            matrix = Ours(world, dtype).content_bytes
            results[word][size] = {"cpu_us": cpu, "score_us": score, "bytes_per_content": per, "entries": entries,
                                   "resident_before_warming": empty}
            rows.append([f"{size:,}", word, micro(cpu), micro(score), f"{entries:,.0f}",
                         f"{per:,.0f} ({100 * (per / matrix - 1):+.1f} %)"])
    world.limit_contents = world.args.contents
    notes = [f"{word}: largest / smallest CPU a candidate {flatness([f['cpu_us'] for f in some.values()]):.2f}"
             for word, some in results.items() if len(some) > 1]
    table("Growth: 1,000 candidates out of ever more contents in memory, all hot, 8 connections",
          ["contents", "dtype", "CPU a candidate", "score stage", "in memory", "bytes a content (over its matrices)"],
          rows, "\n".join(notes))
    world.results["growth"] = results
