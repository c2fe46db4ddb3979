#!/usr/bin/python3
"""make bench-train: one training step of `embsum train` beside PyTorch's, the same model, examples, batch and threads.

    ROUNDS=3 T5VOCAB=spiece.model /usr/bin/python3 tests/bench/train.py [--size t5-small|d128]... [--threads N]...

One step is forward, backward, clipping and Adam on all examples, in float32 without dropout; the first step of each run
is left out. README.md beside this file tells how to read the table. Exit code: 0 both goals hold everywhere, 1 not, or the
two do not compute the same.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import train_data

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build")
VOCAB = pathlib.Path(os.environ.get("T5VOCAB") or ROOT / "deploy/demo/model/spiece.model")
ROUNDS = int(os.environ.get("ROUNDS") or 3)
PYTHON = os.environ.get("PEER_PYTHON") or "/usr/bin/python3"

SPEED_GOAL, MEMORY_GOAL = 1.2, 0.7
TOLERANCE = 1e-3  # relative, of the losses and the gradient's norm
SEED, RATE, HEAD_FACTOR, LAMBDA, CLIP = 11441, 1e-4, 5, 0.05, 1

T5 = {
    "vocab_size": 32128,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "embsum": {},  # the defaults: m 32, n 4, p 256, sessions of 4
}
SIZES = {
    "t5-small": {
        "config": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8, "num_layers": 6, "num_decoder_layers": 6},
        "examples": 4,
        "steps": 2,  # that are timed
    },
    "d128": {
        "config": {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 2},
        "examples": 16,
        "steps": 3,
    },
}

# A step of PyTorch frees and takes large blocks all the time. glibc would give each back to the kernel and fault it in
# again, which costs up to three quarters of the time here; kept in the heap, they are reused.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "67108864"}
KERNELS = {"as set": {}, "SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX"}, "free": {"OPENBLAS_CORETYPE": ""}}
WAITING = {"spin": {}, "sleep": {"OMP_WAIT_POLICY": "PASSIVE"}}


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- runs ----------------------------------------------------------------------------------------------


def environment(extra):
    env = dict(os.environ, **extra)
    if not env.get("OPENBLAS_CORETYPE"):
        env.pop("OPENBLAS_CORETYPE", None)
    return env


def cpu_seconds(pid):
    """User and system time of a running process with all its threads, in steps of 10 ms."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(command, env, log, what):
    """Run a program that writes a JSON line a step into the file `log`. Gives the lines, the wall clock and the CPU time at
    each one's appearance (read before the process is waited for: /proc still has it), and its peak memory in MiB."""
    errors = log.with_suffix(".err")
    with open(log, "w") as out, open(errors, "w") as err:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=err)
    marks, pid = [], 0
    while not pid:
        time.sleep(0.005)
        written = log.read_bytes().count(b"\n")
        if written > len(marks):
            marks += [(time.monotonic(), cpu_seconds(process.pid))] * (written - len(marks))
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{what} failed with {process.returncode}:\n{errors.read_text()}")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    if len(marks) != len(lines):
        raise SystemExit(f"{what}: {len(marks)} of {len(lines)} steps were seen in time")
    return lines, marks, usage.ru_maxrss / 1024


