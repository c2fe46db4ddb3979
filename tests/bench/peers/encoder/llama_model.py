"""Writes T5's encoder as a GGUF file for llama.cpp, from a model folder: a peer of `make bench-encoder-peers`.

    llama_model.py --model DIR --dtype float32|bfloat16|int8 --out FILE.gguf

int8 is Q8_0: 32 neighbours of a row share a scale. Norms and the position bias stay in float32. There is no vocabulary:
texts come as ids.
"""
import argparse
import pathlib
import struct

import numpy as np

import t5
import weights as formats

F32, Q8_0, BF16 = 0, 8, 30  # of ggml
UINT32, FLOAT32, STRING = 4, 6, 8  # of GGUF
ALIGNMENT = 32


def q8_0(array):
    blocks = array.reshape(-1, 32)
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype("<f2")
    rounded = np.rint(blocks / np.maximum(scale.astype(np.float32), 1e-30)).clip(-127, 127).astype(np.int8)
    return np.concatenate([scale.view(np.int8), rounded], 1).tobytes()


def matrix(array, dtype):
    """(type, bytes)"""
    if dtype == "int8":
        return Q8_0, q8_0(array)
    return (F32, array.tobytes()) if dtype == "float32" else (BF16, formats.narrow(array, "BF16"))


def tensors(config, weights, dtype):
    """[(name, shape, type, bytes)]"""
    inner = config["num_heads"] * config["d_kv"]
    plain = [("enc.output_norm", weights.final), ("enc.blk.0.attn_rel_b", weights.bias)]
    matrices = [("token_embd", weights.embedding)]
    for index, layer in enumerate(weights.layers):
        block = f"enc.blk.{index}"
        plain += [(f"{block}.attn_norm", layer.norms[0]), (f"{block}.ffn_norm", layer.norms[1])]
        matrices += [(f"{block}.attn_{name}", part) for name, part in zip("qkv", layer.qkv.reshape(3, inner, -1))]
        matrices += [(f"{block}.attn_o", layer.o), (f"{block}.ffn_up", layer.wi), (f"{block}.ffn_down", layer.wo)]
    for name, array in plain:
        yield f"{name}.weight", array.shape, F32, array.tobytes()
    for name, array in matrices:
        yield f"{name}.weight", array.shape, *matrix(array, dtype)


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def entry(key, value):
    if isinstance(value, str):
        return text(key) + struct.pack("<I", STRING) + text(value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", FLOAT32, value)
    return text(key) + struct.pack("<II", UINT32, value)


def pad(data):
    return data + b"\0" * (-len(data) % ALIGNMENT)


def write(path, config, weights, dtype):
    t5encoder = {
        "context_length": 512,
        "embedding_length": config["d_model"],
        "feed_forward_length": config["d_ff"],
        "block_count": config["num_layers"],
        "vocab_size": config["vocab_size"],
        "attention.head_count": config["num_heads"],
        "attention.key_length": config["d_kv"],
        "attention.value_length": config["d_kv"],
        "attention.layer_norm_epsilon": float(config["layer_norm_epsilon"]),
        "attention.layer_norm_rms_epsilon": float(config["layer_norm_epsilon"]),
        "pooling_type": 0,  # none: all tokens' states
        "attention.relative_buckets_count": config["relative_attention_num_buckets"],
    }
    entries = {"general.architecture": "t5encoder", "tokenizer.ggml.model": "no_vocab"}
    entries.update({f"t5encoder.{key}": value for key, value in t5encoder.items()})
    rows, infos, offset = list(tensors(config, weights, dtype)), b"", 0
    for name, shape, kind, data in rows:
        infos += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        infos += struct.pack("<IQ", kind, offset)
        offset += len(pad(data))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(rows), len(entries))
    with open(path, "wb") as file:
        file.write(pad(head + b"".join(entry(key, value) for key, value in entries.items()) + infos))
        for *_, data in rows:
            file.write(pad(data))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", required=True, choices=["float32", "bfloat16", "int8"])
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    write(pathlib.Path(args.out), *t5.load(args.model), args.dtype)


if __name__ == "__main__":
    main()
