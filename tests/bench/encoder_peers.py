#!/usr/bin/python3
"""make bench-encoder-peers: T5's encoder, ours beside PyTorch, onnxruntime and CTranslate2, in one run on the same weights and texts.

    BOOKS=dir T5VOCAB=spiece.model ROUNDS=3 tests/bench/encoder_peers.py [--seconds 2] [--systems pytorch,ct2] [--dtypes int8] [--quick]

A model of T5-small's shape with random weights from a seed; one worker pinned to a processor, and two on two, summed; texts of one length and
ragged ones. README.md beside this file tells how to read the table and where the peers come from. Exit code: 0 all that is
installed was measured, 1 a peer computes something else.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "golden"))

BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build")
VOCAB = pathlib.Path(os.environ.get("T5VOCAB") or ROOT / "deploy/demo/model/spiece.model")
NEWS = pathlib.Path(os.environ["BOOKS"], "news.tsv") if os.environ.get("BOOKS") else ROOT / "deploy/demo/news.tsv"
ROUNDS = int(os.environ.get("ROUNDS") or 3)
PYTHON = os.environ.get("PEER_PYTHON") or "/usr/bin/python3"
PEERS = HERE / "peers/encoder"

SHAPES = {"16x64": (16, 64), "8x256": (8, 256), "2x512": (2, 512)}
TEXTS, SHORTEST, LONGEST = 256, 16, 200
BATCHES = (1, 4, 8, 16, 32)  # texts a batch, tried with ragged ones
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "int8": 5e-2}  # of the states' norm, against float64
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

# One thread each, and glibc keeps freed memory, without which page faults cost more than anything else.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "67108864",
}


class NotMeasured(Exception):
    """Why a peer has no figures."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def call(command, what, cwd=None):
    try:
        done = subprocess.run(list(map(str, command)), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError as error:
        raise NotMeasured(f"{error.filename} is not installed") from None
    if done.returncode:
        raise NotMeasured(f"{what}: {(done.stdout.strip().splitlines() or ['failed'])[-1]}")


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
        self.write("texts", [rng.sample(self.texts, len(self.texts))])
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


# ---- the peers -----------------------------------------------------------------------------------------


class PyTorch:
    name, dtypes = "pytorch", ("float32", "bfloat16", "int8")
    # OpenBLAS 0.3.21 does not know newer processors, and would choose a slower kernel for them
    variants = {"SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX"}, "Haswell": {"OPENBLAS_CORETYPE": "Haswell"}}

    def prepare(self, world, dtype):
        call([PYTHON, "-c", "import torch"], "python3-torch")
        return [PYTHON, PEERS / "torch_worker.py", "--model", world.model, "--dtype", dtype], {}


class Onnxruntime:
    name, dtypes, variants = "onnxruntime", ("float32", "int8"), {"": {}}

    def prepare(self, world, dtype):
        packages = BUILD / "bench/encoder"
        packages.mkdir(parents=True, exist_ok=True)
        if not (packages / "node_modules/onnxruntime-node").exists():
            shutil.copy(PEERS / "package.json", packages)
            call(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], "npm install", packages)
        out = world.folder / f"{dtype}.onnx"
        call([PYTHON, PEERS / "onnx_graph.py", "--model", world.model, "--dtype", dtype, "--out", out], "onnx_graph.py")
        return ["node", PEERS / "onnx_worker.js", out], {"NODE_PATH": str(packages / "node_modules")}


class CTranslate2:
    name, dtypes, variants = "ct2", ("float32", "int8"), {"": {}}

    def prepare(self, world, dtype):
        prefix = pathlib.Path(os.environ.get("CTRANSLATE2") or "/usr/local")
        if not (prefix / "include/ctranslate2/encoder.h").exists():
            raise NotMeasured(f"CTranslate2 is not in {prefix} (CTRANSLATE2=prefix)")
        program, out, library = world.folder / "ct2_worker", world.folder / "ct2", prefix / "lib/libctranslate2.so"
        if not program.exists():
            version = library.resolve().name.split(".so.")[-1]
            call([os.environ.get("CXX") or "c++", "-std=c++17", "-O2", f'-DVERSION="{version}"', f"-I{prefix}/include", "-o", program,
                  PEERS / "ct2_worker.cc", library, f"-Wl,-rpath,{library.parent}"], "ct2_worker.cc")
            call([PYTHON, PEERS / "ct2_model.py", "--model", world.model, "--out", out], "ct2_model.py")
        return [program, out, dtype], {}


