"""EmbSum in PyTorch, float64: the judge of the C programs.

Written from the paper, from DESIGN's mathematics and from what T5 is, not from the C sources; slow where
slow is clearer. Only the buckets of the relative positions are computed in float32, because the published
models were trained with buckets computed so.

    reference.py encode  --model DIR... --news news.tsv --behaviors behaviors.tsv --out DIR...
    reference.py verify  --model DIR --news news.tsv --behaviors behaviors.tsv
    reference.py buckets

`encode` leaves in the out folder of each model what `embsum encode` leaves, in float64: content.npy and
content.ids, user.npy and user.ids, score_proj.npy, summaries.jsonl. `verify` holds the shortcuts taken here (one decoder step at a time, several
users and sequences at once) against the plain way. `buckets` prints the golden table buckets.txt.

Needs Debian's python3-torch, python3-numpy and sentencepiece (for its commands spm_encode, spm_decode, spm_export_vocab).
"""
import argparse
import dataclasses
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import torch

import weights

ABLATIONS = ("none", "no_cpe", "no_upe", "no_grouping", "no_lsum")

# MIND's fields with the limits of SPAR.
DEFAULT_FIELDS = [
    {"column": "title", "prefix": "News Title: ", "suffix": ";", "max_tokens": 32},
    {"column": "abstract", "prefix": "News Abstract: ", "suffix": ";", "max_tokens": 72},
    {"column": "category", "prefix": "News Category: ", "suffix": "", "max_tokens": 8},
]


class Config:
    """config.json with T5's and EmbSum's defaults."""

    def __init__(self, path):
        t5 = json.loads(pathlib.Path(path).read_text())
        own = t5.get("embsum", {})
        self.d_model, self.d_kv, self.heads = t5["d_model"], t5["d_kv"], t5["num_heads"]
        self.encoder_layers = t5["num_layers"]
        self.decoder_layers = t5.get("num_decoder_layers", t5["num_layers"])
        self.epsilon = t5.get("layer_norm_epsilon", 1e-6)
        self.buckets = t5.get("relative_attention_num_buckets", 32)
        self.max_distance = t5.get("relative_attention_max_distance", 128)
        self.gated = t5.get("feed_forward_proj", "relu") == "gated-gelu"
        self.tied = t5.get("tie_word_embeddings", True)
        self.eos = t5.get("eos_token_id", 1)
        self.start = t5.get("decoder_start_token_id", 0)
        self.session_size = own.get("session_size", 4)
        self.max_items = own.get("max_items", 60)
        self.max_summary_tokens = own.get("max_summary_tokens", 96)
        self.sos = own.get("sos_token_id", 32100)
        self.fields = own.get("fields", DEFAULT_FIELDS)
        self.ablation = own.get("ablation") or "none"
        if self.ablation not in ABLATIONS:
            raise ValueError(f"{path}: unknown ablation {self.ablation}")
        if self.ablation == "no_grouping":
            self.session_size = 1


# ---- T5 ------------------------------------------------------------------------------------------------


def relative_bucket(relative_position, bidirectional, buckets, max_distance):
    """Buckets of the distances key - query: exact while they are short, then in logarithmic steps."""
    bucket = torch.zeros_like(relative_position)
    if bidirectional:
        buckets //= 2
        bucket += (relative_position > 0).long() * buckets
        distance = relative_position.abs()
    else:
        distance = (-relative_position).clamp(min=0)
    exact = buckets // 2
    far = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (buckets - exact)
    far = (exact + far.long()).clamp(max=buckets - 1)
    return bucket + torch.where(distance < exact, distance, far)


