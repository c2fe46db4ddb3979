"""Writes T5's encoder as an ONNX file for onnxruntime, from a model folder: a peer of `make bench-encoder-peers`.

    onnx_graph.py --model DIR --dtype float32|int8 --out FILE.onnx

The nodes are those that onnxruntime's own tools for transformers end up with (contrib operators): the position bias once
for all layers, Attention with its q, k and v in one product, SkipSimplifiedLayerNormalization. int8 is dynamic
quantisation as their quantiser makes it, after fusion: DynamicQuantizeMatMul, weights by column, activations by tensor;
attention itself stays in float32.

Inputs: ids (int64, rows x longest, padded on the right), lengths (int32, rows). Output: states (float32, rows x longest
x d).
"""
import argparse
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np

import t5
from onnx_model import FLOAT, INT64, node, number, piece, value

INT32 = 6
TYPES = {"float32": FLOAT, "int8": 3, "int64": INT64}
CONTRIB = "com.microsoft"
LONGEST = 512


class Graph:
    def __init__(self, config, dtype):
        self.config, self.dtype, self.parts, self.count = config, dtype, [], 0

    def name(self, what):
        self.count += 1
        return f"{what}_{self.count}"

    def array(self, array):
        """An initializer; gives its name."""
        name = self.name("w")
        dims = b"".join(number(1, size) for size in array.shape)
        self.parts.append(piece(5, dims + number(2, TYPES[array.dtype.name]) + piece(8, name) + piece(9, array.tobytes())))
        return name

    def add(self, op, inputs, outputs=1, domain="", **attributes):
        """A node; gives the name of its output, or a list of them."""
        names = [self.name(op) for _ in range(outputs)]
        self.parts.append(node(op, inputs, names, domain, **attributes))
        return names[0] if outputs == 1 else names

    def product(self, x, weight):
        """x W^T, W (out, in)"""
        if self.dtype == "float32":
            return self.add("MatMul", [x, self.array(weight.T)])
        scale = np.abs(weight).max(1) / 127
        rounded = np.rint(weight / scale[:, None]).astype(np.int8)
        return self.add("DynamicQuantizeMatMul", [x, self.array(rounded.T), self.array(scale)], domain=CONTRIB)

    def attention(self, x, weight, lengths, bias):
        heads = dict(domain=CONTRIB, num_heads=self.config["num_heads"], scale=1.0)
        if self.dtype == "float32":
            none = self.array(np.zeros(len(weight), np.float32))
            return self.add("Attention", [x, self.array(weight.T), none, lengths, "", bias], **heads)
        q, k, v = self.add("Split", [self.product(x, weight)], 3, axis=2)
        return self.add("MultiHeadAttention", [q, k, v, "", lengths, bias], **heads)


def model(config, weights, dtype):
    """Bytes of the model."""
    graph = Graph(config, dtype)
    epsilon = float(config["layer_norm_epsilon"])
    # the position bias of the longest text, of which each batch takes a corner
    bias = graph.array(weights.bias[t5.buckets(config, LONGEST)].transpose(2, 0, 1)[None])
    length = graph.add("Gather", [graph.add("Shape", ["ids"]), graph.array(np.array([1, 1]))], axis=0)
    bias = graph.add("Slice", [bias, graph.array(np.array([0, 0])), length, graph.array(np.array([2, 3]))])

    def skip(x, y, gamma):
        """(norm(x + y), x + y)"""
        inputs = [x, y, graph.array(gamma)]
        normed, _, _, total = graph.add("SkipSimplifiedLayerNormalization", inputs, 4, CONTRIB, epsilon=epsilon)
        return normed, total

    x = graph.add("Gather", [graph.array(weights.embedding), "ids"], axis=0)
    first = graph.array(weights.layers[0].norms[0])
    normed = graph.add("SimplifiedLayerNormalization", [x, first], axis=-1, epsilon=epsilon)
    following = [layer.norms[0] for layer in weights.layers[1:]] + [weights.final]
    for layer, after in zip(weights.layers, following):
        attention = graph.attention(normed, layer.qkv, "lengths", bias)
        normed, x = skip(x, graph.product(attention, layer.o), layer.norms[1])
        middle = graph.add("Relu", [graph.product(normed, layer.wi)])
        normed, x = skip(x, graph.product(middle, layer.wo), after)
    graph.parts.append(node("Identity", [normed], ["states"]))
    body = b"".join([
        *graph.parts,
        piece(2, "encoder"),
        value(11, "ids", INT64, "rows", "longest"),
        value(11, "lengths", INT32, "rows"),
        value(12, "states", FLOAT, "rows", "longest", config["d_model"]),
    ])
    opsets = piece(8, piece(1, "") + number(2, 13)) + piece(8, piece(1, CONTRIB) + number(2, 1))
    return number(1, 8) + piece(7, body) + opsets


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", required=True, choices=["float32", "int8"])
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    pathlib.Path(args.out).write_bytes(model(*t5.load(args.model), args.dtype))


if __name__ == "__main__":
    main()
