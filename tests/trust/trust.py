#!/usr/bin/python3
"""make trust: what the daemon promises under hostile or unlucky clients and stores, each with a figure; minutes.

    tests/trust/trust.py [--short] [--seed N] [NAME...]      all promises unless some are named

--short is for make check: fewer rounds, the same checks, and what depends on how busy the machine is seen, not judged. A
promise has a short form if it takes `short`; what the others promise is tried in short by tests/server/api.py.
Talks to daemons of its own on 127.0.0.1, and ends them. Exit code 1 if a promise is not kept.
"""
import argparse
import inspect
import random
import resource
import sys
import time

from blobs import blobs
from bodies import hostile_json
from clients import slow, stop, worst
from common import failures
from descriptors import descriptors
from doubt import framing
from faults import outage, timeouts, wire
from generations import fence, kill, switch
from replicas import cluster, sentinel
from soak import soak

PROMISES = {"slow": slow, "worst": worst, "stop": stop, "framing": framing, "outage": outage, "timeouts": timeouts, "wire": wire,
            "switch": switch, "fence": fence, "kill": kill, "blobs": blobs, "json": hostile_json, "descriptors": descriptors,
            "soak": soak, "cluster": cluster, "sentinel": sentinel}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in PROMISES]
    if unknown:
        parser.error(f"no promise {', '.join(unknown)}; there are {', '.join(PROMISES)}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    print(f"seed {args.seed}")
    short = [name for name, promise in PROMISES.items() if "short" in inspect.signature(promise).parameters]
    for name in args.names or (short if args.short else PROMISES):
        print(f"{name}: {PROMISES[name].__doc__}", flush=True)
        start = time.monotonic()
        PROMISES[name](random.Random(args.seed), **({"short": True} if args.short and name in short else {}))
        print(f"  {time.monotonic() - start:.0f} s", flush=True)
    print(f"{len(failures)} promises broken")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