class T5:
    def __init__(self, config, tensors):
        self.config = config
        self.w = {name: torch.from_numpy(array) for name, array in tensors.items()}
        self.head = self.w["shared.weight" if config.tied else "lm_head.weight"]

    # -- what both stacks are made of; x is (..., length, d_model)

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T

    def norm(self, x, name):
        """Root mean square norm: no mean is subtracted, no bias is added."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.epsilon) * self.w[name + ".weight"]

    def split(self, x):
        """(..., length, heads x d_kv) -> (..., heads, length, d_kv)"""
        return x.unflatten(-1, (self.config.heads, self.config.d_kv)).transpose(-3, -2)

    def attend(self, query, key, value, bias, name):
        """Softmax attention without the division by sqrt(d_kv), heads joined by the output projection."""
        share = torch.softmax(query @ key.transpose(-1, -2) + bias, -1)
        return self.linear((share @ value).transpose(-3, -2).flatten(-2), name + ".o")

    def feed_forward(self, x, name):
        if not self.config.gated:
            return self.linear(torch.relu(self.linear(x, name + ".wi")), name + ".wo")
        gate = self.linear(x, name + ".wi_0")
        # GELU by its tanh approximation, as T5 v1.1 was trained
        gate = 0.5 * gate * (1 + torch.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        return self.linear(gate * self.linear(x, name + ".wi_1"), name + ".wo")

    def bias(self, stack, queries, keys):
        """Position bias (heads, queries, keys); all layers of a stack use the first one's table."""
        table = self.w[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        bidirectional = stack == "encoder"
        distance = keys[None, :] - queries[:, None]
        bucket = relative_bucket(distance, bidirectional, self.config.buckets, self.config.max_distance)
        bias = table[bucket].permute(2, 0, 1)
        return bias if bidirectional else bias.masked_fill(distance > 0, -math.inf)

    # -- encoder

    def encode(self, sequences):
        """States (length, d_model) after the final norm, for each list of ids. Sequences of one length run
        together, so that nothing is padded and nothing masked."""
        states = [None] * len(sequences)
        for length in sorted(set(map(len, sequences))):
            same = [i for i, sequence in enumerate(sequences) if len(sequence) == length]
            for begin in range(0, len(same), 16):
                part = same[begin : begin + 16]
                ids = torch.tensor([sequences[i] for i in part])
                for i, state in zip(part, self.encode_same_length(ids)):
                    states[i] = state
        return states

    def encode_same_length(self, ids):
        x = self.w["shared.weight"][ids]
        positions = torch.arange(ids.shape[1])
        bias = self.bias("encoder", positions, positions)
        for block in range(self.config.encoder_layers):
            layer = f"encoder.block.{block}.layer"
            y = self.norm(x, f"{layer}.0.layer_norm")
            q, k, v = (self.split(self.linear(y, f"{layer}.0.SelfAttention.{name}")) for name in "qkv")
            x = x + self.attend(q, k, v, bias, f"{layer}.0.SelfAttention")
            x = x + self.feed_forward(self.norm(x, f"{layer}.1.layer_norm"), f"{layer}.1.DenseReluDense")
        return self.norm(x, "encoder.final_layer_norm")

    # -- decoder

    def cross(self, memory):
        """Keys and values of every layer's cross-attention over a memory (length, d_model)."""
        names = [f"decoder.block.{block}.layer.1.EncDecAttention" for block in range(self.config.decoder_layers)]
        return [tuple(self.split(self.linear(memory, f"{name}.{kind}")) for kind in "kv") for name in names]

    def decode(self, ids, crosses, cache):
        """One more token for each of several users: ids (users,), all at the same position.

        cache holds each layer's keys and values so far, (users, heads, position, d_kv), and grows by one.
        Returns the states after the final norm, (users, d_model).
        """
        x = self.w["shared.weight"][ids][:, None, :]
        position = cache[0][0].shape[2]
        bias = self.bias("decoder", torch.tensor([position]), torch.arange(position + 1))
        for block in range(self.config.decoder_layers):
            layer = f"decoder.block.{block}.layer"
            y = self.norm(x, f"{layer}.0.layer_norm")
            q, k, v = (self.split(self.linear(y, f"{layer}.0.SelfAttention.{name}")) for name in "qkv")
            cache[block] = tuple(torch.cat(pair, 2) for pair in zip(cache[block], (k, v)))
            x = x + self.attend(q, *cache[block], bias, f"{layer}.0.SelfAttention")
            name = f"{layer}.1.EncDecAttention"
            q = self.split(self.linear(self.norm(x, f"{layer}.1.layer_norm"), f"{name}.q"))
            x = x + torch.stack([self.attend(q[i], *c[block], 0.0, name) for i, c in enumerate(crosses)])
            x = x + self.feed_forward(self.norm(x, f"{layer}.2.layer_norm"), f"{layer}.2.DenseReluDense")
        return self.norm(x, "decoder.final_layer_norm")[:, 0, :]

    def decode_whole(self, ids, memory):
        """The states (length, d_model) for a given list of ids, all positions at once under a causal mask."""
        x = self.w["shared.weight"][torch.tensor(ids)]
        positions = torch.arange(len(ids))
        bias = self.bias("decoder", positions, positions)
        for block, (key, value) in enumerate(self.cross(memory)):
            layer = f"decoder.block.{block}.layer"
            y = self.norm(x, f"{layer}.0.layer_norm")
            q, k, v = (self.split(self.linear(y, f"{layer}.0.SelfAttention.{name}")) for name in "qkv")
            x = x + self.attend(q, k, v, bias, f"{layer}.0.SelfAttention")
            name = f"{layer}.1.EncDecAttention"
            q = self.split(self.linear(self.norm(x, f"{layer}.1.layer_norm"), f"{name}.q"))
            x = x + self.attend(q, key, value, 0.0, name)
            x = x + self.feed_forward(self.norm(x, f"{layer}.2.layer_norm"), f"{layer}.2.DenseReluDense")
        return self.norm(x, "decoder.final_layer_norm")

    def logits(self, states):
        scale = self.config.d_model**-0.5 if self.config.tied else 1.0
        return (states * scale) @ self.head.T

    def summarize(self, memories):
        """Greedy summaries over several users' memories, a few users at a time."""
        summaries = []
        for begin in range(0, len(memories), 8):
            summaries += self.summarize_together(memories[begin : begin + 8])
        return summaries

    def summarize_together(self, memories):
        limit = self.config.max_summary_tokens
        summaries = [Summary() for _ in memories]
        writing = list(range(len(memories)))
        crosses = [self.cross(memory) for memory in memories]
        empty = torch.zeros(len(memories), self.config.heads, 0, self.config.d_kv, dtype=torch.float64)
        cache = [(empty, empty)] * self.config.decoder_layers
        ids = torch.full((len(memories),), self.config.start)
        for position in range(limit + 1):  # position p is fed with token p, position 0 with the start
            states = self.decode(ids, crosses, cache)
            if position == limit:  # never ended: the state of the last token that was fed
                for user, state in zip(writing, states):
                    summaries[user].z = state
                break
            (best, second), ids = (top.T for top in self.logits(states).topk(2))
            ids = ids[0]
            going = []
            for row, user in enumerate(writing):
                summary = summaries[user]
                summary.margin = min(summary.margin, float(best[row] - second[row]))
                if ids[row] == self.config.eos:
                    summary.z = states[row]
                else:
                    summary.tokens.append(int(ids[row]))
                    going.append(row)
            if not going:
                break
            writing, crosses = [writing[row] for row in going], [crosses[row] for row in going]
            cache = [(k[going], v[going]) for k, v in cache]
            ids = ids[going]
        return summaries


@dataclasses.dataclass
class Summary:
    """What the decoder wrote: the ids without </s>, and z. margin is the smallest distance between the best
    and the second best logit: a computation in lower precision may differ where it is tiny."""

    tokens: list = dataclasses.field(default_factory=list)
    z: torch.Tensor = None
    margin: float = math.inf


# ---- texts ---------------------------------------------------------------------------------------------


def lines_of(path):
    return [line.rstrip("\r") for line in pathlib.Path(path).read_bytes().decode().split("\n") if line.strip("\r")]


def read_news(path):
    """{id: {column: text}} in the file's order. A row that repeats an earlier one is one item."""
    items = {}
    for line in lines_of(path):
        row = line.split("\t")
        if len(row) != 8:
            raise ValueError(f"{path}: a row of {len(row)} columns")
        item = dict(zip(("category", "subcategory", "title", "abstract"), row[1:5]))
        if items.setdefault(row[0], item) != item:
            raise ValueError(f"{path}: {row[0]} has two different texts")
    return items


def read_histories(path, known):
    """{user: [item id]} in order of first appearance, without the ids that have no text.
    Of a user's several rows the longest history counts, of equally long ones the last: a history only grows,
    so that row is the newest, whatever news.tsv knows of it."""
    longest = {}
    for line in lines_of(path):
        row = line.split("\t")
        if len(row) != 5:
            raise ValueError(f"{path}: a row of {len(row)} columns")
        history = row[3].split()
        if len(history) >= len(longest.get(row[1], [])):
            longest[row[1]] = history
    return {user: [item for item in history if item in known] for user, history in longest.items()}


def filter_lines(command, lines):
    """The lines that a command makes of these lines, one of each."""
    text = "".join(line + "\n" for line in lines).encode()
    out = subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True).stdout.decode().split("\n")[:-1]
    if any("\n" in line for line in lines) or len(out) != len(lines):
        raise ValueError(f"{command[0]} answered {len(out)} lines to {len(lines)}")
    return out