PEER_KINDS = (PyTorch, Onnxruntime, CTranslate2)


class Worker:
    """A peer's process, pinned to one processor; it answers while it is asked, and sleeps otherwise."""

    def __init__(self, command, env, processor, errors):
        self.errors = errors
        self.process = subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **ONE_THREAD, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(errors, "w"),
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {processor}),
        )

    def tell(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            lines = self.errors.read_text().strip().splitlines() or ["no message"]
            raise NotMeasured(f"ended with {self.process.wait()}: {lines[-1]}")
        return json.loads(line)

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class System:
    """One peer in one precision: its workers, its best setting, its figures."""

    def __init__(self, kind, dtype, world, processors):
        self.kind, self.dtype, self.world, self.processors = kind, dtype, world, processors
        self.name, self.workers, self.variant, self.batch = kind.name, [], next(iter(kind.variants)), BATCHES[1]
        self.command, self.env = kind.prepare(world, dtype)
        self.version = self.error = None

    def start(self, variant, count):
        self.end()
        self.variant = variant
        for processor in self.processors[:count]:
            errors = self.world.folder / f"{self.name}.{self.dtype}.{processor}.err"
            self.workers.append(Worker(self.command, {**self.env, **self.kind.variants[variant]}, processor, errors))
        for worker in self.workers:
            self.version = worker.hear()["version"]

    def end(self):
        for worker in self.workers:
            worker.end()
        self.workers = []

    def run(self, workload, count, seconds):
        """Tokens a second of `count` workers together: by the clock, by their processors' time."""
        name = f"ragged.{self.batch}" if workload == "ragged" else workload
        for worker in self.workers[:count]:
            worker.tell("run", self.world.path(name), seconds)
        answers = [worker.hear() for worker in self.workers[:count]]
        return [sum(answer["tokens"] / answer[key] for answer in answers) for key in ("seconds", "cpu")]

    def judge(self, states):
        """Its states' distance from the right ones."""
        import numpy as np

        out = self.world.folder / "states"
        self.workers[0].tell("states", self.world.path("check"), out)
        self.workers[0].hear()
        self.error = float(np.linalg.norm(np.fromfile(out, "<f4").reshape(states.shape) - states) / np.linalg.norm(states))
        if not self.error <= TOLERANCE[self.dtype]:
            raise NotMeasured(f"its states are off by {self.error:.1e}")

    def tune(self, quick, seconds):
        """The best variant at 8x256, then the best batch of ragged texts; by its processor's time, which tells less of what else
        the machine does."""
        speeds = {}
        for variant in list(self.kind.variants)[: 1 if quick else None]:
            self.start(variant, 1)
            speeds[variant] = max(self.run("8x256", 1, seconds)[1] for _ in range(2))
        self.start(max(speeds, key=speeds.get), len(self.processors))
        if not quick:
            tried = {}
            for self.batch in BATCHES:
                tried[self.batch] = self.run("ragged", 1, 0)[1]
            self.batch = max(tried, key=tried.get)
            say(f"{self.name} {self.dtype}: {rounded(speeds)} {rounded(tried)} tokens/s, so {self.variant or 'as it is'}, {self.batch}")


def rounded(speeds):
    return {key: round(value) for key, value in speeds.items()}


def start_systems(args, world, processors):
    """The systems that are installed and right, and {name: why not} of the others."""
    systems, missing, states = [], {}, world.states()
    for kind in PEER_KINDS:
        for dtype in kind.dtypes:
            if kind.name not in args.systems or dtype not in args.dtypes:
                continue
            system = None
            try:
                system = System(kind(), dtype, world, processors)
                system.start(system.variant, 1)
                system.judge(states)
                system.tune(args.quick, args.seconds)
                systems.append(system)
            except NotMeasured as error:
                missing[f"{kind.name} {dtype}"] = str(error)
                say(f"{kind.name} {dtype} is not measured: {error}")
                if system:
                    system.end()
    return systems, missing


# ---- measuring -----------------------------------------------------------------------------------------


def ours(world):
    """{(shape, dtype, workers): tokens a second} of one run of our own benchmark; nothing while it is not built. It finds the same
    model and texts (a line each, in no order) by ENCODER_MODEL and ENCODER_TEXTS, which are its shape "ragged"."""
    program = BUILD / "tests/bench/encoder"
    if not program.exists():
        return {}
    env = {**os.environ, "ENCODER_MODEL": str(world.model), "ENCODER_TEXTS": str(world.path("texts"))}
    done = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True, env=env)
    rows = map(json.loads, filter(lambda line: line.startswith("{"), done.stdout.splitlines()))
    return {(row["shape"], row["dtype"], row["threads"]): row["tokens_per_s"] for row in rows}


