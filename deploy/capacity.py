#!/usr/bin/env python3
"""The plan for many users on paper: formulas and a simulation, from deploy/capacity.json and deploy/capacity_units.tsv.

    python3 deploy/capacity.py            writes the tables of deploy/CAPACITY.md anew, between their marks
    python3 deploy/capacity.py --check    fails if they are not what it would write
    python3 deploy/capacity.py KEY=VALUE ...    prints them with other assumptions, and writes nothing
"""
import difflib
import functools
import heapq
import json
import math
import os
import random
import re
import sys
from collections import deque

HERE = os.path.dirname(os.path.abspath(__file__))
DAY = 86400.0
GIB = float(1 << 30)


class Inputs(dict):
    """All figures by their names, as attributes."""
    __getattr__ = dict.__getitem__
    __hash__ = object.__hash__  # they do not change


def read_json():
    with open(f"{HERE}/capacity.json", encoding="ascii") as file:
        return json.load(file)


def read_inputs(changes=()):
    inputs = Inputs({name: row[0] for part in read_json().values() for name, row in part.items()})
    for change in changes:
        name, _, value = change.partition("=")
        if name not in inputs:
            raise SystemExit(f"capacity.py: there is no {name} in capacity.json")
        inputs[name] = float(value)
    return inputs


def read_units():
    """Measured units: dicts of workers, kind, entities, tokens, bytes, taken (s from the first unit put), seconds."""
    units = []
    with open(f"{HERE}/capacity_units.tsv", encoding="ascii") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                workers, kind, entities, tokens, size, taken, seconds = line.split()
                units.append({"workers": int(workers), "kind": kind, "entities": int(entities), "tokens": int(tokens),
                              "bytes": int(size), "taken": float(taken), "seconds": float(seconds)})
    return units


# ---- formulas ----

def user_tokens(p):
    return p.items_user * p.tokens_text


def decoder_seconds(p, tokens):
    """A user among eight; all his tokens are read by cross-attention at each step."""
    return p.decoder_base_s + p.decoder_token_s * tokens


def user_seconds(p, hit=0.0):
    """Of one core. hit: of a user's sessions that need not be encoded."""
    tokens = user_tokens(p)
    return tokens * (1 - hit) / p.encoder_tokens_s + decoder_seconds(p, tokens)


def one_session_seconds(p, hit):
    """A click: its session of up to 4 items is encoded, of the others what the cache has not."""
    sessions = max(1.0, p.items_user / 4)
    return user_seconds(p, hit * (sessions - 1) / sessions)


