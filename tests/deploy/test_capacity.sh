#!/bin/sh
# The plan's tables are those that its figures give, and its simulation keeps what any schedule has to.
set -eu
cd "$(dirname "$0")/../.."
python3 -B deploy/capacity.py --check
python3 -B - <<'END'
import random
import sys

sys.path.insert(0, "deploy")
from capacity import Farm, farm, freshness, read_inputs, read_units, user_seconds, validate

TAKEN = 1.0  # of units' seconds: what they may be off by, for polls and commands


def run(seed, threads, deaths=0.0, **options):
    draw = random.Random(seed)
    units = [(draw.uniform(0.5, 12), 1e-3, 60000, 260000, 1e-3) for _ in range(400)]
    workers = [(0.0, i // 8, draw.uniform(1, 40) if i and draw.random() < deaths else None) for i in range(threads)]
    return Farm(units, workers, network=1.25e9, seed=seed, **options).run().figures()


for seed in range(20):
    before = None
    for threads in (1, 2, 4, 8, 16, 32):
        done = run(seed, threads)
        assert done["done"] == 400 and done["lost"] == 0 and done["twice"] == 0, done
        assert done["makespan"] >= done["work"] / threads, (seed, threads, done)
        assert done["makespan"] <= done["work"] / threads + 12 + 400 * 5e-3 + TAKEN, (seed, threads, done)
        assert before is None or done["makespan"] <= before, (seed, threads, done, before)
        before = done["makespan"]
    dying = run(seed, 16, deaths=0.7)
    assert dying["done"] == 400 and dying["lost"] > 0, dying
    assert dying["makespan"] > run(seed, 16)["makespan"], dying
    assert run(seed, 16, deaths=0.7, silent=60.0)["done"] == 400

# Whose unit is lost waits for it: one worker dies at 5 s with the only unit, which the other ends no sooner than the silence allows.
alone = Farm([(10.0, 0.0, 1, 1, 0.0)], [(0.0, 0, 5.0), (20.0, 1, None)]).run().figures()
assert alone["done"] == alone["lost"] == 1 and 5 + 30 * 3 / 4 + 10 <= alone["makespan"] <= 5 + 30 + 10 + TAKEN, alone

# However short the queue, who has work is not waited for.
few = Farm([(5.0, 0.0, 1, 1, 0.0)] * 200, [(0.0, 0, None)] * 50, untaken=10).run().figures()
assert 200 * 5.0 / 50 <= few["makespan"] <= 200 * 5.0 / 50 + 5 * TAKEN, few

p, measured = read_inputs(), read_units()
for count in (1, 2):
    real, own, _, scaled = validate(p, measured, count)
    assert abs(own / real - 1) < 0.1 and abs(scaled / real - 1) < 0.1, (count, real, own, scaled)
    assert abs(sum(u["seconds"] for u in measured if u["workers"] == count) / count - real) < 0.1 * real
assert farm(p, 64, measured=measured)["bottleneck"] == "workers"
assert farm(p, 1024, measured=measured)["bottleneck"] == "the refresh"
late = [freshness(p, threads, cut_s=0.0, seconds=user_seconds(p))[1] for threads in (1000, 2000, 4000)]
assert late[0] > late[1] > late[2], late
print("the simulation's schedules are possible ones")
END
