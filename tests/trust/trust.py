#!/usr/bin/python3
"""make trust: what the daemon promises under hostile or unlucky clients and stores, each with a figure; minutes.

    tests/trust/trust.py [--seed N] [NAME...]      all promises unless some are named

Talks to daemons of its own on 127.0.0.1, and ends them. Exit code 1 if a promise is not kept.
"""
import argparse
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

PROMISES = {"slow": slow, "worst": worst, "stop": stop, "framing": framing, "outage": outage, "timeouts": timeouts, "wire": wire,
            "switch": switch, "fence": fence, "kill": kill, "blobs": blobs, "json": hostile_json, "descriptors": descriptors}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in PROMISES]
    if unknown:
        parser.error(f"no promise {', '.join(unknown)}; there are {', '.join(PROMISES)}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    print(f"seed {args.seed}")
    for name in args.names or PROMISES:
        print(f"{name}: {PROMISES[name].__doc__}", flush=True)
        PROMISES[name](random.Random(args.seed))
    print(f"{len(failures)} promises broken")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
