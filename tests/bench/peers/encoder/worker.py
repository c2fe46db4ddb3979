"""The half of the protocol that a peer in Python speaks; onnx_worker.js and ct2_worker.cc speak the same.

A worker reads commands on stdin, a line each, and answers each with a line of JSON on stdout.

    run FILE SECONDS      encode all batches of FILE, again and again until SECONDS are over (once at least)
                          -> {"tokens": ..., "seconds": ..., "cpu": ...}, tokens that are no padding
    states FILE OUT       write the states of FILE's tokens to OUT: float32, in FILE's order -> {"tokens": ...}

FILE holds a text a line, its ids separated by blanks; an empty line ends a batch. What a file needs (padding) is made, and
each batch run once, before the first clock starts. When the model is loaded, a worker says
{"ready": true, "version": ...}, its library's.
"""
import json
import sys
import time

import numpy as np


def read_batches(path):
    """[[[id, ...], ...], ...]"""
    with open(path) as file:
        parts = file.read().strip("\n").split("\n\n")
    return [[list(map(int, line.split())) for line in part.splitlines()] for part in parts]


def serve(version, prepare, encode, states):
    """prepare(sequences) -> a batch with .tokens; encode(batch) is timed; states(batch) -> (tokens, d) float32."""
    known = {}
    print(json.dumps({"ready": True, "version": version}), flush=True)
    for line in sys.stdin:
        what, path, last = line.split()
        if path not in known:
            known[path] = [prepare(sequences) for sequences in read_batches(path)]
            for batch in known[path] if what == "run" else []:
                encode(batch)
        if what == "states":
            np.concatenate([states(batch) for batch in known[path]]).astype("<f4").tofile(last)
            answer = {"tokens": sum(batch.tokens for batch in known[path])}
        else:
            tokens, start, cpu = 0, time.monotonic(), time.process_time()
            while not tokens or time.monotonic() - start < float(last):
                for batch in known[path]:
                    encode(batch)
                    tokens += batch.tokens
            answer = {"tokens": tokens, "seconds": time.monotonic() - start, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)
