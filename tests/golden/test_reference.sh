#!/bin/sh
# The judge is judged: its shortcuts against the plain way, and the committed goldens against what the scripts make
# now. Inputs and weights come out byte for byte; float64 results within 1e-12, since products are summed in an order
# that depends on the processor.
set -eu
cd "$(dirname "$0")/../.."
golden=tests/golden python=/usr/bin/python3

if ! $python -c 'import numpy, torch' 2>/dev/null || ! command -v spm_train >/dev/null; then
    echo "SKIPPED: python3-numpy, python3-torch or sentencepiece is not installed"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tiny=$golden/tiny

$python $golden/reference.py verify --model $tiny --news $tiny/news.tsv --behaviors $tiny/behaviors.tsv
$python $golden/reference.py buckets >"$work/buckets.txt"
cmp "$work/buckets.txt" $golden/buckets.txt
$python $golden/metrics.py make >"$work/metrics.txt"
cmp "$work/metrics.txt" $golden/metrics.txt
sh $golden/make_tiny.sh "$work/tiny"
for file in config.json model.safetensors spiece.model news.tsv behaviors.tsv expected/content.ids expected/user.ids; do
    cmp "$work/tiny/$file" "$tiny/$file"
done
$python $golden/compare.py --name tiny --dtype float64 --bound 1e-12 $tiny/expected "$work/tiny/expected"
$python - "$work/tiny/expected/weights.jsonl" "$tiny/expected/weights.jsonl" <<'END'
import json
import sys
import numpy as np
new, old = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert [(row["side"], row["id"]) for row in new] == [(row["side"], row["id"]) for row in old]
assert all(np.abs(np.array(a["weights"]) - np.array(b["weights"])).max() < 1e-10 for a, b in zip(new, old)), "weights.jsonl is stale"
END

# Gradients are summed in an order that depends on the processor, too.
mkdir "$work/gradients"
(cd $golden && $python gradients.py --model tiny --news tiny/news.tsv --behaviors tiny/behaviors.tsv --out "$work/gradients")
cmp "$work/gradients/names.txt" "$tiny/expected/names.txt"
$python - "$work/gradients/gradients.npy" "$tiny/expected/gradients.npy" <<'END'
import sys
import numpy as np
new, old = map(np.load, sys.argv[1:])
assert np.linalg.norm(new - old) <= 1e-6 * np.linalg.norm(old), "gradients.npy is stale"
END
