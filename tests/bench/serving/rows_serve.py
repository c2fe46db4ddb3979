"""Rows about the service under load: the limit of HTTP, capacity, latency, small requests, balance."""
from .children import NotMeasured
from .load import closed_loop, open_loop, write_bodies
from .report import median, micro, spread, table
from .systems import Nginx, Ours, dtypes


def rounds(world, systems, measure):
    """measure(system) for all systems, alternately: what disturbs the machine for a while disturbs all. name -> figures"""
    seen = {s.name: [] for s in systems}
    for number in range(world.args.rounds):
        shift = number % len(systems) if systems else 0
        for system in systems[shift:] + systems[:shift]:
            if system.name not in world.refused:
                try:
                    figures = measure(system)
                    if figures["errors"]:
                        raise NotMeasured(f"{figures['errors']} requests failed")
                    seen[system.name].append(figures)
                except (NotMeasured, OSError) as problem:
                    world.refuse(system, str(problem))
    return {name: figures for name, figures in seen.items() if figures and name not in world.refused}


def of(figures, key):
    return [f[key] for f in figures]


def parameters(world, candidates, **more):
    return dict(CANDIDATES=candidates, CONTENTS=world.data.contents, USERS=world.data.users, BODIES=200, SEED=7, **more)


def not_measured(world, width):
    return [[f"{name}: {reason}"[:78], "not measured", *[""] * (width - 2)] for name, reason in world.refused.items()]


def row_http(world):
    """nginx as the limit: a GET of 35 KB (the size of an answer), a POST of 10 KB (of a request)."""
    world.prepare()
    nginx = world.start_one(Nginx(world), warm=False)
    seconds = world.args.seconds
    rows, results = [], {}
    try:
        ours = [s for s in world.systems(["ours"])][:1]
        cases = [("nginx, GET of a file of 35 KB", nginx, "/file", {}),
                 ("nginx, POST of 10 KB, 14 bytes back", nginx, "/post", parameters(world, 1000)),
                 *(("embsumd, GET /livez", s, "/livez", {}) for s in ours)]
        for label, system, path, named in cases:
            runs = [closed_loop(system, None, seconds, 8, path, **named) for _ in range(world.args.rounds)]
            results[label] = runs
            rows.append([label, spread(of(runs, "requests_per_second")), micro(median(of(runs, "cpu_us"))),
                         micro(median(of(runs, "p50_us"))), micro(median(of(runs, "p99_us")))])
    finally:
        nginx.stop()
    table("HTTP's limit: 8 connections, both cores shared with wrk",
          ["", "requests/s", "CPU a request", "p50", "p99"], rows)
    world.results["http"] = results


def measure_capacity(world, candidates, connections=8, names=None):
    return rounds(world, world.systems(names), lambda s: closed_loop(
        s, world.redis, world.args.seconds, connections, **parameters(world, candidates)))


def capacity(world):
    if not world.capacity:
        world.capacity = measure_capacity(world, 1000)
    return world.capacity


def best_peer(world, seen, key="requests_per_second", exact=True):
    """The peer with the most requests a second; exact: among those that compute in float32."""
    peers = [n for n in seen if not world.running[n].ours and not (exact and n.endswith("bfloat16"))]
    return max(peers, key=lambda n: median(of(seen[n], key)), default=None)


def row_capacity(world):
    """1,000 candidates, all hot, 8 connections: requests a second and what one costs."""
    seen = capacity(world)
    rows = []
    for name, runs in seen.items():
        rows.append([world.running[name].label, spread(of(runs, "requests_per_second")),
                     micro(median(of(runs, "cpu_us"))), micro(median(of(runs, "redis_us"))),
                     micro(median(of(runs, "p50_us"))), micro(median(of(runs, "p99_us"))),
                     f"{world.results['errors'][name]['rms']:.0e}"])
    rows += not_measured(world, 7)
    table("Capacity: 1,000 candidates, all hot, 8 connections, both cores shared with wrk",
          ["", "requests/s", "CPU a request", "and in Redis", "p50", "p99", "error"], rows,
          "error: rms against float64, as a share of the scores' deviation. Peers at OPENBLAS_CORETYPE=SkylakeX where the\n"
          "processor can, ours in the environment as it is.")
    ratios(world, seen)
    world.results["capacity"] = seen


def ratios(world, seen):
    rows, results = [], {}
    peers = [p for p in (best_peer(world, seen), best_peer(world, seen, exact=False)) if p]
    for name in seen:
        if world.running[name].ours:
            for peer in dict.fromkeys(peers):
                rate = median(of(seen[name], "requests_per_second")) / median(of(seen[peer], "requests_per_second"))
                cpu = median(of(seen[peer], "cpu_us")) / median(of(seen[name], "cpu_us"))
                rows.append([f"{world.running[name].label} / {peer}", f"{rate:.2f} x", f"{cpu:.2f} x"])
                results[f"{name}/{peer}"] = {"requests_per_second": rate, "cpu": cpu}
    if rows:
        table("Against the best peer in float32, and the best of all", ["", "requests/s", "less CPU"], rows)
    world.results["ratios"] = results


