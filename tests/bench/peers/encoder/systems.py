"""The peers of `make bench-encoder-peers`: how each is made ready, held against the reference, and set to its best."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

PEERS = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("BUILD") or PEERS.parents[3] / "build")
PYTHON = os.environ.get("PEER_PYTHON") or "/usr/bin/python3"

BATCHES = (1, 4, 8, 16, 32)  # texts a batch, tried with ragged ones
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "int8": 5e-2}  # of the states' norm, against float64

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


# ---- the libraries -------------------------------------------------------------------------------------


class Kind:
    variants = {"": {}}  # environments to try
    batches = BATCHES  # numbers of ragged texts a call to try


class PyTorch(Kind):
    name, dtypes = "pytorch", ("float32", "bfloat16", "int8")
    # OpenBLAS 0.3.21 does not know newer processors, and would choose a slower kernel for them
    variants = {"SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX"}, "Haswell": {"OPENBLAS_CORETYPE": "Haswell"}}

    def prepare(self, world, dtype):
        call([PYTHON, "-c", "import torch"], "python3-torch")
        return [PYTHON, PEERS / "torch_worker.py", "--model", world.model, "--dtype", dtype], {}


class Onnxruntime(Kind):
    name, dtypes = "onnxruntime", ("float32", "int8")

    def prepare(self, world, dtype):
        packages = BUILD / "bench/encoder"
        packages.mkdir(parents=True, exist_ok=True)
        if not (packages / "node_modules/onnxruntime-node").exists():
            shutil.copy(PEERS / "package.json", packages)
            call(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], "npm install", packages)
        out = world.folder / f"{dtype}.onnx"
        call([PYTHON, PEERS / "onnx_graph.py", "--model", world.model, "--dtype", dtype, "--out", out], "onnx_graph.py")
        return ["node", PEERS / "onnx_worker.js", out], {"NODE_PATH": str(packages / "node_modules")}


def prefix_of(variable, header):
    prefix = pathlib.Path(os.environ.get(variable) or "/usr/local")
    if not (prefix / header).exists():
        raise NotMeasured(f"there is no {prefix / header} ({variable}=prefix)")
    return prefix


def compile_worker(program, source, prefix, libraries, version):
    """A worker in C++ with the headers and libraries of a prefix."""
    if not program.exists():
        command = [os.environ.get("CXX") or "c++", "-std=c++17", "-O2", f'-DVERSION="{version}"', f"-I{prefix}/include"]
        command += [PEERS / source, *(prefix / "lib" / library for library in libraries)]
        call([*command, f"-Wl,-rpath,{prefix}/lib", "-o", program], source)


class CTranslate2(Kind):
    name, dtypes = "ct2", ("float32", "int8")

    def prepare(self, world, dtype):
        prefix = prefix_of("CTRANSLATE2", "include/ctranslate2/encoder.h")
        program, out = world.folder / "ct2_worker", world.folder / "ct2"
        version = (prefix / "lib/libctranslate2.so").resolve().name.split(".so.")[-1]
        compile_worker(program, "ct2_worker.cc", prefix, ["libctranslate2.so"], version)
        call([PYTHON, PEERS / "ct2_model.py", "--model", world.model, "--out", out], "ct2_model.py")
        return [program, out, dtype], {}


class LlamaCpp(Kind):
    name, dtypes = "llama.cpp", ("float32", "bfloat16", "int8")
    batches = (1,)  # whatever it is given: it pads nothing, but all tokens of a call attend to all

    def prepare(self, world, dtype):
        prefix = prefix_of("LLAMA_CPP", "include/llama.h")
        program, out = world.folder / "llama_worker", world.folder / f"{dtype}.gguf"
        version = os.environ.get("LLAMA_CPP_VERSION") or "not told"
        compile_worker(program, "llama_worker.cc", prefix, ["libllama.so", "libggml.so"], version)
        call([PYTHON, PEERS / "llama_model.py", "--model", world.model, "--dtype", dtype, "--out", out], "llama_model.py")
        return [program, out, prefix / "lib"], {}


PEER_KINDS = (PyTorch, Onnxruntime, CTranslate2, LlamaCpp)


# ---- what is measured ----------------------------------------------------------------------------------


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
        self.process.kill()
        self.process.wait()


class System:
    """One peer in one precision: its workers, its best setting, its figures."""

    def __init__(self, kind, dtype, world, processors):
        self.kind, self.dtype, self.world, self.processors = kind, dtype, world, processors
        self.name, self.workers, self.version, self.error = kind.name, [], None, None
        self.variant, self.batch = next(iter(kind.variants)), kind.batches[:2][-1]

    def prepare(self):
        self.command, self.env = self.kind.prepare(self.world, self.dtype)

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
        """The best variant at 8x256, then the best batch of ragged texts; by its processor's time, which tells less of what
        else the machine does."""
        speeds = {}
        for variant in list(self.kind.variants)[: 1 if quick else None]:
            self.start(variant, 1)
            speeds[variant] = max(self.run("8x256", 1, seconds)[1] for _ in range(2))
        self.start(max(speeds, key=speeds.get), len(self.processors))
        if not quick:
            tried = {}
            for self.batch in self.kind.batches:
                tried[self.batch] = self.run("ragged", 1, 0)[1]
            self.batch = max(tried, key=tried.get)
            say(f"{self.name} {self.dtype}: {rounded(speeds)} {rounded(tried)} tokens/s")


def rounded(speeds):
    return {key: round(value) for key, value in speeds.items()}
