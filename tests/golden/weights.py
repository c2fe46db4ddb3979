"""Model weights outside of PyTorch: safetensors files, random T5 + EmbSum weights, and change of dtype.

    weights.py random  --config config.json --out DIR [--seed N] [--end X] [--dtype F32|F16|BF16]
    weights.py convert --model DIR --out DIR --dtype F32|F16|BF16

Both leave DIR/config.json and DIR/model.safetensors; `convert` takes spiece.model along.
"""
import argparse
import json
import math
import pathlib
import shutil
import struct

import numpy as np

ITEM_SIZE = {"F32": 4, "F16": 2, "BF16": 2}


def widen(raw, dtype):
    """Bytes of a tensor -> float64 array (flat). Every float32, float16 and bfloat16 is exact in float64."""
    if dtype == "F32":
        return np.frombuffer(raw, "<f4").astype(np.float64)
    if dtype == "F16":
        return np.frombuffer(raw, "<f2").astype(np.float64)
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    raise ValueError(f"dtype {dtype} is not supported")


def narrow(array, dtype):
    """The array's bytes in the dtype, rounded to nearest, ties to even."""
    if dtype == "F32":
        return array.astype("<f4").tobytes()
    if dtype == "F16":
        return array.astype("<f2").tobytes()
    if dtype == "BF16":
        bits = array.astype("<f4").view("<u4")
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    raise ValueError(f"dtype {dtype} is not supported")


def load(path):
    """{name: float64 array} of a safetensors file: length of the header, the header in JSON, the bytes."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        count = math.prod(entry["shape"])
        if end - begin != count * ITEM_SIZE[entry["dtype"]] or end > len(body):
            raise ValueError(f"{path}: {name}: offsets do not fit its shape")
        tensors[name] = widen(body[begin:end], entry["dtype"]).reshape(entry["shape"])
    return tensors


def save(path, tensors, dtype="F32"):
    """Write {name: array} as a safetensors file, all tensors in one dtype."""
    header, chunks, offset = {}, [], 0
    for name, array in tensors.items():
        chunk = narrow(array, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(chunk)],
        }
        chunks.append(chunk)
        offset += len(chunk)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts aligned
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def table(config):
    """Every tensor of the model as (name, shape, standard deviation).

    The deviations follow T5's own initialisation; the output of each sub-layer stays near one. The
    position biases are larger than T5 starts with, so that a wrong bucket is seen.
    """
    d, inner = config["d_model"], config["num_heads"] * config["d_kv"]
    ff, heads = config["d_ff"], config["num_heads"]
    gated = config.get("feed_forward_proj", "relu") == "gated-gelu"
    yield "shared.weight", (config["vocab_size"], d), 0.1
    stacks = {"encoder": config["num_layers"], "decoder": config.get("num_decoder_layers", config["num_layers"])}
    for stack, layers in stacks.items():
        kinds = ["SelfAttention"] if stack == "encoder" else ["SelfAttention", "EncDecAttention"]
        for block in range(layers):
            for index, kind in enumerate(kinds):
                layer = f"{stack}.block.{block}.layer.{index}"
                yield f"{layer}.{kind}.q.weight", (inner, d), 2 * (d * config["d_kv"]) ** -0.5
                yield f"{layer}.{kind}.k.weight", (inner, d), d**-0.5
                yield f"{layer}.{kind}.v.weight", (inner, d), d**-0.5
                yield f"{layer}.{kind}.o.weight", (d, inner), inner**-0.5
                if block == 0 and index == 0:
                    buckets = config.get("relative_attention_num_buckets", 32)
                    yield f"{layer}.{kind}.relative_attention_bias.weight", (buckets, heads), 1.0
                yield f"{layer}.layer_norm.weight", (d,), None
            layer = f"{stack}.block.{block}.layer.{len(kinds)}"
            for name in ["wi_0", "wi_1"] if gated else ["wi"]:
                yield f"{layer}.DenseReluDense.{name}.weight", (ff, d), d**-0.5
            yield f"{layer}.DenseReluDense.wo.weight", (d, ff), ff**-0.5
            yield f"{layer}.layer_norm.weight", (d,), None
        yield f"{stack}.final_layer_norm.weight", (d,), None
    if not config.get("tie_word_embeddings", True):
        yield "lm_head.weight", (config["vocab_size"], d), d**-0.5
    extra = config.get("embsum", {})
    m, n, p = extra.get("m", 32), extra.get("n", 4), extra.get("code_dim", 256)
    for side, codes in {"user": m, "content": n}.items():
        yield f"embsum.{side}.codes", (codes, p), 2 * p**-0.5
        yield f"embsum.{side}.proj", (d, p), d**-0.5
    yield "embsum.score.proj", (d, d), d**-0.5


def random_weights(config, seed, end):
    """Seeded weights; norms (deviation None) lie around one.

    The output embedding's row of </s> is `end` times as long as the others: otherwise a random model would
    hardly ever end a summary by itself.
    """
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape, deviation in table(config):
        noise = rng.standard_normal(shape)
        tensors[name] = 1 + 0.1 * noise if deviation is None else deviation * noise
    head = "shared.weight" if config.get("tie_word_embeddings", True) else "lm_head.weight"
    tensors[head][config.get("eos_token_id", 1)] *= end
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    random = commands.add_parser("random")
    random.add_argument("--config", required=True)
    random.add_argument("--seed", type=int, default=1)
    random.add_argument("--end", type=float, default=1.5, help="length of the row of </s>")
    convert = commands.add_parser("convert")
    convert.add_argument("--model", required=True)
    for command in (random, convert):
        command.add_argument("--out", required=True)
        command.add_argument("--dtype", default="F32", choices=ITEM_SIZE)
    args = parser.parse_args()

    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    if args.command == "random":
        config = pathlib.Path(args.config)
        tensors = random_weights(json.loads(config.read_text()), args.seed, args.end)
    else:
        config = pathlib.Path(args.model, "config.json")
        tensors = load(pathlib.Path(args.model, "model.safetensors"))
        shutil.copyfile(pathlib.Path(args.model, "spiece.model"), out / "spiece.model")
    (out / "config.json").write_text(config.read_text())
    save(out / "model.safetensors", tensors, args.dtype)


if __name__ == "__main__":
    main()
