"""Writes T5's encoder as a model folder of CTranslate2, from a model folder of ours: a peer of `make bench-encoder-peers`.

    ct2_model.py --model DIR --out DIR

What its converter writes for T5's encoder alone, in float32: model.bin (version 6), config.json, vocabulary.json.
CTranslate2 quantises while it loads. The vocabulary's pieces are invented: texts come as ids.
"""
import argparse
import json
import pathlib
import struct

import numpy as np

import t5

BINARY_VERSION, REVISION = 6, 1
TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3}


def variables(config, weights):
    """({name: array}, {alias: name})"""
    out = {
        "encoder/num_heads": np.int16(config["num_heads"]),
        "encoder/pre_norm": np.int8(1),
        "encoder/activation": np.int8(0),  # ReLU
        "encoder/embeddings_merge": np.int8(0),
        "encoder/scale_embeddings": np.int8(0),
        "encoder/embeddings_0/weight": weights.embedding,
        "encoder/layer_norm/gamma": weights.final,
    }
    shared = {
        "relative_attention_bias": weights.bias,
        "relative_attention_max_distance": np.int32(config["relative_attention_max_distance"]),
    }
    aliases = {}
    for index, layer in enumerate(weights.layers):
        attention, forward = f"encoder/layer_{index}/self_attention", f"encoder/layer_{index}/ffn"
        out[f"{attention}/queries_scale"] = np.float32(1)
        out[f"{attention}/layer_norm/gamma"], out[f"{forward}/layer_norm/gamma"] = layer.norms
        out[f"{attention}/linear_0/weight"], out[f"{attention}/linear_1/weight"] = layer.qkv, layer.o
        out[f"{forward}/linear_0/weight"], out[f"{forward}/linear_1/weight"] = layer.wi, layer.wo
        for name, array in shared.items():
            if index:
                aliases[f"{attention}/{name}"] = f"encoder/layer_0/self_attention/{name}"
            else:
                out[f"{attention}/{name}"] = array
    return out, aliases


def text(value):
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def write(path, arrays, aliases):
    with open(path, "wb") as file:
        file.write(struct.pack("<I", BINARY_VERSION) + text("TransformerEncoderSpec"))
        file.write(struct.pack("<II", REVISION, len(arrays)))
        for name, array in sorted(arrays.items()):
            file.write(text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape))
            file.write(struct.pack("<BI", TYPES[array.dtype.name], array.nbytes) + array.tobytes())
        file.write(struct.pack("<I", len(aliases)))
        for alias, name in aliases.items():
            file.write(text(alias) + text(name))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    config, weights = t5.load(args.model)
    write(out / "model.bin", *variables(config, weights))
    special = {"bos_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (out / "config.json").write_text(json.dumps({**special, "layer_norm_epsilon": config["layer_norm_epsilon"]}))
    pieces = ["<pad>", "</s>", "<unk>"] + [f"piece{i}" for i in range(3, len(weights.embedding))]
    (out / "vocabulary.json").write_text(json.dumps(pieces))


if __name__ == "__main__":
    main()
