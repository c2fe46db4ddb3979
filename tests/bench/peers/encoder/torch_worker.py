"""T5's encoder in PyTorch, for texts of several lengths at once: a peer of `make bench-encoder-peers`.

    torch_worker.py --model DIR --dtype float32|bfloat16|int8

What makes it fast here: q, k and v are one product, the norms' weights are in the matrices behind them, the position bias
is made once a length and added by the product that makes the scores, residuals are added by the products. int8 is
PyTorch's own dynamic quantisation by oneDNN (weights by column, activations by tensor); attention then stays in float32,
as quantize_dynamic leaves it.
"""
import argparse
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent.parent / "golden")]

import numpy as np
import torch
import torch.nn.functional as F

import t5
import worker


class Product:
    """y = x W^T, and x + y W^T"""

    def __init__(self, weight, dtype):
        weight, self.packed = torch.from_numpy(weight), None
        if dtype == "int8":
            scale = weight.abs().amax(1) / 127
            weight = torch.quantize_per_channel(weight, scale, torch.zeros(len(scale), dtype=torch.long), 0, torch.qint8)
            self.packed = torch.ops.quantized.linear_prepack(weight, None)
        else:
            self.weight = weight.to(getattr(torch, dtype))

    def __call__(self, x):
        return torch.ops.quantized.linear_dynamic(x, self.packed) if self.packed is not None else F.linear(x, self.weight)

    def relu(self, x):
        return torch.ops.quantized.linear_relu_dynamic(x, self.packed) if self.packed is not None else self(x).relu_()

    def add(self, x, y):
        return x.add_(self(y)) if self.packed is not None else torch.addmm(x, y, self.weight.t())


class Encoder:
    def __init__(self, directory, dtype):
        config, weights = t5.load(directory)
        self.config, self.bias_of = config, {}
        self.dtype = torch.float32 if dtype == "int8" else getattr(torch, dtype)
        self.embedding = torch.from_numpy(weights.embedding).to(self.dtype)
        self.table = torch.from_numpy(weights.bias).to(self.dtype)
        self.final = torch.from_numpy(weights.final).to(self.dtype)
        self.layers = [
            [Product(w, dtype) for w in (layer.qkv * layer.norms[0], layer.o, layer.wi * layer.norms[1], layer.wo)]
            for layer in weights.layers
        ]

    def norm(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config["layer_norm_epsilon"])

    def bias(self, length):
        """Position bias: (heads, length, length)"""
        if length not in self.bias_of:
            buckets = torch.from_numpy(t5.buckets(self.config, length))
            self.bias_of[length] = F.embedding(buckets, self.table).permute(2, 0, 1).contiguous()
        return self.bias_of[length]

    def __call__(self, batch):
        """States (rows, longest, d) of a batch of padded ids with its lengths."""
        heads, d_kv = self.config["num_heads"], self.config["d_kv"]
        rows, longest = batch.ids.shape
        bias = self.bias(longest).expand(rows, -1, -1, -1)
        if batch.mask is not None:
            bias = bias + batch.mask
        bias = bias.reshape(rows * heads, longest, longest)
        x = F.embedding(batch.ids.flatten(), self.embedding)
        for qkv, o, wi, wo in self.layers:
            y = qkv(self.norm(x)).view(rows, longest, 3, heads, d_kv).permute(2, 0, 3, 1, 4)
            q, k, v = y.reshape(3, rows * heads, longest, d_kv).unbind(0)
            share = torch.softmax(torch.baddbmm(bias, q, k.transpose(1, 2)), -1)
            y = torch.bmm(share, v).view(rows, heads, longest, d_kv).transpose(1, 2).reshape(rows * longest, heads * d_kv)
            x = o.add(x, y)
            x = wo.add(x, wi.relu(self.norm(x)))
        return (self.norm(x) * self.final).view(rows, longest, -1)


class Batch:
    """Ids padded with 0, and what masks the padding, as an input pipeline would have them ready."""

    def __init__(self, sequences, dtype):
        lengths = np.array([len(sequence) for sequence in sequences])
        self.lengths, self.tokens, longest = lengths, int(lengths.sum()), int(lengths.max())
        ids = np.zeros((len(sequences), longest), np.int64)
        for row, sequence in zip(ids, sequences):
            row[: len(sequence)] = sequence
        self.ids, self.mask = torch.from_numpy(ids), None
        if self.tokens < ids.size:
            behind = torch.from_numpy(np.arange(longest) >= lengths[:, None])
            self.mask = torch.zeros(behind.shape, dtype=dtype).masked_fill_(behind, -float("inf"))[:, None, None, :]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", required=True, choices=["float32", "bfloat16", "int8"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.dtype == "int8":
        torch.backends.quantized.engine = "onednn"
    encoder = Encoder(pathlib.Path(args.model), args.dtype)

    def states(batch):
        out = encoder(batch).float().numpy()
        return np.concatenate([row[:length] for row, length in zip(out, batch.lengths)])

    with torch.inference_mode():
        worker.serve(torch.__version__, lambda sequences: Batch(sequences, encoder.dtype), encoder, states)


if __name__ == "__main__":
    main()
