"""EmbSum's training step in PyTorch, float32, written for speed: the peer of `embsum train` in the benchmark.

    train_peer.py --model DIR --news F --behaviors F --summaries F --steps N [options]

Every step takes all examples of the behaviours. A line of JSON a step on stdout, with the losses and the gradient's norm
before clipping, which tests/bench/train.py holds against embsum's.

How it is made fast: examples of like length share a micro-batch; all sessions and candidates of a micro-batch are sorted
by length and encoded in buckets of about the same length, so that little is padded; the decoder runs over all summaries
at once, and only real positions meet the vocabulary; q, k and v are one product; the position bias and the mask are
one tensor for all layers, added by the product itself. The gelu of the score is written by erf: F.gelu's backward is
wrong in PyTorch 1.13 where the gradient is not contiguous.
"""
import argparse
import json
import math
import mmap
import pathlib
import resource
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))

import numpy as np
import torch
import torch.nn.functional as F

import reference


# ---- data ----------------------------------------------------------------------------------------------


def load(path):
    """{name: float32 tensor} of a safetensors file; one copy of each tensor is made."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (length,) = struct.unpack_from("<Q", data)
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            shape = entry["shape"]
            array = np.frombuffer(data, "<f4", math.prod(shape), 8 + length + entry["data_offsets"][0])
            tensors[name] = torch.from_numpy(array.reshape(shape).copy())
    return tensors


class Example:
    def __init__(self, config, ids, history, candidates, summary):
        self.sessions = [[ids[item] for item in session] for session in reference.sessions_of(config, history)]
        self.candidates = [ids[item] for item in candidates]
        self.summary = summary
        self.source = sum(len(item) for session in self.sessions for item in session)
        self.tokens = self.source + sum(map(len, self.candidates))


def read_examples(config, vocab, args):
    news = reference.read_news(args.news)
    ids = reference.item_ids(config, vocab, news)
    texts = {}
    for line in reference.lines_of(args.summaries):
        row = json.loads(line)
        texts[row["user"]] = row["summary"]
    summaries = dict(zip(texts, reference.tokenize(vocab, texts.values())))
    examples = []
    for line in reference.lines_of(args.behaviors):
        _, user, _, history, impression = line.split("\t")
        labelled = [entry.rsplit("-", 1) for entry in impression.split()]
        positives = [item for item, label in labelled if label == "1"]
        negatives = [item for item, label in labelled if label == "0"]
        summary = summaries[user][: config.max_summary_tokens - 1] + [config.eos]
        examples += [Example(config, ids, history.split(), [item] + negatives, summary) for item in positives]
    return examples


def pad(rows, value=0):
    """Lists of integers -> tensor (rows, longest)."""
    out = torch.full((len(rows), max(map(len, rows))), value)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row)
    return out


def pad_mask(lengths):
    """0 where a row has a value and -inf behind it: (rows, longest)"""
    lengths = torch.tensor(lengths)
    behind = torch.arange(int(lengths.max()))[None, :] >= lengths[:, None]
    return torch.zeros(behind.shape).masked_fill_(behind, -math.inf)


class MicroBatch:
    """Some examples as index tensors, made once: what an input pipeline would have ready."""

    def __init__(self, config, examples, bucket_tokens):
        sequences = []
        for example in examples:
            sequences += [sum(session, []) for session in example.sessions] + example.candidates
        order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
        base, ids, self.masks, at = {}, [], [], 0
        while order:
            longest = len(sequences[order[0]])
            part, order = order[: max(1, bucket_tokens // longest)], order[max(1, bucket_tokens // longest) :]
            lengths = [len(sequences[i]) for i in part]
            self.masks.append(None if min(lengths) == longest else pad_mask(lengths))
            ids.append(pad([sequences[i] for i in part]))
            for i in part:
                base[i] = at
                at += longest
        self.padded = at
        source, items, candidates, i = [], [], [], 0
        for example in examples:
            source.append([])
            items.append([])
            for session in example.sessions:
                begin = base[i]
                source[-1] += range(begin, begin + len(sequences[i]))
                for item in session:
                    items[-1].append(begin)
                    begin += len(item)
                i += 1
            for _ in example.candidates:
                candidates.append(list(range(base[i], base[i] + len(sequences[i]))))
                i += 1
        self.count, self.candidate_count = len(examples), len(examples[0].candidates)
        self.source, self.source_mask = pad(source), pad_mask([len(row) for row in source])
        # z stands behind the encoder's states
        z = [row + [at + e] for e, row in enumerate(items)]
        self.z, self.z_mask = pad(z), pad_mask([len(row) for row in z])
        self.candidates, self.candidate_mask = pad(candidates), pad_mask([len(row) for row in candidates])
        summaries = [example.summary for example in examples]
        ids.append(pad([[config.start] + summary[:-1] for summary in summaries]))
        width = ids[-1].shape[1]
        # one look-up for all: its gradient is a table of the whole vocabulary
        self.ids = torch.cat([part.flatten() for part in ids])
        self.shapes, self.sizes = [part.shape for part in ids], [part.numel() for part in ids]
        self.said = torch.tensor([e * width + j for e, row in enumerate(summaries) for j in range(len(row))])
        self.last = torch.tensor([e * width + len(row) - 1 for e, row in enumerate(summaries)])
        self.targets = torch.tensor(sum(summaries, []))


# ---- model ---------------------------------------------------------------------------------------------


class Block:
    """One layer's parameters; the products that share an input are one."""

    def __init__(self, take, stack, index):
        layer = f"{stack}.block.{index}.layer"
        self.norms = [take(f"{layer}.{i}.layer_norm.weight") for i in range(3 if stack == "decoder" else 2)]
        self.qkv = take(*(f"{layer}.0.SelfAttention.{name}.weight" for name in "qkv"))
        self.o = take(f"{layer}.0.SelfAttention.o.weight")
        if stack == "decoder":
            self.cross_q = take(f"{layer}.1.EncDecAttention.q.weight")
            self.cross_kv = take(*(f"{layer}.1.EncDecAttention.{name}.weight" for name in "kv"))
            self.cross_o = take(f"{layer}.1.EncDecAttention.o.weight")
        feed_forward = f"{layer}.{len(self.norms) - 1}.DenseReluDense"
        self.wi, self.wo = take(f"{feed_forward}.wi.weight"), take(f"{feed_forward}.wo.weight")


