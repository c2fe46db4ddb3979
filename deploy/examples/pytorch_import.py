#!/usr/bin/env python3
"""EmbSum in PyTorch, and the two ways of a model from there to the service. docs/PYTORCH.md tells it in words.

    pytorch_import.py new     --config config.json --vocab spiece.model --out MODEL
    pytorch_import.py train   --model MODEL --news news.tsv --behaviors behaviors.tsv --summaries summaries.jsonl --out MODEL
    pytorch_import.py encode  --model MODEL --news news.tsv --behaviors behaviors.tsv --out DIR
    pytorch_import.py compare --scores DIR/scores.tsv --url http://127.0.0.1:8080

`new` builds an EmbSum with random weights and saves it as a model folder, which `embsum refresh --model` takes. `train` is the
shortest loop that trains one, in place of yours: an example at a time, no batches, no schedule. `encode` loads a model folder
and computes here, in PyTorch, what `embsum import --in` takes: the matrices of all contents and users, and beside them
scores.tsv, the scores by the paper's formula. `compare` asks a daemon for the same scores and prints the largest difference.

Needs torch, numpy and sentencepiece (Debian: python3-torch, python3-numpy, python3-sentencepiece). The parameters have
the names that Hugging Face's T5ForConditionalGeneration gives them, and five more.
"""
import argparse
import json
import math
import pathlib
import random
import shutil
import struct
import sys
import urllib.request

import numpy as np
import sentencepiece
import torch
from torch import nn

DTYPE = torch.float64  # exact enough to judge scores by; to train in earnest take float32


# ---- T5: x is (..., length, d_model) throughout ----------------------------------------------------------


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False, dtype=DTYPE)


class Norm(nn.Module):
    """Root mean square norm: no mean is subtracted, no bias is added."""

    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c["d_model"], dtype=DTYPE))
        self.epsilon = c.get("layer_norm_epsilon", 1e-6)

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


class Attention(nn.Module):
    """T5 does not divide by sqrt(d_kv). The first layer of a stack holds the table of its position bias."""

    def __init__(self, c, has_bias=False):
        super().__init__()
        inner = c["num_heads"] * c["d_kv"]
        self.q, self.k, self.v = (linear(c["d_model"], inner) for _ in range(3))
        self.o = linear(inner, c["d_model"])
        self.shape = (c["num_heads"], c["d_kv"])
        if has_bias:
            buckets = c.get("relative_attention_num_buckets", 32)
            self.relative_attention_bias = nn.Embedding(buckets, c["num_heads"], dtype=DTYPE)

    def split(self, x):
        """(length, heads x d_kv) -> (heads, length, d_kv)"""
        return x.unflatten(-1, self.shape).transpose(-3, -2)

    def keys(self, memory):
        return self.split(self.k(memory)), self.split(self.v(memory))

    def forward(self, x, keys, bias):
        k, v = keys
        share = torch.softmax(self.split(self.q(x)) @ k.transpose(-1, -2) + bias, -1)
        return self.o((share @ v).transpose(-3, -2).flatten(-2))