def measure(args, world, systems, counts):
    """{(workload, dtype, workers): {system: [tokens a second by the clock, ...]}}; all are asked one after the other, in an
    order that turns with each round."""
    figures, cpu = {}, {}
    for turn in range(ROUNDS):
        for (shape, dtype, count), speed in ours(world).items():
            figures.setdefault((shape, dtype, count), {}).setdefault("ours", []).append(speed)
        order = systems[turn % len(systems) :] + systems[: turn % len(systems)] if systems else []
        for workload in [*SHAPES, "ragged"]:
            for count in counts:
                for system in order:
                    key = workload, system.dtype, count
                    speed, by_cpu = system.run(workload, count, args.seconds)
                    figures.setdefault(key, {}).setdefault(system.name, []).append(speed)
                    cpu.setdefault(key, {}).setdefault(system.name, []).append(by_cpu)
        say(f"round {turn + 1} of {ROUNDS}")
    return figures, cpu


def summary(figures, cpu):
    rows = []
    dtypes = list(TOLERANCE)
    for key in sorted(figures, key=lambda key: (key[2], [*SHAPES, "ragged"].index(key[0]), dtypes.index(key[1]))):
        medians = {name: statistics.median(values) for name, values in figures[key].items()}
        peers = {name: median for name, median in medians.items() if name != "ours"}
        row = {"shape": key[0], "dtype": key[1], "workers": key[2], "tokens_per_s": figures[key], "median": medians}
        row["tokens_per_cpu_s"] = {name: statistics.median(values) for name, values in cpu.get(key, {}).items()}
        row["best_peer"] = max(peers, key=peers.get) if peers else None
        row["ratio"] = medians["ours"] / peers[row["best_peer"]] if peers and "ours" in medians else None
        rows.append(row)
    return rows


def show(rows, names):
    print(f"\n{'tokens/s':8} {'':9} {'workers':7} " + " ".join(f"{name:>22}" for name in names) + "   ours : best peer")
    for row in rows:
        cells = []
        for name in names:
            values = row["tokens_per_s"].get(name)
            cells.append(f"{row['median'][name]:6.0f} ({min(values):.0f} - {max(values):.0f})" if values else "-")
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
        print(f"{row['shape']:8} {row['dtype']:9} {row['workers']:7} " + " ".join(f"{cell:>22}" for cell in cells) +
              f"   {ratio:5} {row['best_peer'] or ''}")


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
    start, systems = time.monotonic(), []
    processors = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory(prefix="bench-encoder.") as folder:
        world = World(pathlib.Path(folder), 32 if args.quick else TEXTS)
        try:
            systems, missing = start_systems(args, world, processors)
            figures, cpu = measure(args, world, systems, range(1, len(processors) + 1))
        finally:
            for system in systems:
                system.end()
    rows = summary(figures, cpu)
    show(rows, ["ours", *dict.fromkeys(system.name for system in systems)])
    for system in systems:
        padding = 100 * (world.padded[system.batch] - 1)
        print(f"{system.name} {system.dtype}: version {system.version}, states off by {system.error:.1e}, ragged texts in batches of "
              f"{system.batch} ({padding:.1f} % padding){', ' + system.variant if system.variant else ''}")
    for name, reason in missing.items():
        print(f"{name}: not measured: {reason}")
    if not any("ours" in row["median"] for row in rows):
        print(f"ours: not measured: {BUILD / 'tests/bench/encoder'} is not built")
    lengths = [len(text) for text in world.texts]
    print(f"{len(lengths)} texts of {min(lengths)} to {max(lengths)} tokens, {statistics.mean(lengths):.1f} on average, of {NEWS.name}; "
          f"{ROUNDS} rounds, {time.monotonic() - start:.0f} s")
    settings = [
        {"system": s.name, "dtype": s.dtype, "version": s.version, "variant": s.variant, "batch": s.batch, "error": s.error} for s in systems
    ]
    path = pathlib.Path(args.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rounds": ROUNDS, "settings": settings, "missing": missing, "rows": rows}, indent=1) + "\n")
    print(path)
    return 1 if any("states are off" in reason for reason in missing.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
