#!/usr/bin/python3
"""make bench-encoder-peers: T5's encoder, ours beside PyTorch, onnxruntime, CTranslate2 and llama.cpp in one run.

    BOOKS=dir T5VOCAB=spiece.model ROUNDS=3 tests/bench/encoder_peers.py [--systems pytorch,ct2] [--dtypes int8] [--quick]

A model of T5-small's shape with random weights from a seed; one worker pinned to a processor, and two on two, summed;
texts of one length and ragged ones. README.md beside this file tells how to read the table and where the peers come
from. Exit code: 0 all that is installed was measured, 1 a peer computes something else.
"""
import argparse
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent / "golden"), str(HERE / "peers/encoder")]

from systems import BATCHES, BUILD, PEER_KINDS, TOLERANCE, NotMeasured, System, say

VOCAB = pathlib.Path(os.environ.get("T5VOCAB") or ROOT / "deploy/demo/model/spiece.model")
NEWS = pathlib.Path(os.environ["BOOKS"], "news.tsv") if os.environ.get("BOOKS") else ROOT / "deploy/demo/news.tsv"
ROUNDS = int(os.environ.get("ROUNDS") or 3)

SHAPES = {"16x64": (16, 64), "8x256": (8, 256), "2x512": (2, 512)}
TEXTS, SHORTEST, LONGEST = 256, 16, 200
SEED = 1
CONFIG = {
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_heads": 8,
    "num_layers": 6,
    "num_decoder_layers": 6,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "embsum": {
        "fields": [
            {"column": "title", "prefix": "News Title: ", "suffix": ";", "max_tokens": 32},
            {"column": "abstract", "prefix": "News Abstract: ", "suffix": ";", "max_tokens": LONGEST - 42},
            {"column": "category", "prefix": "News Category: ", "suffix": "", "max_tokens": 8},
        ]
    },
}

# ---- the model and the texts ---------------------------------------------------------------------------