class Bench:
    """One size: its data, its model, and the two programs on them."""

    def __init__(self, name, folder):
        self.name, self.size, self.folder = name, SIZES[name], folder / name
        self.folder.mkdir()
        train_data.make(self.folder, self.size["examples"], SEED, ROOT / "deploy/demo/news.tsv")
        (self.folder / "config.json").write_text(json.dumps({**T5, **self.size["config"]}))
        self.model = self.folder / "model"
        command = [BUILD / "embsum", "init", "--quiet", "--config", self.folder / "config.json", "--vocab", VOCAB]
        subprocess.run([*command, "--out", self.model, "--seed", "1"], check=True)
        self.inputs = ["--model", self.model]
        for option in ("news.tsv", "behaviors.tsv", "summaries.jsonl"):
            self.inputs += ["--" + option.split(".")[0], self.folder / option]

    def figures(self, lines, marks, memory):
        """Tokens a second of the timed steps, from the marks at the steps' ends."""
        tokens = sum(line["tokens"] for line in lines[1:])
        wall, cpu = (marks[len(lines) - 1][i] - marks[0][i] for i in (0, 1))
        return {"speed": tokens / wall, "cpu_speed": tokens / cpu if cpu else 0, "memory": memory, "lines": lines}

    def ours(self, threads, setting, steps, dropout):
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        command = [BUILD / "embsum", "train", *self.inputs, "--out", out, "--batch", self.size["examples"]]
        command += ["--epochs", steps, "--rate", RATE, "--head-factor", HEAD_FACTOR, "--lambda", LAMBDA, "--warmup", 0]
        command += ["--clip", CLIP, "--dropout", dropout, "--threads", threads, "--quiet"]
        command += ["--micro-batch", setting["micro"]]
        return self.figures(*run(list(map(str, command)), environment({}), out / "train.jsonl", "embsum train"))

    def peer(self, threads, setting, steps, dropout):
        limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        env = {**limits, **KEEP_MEMORY, **KERNELS[setting["kernel"]], **WAITING[setting["waiting"]]}
        command = [PYTHON, HERE / "train_peer.py", *self.inputs, "--steps", steps, "--threads", threads, "--rate", RATE]
        command += ["--head-factor", HEAD_FACTOR, "--weight", LAMBDA, "--clip", CLIP, "--dropout", dropout]
        command += ["--micro", setting["micro"], "--foreach", setting["foreach"], "--bucket", setting["bucket"]]
        return self.figures(*run(list(map(str, command)), environment(env), self.folder / "peer.jsonl", "the peer"))

    # -- the best setting of a side: one dimension after the other

    def tune(self, side, threads, setting, dimensions, dropout):
        tried = {}

        def speed(candidate):
            key = json.dumps(candidate)
            if key not in tried:
                tried[key] = result = getattr(self, side)(threads, candidate, 2, dropout)
                say(f"  {side}, {key}: {result['speed']:.0f} tokens/s, {result['memory']:.0f} MiB")
            # with one thread the CPU time tells the same as the clock, and less of what else the machine does
            return tried[key]["cpu_speed" if threads == 1 else "speed"]

        for dimension, values in dimensions.items():
            setting = max(({**setting, dimension: value} for value in values), key=speed)
        return setting


def compare(ours, peer):
    """The largest relative difference in the first step's losses and gradient norm. Later steps also show whether Adam does
    the same, but each step widens what rounding began; they are reported, not judged."""
    worst = [0.0, 0.0]
    for step, (a, b) in enumerate(zip(ours["lines"], peer["lines"])):
        for key in ("nce", "sum", "norm", "tokens"):
            worst[step > 0] = max(worst[step > 0], abs(a[key] - b[key]) / max(abs(b[key]), 1e-2))
    return worst


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(bench, threads, settings, rounds, dropout):
    steps = bench.size["steps"] + 1
    pairs = []
    for turn in range(rounds):
        ours = bench.ours(threads, settings["ours"], steps, dropout)
        peer = bench.peer(threads, settings["peer"], steps, dropout)
        pairs.append((ours, peer))
        say(f"  round {turn + 1}: ours {ours['speed']:.0f}, peer {peer['speed']:.0f} tokens/s")
    first, later = compare(*pairs[0])
    row = {
        "size": bench.name,
        "threads": threads,
        "dropout": dropout,
        "settings": dict(settings),
        "tokens": pairs[0][0]["lines"][0]["tokens"],
        "examples": bench.size["examples"],
        "difference": first,
        "difference_later": later,
        "same": dropout > 0 or first <= TOLERANCE,
    }
    for key in ("speed", "cpu_speed", "memory"):
        values = [(ours[key], peer[key]) for ours, peer in pairs]
        row[key] = {"ours": spread([a for a, _ in values]), "peer": spread([b for _, b in values])}
        row[key]["ratio"] = spread([a / b for a, b in values])
    row["speed_holds"] = row["speed"]["ratio"]["median"] >= SPEED_GOAL
    row["memory_holds"] = row["memory"]["ratio"]["median"] <= MEMORY_GOAL
    return row