class Model:
    def __init__(self, directory, dropout):
        self.config = config = reference.Config(directory / "config.json")
        self.rate = dropout
        tensors = load(directory / "model.safetensors")
        self.backbone, self.heads = [], []

        def take(*names):
            parts = [tensors.pop(name) for name in names]
            parameter = (parts[0] if len(parts) == 1 else torch.cat(parts)).requires_grad_(True)
            (self.heads if names[0].startswith("embsum.") else self.backbone).append(parameter)
            return parameter

        self.shared = take("shared.weight")
        self.encoder = [Block(take, "encoder", i) for i in range(config.encoder_layers)]
        self.decoder = [Block(take, "decoder", i) for i in range(config.decoder_layers)]
        self.tables = {
            stack: take(f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
            for stack in ("encoder", "decoder")
        }
        self.final = {stack: take(f"{stack}.final_layer_norm.weight") for stack in ("encoder", "decoder")}
        self.user = take("embsum.user.codes"), take("embsum.user.proj")
        self.content = take("embsum.content.codes"), take("embsum.content.proj")
        self.score_proj = take("embsum.score.proj")
        if tensors or config.gated or not config.tied or config.ablation != "none":
            raise SystemExit(f"the peer knows T5 v1.0 only, left over: {list(tensors)}")

    def norm(self, x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.epsilon) * weight

    def dropout(self, x):
        return F.dropout(x, self.rate) if self.rate > 0 else x

    def bias(self, stack, length, mask, count):
        """Position bias and padding mask of all layers: (count x heads, length, length)."""
        config = self.config
        positions = torch.arange(length)
        distance = positions[None, :] - positions[:, None]
        bucket = reference.relative_bucket(distance, stack == "encoder", config.buckets, config.max_distance)
        bias = F.embedding(bucket, self.tables[stack]).permute(2, 0, 1)
        if stack == "decoder":
            bias = bias + torch.zeros(length, length).masked_fill_(distance > 0, -math.inf)
        bias = bias.expand(count, -1, -1, -1)
        if mask is not None:
            bias = bias + mask[:, None, None, :]
        return bias.reshape(count * config.heads, length, length)

    def split(self, x, parts):
        """(count, length, parts x heads x d_kv) -> parts of (count x heads, length, d_kv)"""
        count, length = x.shape[:2]
        x = x.view(count, length, parts, self.config.heads, self.config.d_kv).permute(2, 0, 3, 1, 4)
        return x.reshape(parts, count * self.config.heads, length, self.config.d_kv).unbind(0)

    def attend(self, x, q, k, v, bias, out):
        """x + W_o attention"""
        share = self.dropout(torch.softmax(torch.baddbmm(bias, q, k.transpose(1, 2)), -1))
        context = torch.bmm(share, v).view(x.shape[0], self.config.heads, x.shape[1], self.config.d_kv)
        return self.add(x, context.transpose(1, 2).reshape(x.shape[0] * x.shape[1], -1), out)

    def add(self, x, y, weight):
        if self.rate > 0:
            return x + F.dropout(F.linear(y, weight), self.rate).view(x.shape)
        return torch.addmm(x.view(-1, x.shape[-1]), y, weight.t()).view(x.shape)

    def feed_forward(self, x, norm, block):
        middle = F.relu(F.linear(self.norm(x, norm).view(-1, x.shape[-1]), block.wi), inplace=True)
        return self.add(x, self.dropout(middle), block.wo)

    def self_attention(self, x, block, bias):
        qkv = self.split(F.linear(self.norm(x, block.norms[0]), block.qkv), 3)
        return self.attend(x, *qkv, bias, block.o)

    def encode(self, x, mask):
        bias = self.bias("encoder", x.shape[1], mask, x.shape[0])
        for block in self.encoder:
            x = self.feed_forward(self.self_attention(x, block, bias), block.norms[1], block)
        return self.dropout(self.norm(x, self.final["encoder"])).view(-1, x.shape[-1])

    def decode(self, x, source, source_mask):
        count, length = x.shape[:2]
        bias = self.bias("decoder", length, None, count)
        cross = source_mask[:, None, None, :].expand(-1, self.config.heads, length, -1)
        cross = cross.reshape(count * self.config.heads, length, -1)
        for block in self.decoder:
            x = self.self_attention(x, block, bias)
            (q,) = self.split(F.linear(self.norm(x, block.norms[1]), block.cross_q), 1)
            k, v = self.split(F.linear(source, block.cross_kv), 2)
            x = self.attend(x, q, k, v, cross, block.cross_o)
            x = self.feed_forward(x, block.norms[2], block)
        return self.dropout(self.norm(x, self.final["decoder"])).view(-1, x.shape[-1])

    def poly(self, states, mask, codes, proj):
        logits = torch.tanh(states @ proj) @ codes.t()  # (rows, length, codes)
        return torch.softmax(logits.transpose(1, 2) + mask[:, None, :], -1) @ states

    def losses(self, batch):
        """Sums over the examples of L_NCE and L_sum."""
        d = self.config.d_model
        *inputs, fed = self.dropout(F.embedding(batch.ids, self.shared)).split(batch.sizes)
        buckets = zip(inputs, batch.shapes, batch.masks)
        states = torch.cat([self.encode(x.view(*shape, d), mask) for x, shape, mask in buckets])
        hidden = self.decode(fed.view(batch.count, -1, d), F.embedding(batch.source, states), batch.source_mask)
        logits = F.linear(hidden[batch.said] * d**-0.5, self.shared)
        total = F.cross_entropy(logits, batch.targets, reduction="sum")
        z = F.embedding(batch.z, torch.cat([states, hidden[batch.last]]))
        a = self.poly(z, batch.z_mask, *self.user)  # (E, m, d)
        b = self.poly(F.embedding(batch.candidates, states), batch.candidate_mask, *self.content)
        b = b.view(batch.count, -1, d)  # (E, candidates x n, d)
        u = b @ self.score_proj
        gate = 0.5 * u * (1 + torch.erf(u * math.sqrt(0.5)))
        shape = batch.count, batch.candidate_count, -1
        k, weight = (b @ a.transpose(1, 2)).view(shape), (gate @ a.transpose(1, 2)).view(shape)
        scores = (torch.softmax(weight, -1) * k).sum(-1)
        return F.cross_entropy(scores, torch.zeros(batch.count, dtype=torch.long), reduction="sum"), total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "news", "behaviors", "summaries"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--micro", type=int, default=4, help="examples of a micro-batch")
    parser.add_argument("--bucket", type=int, default=2048, help="padded tokens of an encoder bucket")
    parser.add_argument("--foreach", type=int, default=0, help="Adam over lists of tensors")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--head-factor", type=float, default=5)
    parser.add_argument("--weight", type=float, default=0.05, help="lambda")
    parser.add_argument("--clip", type=float, default=1)
    parser.add_argument("--dropout", type=float, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    directory = pathlib.Path(args.model)
    model = Model(directory, args.dropout)
    examples = read_examples(model.config, directory / "spiece.model", args)
    tokens = sum(example.tokens for example in examples)
    examples.sort(key=lambda example: example.source)
    micro = [
        MicroBatch(model.config, examples[i : i + args.micro], args.bucket) for i in range(0, len(examples), args.micro)
    ]
    adam = torch.optim.Adam(
        [
            {"params": model.backbone, "lr": args.rate},
            {"params": model.heads, "lr": args.rate * args.head_factor},
        ],
        foreach=bool(args.foreach),
    )
    fall = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: (args.steps - step) / args.steps)
    for step in range(1, args.steps + 1):
        start, nce, total = time.monotonic(), 0.0, 0.0
        adam.zero_grad(set_to_none=True)
        for batch in micro:
            pair = model.losses(batch)
            ((pair[0] + args.weight * pair[1]) / len(examples)).backward()
            nce += pair[0].item()
            total += pair[1].item()
            del pair
        backward = time.monotonic()
        norm = torch.nn.utils.clip_grad_norm_(model.backbone + model.heads, args.clip).item()
        adam.step()
        fall.step()
        end = time.monotonic()
        line = {
            "step": step,
            "nce": nce / len(examples),
            "sum": total / len(examples),
            "norm": norm,
            "tokens": tokens,
            "padded": sum(batch.padded for batch in micro),
            "seconds": end - start,
            "adam_seconds": end - backward,
            "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