def unit_users(p):
    return max(1, int(min(p.unit_users_most, p.unit_user_tokens // user_tokens(p))))


def cut_user_seconds(p, tokenized):
    """The refresh's time for a user in a unit. tokenized: the tokens of all texts are at hand."""
    return p.items_user * (p.put_item_s + (0 if tokenized else p.tokenize_s))


def unit_bytes(p):
    return unit_users(p) * (user_tokens(p) * p.unit_bytes_token + p.items_user * p.unit_bytes_item + 26) + 80


def clicks_second(p):
    return p.users * p.active_share * p.clicks_active / DAY


def users_within(p, clicks, window):
    """Users a second who are made fresh where clicks (a second) are taken in every `window` seconds: several clicks of one
    visit within a window count once."""
    visits = clicks / p.session_clicks
    return min(clicks, visits * (1 + p.session_seconds / window))


def matrix_bytes(p, rows):
    return rows * p.d * p.dtype_bytes + 64


def key_bytes(p, value):
    """jemalloc has four sizes between powers of two; a string has some 10 bytes of its own."""
    step = 2 ** (math.ceil(math.log2(value + 10)) - 3)
    return math.ceil((value + 10) / step) * step + p.key_overhead_b


def hot_bytes(p, size):
    """The daemon's memory for a content and its gates, in values of `size` bytes."""
    return 2 * p.n * p.d * size * (p.hot_bf16 if size == 2 else p.hot_int8)


def store_bytes(p, generations):
    """Redis's memory for one copy; histories are outside of generations."""
    users = p.users * (generations * (key_bytes(p, matrix_bytes(p, p.m)) + p.key_summary_b) + p.key_history_b)
    return users + p.contents * generations * key_bytes(p, matrix_bytes(p, p.n))


def redis_machines(p, generations):
    return math.ceil(store_bytes(p, generations) / (p.redis_gib * GIB * p.redis_fill)) * int(1 + p.replicas)


# ---- the simulation ----

class Server:
    """One thing at a time, in the order of asking."""

    def __init__(self):
        self.free = self.busy = 0.0

    def ask(self, now, seconds):
        self.free = max(self.free, now) + seconds
        self.busy += seconds
        return self.free


class Farm:
    """A refresh that cuts units and workers that take them, event by event (batch/encode_farm.h, batch/worker.h).

    untaken: the most units that wait for a taker.
    units: (seconds of work, seconds to cut, bytes, bytes of what it makes, seconds of Redis for that). workers: (from when
    on, its machine, when it dies or None); a worker is one thread. The queue is on one Redis, the matrices are spread over
    `nodes`. Networks: one of each machine, one of the queue's Redis and the refresh's; bytes a second.
    """

    def __init__(self, units, workers, *, untaken=64, coordinator_poll=0.05, worker_rest=0.8, silent=30.0, queue_s=190e-6,
                 empty_s=5.5e-6, pending_s=0.5e-6, nodes=1, network=math.inf, seed=1):
        self.units, self.workers, self.most = units, workers, untaken
        self.coordinator_poll, self.worker_rest, self.silent = coordinator_poll, worker_rest, silent
        self.queue_s, self.empty_s, self.pending_s, self.asked = queue_s, empty_s, pending_s, 0.0
        self.nodes, self.network, self.random = nodes, network, random.Random(seed)
        self.queue, self.data, self.link = Server(), Server(), Server()
        self.machines = {machine: Server() for _, machine, _ in workers}
        self.events, self.count = [], 0
        self.idle, self.ready, self.silenced = deque(), deque(), deque()
        self.next = self.untaken = self.done = self.lost = self.twice = 0
        self.results = 0  # that the refresh has not seen
        self.cutting = self.working = self.starved = self.end = 0.0
        self.finished, self.times = [False] * len(units), []
        self.in_hand = {}

    def at(self, when, what, *about):
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what, about))

    def send(self, now, machine, size):
        """When `size` bytes between a machine and a Redis have passed the machine's network."""
        return self.machines[machine].ask(now, size / self.network)

    # Who is idle takes in vain, rests and asks again; eight times in the time of silence one of them looks at all that is in
    # hand. Where that is more than the queue's Redis can do, each answer takes what the rest is short of.
    def ask_queue(self, now, seconds):
        load = len(self.idle) * self.empty_s / self.worker_rest
        if self.idle:
            load += self.pending_s * len(self.in_hand) * 8 / self.silent
        self.queue.busy += min(load, 1.0) * max(0.0, now - self.asked)
        self.asked = max(self.asked, now)
        wait = max(0.0, len(self.idle) * self.empty_s - self.worker_rest)
        return self.queue.ask(now + wait, seconds)

    def run(self):
        self.at(0.0, self.cut)
        for worker, (start, _, dies) in enumerate(self.workers):
            self.at(start, self.free, worker)
            if dies is not None:
                self.at(dies, self.die, worker)
        while self.events and self.done < len(self.units):
            now, _, what, about = heapq.heappop(self.events)
            what(now, *about)
        return self

    def dead(self, worker, now):
        dies = self.workers[worker][2]
        return dies is not None and now >= dies

    # The refresh: units until enough of them wait for a taker, then results, then a rest where there were none.
    def cut(self, now):
        if self.next < len(self.units) and self.untaken < self.most:
            unit, self.next, self.untaken = self.next, self.next + 1, self.untaken + 1
            _, seconds, size, _, _ = self.units[unit]
            self.cutting += seconds
            self.at(now + seconds, self.put, unit, size)
            return
        seen, self.results, self.untaken = self.results, 0, len(self.ready)
        self.at(now + (0.0 if seen else self.coordinator_poll), self.cut)

    def put(self, now, unit, size):
        added = self.link.ask(self.ask_queue(now, self.queue_s), size / self.network)
        self.at(added, self.add, self.ready, unit)
        self.at(added, self.cut)

    def add(self, now, where, unit):
        where.append(unit)
        self.give(now)

    # What nobody has taken comes before what silent workers had.
    def next_unit(self):
        return (self.ready or self.silenced).popleft()

    # Who is idle asks every worker_rest; of several the first that asks has it.
    def give(self, now):
        while (self.ready or self.silenced) and self.idle:
            worker = self.idle.popleft()
            if self.dead(worker, now):
                continue
            wait = self.random.random() * self.worker_rest / (len(self.idle) + 1)
            self.take(now + wait, worker, self.next_unit())

    def take(self, now, worker, unit):
        seconds, _, size, made, store = self.units[unit]
        machine = self.workers[worker][1]
        begin = self.send(self.link.ask(self.ask_queue(now, self.queue_s), size / self.network), machine, size)
        self.in_hand[worker] = (unit, begin)
        self.at(begin + seconds, self.store, worker, unit, begin, made, store)

    def store(self, now, worker, unit, begin, made, store):
        if self.dead(worker, now):
            return
        stored = self.data.ask(self.send(now, self.workers[worker][1], made), store / self.nodes)
        self.at(stored, self.report, worker, unit, begin)

    def report(self, now, worker, unit, begin):
        if not self.dead(worker, now):
            self.at(self.ask_queue(now, self.queue_s / 2), self.finish, worker, unit, begin)

    def finish(self, now, worker, unit, begin):
        if self.dead(worker, now):
            return
        del self.in_hand[worker]
        self.working += now - begin
        if self.finished[unit]:
            self.twice += 1
        else:
            self.finished[unit] = True
            self.done += 1
            self.results += 1
            self.times.append(now)
            self.end = now
        self.free(now, worker)

    def free(self, now, worker):
        if self.dead(worker, now):
            return
        if self.ready or self.silenced:
            self.take(now, worker, self.next_unit())
        else:
            self.idle.append(worker)

    # It was kept last at most a quarter of the time ago after which it may be claimed.
    def die(self, now, worker):
        if worker in self.in_hand:
            unit, begin = self.in_hand.pop(worker)
            self.lost += 1
            self.working += max(0.0, now - begin)
            kept = max(now - self.random.random() * self.silent / 4, min(begin, now))
            self.at(kept + self.silent * (1 + self.random.random() / 8), self.add, self.silenced, unit)

    def figures(self):
        work = sum(unit[0] for unit in self.units)
        span = self.end or math.inf
        threads = sum(max(0.0, min(span, span if dies is None else dies) - start) for start, _, dies in self.workers)
        used = {"workers": self.working / threads if threads else 0.0, "the refresh": self.cutting / span,
                "Redis, queue": min(1.0, self.queue.busy / span), "Redis, matrices": self.data.busy / span,
                "network": max([self.link.busy] + [m.busy for m in self.machines.values()]) / span}
        name, most = max(used.items(), key=lambda row: row[1])
        if most < 0.85:
            name = "the workers' deaths and the last units"
        # Without the begin and the end, which a long refresh has once.
        early, late = len(self.times) // 10, len(self.times) * 9 // 10
        pace = (late - early) / (self.times[late] - self.times[early]) if late > early else 0.0
        return {"makespan": self.end, "work": work, "used": used, "done": self.done, "lost": self.lost, "twice": self.twice,
                "pace": pace, "bottleneck": name}


def ratios(p, units):
    """How far measured units of users are from the line through them: what a unit's time is multiplied by."""
    users = [u for u in units if u["kind"] == "u" and u["workers"] == 1]
    fits = [u["seconds"] / (u["tokens"] / p.encoder_tokens_s + u["entities"] * decoder_seconds(p, u["tokens"] / u["entities"]))
            for u in users]
    mean = sum(fits) / len(fits)
    return [fit / mean for fit in fits], mean


def planned_units(p, count, measured, tokenized, seed=1):
    draw = random.Random(seed)
    spread, _ = ratios(p, measured)
    users = unit_users(p)
    made = users * (matrix_bytes(p, p.m) + 200)
    return [(users * user_seconds(p) * draw.choice(spread), p.put_unit_s + users * cut_user_seconds(p, tokenized), unit_bytes(p),
             made, users * (p.redis_set_user_s + p.redis_set_small_s)) for _ in range(count)]


def farm(p, threads, *, units=None, tokenized=False, refreshes=1, measured, deaths=0.0, rounds=12):
    """A stretch of a full refresh: of `refreshes` that share the users, one is simulated. Users a second of all."""
    mine = max(1, threads // refreshes)
    count = units or min(20000, max(600, mine * rounds))
    work = planned_units(p, count, measured, tokenized)
    ends = random.Random(2)
    length = count * unit_users(p) * user_seconds(p) / mine
    workers = [(ends.random() * 2 * p.worker_start_s, i // int(p.machine_cores), ends.random() * length if ends.random() < deaths
                else None) for i in range(mine)]
    masters = redis_machines(p, 2) // (1 + int(p.replicas))
    done = Farm(work, workers, untaken=int(p.untaken), coordinator_poll=p.coordinator_poll_s, worker_rest=p.worker_rest_s,
                silent=p.silent_s, queue_s=p.take_unit_s, empty_s=p.take_empty_s, pending_s=p.take_pending_s, nodes=max(1, masters // refreshes), network=p.machine_gbit * 1e9 / 8).run().figures()
    done["users_s"] = refreshes * unit_users(p) * done["pace"]
    return done


def validate(p, measured, count):
    """A measured run's makespan; simulated with its own units' times, with the times that the other run had for the same units,
    and with these scaled so that their sum is this run's."""
    mine = [u for u in measured if u["workers"] == count]
    other = [u for u in measured if u["workers"] != count]
    starts = sorted(u["taken"] for u in mine)[:count]
    real = max(u["taken"] + u["seconds"] for u in mine)
    spans = []
    scale = sum(u["seconds"] for u in mine) / sum(u["seconds"] for u in other)
    for source, times in ((mine, 1.0), (other, 1.0), (other, scale)):
        units = [(u["seconds"] * times, p.put_unit_s + 4e-3, u["bytes"], 0, 0.0) for u in source]
        spans.append(Farm(units, [(start, 0, None) for start in starts]).run().end)
    return real, *spans


# ---- freshness ----

def day_curve(p, second):
    """Clicks a second; the busiest time is 20:00."""
    return clicks_second(p) * (1 + (p.peak_factor - 1) * math.cos(2 * math.pi * (second / DAY - 20 / 24)))


def quantile(weighted, share):
    weighted = sorted(weighted)
    left = share * sum(weight for _, weight in weighted)
    for value, weight in weighted:
        left -= weight
        if left <= 0:
            return value
    return weighted[-1][0]


def freshness(p, threads, *, cut_s, seconds, period=1.0, days=1.25, refreshes=1, draws=40, seed=1):
    """`refresh --follow --workers` over a day, round by round: all who have clicked since the last round began are cut into units,
    and the next round begins when all units are done (and no sooner than `period` after this one). cut_s, seconds: a user's
    cost to the refresh and to a worker. Returns p50, p99 from click to matrix, and the longest round, of the last day."""
    draw = random.Random(seed)
    now, since, rows, longest, alike = 0.0, -period, [], 0.0, 1
    users = unit_users(p)
    while now < days * DAY:
        window = now - since
        clicks = day_curve(p, now - window / 2) * window
        fresh = min(users_within(p, clicks / window, window) * window, p.users)
        wanted = max(1.0, fresh / users)
        busy = min(threads, wanted)
        work = max(fresh * seconds / busy, fresh * cut_s / refreshes)
        last = min(users, fresh) * seconds / 2 if wanted >= threads else 0.0  # some threads end half a unit earlier
        length = work + last + p.coordinator_poll_s + p.worker_rest_s / 2
        if now > (days - 1) * DAY:
            longest = max(longest, length)
            least = min(length, min(users, fresh) * seconds)  # no unit is done sooner
            for _ in range(draws):
                rows.append((draw.random() * window + least + draw.random() * (length - least), alike * clicks / draws))
        step = max(period, length)
        alike = max(1, int(60 / step))  # of rounds that are short one a minute is looked at, for all
        since, now = now + (alike - 1) * step, now + alike * step
        if length > DAY / 2:
            return math.inf, math.inf, math.inf
    return quantile(rows, 0.5), quantile(rows, 0.99), longest


# ---- what the page says ----

def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def short(value, digits=3):
    if math.isinf(value):
        return "never"
    if value == 0:
        return "0"
    digits = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{round(value, digits):,.{min(digits, 4)}f}" if digits else f"{round(value):,}"


def exact(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def about(seconds):
    for name, size in (("days", DAY), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size and not math.isinf(seconds):
            return f"{short(seconds / size)} {name}"
    return "never" if math.isinf(seconds) else f"{short(seconds)} s"


def say_inputs(p, _):
    rows = []
    for part, entries in read_json().items():
        rows += [(part, f"`{name}`", exact(p[name]), entry[1]) for name, entry in entries.items()]
    return table(("kind", "name", "value", "what, and where from"), rows)


def say_validation(p, measured):
    rows = []
    for count in (1, 2):
        real, *spans = validate(p, measured, count)
        rows.append((count, f"{real:.1f} s", *(f"{span:.1f} s, {span / real - 1:+.1%}" for span in spans)))
    return table(("workers", "measured makespan", "simulated from this run's unit times", "from the other run's unit times",
                  "from those, scaled to this run's sum"), rows)


def threads_for(p, seconds):
    return math.ceil(p.users * user_seconds(p) / seconds + p.contents * p.tokens_text / p.encoder_tokens_s / seconds)


def say_work(p, _):
    contents = p.contents * p.tokens_text / p.encoder_tokens_s
    cores = threads_for(p, DAY)
    bought = math.ceil(cores * p.headroom)
    return table(("", "figure"), [
        ("a user", f"{short(user_tokens(p))} tokens, {short(user_seconds(p))} s of a core: encoder "
         f"{short(user_tokens(p) / p.encoder_tokens_s)}, decoder {short(decoder_seconds(p, user_tokens(p)))}"),
        ("a unit", f"{unit_users(p)} users, {short(unit_users(p) * user_seconds(p))} s, {short(unit_bytes(p) / 1024)} KiB in, "
         f"{short(unit_users(p) * (matrix_bytes(p, p.m) + 200) / 1024)} KiB out"),
        ("all users; all contents", f"{short(p.users * user_seconds(p) / 3600)} core-hours; {short(contents / 3600)}"),
        ("cores busy for all of it in 24 h", f"{cores:,}"),
        (f"bought, {p.headroom:g} of them", f"{bought:,}: {math.ceil(bought / p.machine_cores)} machines of {p.machine_cores:g}"),
        ("one such re-encode, at the example's price", f"{short(cores * 24 * p.core_hour)}"),
        ("new contents of a day", f"{short(p.new_contents_day * p.tokens_text / p.encoder_tokens_s)} core-seconds"),
    ])


def say_full(p, measured):
    cores = threads_for(p, DAY)
    shapes = [("as it is", 64, {}), ("as it is", cores, {}),
              ("the tokens of all texts at hand (`--token-mb`)", cores, {"tokenized": True}),
              ("and two refreshes, half of the users each", math.ceil(cores * p.headroom), {"tokenized": True, "refreshes": 2}),
              ("the same, a tenth of the threads die in the stretch", math.ceil(cores * p.headroom),
               {"tokenized": True, "refreshes": 2, "deaths": 0.1})]
    rows = []
    for what, threads, options in shapes:
        done = farm(p, threads, measured=measured, **options)
        used = done["used"]
        rows.append((what, f"{threads:,}", short(done["users_s"]), about(p.users / done["users_s"]),
                     f"{used['workers']:.0%}", f"{used['the refresh']:.0%}",
                     f"{used['Redis, queue']:.1%}, {used['Redis, matrices']:.1%}", f"{used['network']:.1%}", done["bottleneck"]))
    return table(("", "threads", "users/s", "all users", "workers busy", "refresh busy", "Redis busy: queue, matrices", "busiest network",
                  "what bounds"), rows)


def say_fresh(p, _):
    peak = clicks_second(p) * p.peak_factor
    rows = []
    for what, seconds, tokenized, refreshes in (
            ("one refresh, texts tokenised as they come", user_seconds(p), False, 1),
            ("the same, all tokens at hand", user_seconds(p), True, 1),
            ("four refreshes, all tokens at hand", user_seconds(p), True, 4),
            ("the same, sessions cached and users bound to machines", one_session_seconds(p, p.affinity_hit), True, 4)):
        cut = p.put_unit_s / unit_users(p) + cut_user_seconds(p, tokenized)
        for threads in (500, 1000, 1500, 2000, 3000):
            middle, late, longest = freshness(p, threads, cut_s=cut, seconds=seconds, refreshes=refreshes)
            rows.append((what, f"{threads:,}", about(middle), about(late), about(longest)))
    head = [f"{short(clicks_second(p))} clicks/s on a day's mean, {short(peak)} at its peak; of these, users a second to be encoded where all "
            f"clicks of 5 minutes are taken together: {short(users_within(p, peak, 300))}; of one minute: "
            f"{short(users_within(p, peak, 60))}.", ""]
    return head + table(("", "threads", "click to matrix, p50", "p99", "longest round"), rows)


@functools.lru_cache
def fresh_threads(p, seconds, target=300.0):
    """The fewest threads, in steps of 10, whose p99 over the day is within the target; enough refreshes."""
    low, high = 1, 1000
    while low < high:
        middle = (low + high) // 2
        late = freshness(p, 10 * middle, cut_s=0.0, seconds=seconds, draws=20)[1]
        low, high = (low, middle) if late <= target else (middle + 1, high)
    return 10 * low


def cache_bytes(p):
    return user_tokens(p) * p.d * 2


def say_cache(p, _):
    plain, cached = fresh_threads(p, user_seconds(p)), fresh_threads(p, one_session_seconds(p, p.affinity_hit))
    machines = math.ceil(plain * p.headroom / p.machine_cores)
    near = math.ceil(cached * p.headroom / p.machine_cores)
    active = p.users * p.active_share
    rows = [
        ("states of a user's sessions, bfloat16", f"{short(cache_bytes(p) / 2**20)} MiB"),
        ("of the users of a day", f"{short(active * cache_bytes(p) / 1e12)} TB"),
        ("a click's user: no cache; all but one session found", f"{short(user_seconds(p))} s; {short(one_session_seconds(p, 1))} s, "
         f"{short(user_seconds(p) / one_session_seconds(p, 1))} times less: the decoder remains"),
        (f"any machine of {machines} takes the unit: found with {1 / machines:.1%}",
         f"{short(one_session_seconds(p, 1 / machines))} s, {short(user_seconds(p) / one_session_seconds(p, 1 / machines))} times less"),
        (f"users bound to machines: found with {p.affinity_hit:.0%}", f"{short(one_session_seconds(p, p.affinity_hit))} s, "
         f"{short(user_seconds(p) / one_session_seconds(p, p.affinity_hit))} times less"),
        ("threads for p99 within 5 min: no cache; bound users", f"{plain:,}; {cached:,}"),
        ("disk for it beside each of the latter's machines", f"{short(active * cache_bytes(p) / 1e12 / near)} TB on {near} machines"),
    ]
    return table(("", "figure"), rows)


def queue_share(p, users):
    """Of a core of the queue's Redis: each unit is put, taken and done."""
    return users / unit_users(p) * 2.5 * p.take_unit_s


def vain_share(p, idle, in_hand):
    """The same of threads that have nothing to do; in_hand: units that others have."""
    return idle * p.take_empty_s / p.worker_rest_s + in_hand * p.take_pending_s * 8 / p.silent_s


def say_redis(p, _):
    rows = []
    for generations in (1, 2):
        size = store_bytes(p, generations)
        rows.append((generations, f"{short(size / 2**40)} TiB", f"{short(size * (1 + p.replicas) / 2**40)} TiB",
                     redis_machines(p, generations)))
    lines = table(("generations", "keys, one copy", "with replicas", f"machines of {p.redis_gib:g} GiB, {p.redis_fill:.0%} full"), rows)
    peak = clicks_second(p) * p.peak_factor
    fresh, ranks = users_within(p, peak, 300), peak * p.ranks_click
    full = p.users / DAY
    masters = redis_machines(p, 2) // (1 + int(p.replicas))
    value = matrix_bytes(p, p.m)
    lines += [""] + table(("at the peak", "a second", "Redis, of one core", "network"), [
        ("users' matrices and summaries written, freshness", short(fresh), f"{fresh * (p.redis_set_user_s + p.redis_set_small_s):.0%}",
         f"{short(fresh * value * 8 / 1e9)} Gbit/s, and once more to each replica"),
        ("the same, a full re-encode in 24 h", short(full), f"{full * (p.redis_set_user_s + p.redis_set_small_s):.0%}",
         f"{short(full * value * 8 / 1e9)} Gbit/s"),
        ("users' matrices read by daemons, a request each", short(ranks), f"{ranks * p.redis_set_user_s:.0%}, taken to be what a write costs",
         f"{short(ranks * value * 8 / 1e9)} Gbit/s"),
        ("units through the queue, in and out, freshness", short(fresh / unit_users(p)), f"{queue_share(p, fresh):.0%} with {fresh * user_seconds(p):,.0f} units in hand",
         f"{short(2 * fresh / unit_users(p) * unit_bytes(p) * 8 / 1e9)} Gbit/s, all on one node"),
        ("takes in vain by 1,000 idle threads beside these", short(1000 / p.worker_rest_s),
         f"{vain_share(p, 1000, fresh * user_seconds(p)):.1%}", ""),
        ("clicks appended", short(peak), f"{peak * p.redis_set_small_s:.0%}, all on one node", ""),
    ]) + ["", f"The matrices lie on {masters} masters (two generations), so each has a share of 1 in {masters} of the first three rows."]
    return lines


def say_plan(p, _):
    heads, keys = p.users + p.contents, 2 * (2 * p.users + p.contents) + p.users
    return table(("step of a refresh with everything to look at", "figure"), [
        ("memory for histories and items", f"{short((p.users * p.refresh_user_b + p.contents * p.refresh_item_b) / GIB)} GiB"),
        ("heads asked for, a GETRANGE each, by one connection at a time", f"{about(heads * p.redis_head_s)} at the measured pace"),
        (f"SCAN, three times over all {short(keys)} keys of two generations", f"{about(3 * keys * p.redis_scan_key_s)} at the measured pace"),
        ("cutting all users, texts tokenised as they come", about(p.users * (cut_user_seconds(p, False) + p.put_unit_s / unit_users(p)))),
        ("cutting all users, tokens at hand", about(p.users * (cut_user_seconds(p, True) + p.put_unit_s / unit_users(p)))),
        ("the tokens of all texts at hand (`--token-mb`), 4 bytes each", f"{short(p.contents * (p.tokens_text + 2) * 4 / GIB)} GiB"),
    ])


def daemon_machines(p, cpu):
    """Two at least; busy to a half at the peak."""
    cores = 2 * clicks_second(p) * p.peak_factor * p.ranks_click * cpu
    return max(2, math.ceil(cores / p.machine_cores)), cores


def say_daemon(p, _):
    rows = []
    for name, size, cpu in (("bfloat16", hot_bytes(p, 2), p.rank_cpu_bf16_s), ("int8", hot_bytes(p, 1), p.rank_cpu_int8_s)):
        machines, cores = daemon_machines(p, cpu)
        rows.append((name, f"{short(p.contents * size / GIB)} GiB", f"{short(2 * p.contents * size / GIB)} GiB",
                     f"{short(cores)}", machines))
    ranks = clicks_second(p) * p.peak_factor * p.ranks_click
    return [f"{short(ranks)} requests/s of 1,000 candidates at the peak."] + [""] + table(
        ("scoring.dtype", "all contents", "while two generations are in memory", "cores, half of them busy", "machines"), rows)


def say_cost(p, _):
    plain = math.ceil(fresh_threads(p, user_seconds(p)) * p.headroom)
    near = math.ceil(fresh_threads(p, one_session_seconds(p, p.affinity_hit)) * p.headroom)
    disk = p.users * p.active_share * cache_bytes(p) / 1e12
    redis = redis_machines(p, 2) * p.redis_gib
    daemons, cores = daemon_machines(p, p.rank_cpu_bf16_s)
    memory = daemons * 2 * p.contents * hot_bytes(p, 2) / GIB
    rows = [("workers for freshness of 5 min, all day", f"{plain:,} cores", plain * 24 * p.core_hour),
            ("or with cached sessions and bound users", f"{near:,} cores, {short(disk)} TB of disk",
             24 * (near * p.core_hour + disk * p.nvme_tb_hour)),
            ("one full re-encode within the day, beside them", f"{threads_for(p, DAY):,} cores, 24 h", threads_for(p, DAY) * 24 * p.core_hour),
            ("Redis, two generations, with replicas", f"{redis_machines(p, 2)} machines, {short(redis / 1024)} TiB, 8 cores each",
             24 * (redis * p.gib_hour + 8 * redis_machines(p, 2) * p.core_hour)),
            ("daemons, bfloat16", f"{daemons} machines, {short(cores)} cores, {short(memory)} GiB",
             24 * (cores * p.core_hour + memory * p.gib_hour))]
    return table(("a day", "what", "at the example's prices"), [(a, b, short(c)) for a, b, c in rows])


def say_short(p, measured):
    cores = threads_for(p, DAY)
    untold = 1 / (p.put_unit_s / unit_users(p) + cut_user_seconds(p, False))
    told = 1 / (p.put_unit_s / unit_users(p) + cut_user_seconds(p, True))
    daemons = daemon_machines(p, p.rank_cpu_bf16_s)[0]
    size, small = p.contents * hot_bytes(p, 2) / GIB, p.contents * hot_bytes(p, 1) / GIB
    return table(("question", "answer"), [
        ("all users anew in 24 h", f"{cores:,} busy cores, {math.ceil(cores * p.headroom):,} bought, and two refreshes of half of the users each: "
         f"one cuts {short(told)} users/s where it holds the tokens of all texts (`--token-mb`), {short(untold)} where it tokenises them as they come"),
        ("99 of 100 clicks in the user's matrix within 5 minutes, over a day with its peak",
         f"{fresh_threads(p, user_seconds(p)):,} threads and four refreshes; "
         f"{fresh_threads(p, one_session_seconds(p, p.affinity_hit)):,} if users were bound to machines that cache their sessions, which they are not"),
        ("Redis", f"{redis_machines(p, 2)} machines of {p.redis_gib:g} GiB while two generations are stored, replicas included; memory decides, "
         "not commands"),
        ("daemons", f"{daemons} machines: each holds the catalogue, {short(size)} GiB in bfloat16, {short(small)} in int8, twice that during a switch"),
        ("what stops first", "the one refresh, which cuts all units; then its planning, which no worker helps with"),
    ])


TABLES = {"short": say_short, "inputs": say_inputs, "validation": say_validation, "work": say_work, "full": say_full, "fresh": say_fresh,
          "cache": say_cache, "redis": say_redis, "plan": say_plan, "daemon": say_daemon, "cost": say_cost}
MARK = re.compile(r"(<!-- (\w+): by capacity.py -->\n).*?(<!-- end -->)", re.S)


def page(text, p, measured):
    found = [name for _, name, _ in MARK.findall(text)]
    if sorted(found) != sorted(TABLES):
        raise SystemExit(f"capacity.py: the page has the tables {found}, not {list(TABLES)}")
    return MARK.sub(lambda m: m[1] + "\n".join(TABLES[m[2]](p, measured)) + "\n" + m[3], text)


def main(arguments):
    measured, path = read_units(), f"{HERE}/CAPACITY.md"
    changes = [a for a in arguments if "=" in a]
    if [a for a in arguments if "=" not in a] not in ([], ["--check"]):
        raise SystemExit(__doc__)
    p = read_inputs(changes)
    if changes:
        for name, say in TABLES.items():
            print("\n".join([f"{name}:", "", *say(p, measured), ""]))
        return 0
    with open(path, encoding="ascii") as file:
        before = file.read()
    after = page(before, p, measured)
    if arguments:
        sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "CAPACITY.md", "as computed"))
        return before != after
    with open(path, "w", encoding="ascii") as file:
        file.write(after)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
