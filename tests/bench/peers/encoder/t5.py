"""The encoder's weights in a model folder, as the peers' writers want them: numpy, float32."""
import json
import pathlib
import sys
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "golden"))

import numpy as np

import weights


def load(directory):
    """(config, weights): embedding (vocabulary, d); bias, the table (buckets, heads); final (d); layers with qkv (3 inner,
    d), o, wi, wo, each (out, in), and norms, two of (d)."""
    directory = pathlib.Path(directory)
    config = json.loads((directory / "config.json").read_text())
    if config.get("feed_forward_proj", "relu") != "relu":
        raise SystemExit("the peers know T5 v1.0 only")
    tensors = {
        name: array.astype(np.float32)
        for name, array in weights.load(directory / "model.safetensors").items()
        if name.startswith("encoder.") or name == "shared.weight"
    }
    layers = []
    for index in range(config["num_layers"]):
        layer = f"encoder.block.{index}.layer"
        layers.append(types.SimpleNamespace(
            qkv=np.concatenate([tensors[f"{layer}.0.SelfAttention.{name}.weight"] for name in "qkv"]),
            o=tensors[f"{layer}.0.SelfAttention.o.weight"],
            wi=tensors[f"{layer}.1.DenseReluDense.wi.weight"],
            wo=tensors[f"{layer}.1.DenseReluDense.wo.weight"],
            norms=[tensors[f"{layer}.{i}.layer_norm.weight"] for i in range(2)],
        ))
    return config, types.SimpleNamespace(
        embedding=tensors["shared.weight"],
        bias=tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"],
        final=tensors["encoder.final_layer_norm.weight"],
        layers=layers,
    )


def buckets(config, length):
    """Row of the bias table for each query and key: (length, length)."""
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    half = config["relative_attention_num_buckets"] // 2
    exact = half // 2
    scale = np.float32(np.log(config["relative_attention_max_distance"] / exact))
    far = np.log(np.maximum(np.abs(distance), 1).astype(np.float32) / exact) / scale * (half - exact)
    far = np.minimum(exact + far.astype(np.int64), half - 1)
    return half * (distance > 0) + np.where(np.abs(distance) < exact, np.abs(distance), far)
