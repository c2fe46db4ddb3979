#!/usr/bin/python3
"""make bench: POST /rank end to end, beside nginx and what a team would write instead, on one machine in one run.

    tests/bench/serve.py [--rows NAME,NAME] [--systems NAME,NAME] [--rounds N] [--seconds N] [--quick] [--json FILE]

README.md beside this file tells what each row means. Everything lives in a temporary folder, listens on 127.0.0.1 and
unix sockets, and is ended at the end, also after Ctrl-C. Exit code: 0 measured, 1 a row failed, 2 usage.
"""
import argparse
import os
import pathlib
import signal
import sys
import time
import traceback

from serving import rows_memory, rows_serve
from serving.children import NotMeasured
from serving.world import World, describe, load_average, say

HERE = pathlib.Path(__file__).resolve().parent
ROWS = {
    "http": rows_serve.row_http,
    "capacity": rows_serve.row_capacity,
    "latency": rows_serve.row_latency,
    "small": rows_serve.row_small,
    "balance": rows_serve.row_balance,
    "overload": rows_serve.row_overload,
    "candidates": rows_memory.row_candidates,
    "cold": rows_memory.row_cold,
    "exact": rows_memory.row_exact,
    "catalogue": rows_memory.row_catalogue,
    "growth": rows_memory.row_growth,
}
LONG = {"growth"}  # only when asked for


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help=f"of {', '.join(ROWS)}; all but {', '.join(LONG)} unless given")
    parser.add_argument("--systems", default="", help="only these: ours, ours-int8, numpy, torch, torch-bfloat16, node, "
                        "stock, redis")
    parser.add_argument("--contents", type=int, default=50000, help="in memory, of which requests draw")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3, help="of each figure; the median counts")
    parser.add_argument("--seconds", type=int, default=4, help="a measurement")
    parser.add_argument("--quick", action="store_true", help="one round of a second, 10,000 contents: to see that it works")
    parser.add_argument("--json", help="all figures, for programs")
    parser.add_argument("--folder", help="where the temporary folder is made")
    args = parser.parse_args()
    if args.quick:
        args.contents, args.users, args.rounds, args.seconds = min(args.contents, 10000), min(args.users, 200), 1, 1
    args.systems = [s for s in args.systems.split(",") if s]
    args.rows = [r for r in args.rows.split(",") if r] or [r for r in ROWS if r not in LONG]
    unknown = [r for r in args.rows if r not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if args.contents < 2000 or args.users < 1 or args.rounds < 1 or args.seconds < 1:
        parser.error("at least 2,000 contents, a user, a round and a second")
    return args


def stop_at_signal(number, _):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, stop_at_signal)
    world = World(args, os.environ.get("BUILD") or HERE.parent.parent / "build")
    start, failed = time.monotonic(), []
    try:
        describe(world)
        for row in args.rows:
            say(f"row {row}")
            try:
                ROWS[row](world)
            except NotMeasured as problem:
                print(f"\n{row}: not measured: {problem}")
                world.results.setdefault("not_measured", {})[f"row {row}"] = str(problem)
            except Exception:
                failed.append(row)
                traceback.print_exc()
        if world.refused:
            print("\nNot measured:\n" + "\n".join(f"  {n}: {reason}" for n, reason in world.refused.items()))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        failed.append("stopped")
    finally:
        world.close()
    world.results["seconds"] = round(time.monotonic() - start, 1)
    world.results["machine"]["load_average_after"] = round(load_average(), 2)
    if args.json:
        world.results.save(args.json)
    say(f"{world.results['seconds']:.0f} s" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