class FeedForward(nn.Module):
    """T5 v1.0's with relu, v1.1's with a gate (gelu by its tanh approximation, as it was trained)."""

    def __init__(self, c):
        super().__init__()
        self.gated = c.get("feed_forward_proj", "relu") == "gated-gelu"
        for name in ("wi_0", "wi_1") if self.gated else ("wi",):
            setattr(self, name, linear(c["d_model"], c["d_ff"]))
        self.wo = linear(c["d_ff"], c["d_model"])

    def forward(self, x):
        if not self.gated:
            return self.wo(torch.relu(self.wi(x)))
        gate = self.wi_0(x)
        gate = 0.5 * gate * (1 + torch.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        return self.wo(gate * self.wi_1(x))


class Block(nn.Module):
    def __init__(self, c, is_decoder, is_first):
        super().__init__()
        parts = [{"SelfAttention": Attention(c, is_first)}, {"DenseReluDense": FeedForward(c)}]
        if is_decoder:
            parts.insert(1, {"EncDecAttention": Attention(c)})
        self.layer = nn.ModuleList(nn.ModuleDict({**part, "layer_norm": Norm(c)}) for part in parts)

    def forward(self, x, bias, keys):
        y, attention = self.layer[0]["layer_norm"](x), self.layer[0]["SelfAttention"]
        x = x + attention(y, attention.keys(y), bias)
        if keys:  # no position bias between decoder and encoder
            x = x + self.layer[1]["EncDecAttention"](self.layer[1]["layer_norm"](x), keys, 0.0)
        return x + self.layer[-1]["DenseReluDense"](self.layer[-1]["layer_norm"](x))


class Stack(nn.Module):
    def __init__(self, c, is_decoder):
        super().__init__()
        layers = c.get("num_decoder_layers", c["num_layers"]) if is_decoder else c["num_layers"]
        self.block = nn.ModuleList(Block(c, is_decoder, i == 0) for i in range(layers))
        self.final_layer_norm = Norm(c)
        self.is_decoder, self.max_distance = is_decoder, c.get("relative_attention_max_distance", 128)

    def position_bias(self, length):
        """(heads, length, length). Near distances have a bucket each, far ones share them, in logarithmic steps."""
        table = self.block[0].layer[0]["SelfAttention"].relative_attention_bias
        distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]  # key - query
        buckets, side = table.num_embeddings, torch.zeros_like(distance)
        if self.is_decoder:
            far = (-distance).clamp(min=0)
        else:  # half of the buckets for what comes later
            buckets //= 2
            side, far = (distance > 0).long() * buckets, distance.abs()
        exact = buckets // 2
        # in float32, because the published models were trained with buckets computed so
        steps = torch.log(far.clamp(min=1).float() / exact) / math.log(self.max_distance / exact) * (buckets - exact)
        bucket = side + torch.where(far < exact, far, (exact + steps.long()).clamp(max=buckets - 1))
        bias = table(bucket).permute(2, 0, 1)
        return bias.masked_fill(distance > 0, -math.inf) if self.is_decoder else bias

    def keys(self, memory):
        """Of a decoder: what each of its layers sees of the encoder's states."""
        return [block.layer[1]["EncDecAttention"].keys(memory) for block in self.block]

    def forward(self, x, keys=None):
        bias = self.position_bias(x.shape[-2])
        for i, block in enumerate(self.block):
            x = block(x, bias, keys and keys[i])
        return self.final_layer_norm(x)


# ---- EmbSum ----------------------------------------------------------------------------------------------


class PolyAttention(nn.Module):
    """softmax_rows(C tanh(S F)^T) S: `codes` vectors out of any number of states S."""

    def __init__(self, c, codes):
        super().__init__()
        width, inner = c["d_model"], c["embsum"]["code_dim"]
        self.codes = nn.Parameter(torch.randn(codes, inner, dtype=DTYPE) * inner**-0.5)
        self.proj = nn.Parameter(torch.randn(width, inner, dtype=DTYPE) * width**-0.5)

    def forward(self, states):
        return torch.softmax(self.codes @ torch.tanh(states @ self.proj).T, -1) @ states


class Score(nn.Module):
    """s = W . K: similarities K = A B^T, weighed by W = softmax of A gelu(B W_s)^T over all m x n of them."""

    def __init__(self, c):
        super().__init__()
        self.proj = nn.Parameter(torch.randn(c["d_model"], c["d_model"], dtype=DTYPE) * c["d_model"] ** -0.5)

    def forward(self, a, b):
        """a (m, d), b (contents, n, d) -> (contents,)"""
        k = torch.einsum("md,cnd->cmn", a, b).flatten(1)
        logits = torch.einsum("md,cnd->cmn", a, nn.functional.gelu(b @ self.proj)).flatten(1)
        return (torch.softmax(logits, 1) * k).sum(1)