def tokenize(vocab, texts):
    """Ids of each text, by SentencePiece's own command in one call."""
    lines = filter_lines(["spm_encode", f"--model={vocab}", "--output_format=id"], texts)
    return [[int(id) for id in line.split()] for line in lines]


def detokenize(vocab, summaries):
    """The text of each list of ids; ids beyond the vocabulary's own pieces are dropped."""
    listing = subprocess.run(["spm_export_vocab", f"--model={vocab}"], stdout=subprocess.PIPE, check=True)
    pieces = listing.stdout.count(b"\n")
    lines = [" ".join(str(id) for id in ids if id < pieces) for ids in summaries]
    return filter_lines(["spm_decode", f"--model={vocab}", "--input_format=id"], lines)


def item_ids(config, vocab, items):
    """{item: [SOS] field field field </s>}. An empty field is left out with its prefix."""
    parts, texts = [], []
    for item, columns in items.items():
        for field in config.fields:
            if columns[field["column"]]:
                parts.append((item, field["max_tokens"]))
                texts.append(field["prefix"] + columns[field["column"]] + field["suffix"])
    ids = {item: [config.sos] for item in items}
    for (item, limit), tokens in zip(parts, tokenize(vocab, texts)):
        ids[item] += tokens[:limit]
    return {item: tokens + [config.eos] for item, tokens in ids.items()}