def row_latency(world):
    """Open loop at half of each one's own capacity, Poisson arrivals, latency from when a request was due."""
    seen = capacity(world)
    data = world.data
    bodies = write_bodies(world.folder / "bodies-1000", data.content_ids, data.user_ids, 1000, 256, seed=3)
    rate = {name: median(of(runs, "requests_per_second")) / 2 for name, runs in seen.items()}

    def measure(system):
        run = open_loop(world.openloop, system.address, bodies, rate[system.name], world.args.seconds, "--poisson",
                        "--connections", 64, "--warmup", 1, "--seed", 5)
        run["errors"] = run["not_200"] + run["failed"] + run["unanswered"]
        return run

    runs = rounds(world, [world.running[n] for n in seen if n in world.running], measure)
    q = {name: {k: median([r["from_due_us"][k] for r in some]) for k in ("p50", "p90", "p99", "max")}
         for name, some in runs.items()}
    table("Latency at half of each one's capacity: open loop, Poisson arrivals, 64 connections, 1,000 candidates",
          ["", "requests/s", "p50", "p90", "p99", "max"],
          [[world.running[n].label, f"{rate[n]:,.0f}", *(micro(q[n][k]) for k in ("p50", "p90", "p99", "max"))]
           for n in q] + not_measured(world, 6))
    peers = [n for n in q if not world.running[n].ours]
    if peers:
        peer = min(peers, key=lambda n: q[n]["p50"])
        rows = [[world.running[n].label, micro(q[n]["p99"]), micro(q[peer]["p50"]),
                 f"{q[n]['p99'] / q[peer]['p50']:.2f}"] for n in q if world.running[n].ours]
        table(f"p99 against the p50 of the quickest peer ({peer})", ["", "our p99", "its p50", "ratio"], rows)
    world.results["latency"] = runs


def row_small(world):
    """100 candidates, all hot."""
    seen = measure_capacity(world, 100)
    table("100 candidates, all hot, 8 connections",
          ["", "requests/s", "CPU a request", "p50", "p99"],
          [[world.running[n].label, spread(of(r, "requests_per_second")), micro(median(of(r, "cpu_us"))),
            micro(median(of(r, "p50_us"))), micro(median(of(r, "p99_us")))] for n, r in seen.items()]
          + not_measured(world, 5))
    world.results["small"] = seen


def row_overload(world):
    """More than it can do: answers in time, by open loop at twice and ten times the capacity, and how soon others are refused."""
    world.prepare()
    data = world.data
    bodies = write_bodies(world.folder / "bodies-1000", data.content_ids, data.user_ids, 1000, 256, seed=3)
    rows, world.results["overload"] = [], {}
    for dtype in dtypes(world):
        system = world.start_one(Ours(world, dtype, name="overload", settings=["rank.deadline_ms=200"]))
        try:
            peak = closed_loop(system, None, world.args.seconds, 32, **parameters(world, 1000))["requests_per_second"]
            for times in (1, 2, 10):
                run = open_loop(world.openloop, system.address, bodies, times * peak, world.args.seconds, "--connections", 900)
                good = (run["answered"] - run["not_200"]) / run["seconds"]
                refused = run["not_200_from_send_us"]
                rows.append([f"{system.label} x {times}", f"{good:,.0f}", f"{good / peak:.0%}", micro(run["from_send_us"]["p99"]),
                             micro(refused["p50"]), micro(refused["p99"])])
                world.results["overload"][f"{dtype} x {times}"] = {"peak": peak, "goodput": good, "run": run}
        finally:
            system.stop()
    table("Overload: open loop at so many times the capacity, 900 connections, rank.deadline_ms 200",
          ["", "good answers/s", "of the peak", "p99 of these", "refused within: p50", "p99"], rows)


def row_balance(world):
    """32 connections: how evenly the threads are used, those that rank and those that answer short requests at once."""
    world.prepare()
    settings = ["server.workers=2", "server.io_threads=2"]
    system = world.start_one(Ours(world, dtypes(world)[0], name="balance", settings=settings))
    rows, world.results["balance"] = [], {}
    try:
        for metric, candidates in (("embsum_worker_requests_total", 1000), ("embsum_loop_requests_total", 50)):
            before = system.metrics()
            closed_loop(system, None, world.args.seconds, 32, **parameters(world, candidates))
            after = system.metrics()
            counts = [after[name] - before[name] for name in sorted(after) if name.startswith(metric + "{")]
            if len(counts) < 2 or min(counts) <= 0:
                raise NotMeasured(f"/metrics has no counts of several threads ({metric}: {counts})")
            ratio = max(counts) / min(counts)
            rows.append([f"{candidates:,} candidates: {metric}", ", ".join(f"{c:,.0f}" for c in counts), f"{ratio:.2f}"])
            world.results["balance"][metric] = {"counts": counts, "ratio": ratio}
    finally:
        system.stop()
    table("Balance of the threads: 32 connections", ["", "requests", "busiest / idlest"], rows)
