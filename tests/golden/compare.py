"""Hold the output of `embsum encode` against the reference's, or two such folders against each other.

    compare.py [--bound 2e-5] [--dtype float32] [--name NAME] REFERENCE_DIR OURS_DIR

Errors are relative, in the Frobenius norm: |ours - reference| / |reference|, for each matrix alone and for all
of them as one. Exit code 1 if one is above the bound, or if ids, shapes, tokens or texts differ.
"""
import argparse
import json
import pathlib
import sys

import numpy as np


def matrix_errors(reference, ours):
    """(overall, of each matrix) relative errors of two stacks of matrices."""
    reference, ours = reference.astype(np.float64), ours.astype(np.float64)
    each = np.linalg.norm(ours - reference, axis=(1, 2)) / np.linalg.norm(reference, axis=(1, 2))
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference), each


def read_summaries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def compare(reference, ours, bound, dtype):
    """Rows of the table, and what is wrong."""
    rows, wrong = [], []
    for name, symbol in (("user", "A"), ("content", "B")):
        ids = [(directory / f"{name}.ids").read_text().split("\n")[:-1] for directory in (reference, ours)]
        stacks = [np.load(directory / f"{name}.npy") for directory in (reference, ours)]
        if ids[0] != ids[1]:
            wrong.append(f"{name}.ids differ")
        elif stacks[0].shape != stacks[1].shape or len(ids[0]) != len(stacks[0]):
            wrong.append(f"{name}.npy: shape {stacks[1].shape}, expected {stacks[0].shape} for {len(ids[0])} ids")
        elif stacks[1].dtype != dtype:
            wrong.append(f"{name}.npy: dtype {stacks[1].dtype}, expected {dtype}")
        else:
            overall, each = matrix_errors(*stacks)
            shape = "x".join(map(str, stacks[0].shape))
            rows.append(f"{symbol} {shape:>13}   all {overall:.2e}   mean {each.mean():.2e}   max {each.max():.2e}")
            # written so that NaN is wrong too
            wrong += [f"{symbol} of '{id}': error {e:.2e}" for id, e in zip(ids[0], each) if not e <= bound]

    expected, written = (read_summaries(directory / "summaries.jsonl") for directory in (reference, ours))
    if [row["user"] for row in expected] != [row["user"] for row in written]:
        wrong.append("summaries.jsonl: users differ")
    else:
        different = [(e, w) for e, w in zip(expected, written) if e["tokens"] != w["tokens"]]
        for e, w in different:
            at = next((i for i, pair in enumerate(zip(e["tokens"], w["tokens"])) if pair[0] != pair[1]), None)
            at = min(len(e["tokens"]), len(w["tokens"])) if at is None else at
            wrong.append(f"summary of '{e['user']}' differs from token {at} on (smallest margin {e['margin']})")
        wrong += [
            f"summary text of '{e['user']}': '{w['summary']}', expected '{e['summary']}'"
            for e, w in zip(expected, written)
            if e["tokens"] == w["tokens"] and e["summary"] != w["summary"]
        ]
        lengths = [len(row["tokens"]) for row in expected]
        margins = [row["margin"] for row in expected if row.get("margin") is not None]
        rows.append(
            f"summaries {len(expected):>5}   {len(different)} differ   {sum(lengths)} tokens, "
            f"{len({tuple(row['tokens']) for row in expected})} distinct, {min(lengths)} to {max(lengths)} long"
            + (f", smallest margin {min(margins):.1e}" if margins else "")
        )
    return rows, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bound", type=float, default=2e-5)
    parser.add_argument("--dtype", default="float32", help="of the second folder's matrices")
    parser.add_argument("--name", default="")
    parser.add_argument("reference", type=pathlib.Path)
    parser.add_argument("ours", type=pathlib.Path)
    args = parser.parse_args()
    rows, wrong = compare(args.reference, args.ours, args.bound, args.dtype)
    for row in rows:
        print(f"{args.name:<18} {row}")
    for line in wrong:
        print(f"{args.name:<18} WRONG: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