def sessions_of(config, history):
    """Sessions of a history, oldest first: item i is in session i // session_size, counted from the oldest
    item of all, and the first session boundary that leaves at most max_items items is the start."""
    size = config.session_size
    start = max(0, math.ceil((len(history) - config.max_items) / size)) * size
    return [history[i : i + size] for i in range(start, len(history), size)]


# ---- EmbSum --------------------------------------------------------------------------------------------


class Model:
    def __init__(self, directory):
        directory = pathlib.Path(directory)
        self.config = Config(directory / "config.json")
        self.t5 = T5(self.config, weights.load(directory / "model.safetensors"))
        self.vocab = directory / "spiece.model"
        self.looks = {"content": [], "user": []}

    def poly_attention(self, side, states):
        """softmax_rows(C tanh(S F)^T) S for the states S of one user or content; the softmax is kept in self.looks."""
        codes, proj = self.t5.w[f"embsum.{side}.codes"], self.t5.w[f"embsum.{side}.proj"]
        look = torch.softmax(codes @ torch.tanh(states @ proj).T, -1)
        self.looks[side].append(look)
        return look @ states

    def mean(self, side, states):
        """What the ablation has in its place: all rows weigh the same."""
        self.looks[side].append(torch.full((1, len(states)), 1 / len(states), dtype=states.dtype))
        return states.mean(0, keepdim=True)

    def contents(self, ids):
        """B (contents, n, d) of the contents' ids."""
        states = self.t5.encode(ids)
        if self.config.ablation == "no_cpe":
            return torch.stack([self.mean("content", h) for h in states])
        return torch.stack([self.poly_attention("content", h) for h in states])

    def memories(self, histories, ids):
        """For each history (a list of items): the states at the items' SOS (items, d), and all the token
        states of its sessions (tokens, d), which the decoder attends to. An empty history is one session
        that holds only [SOS] </s>, and has no item."""
        sessions, owners, starts = [], [], []
        for owner, history in enumerate(histories):
            for session in sessions_of(self.config, history) or [[]]:
                texts = [ids[item] for item in session]
                starts.append([sum(map(len, texts[:i])) for i in range(len(texts))])
                sessions.append(sum(texts, []) or [self.config.sos, self.config.eos])
                owners.append(owner)
        items = [[] for _ in histories]
        tokens = [[] for _ in histories]
        for owner, start, states in zip(owners, starts, self.t5.encode(sessions)):
            items[owner].append(states[start])
            tokens[owner].append(states)
        return [torch.cat(parts) for parts in items], [torch.cat(parts) for parts in tokens]

    def users(self, histories, ids):
        """A (users, m, d) of the histories, and their summaries."""
        items, tokens = self.memories(histories, ids)
        if self.config.ablation == "no_lsum":
            summaries = [Summary() for _ in histories]
            # the only state that an empty history has is that of its session's SOS
            rows = [u if len(u) else memory[:1] for u, memory in zip(items, tokens)]
        else:
            summaries = self.t5.summarize(tokens)
            rows = [torch.cat([u, summary.z[None]]) for u, summary in zip(items, summaries)]
        if self.config.ablation == "no_upe":
            return torch.stack([self.mean("user", z) for z in rows]), summaries
        return torch.stack([self.poly_attention("user", z) for z in rows]), summaries