class World:
    """A folder with the model, the workloads as files of batches (worker.py tells their form), and the states to be met."""

    def __init__(self, folder, texts):
        self.folder, self.model = folder, folder / "model"
        (folder / "config.json").write_text(json.dumps(CONFIG))
        command = [BUILD / "embsum", "init", "--quiet", "--config", folder / "config.json", "--vocab", VOCAB]
        subprocess.run([*command, "--out", self.model, "--seed", str(SEED)], check=True)
        rng = random.Random(SEED)
        for name, (rows, length) in SHAPES.items():
            self.write(name, [[[rng.randrange(3, 32000) for _ in range(length)] for _ in range(rows)]])
        self.texts = self.read_texts(texts)
        self.path("lengths").write_text("".join(f"{len(text)}\n" for text in rng.sample(self.texts, len(self.texts))))
        self.padded = {}
        for size in BATCHES:
            batches = [self.texts[i : i + size] for i in range(0, len(self.texts), size)]
            self.padded[size] = sum(len(batch) * len(batch[0]) for batch in batches) / sum(map(len, self.texts))
            self.write(f"ragged.{size}", batches)
        some = self.texts[:: max(1, len(self.texts) // 12)][:12]
        self.check = [some[0::3], some[1::3], some[2::3], [[rng.randrange(3, 32000) for _ in range(512)]]]
        self.write("check", self.check)

    def path(self, workload):
        return self.folder / f"{workload}.txt"

    def write(self, workload, batches):
        parts = ("".join(" ".join(map(str, ids)) + "\n" for ids in batch) for batch in batches)
        self.path(workload).write_text("\n".join(parts))

    def read_texts(self, count):
        """Ids of some of the catalogue's items, evenly by length, the longest first."""
        import reference

        config = reference.Config(self.folder / "config.json")
        items = reference.item_ids(config, VOCAB, reference.read_news(NEWS)).values()
        items = sorted((ids for ids in items if SHORTEST <= len(ids) <= LONGEST), key=len, reverse=True)
        return [items[i * len(items) // count] for i in range(min(count, len(items)))]

    def states(self):
        """What every system must compute for `check`, in float64."""
        import numpy as np
        import reference
        import weights

        t5 = reference.T5(reference.Config(self.model / "config.json"), weights.load(self.model / "model.safetensors"))
        return np.concatenate([state.numpy() for state in t5.encode(sum(self.check, []))])


def start_systems(args, world, processors, systems):
    """Fill `systems` with those that are installed and right; gives {name: why not} of the others."""
    missing, states = {}, world.states()
    for kind in PEER_KINDS:
        for dtype in kind.dtypes:
            if kind.name not in args.systems or dtype not in args.dtypes:
                continue
            system = System(kind(), dtype, world, processors)
            systems.append(system)
            try:
                system.prepare()
                system.start(system.variant, 1)
                system.judge(states)
                system.tune(args.quick, args.seconds)
            except NotMeasured as error:
                missing[f"{kind.name} {dtype}"] = str(error)
                say(f"{kind.name} {dtype} is not measured: {error}")
                systems.remove(system)
                system.end()
    return missing


# ---- measuring -----------------------------------------------------------------------------------------


def ours(world):
    """{(workload, dtype, workers): tokens a second of the processor's time} of a run of our own benchmark, nothing where it
    is not built. The first of its two rounds warms up; it shows the better one."""
    program, figures = BUILD / "tests/bench/encoder", {}
    for texts in ([], ["--lengths", world.path("lengths")]) if program.exists() else []:
        done = subprocess.run([program, "--rounds", "2", *texts], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{program} failed:\n{done.stderr}")
        for row in map(json.loads, done.stdout.splitlines()):
            figures[row["shape"], row["dtype"], row["threads"]] = row["tokens_per_s"]
    return figures


def measure(args, world, systems, counts):
    """{(workload, dtype, workers): {system: [tokens a second, ...]}}, by the processor's time and by the clock; all are
    asked one after the other, in an order that turns with each round."""
    by_cpu, by_clock = {}, {}
    for turn in range(ROUNDS):
        for key, speed in ours(world).items():
            if key[1] in args.dtypes and key[2] in counts:
                by_cpu.setdefault(key, {}).setdefault("ours", []).append(speed)
        first = turn % max(1, len(systems))
        for workload in [*SHAPES, "ragged"]:
            for count in counts:
                for system in systems[first:] + systems[:first]:
                    key, answer = (workload, system.dtype, count), system.run(workload, count, args.seconds)
                    for figures, speed in zip((by_clock, by_cpu), answer):
                        figures.setdefault(key, {}).setdefault(system.name, []).append(speed)
        say(f"round {turn + 1} of {ROUNDS}")
    return by_cpu, by_clock


def summary(by_cpu, by_clock):
    rows, workloads, dtypes = [], [*SHAPES, "ragged"], list(TOLERANCE)
    for key in sorted(by_cpu, key=lambda key: (key[2], workloads.index(key[0]), dtypes.index(key[1]))):
        medians = {name: statistics.median(values) for name, values in by_cpu[key].items()}
        peers = {name: median for name, median in medians.items() if name != "ours"}
        best = max(peers, key=peers.get, default=None)
        rows.append({
            "shape": key[0],
            "dtype": key[1],
            "workers": key[2],
            "tokens_per_cpu_s": by_cpu[key],
            "tokens_per_s": by_clock.get(key, {}),
            "median": medians,
            "best_peer": best,
            "ratio": medians["ours"] / peers[best] if best and "ours" in medians else None,
        })
    return rows


def show(rows, names):
    print(f"\n{'tokens/s':8} {'':9} {'workers':7} " + " ".join(f"{name:>21}" for name in names) + "  ours : best peer")
    for row in rows:
        cells = []
        for name in names:
            values = row["tokens_per_cpu_s"].get(name)
            cells.append(f"{row['median'][name]:6.0f} ({min(values):.0f} - {max(values):.0f})" if values else "-")
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
        print(f"{row['shape']:8} {row['dtype']:9} {row['workers']:7} " + " ".join(f"{cell:>21}" for cell in cells) +
              f"  {ratio:5} {row['best_peer'] or ''}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default=",".join(kind.name for kind in PEER_KINDS), help="peers, by comma")
    parser.add_argument("--dtypes", default=",".join(TOLERANCE), help="precisions, by comma")
    parser.add_argument("--seconds", type=float, default=2, help="each figure takes at least so long")
    parser.add_argument("--quick", action="store_true", help="few texts, at the usual best settings: does it all work?")
    parser.add_argument("--json", default=BUILD / "bench/encoder_peers.json")
    args = parser.parse_args()
    args.systems, args.dtypes = args.systems.split(","), args.dtypes.split(",")
    if args.quick:
        args.seconds = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    start, systems = time.monotonic(), []
    processors = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory(prefix="bench-encoder.") as folder:
        world = World(pathlib.Path(folder), 32 if args.quick else TEXTS)
        try:
            missing = start_systems(args, world, processors, systems)
            rows = summary(*measure(args, world, systems, range(1, len(processors) + 1)))
        finally:
            for system in systems:
                system.end()
    show(rows, ["ours", *dict.fromkeys(system.name for system in systems)])
    for system in systems:
        padding = 100 * (world.padded[system.batch] - 1)
        print(f"{system.name} {system.dtype}: version {system.version}, states off by {system.error:.1e}, ragged in batches of "
              f"{system.batch} ({padding:.1f} % padding){', ' + system.variant if system.variant else ''}")
    for name, reason in missing.items():
        print(f"{name}: not measured: {reason}")
    if not any("ours" in row["median"] for row in rows):
        print(f"ours: not measured: {BUILD / 'tests/bench/encoder'} is not built")
    lengths = [len(text) for text in world.texts]
    print(f"{len(lengths)} texts of {min(lengths)} to {max(lengths)} tokens, {statistics.mean(lengths):.1f} on average; "
          f"{ROUNDS} rounds, {time.monotonic() - start:.0f} s")
    settings = [{key: getattr(s, key) for key in ("name", "dtype", "version", "variant", "batch", "error")} for s in systems]
    path = pathlib.Path(args.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rounds": ROUNDS, "settings": settings, "missing": missing, "rows": rows}, indent=1) + "\n")
    print(path)
    return 1 if any("states are off" in reason for reason in missing.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