# ---- the table -----------------------------------------------------------------------------------------


def show(rows):
    what = {"speed": "tokens/s", "cpu_speed": "tokens/CPU s", "memory": "peak MiB"}
    sides = " ".join(f"{side:>8} {'(min - max)':>17}" for side in ("ours", "PyTorch"))
    print(f"\n{'size':9} {'threads':7} {'dropout':7} {'':13} {sides} {'ratio':>6}")
    for row in rows:
        for key, name in what.items():
            cells = []
            for side in ("ours", "peer"):
                s = row[key][side]
                cells.append(f"{s['median']:8.0f} {'(%.0f - %.0f)' % (s['min'], s['max']):>17}")
            goal = {"speed": row["speed_holds"], "memory": row["memory_holds"]}.get(key)
            verdict = "" if goal is None else "  holds" if goal else "  MISSED"
            ratio = row[key]["ratio"]["median"]
            print(f"{row['size']:9} {row['threads']:7} {row['dropout']:7} {name:13} {' '.join(cells)} {ratio:6.2f}{verdict}")
        print(
            f"{'':25} {row['examples']} examples, {row['tokens']} tokens a step; first losses and norm differ by "
            f"{row['difference']:.1e}{'' if row['same'] else ' WRONG'}, later by {row['difference_later']:.1e}; "
            f"ours at {json.dumps(row['settings']['ours'])}, PyTorch at {json.dumps(row['settings']['peer'])}"
        )
    print(f"\ngoals: tokens/s at least {SPEED_GOAL} x PyTorch's, peak memory at most {MEMORY_GOAL} x")


def dimensions_of(side, first, threads, examples):
    """What is tried to find a side's best setting; with more threads only what may depend on their number."""
    if side == "ours":
        return {"micro": [micro for micro in (1, 2, 4, 8) if micro * threads <= examples]}
    dimensions = {"kernel": list(KERNELS), "micro": [1, 2, 4], "foreach": [0, 1]} if first else {}
    return {**dimensions, "waiting": list(WAITING)} if threads > 1 else dimensions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", choices=SIZES)
    parser.add_argument("--threads", action="append", type=int)
    parser.add_argument("--dropout", type=float, default=0, help="in both; the losses are then not compared")
    parser.add_argument("--quick", action="store_true", help="at the usual best settings, without looking for them")
    parser.add_argument("--json", default=BUILD / "bench/train.json")
    args = parser.parse_args()
    start, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="bench-train.") as folder:
        for name in args.size or SIZES:
            bench = Bench(name, pathlib.Path(folder))
            settings = {
                "ours": {"micro": 1},
                "peer": {"kernel": "SkylakeX", "waiting": "sleep", "micro": 2, "bucket": 1024, "foreach": 0},
            }
            for index, threads in enumerate(args.threads or [1, 2]):
                say(f"{name}, {threads} threads")
                for side, setting in settings.items():
                    dimensions = dimensions_of(side, index == 0, threads, bench.size["examples"])
                    if not args.quick:
                        settings[side] = bench.tune(side, threads, setting, dimensions, args.dropout)
                rows.append(measure(bench, threads, settings, ROUNDS, args.dropout))
    show(rows)
    path = pathlib.Path(args.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = os.environ.get("OPENBLAS_CORETYPE") or "not set"
    result = {"rounds": ROUNDS, "openblas_coretype": kernel, "vocabulary": VOCAB.name, "rows": rows}
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"OPENBLAS_CORETYPE {kernel}, {ROUNDS} rounds, {time.monotonic() - start:.0f} s; {path}")
    return 0 if all(row["same"] and row["speed_holds"] and row["memory_holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
