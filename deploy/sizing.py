#!/usr/bin/env python3
"""How much memory, network and processor a service of a given size takes. docs/SIZING.md explains the formulas.

    python3 deploy/sizing.py users=1e6 contents=1e5 dtype=bfloat16        prints the figures of one service
    python3 deploy/sizing.py --help                                       the names that can be given
    python3 deploy/sizing.py --write | --check                            docs/SIZING.md's tables: writes them anew, or compares

What was measured (bytes of a key, tokens a second, ...) comes from deploy/capacity.json.
"""
import math
import pathlib
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import capacity  # noqa: E402

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs/SIZING.md"
MIB, GIB = float(1 << 20), float(1 << 30)
STORED = {"float32": 4, "bfloat16": 2, "float16": 2}
HOT = ("float32", "float32+int8", "bfloat16", "int8")

# name: (value unless given, what it is)
INPUTS = {
    "users": (1e6, "users whose matrix is kept"),
    "contents": (1e5, "contents that can be ranked"),
    "m": (32, "vectors of a user"),
    "n": (4, "vectors of a content"),
    "d": (512, "their width"),
    "dtype": ("float32", "of stored matrices (--store-dtype): float32, bfloat16 or float16"),
    "id_bytes": (8, "of a user's or content's id"),
    "summary_bytes": (200, "of a user's summary; 0: none are kept"),
    "title_bytes": (60, "of a content's title; 0: none are kept"),
    "explain": (0, "1: refresh --explain keeps what each code looks at"),
    "history_items": (60, "ids in a history; 0: none are kept (import)"),
    "generations": (2, "stored at a time: 1 while one model stays, 2 during a change of models, up to --keep + 2"),
    "replicas": (1, "copies beside each master of Redis"),
    "fill": (0.7, "of Redis's memory that keys may take"),
    "hot_users": (1.0, "share of the users that daemons hold in memory"),
    "requests": (100, "requests to /rank a second, all daemons together"),
    "candidates": (1000, "of a request"),
    "user_misses": (0.0, "share of the requests whose user is not in a daemon's memory"),
    "changed_users": (0.05, "share of the users that a refresh every 5 minutes encodes"),
    "tokens_text": (64, "tokens of a text"),
    "gbit": (10, "Gbit/s of the network"),
}


def inputs(changes):
    values = {name: row[0] for name, row in INPUTS.items()}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in values:
            raise SystemExit(f"sizing.py: there is no {name}; --help lists the names")
        values[name] = value if name == "dtype" else float(value)
    if values["dtype"] not in STORED:
        raise SystemExit(f"sizing.py: dtype is one of {', '.join(STORED)}")
    p = capacity.read_inputs()  # the measured figures, and in place of the assumed ones ours
    p.update(values, items_user=values["history_items"], dtype_bytes=STORED[values["dtype"]])
    return p


# ---- Redis ----

WHY_USER, WHY_CONTENT = 60, 94  # bytes a code of the JSON that refresh --explain keeps: the demo's mean

def key(p, value):
    """Bytes of a key with its value; capacity.py's keys have ids of 8 bytes."""
    return capacity.key_bytes(p, value) + p.id_bytes - 8


def user_keys(p):
    summary = key(p, p.summary_bytes) if p.summary_bytes else 0
    return key(p, capacity.matrix_bytes(p, p.m)) + summary + (key(p, WHY_USER * p.m) if p.explain else 0)


def content_keys(p):
    title = key(p, p.title_bytes) if p.title_bytes else 0
    return key(p, capacity.matrix_bytes(p, p.n)) + title + (key(p, WHY_CONTENT * p.n) if p.explain else 0)


def history_keys(p):
    """A line of some 45 bytes, then the ids, a line each."""
    return key(p, 45 + p.history_items * (p.id_bytes + 1)) if p.history_items else 0


def generation(p):
    return p.users * user_keys(p) + p.contents * content_keys(p) + key(p, 4 * p.d * p.d)


def redis(p):
    return p.generations * generation(p) + p.users * history_keys(p)


# ---- the daemon ----

def lines(size):
    return math.ceil(size / 64) * 64


def hot_user(p, dtype):
    """Rows come in panels of 32, whatever m is; each panel has 384 bytes beside its numbers."""
    size = {"float32": 4, "bfloat16": 2, "int8": 1}
    panels = math.ceil(p.m / 32)

    def block(one):
        step = 8 // size[one]
        return panels * (32 * math.ceil(p.d / step) * 8 + 384)
    if dtype != "float32+int8":
        return block(dtype)
    # two int8 passes, each by columns and by rows, what is known of them, and the float32 ones
    return 4 * lines(block("int8")) + 512 * panels + block("float32")


def hot_content(p, dtype):
    """B and gelu(B W_s), in whole lines of the cache; int8 has a scale a row."""
    size = {"float32": 4, "bfloat16": 2, "int8": 1}

    def block(one):
        step = 8 // size[one]
        return lines(2 * p.n * (math.ceil(p.d / step) * 8 + (4 if one == "int8" else 0)))
    if dtype != "float32+int8":
        return block(dtype)
    return 2 * block("int8") + lines(16 * p.n) + block("float32")


ENTRY = 112  # bytes of a matrix in memory beside its numbers: entry, index, what a slab has left over


def hot(p, dtype):
    """All contents, and the users that are to be in memory. Ids of more than 40 bytes lie apart."""
    entry = ENTRY + (lines(p.id_bytes + 8) if p.id_bytes > 40 else 0)
    return p.contents * (hot_content(p, dtype) + entry) + p.users * p.hot_users * (hot_user(p, dtype) + entry)