def encode_model(directory, args, out):
    model = Model(directory)
    news = read_news(args.news)
    histories = read_histories(args.behaviors, news)
    histories[""] = []  # the default user, last
    ids = item_ids(model.config, model.vocab, news)
    contents = model.contents(list(ids.values()))
    users, summaries = model.users(list(histories.values()), ids)
    texts = detokenize(model.vocab, [summary.tokens for summary in summaries])

    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "content.npy", contents.numpy())
    np.save(out / "user.npy", users.numpy())
    np.save(out / "score_proj.npy", model.t5.w["embsum.score.proj"].numpy())
    (out / "content.ids").write_text("".join(f"{item}\n" for item in ids))
    (out / "user.ids").write_text("".join(f"{user}\n" for user in histories))
    with open(out / "summaries.jsonl", "w") as file:
        for user, summary, text in zip(histories, summaries, texts):
            margin = summary.margin if math.isfinite(summary.margin) else None
            row = {"user": user, "summary": text, "tokens": summary.tokens, "margin": margin}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    with open(out / "weights.jsonl", "w") as file:
        for side, owners in (("content", ids), ("user", histories)):
            for owner, look in zip(owners, model.looks[side], strict=True):
                rows = [[round(weight, 12) for weight in row] for row in look.tolist()]
                file.write(json.dumps({"side": side, "id": owner, "weights": rows}, ensure_ascii=False) + "\n")
    items = sum(len(item) for history in histories.values() for item in sessions_of(model.config, history))
    print(
        f"{directory}: {len(ids)} contents of {sum(map(len, ids.values()))} tokens, "
        f"{len(histories)} users of {items} items",
        file=sys.stderr,
    )


def encode(args):
    for model, out in zip(args.model, args.out, strict=True):
        encode_model(model, args, pathlib.Path(out))


def verify(args):
    """The decoder a token at a time against the whole sequence at once; many users and sequences together
    against each alone. All in float64, so the bound is a few roundings."""
    model = Model(args.model)
    t5, config = model.t5, model.config
    news = read_news(args.news)
    histories = read_histories(args.behaviors, news)
    ids = item_ids(config, model.vocab, news)
    worst = 0.0

    def check(what, ours, plain):
        nonlocal worst
        error = float((ours - plain).norm() / plain.norm())
        worst = max(worst, error)
        if not error < 1e-11:
            raise SystemExit(f"verify: {what}: relative error {error:.1e}")

    for item, together in zip(ids, t5.encode(list(ids.values()))):
        check(f"encoder of {item}", together, t5.encode_same_length(torch.tensor([ids[item]]))[0])
    _, memories = model.memories(list(histories.values()), ids)
    for user, memory, summary in zip(histories, memories, t5.summarize(memories)):
        states = t5.decode_whole([config.start] + summary.tokens, memory)
        check(f"z of {user}", summary.z, states[-1])
        written = t5.logits(states).argmax(-1).tolist()
        ended = len(summary.tokens) < config.max_summary_tokens
        expected = summary.tokens + [config.eos] if ended else summary.tokens
        if written[: len(expected)] != expected:
            raise SystemExit(f"verify: summary of {user} differs from the whole sequence's")
    print(f"verify: {len(ids)} contents, {len(histories)} users, largest relative error {worst:.1e}")


def buckets(_):
    """One line a configuration: bidirectional buckets max_distance, then the buckets of key - query = -300..300."""
    for bidirectional in (1, 0):
        for count, max_distance in ((32, 128), (32, 20), (8, 16), (16, 50), (6, 11), (64, 256), (40, 1000)):
            row = relative_bucket(torch.arange(-300, 301), bool(bidirectional), count, max_distance)
            print(bidirectional, count, max_distance, *row.tolist())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for function in (encode, verify, buckets):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        if function is not buckets:
            command.add_argument("--model", required=True, nargs="+" if function is encode else None)
            command.add_argument("--news", required=True)
            command.add_argument("--behaviors", required=True)
        if function is encode:
            command.add_argument("--out", required=True, nargs="+")
    args = parser.parse_args()
    torch.set_num_threads(1)  # the matrix products have threads of their own
    with torch.no_grad():
        args.function(args)


if __name__ == "__main__":
    main()
