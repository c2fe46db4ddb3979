#!/bin/sh
# `embsum calibrate`: a model that gives the same bytes in float32 and bfloat16, and loses less in int8 where channels differ
# widely.
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
embsum=$BUILD/embsum demo=deploy/demo
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "FAILED: $*"
    exit 1
}

# The demo's model, three channels of each product's input 64 times as large where a norm makes them, and their readers that
# much smaller: the same function, which int8 carries badly. Pretrained T5s are like this.
cp -r $demo/model "$work/wild"
python3 - "$work/wild/model.safetensors" <<'END'
import array
import json
import struct
import sys

with open(sys.argv[1], "rb") as file:
    (size,) = struct.unpack("<Q", file.read(8))
    head, data = json.loads(file.read(size)), array.array("f", file.read())


def scale(name, channels, times):
    entry = head[name]
    assert entry["dtype"] == "F32", entry
    begin, end = (offset // 4 for offset in entry["data_offsets"])
    width = entry["shape"][-1]
    for channel in channels:
        for at in range(begin + channel, end, width):
            data[at] *= times


for norm in [name for name in head if name.startswith("encoder.block") and name.endswith("layer_norm.weight")]:
    layer = norm.removesuffix("layer_norm.weight")
    scale(norm, (3, 17, 40), 64.0)
    for name in head:
        if name.startswith(layer) and name.split(".")[-2] in ("q", "k", "v", "wi"):
            scale(name, (3, 17, 40), 1 / 64)
with open(sys.argv[1], "r+b") as file:
    file.seek(8 + size)
    file.write(data.tobytes())
END

calibrate() { # model, out
    "$embsum" calibrate --model "$1" --news $demo/news.tsv --texts 40 --out "$2" 2>"$2.told" | tee "$2.said"
    grep -Eq '^40 texts, [0-9]+ tokens: states in int8 are ' "$2.said" || fail "not said what was gained"
}
off() { # when, of which
    awk -v at="$1" '{ gsub("%", ""); print at == "before" ? $NF : $9 }' "$2.said"
}
calibrate $demo/model "$work/tame"
calibrate "$work/wild" "$work/model"
awk -v plain="$(off before "$work/tame")" -v wild="$(off before "$work/model")" -v mild="$(off after "$work/model")" \
    'BEGIN { exit !(plain > 0 && wild > 3 * plain && mild < 1.2 * plain) }' || fail "int8 does not lose what it should"
layers=$(sed -n 's/.*"num_layers": *\([0-9]*\).*/\1/p' $demo/model/config.json)
[ "$(grep -c '^layer ' "$work/model.told")" = $((4 * layers)) ] || fail "not told of each product of $layers layers"
cmp $demo/model/spiece.model "$work/model/spiece.model"

# The wild model and the calibrated one are the demo's in all but int8.
head -n 12 $demo/behaviors.tsv >"$work/behaviors.tsv"
for dtype in float32 bfloat16; do
    for model in $demo/model "$work/wild" "$work/model"; do
        "$embsum" encode --quiet --dtype $dtype --model "$model" --news $demo/news.tsv --behaviors "$work/behaviors.tsv" \
            --out "$work/matrices.$(basename "$(dirname "$model")")-$(basename "$model")"
    done
    for other in "$work"/matrices.*; do
        diff -r "$work/matrices.demo-model" "$other" || fail "$dtype gives other matrices"
    done
    rm -r "$work"/matrices.*
done

# ---- what is refused

refused() { # expected exit code, words, then the arguments
    code=0 want=$1 words=$2
    shift 2
    "$embsum" calibrate "$@" >/dev/null 2>"$work/err" || code=$?
    [ $code = "$want" ] || fail "exit $code for $*"
    grep -q -- "$words" "$work/err" || fail "$(cat "$work/err") for $*"
}
refused 1 'a model is never overwritten' --model $demo/model --news $demo/news.tsv --out "$work/model"
refused 1 'a model is never overwritten' --model $demo/model --news $demo/news.tsv --out $demo/model
: >"$work/empty"
refused 1 'no items' --model $demo/model --news "$work/empty" --out "$work/none"
refused 1 "$work/nothing" --model $demo/model --news "$work/nothing" --out "$work/none"
refused 2 '--texts' --model $demo/model --news $demo/news.tsv --out "$work/none" --texts 0
refused 2 '--out' --model $demo/model --news $demo/news.tsv
[ ! -e "$work/none" ] || fail "a folder was made for nothing"
