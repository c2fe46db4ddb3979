#!/usr/bin/env python3
"""What a refresh costs when little has changed, and how much memory it takes: `make bench-refresh BOOKS=DIR T5VOCAB=FILE`.

BOOKS has MIND-format news.tsv and behaviors_train.tsv, T5VOCAB is T5's vocabulary. Rows, by name, all unless given:

    again     16,833 contents and 20,000 users: a first run, runs with nothing new, one more click for 1 % of the users
    memory    T5-small's size, users of 60 items x 124 tokens, in each dtype: the peak beside the weights
"""
import argparse
import json
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
EMBSUM = BUILD / "embsum"
CLICKED = 100  # one user of so many


def run(*arguments):
    """The summary line, seconds of the whole process, its peak memory in MiB."""
    read, write = os.pipe()
    start = time.monotonic()
    process = os.fork()
    if not process:  # a child of its own, so that the peak is its own
        os.close(read)
        out = subprocess.run([EMBSUM, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        os.write(write, json.dumps([out.returncode, out.stdout, peak]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        code, text, peak = json.loads(pipe.read())
    os.waitpid(process, 0)
    if code:
        sys.exit(f"{arguments[0]} ended with {code}")
    return json.loads(text) if text.startswith("{") else {}, time.monotonic() - start, peak


def init(folder, vocab, config):
    path = pathlib.Path(folder) / "config.json"
    path.write_text(json.dumps(config), "ascii")
    run("init", "--config", path, "--vocab", vocab, "--out", f"{folder}/model", "--quiet")
    return f"{folder}/model"


class Redis:
    def __init__(self, folder):
        self.path = f"{folder}/redis.sock"
        self.process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--dir", folder],
                                        stdout=subprocess.DEVNULL)
        while subprocess.run(["redis-cli", "-s", self.path, "PING"], capture_output=True, check=False).returncode:
            time.sleep(0.05)
        self.url = f"redis+unix:{self.path}"

    def end(self):
        self.process.terminate()
        self.process.wait()


def row(*columns):
    print("| " + " | ".join(columns) + " |", flush=True)


# ---- again ----

def behaviours(books, path, users, clicked):
    """Users who have read what one to eight readers have read, the first of them one book more."""
    rng = random.Random(1)
    with open(books / "behaviors_train.tsv", encoding="utf-8") as file:
        histories = sorted({line.split("\t")[3] for line in file})
    with open(path, "w", encoding="utf-8") as file:
        for user in range(users):
            items = " ".join(rng.choice(histories) for _ in range(rng.randint(1, 12))).split()[:60 if user % CLICKED else 50]
            if clicked and user % CLICKED == 0:
                items.append(histories[user].split()[0])
            file.write(f"{user}\tR{user}\t11/24/2026 3:00:00 AM\t{' '.join(items)}\t\n")


def again(args, folder):
    config = json.loads((ROOT / "tests/bench/books/config.json").read_text("ascii"))
    config["embsum"]["ablation"] = "none"
    config["embsum"]["session_size"] = 4
    config["embsum"]["max_summary_tokens"] = 4
    model = init(folder, args.vocab, config)
    redis = Redis(folder)
    row("store", "run", "encoded users", "contents", "tokens", "of the first", "seconds in all", "peak MiB")
    row(*["---"] * 8)
    urls = {"LMDB": f"lmdb:{folder}/store", "Redis": redis.url}
    for name in args.stores:
        url, first = urls[name], None

        def refresh(what, rounds=1, more=()):
            nonlocal first
            results = [run("refresh", "--model", model, "--news", args.books / "news.tsv", "--behaviors", f"{folder}/behaviors.tsv",
                           "--store", url, "--quiet", *more) for _ in range(rounds)]
            done, peak = results[-1][0], max(result[2] for result in results)
            first = first or done["encoded"]["tokens"]
            row(name, what, str(done["encoded"]["users"]), str(done["encoded"]["contents"]), str(done["encoded"]["tokens"]),
                f"{100 * done['encoded']['tokens'] / first:.2f} %", f"{statistics.median(result[1] for result in results):.2f}",
                f"{peak:.0f}")

        cache = ("--cache", f"{folder}/cache-{name}", "--cache-mb", 20000)
        behaviours(args.books, f"{folder}/behaviors.tsv", args.users, False)
        refresh("the first", more=cache)
        refresh("nothing new, median of 5", 5)
        behaviours(args.books, f"{folder}/behaviors.tsv", args.users, True)
        refresh("one more click for 1 %", more=cache)
        behaviours(args.books, f"{folder}/behaviors.tsv", args.users, False)
        refresh("the same without a cache")
    redis.end()


# ---- memory ----

SMALL = {"model_type": "t5", "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8, "num_layers": 6,
         "num_decoder_layers": 6, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
         "layer_norm_epsilon": 1e-6, "feed_forward_proj": "relu", "tie_word_embeddings": True, "dropout_rate": 0.1,
         "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
         "embsum": {"m": 32, "n": 4, "code_dim": 256, "session_size": 4, "max_items": 60, "max_summary_tokens": 8,
                    "sos_token_id": 32100, "ablation": "none",
                    "fields": [{"column": "title", "prefix": "", "suffix": "", "max_tokens": 122}]}}


def memory(args, folder):
    rng = random.Random(1)
    model = init(folder, args.vocab, SMALL)
    weights = os.path.getsize(f"{model}/model.safetensors") / 2**20
    words = pathlib.Path(args.books / "news.tsv").read_text("utf-8").split()
    with open(f"{folder}/news.tsv", "w", encoding="utf-8") as file:
        for item in range(400):
            file.write(f"N{item}\tc\t\t{' '.join(rng.choices(words, k=200))}\t\t\t\t\n")
    with open(f"{folder}/behaviors.tsv", "w", encoding="utf-8") as file:
        for user in range(args.long_users):
            file.write(f"1\tU{user}\tx\t{' '.join(f'N{rng.randrange(400)}' for _ in range(60))}\t\n")
    row("dtype", "users of 60 x 124 tokens", "peak MiB", "weights MiB", "beside the weights and their packed copy, MiB", "tokens/s")
    row(*["---"] * 6)
    for dtype, packed in (("float32", 1), ("bfloat16", 0.5), ("int8", 0.5)):
        done, seconds, peak = run("refresh", "--model", model, "--news", f"{folder}/news.tsv", "--behaviors", f"{folder}/behaviors.tsv",
                                  "--store", f"lmdb:{folder}/memory-{dtype}", "--dtype", dtype, "--quiet")
        row(dtype, str(args.long_users), f"{peak:.0f}", f"{weights:.0f}", f"{peak - weights * (1 + packed):.0f}",
            f"{done['encoded']['tokens'] / done['seconds']:.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=["again", "memory"])
    parser.add_argument("--books", type=pathlib.Path, required=True)
    parser.add_argument("--vocab", type=pathlib.Path, required=True)
    parser.add_argument("--users", type=int, default=20000, help="of the row again")
    parser.add_argument("--long-users", type=int, default=16, help="of the row memory")
    parser.add_argument("--stores", nargs="*", default=["LMDB", "Redis"])
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="embsum-bench-")
    try:
        for name in args.rows:
            pathlib.Path(f"{folder}/{name}").mkdir()
            {"again": again, "memory": memory}[name](args, f"{folder}/{name}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