class EmbSum(nn.Module):
    def __init__(self, config):
        super().__init__()
        own = config["embsum"]
        if own.get("ablation", "none") != "none":
            raise SystemExit("pytorch_import.py: only the full model is written here, no ablation of it")
        self.config, self.d = config, config["d_model"]
        self.start, self.end = config.get("decoder_start_token_id", 0), config.get("eos_token_id", 1)
        self.shared = nn.Embedding(config["vocab_size"], self.d, dtype=DTYPE)
        self.encoder, self.decoder = Stack(config, False), Stack(config, True)
        for stack in (self.encoder, self.decoder):  # so that scores begin near 1
            nn.init.constant_(stack.final_layer_norm.weight, self.d**-0.25)
        self.tied = config.get("tie_word_embeddings", True)
        if not self.tied:
            self.lm_head = linear(self.d, config["vocab_size"])
        heads = {"user": PolyAttention(config, own["m"]), "content": PolyAttention(config, own["n"]), "score": Score(config)}
        self.embsum = nn.ModuleDict(heads)  # embsum.user.codes, embsum.user.proj, ..., embsum.score.proj

    def encode(self, ids):
        """States (length, d) of a list of ids."""
        return self.encoder(self.shared(torch.tensor(ids)))

    def logits(self, states):
        return (states * self.d**-0.5) @ self.shared.weight.T if self.tied else self.lm_head(states)

    def summarize(self, keys):
        """Greedy: the summary's ids without </s>, and z, the state at the position that emits </s> (or, where the model does
        not end by itself, at the last one)."""
        ids, limit = [self.start], self.config["embsum"].get("max_summary_tokens", 96)
        while True:
            state = self.decoder(self.shared(torch.tensor(ids)), keys)[-1]
            best = int(self.logits(state).argmax())
            if best == self.end or len(ids) > limit:
                return ids[1:], state
            ids.append(best)

    def content(self, ids):
        """B (n, d) of a text's ids."""
        return self.embsum["content"](self.encode(ids))

    def read(self, sessions):
        """The states u_i at the items' [SOS] (a list of tensors), and what the decoder sees of all states. sessions: lists of
        items, each a list of ids."""
        items, tokens = [], []
        for session in sessions:
            states = self.encode(sum(session, []))
            items.append(states[[sum(map(len, session[:i])) for i in range(len(session))]])
            tokens.append(states)
        if not sessions:  # nothing was read: one session of nothing
            tokens = [self.encode([self.config["embsum"]["sos_token_id"], self.end])]
        return items, self.decoder.keys(torch.cat(tokens))

    def user(self, sessions):
        """A (m, d) of a history, and the ids of the summary that the model writes."""
        items, keys = self.read(sessions)
        summary, z = self.summarize(keys)
        return self.embsum["user"](torch.cat(items + [z[None]])), summary

    def loss(self, sessions, summary, candidates, weight=0.05):
        """L_NCE + weight L_sum: the first of the candidates was clicked, and summary is the LLM's, which the decoder is fed."""
        items, keys = self.read(sessions)
        states = self.decoder(self.shared(torch.tensor([self.start] + summary)), keys)
        written = nn.functional.cross_entropy(self.logits(states), torch.tensor(summary + [self.end]), reduction="sum")
        a = self.embsum["user"](torch.cat(items + [states[-1:]]))
        scores = self.embsum["score"](a, torch.stack([self.content(ids) for ids in candidates]))
        return weight * written - torch.log_softmax(scores, 0)[0]


# ---- a model folder ----------------------------------------------------------------------------------------


