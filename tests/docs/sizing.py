"""Measures what deploy/sizing.py computes. Run by test_sizing.sh."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np

sys.path.insert(0, "deploy")
import sizing  # noqa: E402

BUILD = pathlib.Path(os.environ["BUILD"])
SLOW = int(os.environ.get("EMBSUM_SLOW", "1"))
WITHIN = 0.05

# Power of two and not, one panel and two, ids that fit into an entry and one that does not.
STORES = (
    "users=3000 contents=3000 m=16 n=4 d=64 dtype=float32 summary_bytes=80 title_bytes=60 id_bytes=8",
    "users=800 contents=4000 m=32 n=4 d=512 dtype=bfloat16 summary_bytes=200 title_bytes=0 id_bytes=8",
    "users=1200 contents=3000 m=40 n=3 d=100 dtype=float16 summary_bytes=0 title_bytes=200 id_bytes=48",
)


def until(what, fn):
    deadline = time.monotonic() + 30 * SLOW
    while True:
        try:
            value = fn()
            if value:
                return value
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"sizing.py: {what} takes too long")
        time.sleep(0.05)


def write_matrices(folder, p):
    draw = np.random.default_rng(1)
    ids = lambda letter, count: "".join(f"{letter}{i:0{int(p.id_bytes) - 1}d}\n" for i in range(int(count)))
    np.save(folder / "content.npy", draw.standard_normal((int(p.contents), int(p.n), int(p.d)), dtype=np.float32))
    np.save(folder / "user.npy", draw.standard_normal((int(p.users), int(p.m), int(p.d)), dtype=np.float32))
    np.save(folder / "score_proj.npy", draw.standard_normal((int(p.d), int(p.d)), dtype=np.float32) / 50)
    (folder / "content.ids").write_text(ids("N", p.contents))
    (folder / "user.ids").write_text(ids("U", p.users))
    if p.title_bytes:
        (folder / "titles.tsv").write_text("".join(f"{i}\t{'t' * int(p.title_bytes)}\n" for i in ids("N", p.contents).split()))
    if p.summary_bytes:
        with open(folder / "summaries.jsonl", "w") as file:
            for user in ids("U", p.users).split():
                file.write(json.dumps({"user": user, "summary": "s" * int(p.summary_bytes)}) + "\n")


class Redis:
    def __init__(self, folder):
        self.socket = folder / "redis.sock"
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", folder], stdout=subprocess.DEVNULL)

    def used(self):
        command = ["redis-cli", "-s", self.socket, "info", "memory"]
        text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        found = re.search(r"^used_memory:(\d+)", text, re.MULTILINE)
        return found and int(found.group(1))


def hot_bytes(store, p, dtype, folder):
    """embsum_hot_bytes of a daemon that has loaded everything."""
    log = open(folder / f"{dtype}.log", "w+")
    limit = str(int(sizing.limit(p, dtype)))
    daemon = subprocess.Popen([BUILD / "embsumd", "--store", store, "--listen", "127.0.0.1:0", "--set", f"scoring.dtype={dtype}",
                               "--set", f"memory.limit_bytes={limit}"], stderr=log)
    try:
        def address():
            log.seek(0)
            found = re.search(r'"msg": ?"listening".*?"address": ?"([^"]+)"', log.read())
            return found and found.group(1)
        url = f"http://{until('embsumd', address)}"
        until("loading", lambda: urllib.request.urlopen(url + "/readyz", timeout=5).status == 200)
        text = urllib.request.urlopen(url + "/metrics", timeout=5).read().decode()
    finally:
        daemon.terminate()
        daemon.wait()
        log.close()
    entries = sum(int(n) for n in re.findall(r"^embsum_hot_entries(?:{.*?})? (\d+)", text, re.MULTILINE))
    if entries != p.users + p.contents:
        raise SystemExit(f"sizing.py: {entries} matrices in memory instead of {p.users + p.contents:g} in {limit} bytes")
    return sum(int(n) for n in re.findall(r"^embsum_hot_bytes(?:{.*?})? (\d+)", text, re.MULTILINE))


def main():
    bad = []

    def compare(what, measured, computed):
        off = computed / measured - 1
        print(f"{what:100} {measured:12,} {computed:12,.0f} {off:+7.1%}")
        if not abs(off) <= WITHIN:
            bad.append(what)

    print(f"{'':100} {'measured':>12} {'computed':>12}")
    for service in STORES:
        p = sizing.inputs(service.split() + ["history_items=0", "generations=1"])
        with tempfile.TemporaryDirectory(prefix="embsum-sizing.") as folder:
            folder = pathlib.Path(folder)
            write_matrices(folder, p)
            redis = Redis(folder)
            try:
                before = until("redis-server", redis.used)
                store = f"redis+unix:{redis.socket}"
                subprocess.run([BUILD / "embsum", "import", "--quiet", "--in", folder, "--store", store, "--store-dtype", p.dtype],
                               check=True, stdout=subprocess.DEVNULL)
                compare(f"Redis, {service}", redis.used() - before, sizing.redis(p))
                for dtype in sizing.HOT:
                    compare(f"daemon, {dtype}", hot_bytes(store, p, dtype, folder), sizing.hot(p, dtype))
            finally:
                redis.process.terminate()
                redis.process.wait()
    if bad:
        raise SystemExit("FAILED: beyond 5 %: " + "; ".join(bad))
    print("within 5 %")


main()