def limit(p, dtype):
    """memory.limit_bytes with which all of it finds room: the daemon keeps a quarter free for what comes."""
    return 1.25 * ((p.contents + 64) * (hot_content(p, dtype) + 256) + (p.users * p.hot_users + 64) * (hot_user(p, dtype) + 256))


# ---- network and processors ----

def loading(p):
    """Bytes that a daemon reads to fill its memory."""
    return p.contents * capacity.matrix_bytes(p, p.n) + p.users * p.hot_users * capacity.matrix_bytes(p, p.m)


def misses(p):
    return p.requests * p.user_misses * capacity.matrix_bytes(p, p.m)


def encode_seconds(p):
    """Of one core, for all users and contents, a T5-small in bfloat16."""
    return p.users * capacity.user_seconds(p) + p.contents * p.tokens_text / p.encoder_tokens_s


def rank_cores(p):
    """In bfloat16, half of the time busy; the cost of a candidate grows with m n d."""
    seconds = p.rank_cpu_bf16_s * p.candidates / 1000 * p.m * p.n * p.d / (32 * 4 * 512)
    return p.requests * seconds / 0.5


def size(value):
    """1.23 GiB"""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1000 or unit == "TiB":
            return f"{value:,.0f} B" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1024
    return ""


def figures(p):
    """(what, figure) for one service."""
    load = loading(p)
    rows = [
        ("Redis: a user, a content, a history", f"{user_keys(p):,.0f}, {content_keys(p):,.0f}, {history_keys(p):,.0f} B"),
        ("Redis: one generation", size(generation(p))),
        (f"Redis: {p.generations:g} generations and the histories", size(redis(p))),
        (f"Redis: memory to buy, {p.fill:.0%} full, {p.replicas:g} replica(s)", size(redis(p) / p.fill * (1 + p.replicas))),
    ]
    for dtype in HOT:
        rows.append((f"a daemon in {dtype}: in use (twice that in a switch); memory.limit_bytes",
                     f"{size(hot(p, dtype))}; {limit(p, dtype):,.0f}"))
    rows += [
        ("a daemon reads at its start", f"{size(load)}, {load * 8 / (p.gbit * 1e9):.3g} s at {p.gbit:g} Gbit/s"),
        ("Redis to daemons, misses", f"{misses(p) * 8 / 1e6:.3g} Mbit/s"),
        ("cores that rank, half of them busy, bfloat16", f"{rank_cores(p):.3g}"),
        ("core-hours to encode everything (T5-small, bfloat16)", f"{encode_seconds(p) / 3600:,.3g}"),
        (f"worker threads for {p.changed_users:.0%} of the users every 5 minutes",
         f"{math.ceil(p.users * p.changed_users * capacity.user_seconds(p) / 300):,}"),
    ]
    return rows


# ---- the page ----

SERVICES = (
    "users=97 contents=288 m=16 n=4 d=64 summary_bytes=80",
    "users=1e5 contents=1e4",
    "users=1e5 contents=1e4 dtype=bfloat16",
    "users=1e6 contents=1e5 dtype=bfloat16",
    "users=1e6 contents=1e5 dtype=bfloat16 m=31",
    "users=1e6 contents=1e5 dtype=bfloat16 m=16 n=4 d=256",
    "users=1e7 contents=1e6 dtype=bfloat16 hot_users=0.1",
)


def overview():
    yield "| users, contents | m, n, d | stored as | a user, a content in Redis | Redis, two generations | a daemon: float32 | bfloat16 | int8 |"
    yield "|---|---|---|---|---|---|---|---|"
    for service in SERVICES:
        p = inputs(service.split())
        shares = "" if p.hot_users == 1 else f", {p.hot_users:.0%} of the users"
        yield (f"| {p.users:,.0f}, {p.contents:,.0f} | {p.m:g}, {p.n:g}, {p.d:g} | {p.dtype} | {user_keys(p):,.0f}, {content_keys(p):,.0f} B | "
               f"{size(redis(p))} | {size(hot(p, 'float32'))}{shares} | {size(hot(p, 'bfloat16'))} | {size(hot(p, 'int8'))} |")


def one():
    yield "| | |"
    yield "|---|---|"
    for what, figure in figures(inputs(["dtype=bfloat16"])):
        yield f"| {what} | {figure} |"


def names():
    yield "| name | unless given | what |"
    yield "|---|---|---|"
    for name, (value, what) in INPUTS.items():
        yield f"| `{name}` | {value if isinstance(value, str) else format(value, ',.10g')} | {what} |"


def page(text):
    for mark, rows in (("overview", overview), ("one", one), ("names", names)):
        begin = f"<!-- {mark}: by sizing.py -->\n"
        text = re.sub(re.escape(begin) + ".*?(?=<!-- end -->)", lambda _: begin + "\n".join(rows()) + "\n", text, flags=re.DOTALL)
    return text


def main():
    arguments = sys.argv[1:]
    if arguments == ["--help"]:
        print(__doc__)
        for name, (value, what) in INPUTS.items():
            print(f"    {name:15} {value!s:>10}   {what}")
    elif arguments == ["--write"]:
        PAGE.write_text(page(PAGE.read_text()))
    elif arguments == ["--check"]:
        if page(PAGE.read_text()) != PAGE.read_text():
            raise SystemExit("docs/SIZING.md: its tables are not what deploy/sizing.py --write would write")
        print("docs/SIZING.md has the tables of its formulas")
    else:
        for what, figure in figures(inputs(arguments)):
            print(f"{what:75} {figure}")


if __name__ == "__main__":
    main()