def save_safetensors(path, tensors):
    """Hugging Face's format: 8 bytes of length, a JSON header, the values one after the other."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().float().numpy().astype("<f4").tobytes())


def load_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    dtypes = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    tensors = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            values = torch.frombuffer(bytearray(data[begin + first : begin + last]), dtype=dtypes[entry["dtype"]])
            tensors[name] = values.to(DTYPE).reshape(entry["shape"])
    return tensors


def save_model(model, vocab, directory):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(model.config, indent=2) + "\n")
    save_safetensors(directory / "model.safetensors", model.state_dict())
    shutil.copyfile(vocab, directory / "spiece.model")


def load_model(directory):
    model = EmbSum(json.loads((directory / "config.json").read_text()))
    known = model.state_dict()
    tensors = load_safetensors(directory / "model.safetensors")
    # what is not known are copies of the embedding, which checkpoints of Hugging Face may carry
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if name in known})
    return model


# ---- texts: MIND's news.tsv and behaviors.tsv ----------------------------------------------------------------


def read_rows(path):
    return [line.split("\t") for line in pathlib.Path(path).read_text(encoding="utf-8").split("\n") if line]


def read_histories(path, known):
    """{user: [item]}: of a user's rows the longest history counts, of equals the last. Items without a text are left out."""
    longest = {}
    for _, user, _, history, _ in read_rows(path):
        items = history.split()
        if len(items) >= len(longest.get(user, [])):
            longest[user] = items
    return {user: [item for item in items if item in known] for user, items in longest.items()}


def sessions_of(config, history):
    """Item i is in session i // session_size, counted from the oldest; the newest max_items, from a session's begin on."""
    size, most = config["embsum"].get("session_size", 4), config["embsum"].get("max_items", 60)
    start = max(0, math.ceil((len(history) - most) / size)) * size
    return [history[i : i + size] for i in range(start, len(history), size)]


class Texts:
    """Ids of items: [SOS] field field field </s>; each field through SentencePiece alone, cut to its limit."""

    def __init__(self, config, vocab):
        self.config, self.pieces = config, sentencepiece.SentencePieceProcessor(model_file=str(vocab))

    def ids(self, row):
        columns = dict(zip(("id", "category", "subcategory", "title", "abstract"), row))
        ids = [self.config["embsum"]["sos_token_id"]]
        for field in self.config["embsum"]["fields"]:
            if columns[field["column"]]:  # an empty field is left out with its prefix
                text = field["prefix"] + columns[field["column"]] + field["suffix"]
                ids += self.pieces.encode(text)[: field["max_tokens"]]
        return ids + [self.config.get("eos_token_id", 1)]

    def text(self, ids):
        return self.pieces.decode([i for i in ids if i < self.pieces.get_piece_size()])


# ---- commands ----------------------------------------------------------------------------------------------


def new(args):
    torch.manual_seed(args.seed)
    model = EmbSum(json.loads(args.config.read_text()))
    save_model(model, args.vocab, args.out)
    print(f"{args.out}: {sum(p.numel() for p in model.parameters())} parameters")


def train(args):
    model = load_model(args.model)
    texts = Texts(model.config, args.model / "spiece.model")
    ids = {row[0]: texts.ids(row) for row in read_rows(args.news)}
    rows = [json.loads(line) for line in args.summaries.read_text(encoding="utf-8").split("\n") if line]
    summaries = {row["user"]: texts.pieces.encode(row["summary"]) for row in rows}
    examples = [row for row in read_rows(args.behaviors) if row[1] in summaries]
    draw = random.Random(args.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.rate)
    for step in range(args.steps):
        _, user, _, history, shown = draw.choice(examples)
        clicked = [item[:-2] for item in shown.split() if item.endswith("-1")]
        others = [item[:-2] for item in shown.split() if item.endswith("-0")]
        candidates = [draw.choice(clicked)] + draw.sample(others, min(4, len(others)))
        sessions = sessions_of(model.config, [item for item in history.split() if item in ids])
        loss = model.loss([[ids[i] for i in s] for s in sessions], summaries[user], [ids[i] for i in candidates])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0 or step == args.steps - 1:
            print(f"step {step}: loss {loss.item():.3f}")
    save_model(model, args.model / "spiece.model", args.out)


def encode(args):
    model = load_model(args.model)
    texts = Texts(model.config, args.model / "spiece.model")
    news = {row[0]: row for row in read_rows(args.news)}
    ids = {item: texts.ids(row) for item, row in news.items()}
    histories = read_histories(args.behaviors, news)
    histories[""] = []  # the default user, who stands for unknown ones
    b = torch.stack([model.content(ids[item]) for item in news])
    made = [model.user([[ids[item] for item in session] for session in sessions_of(model.config, h)]) for h in histories.values()]
    a = torch.stack([matrix for matrix, _ in made])

    args.out.mkdir(parents=True, exist_ok=True)
    np.save(args.out / "content.npy", b.numpy().astype("<f4"))  # contents x n x d
    np.save(args.out / "user.npy", a.numpy().astype("<f4"))  # users x m x d
    np.save(args.out / "score_proj.npy", model.embsum["score"].proj.detach().numpy().astype("<f4"))  # d x d
    (args.out / "content.ids").write_text("".join(f"{item}\n" for item in news))
    (args.out / "user.ids").write_text("".join(f"{user}\n" for user in histories))
    (args.out / "categories.tsv").write_text("".join(f"{item}\t{row[1]}\n" for item, row in news.items() if row[1]))
    (args.out / "titles.tsv").write_text("".join(f"{item}\t{row[3]}\n" for item, row in news.items() if row[3]), encoding="utf-8")
    with open(args.out / "summaries.jsonl", "w", encoding="utf-8") as file:
        for user, (_, summary) in zip(histories, made):
            file.write(json.dumps({"user": user, "summary": texts.text(summary)}) + "\n")
    with open(args.out / "scores.tsv", "w", encoding="utf-8") as file:
        for user, matrix in zip(histories, a):
            scores = model.embsum["score"](matrix, b).tolist() if user else []
            file.writelines(f"{user}\t{item}\t{score!r}\n" for item, score in zip(news, scores))
    print(f"{args.out}: {len(news)} contents, {len(histories)} users with the default one")


def compare(args):
    wanted = {}
    for user, item, score in read_rows(args.scores):
        wanted.setdefault(user, {})[item] = float(score)
    worst = pairs = 0
    for user, scores in wanted.items():
        body = json.dumps({"user": user, "candidates": list(scores)}).encode()
        request = urllib.request.Request(args.url + "/rank", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer = json.load(answer)
        if answer["user_status"] != "present" or answer["missing"]:
            raise SystemExit(f"{user}: {answer['user_status']}, missing {answer['missing'][:3]}")
        for row in answer["ranking"]:
            worst, pairs = max(worst, abs(row["score"] - scores[row["id"]])), pairs + 1
    largest = max(abs(score) for scores in wanted.values() for score in scores.values())
    print(f"{pairs} scores of generation {answer['generation']}: largest difference {worst:.1e}, largest score {largest:.2f}")
    if not worst <= args.tolerance:
        sys.exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    options = {
        new: {"config": pathlib.Path, "vocab": pathlib.Path, "out": pathlib.Path},
        train: {name: pathlib.Path for name in ("model", "news", "behaviors", "summaries", "out")},
        encode: {"model": pathlib.Path, "news": pathlib.Path, "behaviors": pathlib.Path, "out": pathlib.Path},
        compare: {"scores": pathlib.Path, "url": str},
    }
    for function, names in options.items():
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        for name, kind in names.items():
            command.add_argument(f"--{name}", type=kind, required=True)
        if function in (new, train):
            command.add_argument("--seed", type=int, default=1)
        if function is train:
            command.add_argument("--steps", type=int, default=1000)
            command.add_argument("--rate", type=float, default=1e-3)
        if function is compare:
            command.add_argument("--tolerance", type=float, default=1e-5)
    args = parser.parse_args()
    torch.set_num_threads(1)  # quicker, with matrices as small as the demo's
    with torch.set_grad_enabled(args.function is train):
        args.function(args)


if __name__ == "__main__":
    main()
