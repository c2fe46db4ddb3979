"""Loss and gradients of EmbSum's training objective by PyTorch's autograd, float64, on a tiny model.

    gradients.py --model tiny --news tiny/news.tsv --behaviors tiny/behaviors.tsv --out tiny/expected

Examples are taken from the catalogue in a fixed way: for each user of the behaviours file, in order of appearance, the
item at (7 u + 3) is the positive and the four behind it are negatives; the summary is the first 6 + u mod 4 tokens of item
(11 u + 5) and </s>, but every fourth user has none. L is the mean over the examples of L_NCE + 0.05 L_sum.

Leaves loss.json (nce and sum, means over the examples, before each of eleven steps of Adam on all examples at once, with
rate 1e-3, five times that for EmbSum's own tensors) and gradients.npy (the first gradient in float32: all parameters in the
order of their names in names.txt, one behind the other).
"""
import argparse
import json
import pathlib

import numpy as np
import torch

import reference

LAMBDA = 0.05
RATE = 1e-3


def score(a, b, w):
    k = (a @ b.T).flatten()
    gate = torch.nn.functional.gelu(b @ w)
    return (torch.softmax((a @ gate.T).flatten(), 0) * k).sum()


def example_losses(model, history, candidates, summary, ids):
    config, t5 = model.config, model.t5
    items, memories = model.memories([history], ids)
    fed = [config.start] + summary[:-1] if summary else [config.start]
    states = t5.decode_whole(fed, memories[0])
    total = torch.zeros((), dtype=torch.float64)
    if summary:
        log_p = torch.log_softmax(t5.logits(states), -1)
        total = -log_p[torch.arange(len(summary)), torch.tensor(summary)].sum()
    z = torch.cat([items[0], states[-1:]])
    a = model.poly_attention("user", z)
    scores = torch.stack([score(a, b, t5.w["embsum.score.proj"]) for b in model.contents([ids[c] for c in candidates])])
    return -torch.log_softmax(scores, 0)[0], total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "news", "behaviors", "out"):
        parser.add_argument("--" + name, required=True)
    args = parser.parse_args()
    model = reference.Model(args.model)
    news = reference.read_news(args.news)
    histories = reference.read_histories(args.behaviors, news)
    ids = reference.item_ids(model.config, model.vocab, news)
    order = list(ids)
    names = sorted(name for name in model.t5.w)
    for name in names:
        model.t5.w[name].requires_grad_(True)

    def losses():
        nce, total = [], []
        for u, history in enumerate(histories.values()):
            candidates = [order[(7 * u + 3 + i) % len(order)] for i in range(5)]
            summary = [] if u % 4 == 3 else ids[order[(11 * u + 5) % len(order)]][1 : 7 + u % 4] + [model.config.eos]
            pair = example_losses(model, history, candidates, summary, ids)
            nce.append(pair[0])
            total.append(pair[1])
        return torch.stack(nce).mean(), torch.stack(total).mean()

    heads = [model.t5.w[name] for name in names if name.startswith("embsum.")]
    others = [model.t5.w[name] for name in names if not name.startswith("embsum.")]
    adam = torch.optim.Adam([{"params": others, "lr": RATE}, {"params": heads, "lr": 5 * RATE}])
    curve, flat = [], None
    for _ in range(11):
        adam.zero_grad()
        nce, total = losses()
        (nce + LAMBDA * total).backward()
        curve.append({"nce": nce.item(), "sum": total.item()})
        if flat is None:
            flat = [model.t5.w[name].grad.flatten().numpy().copy() for name in names]
        adam.step()
    out = pathlib.Path(args.out)
    (out / "loss.json").write_text(json.dumps(curve) + "\n")
    np.save(out / "gradients.npy", np.concatenate(flat).astype(np.float32))
    (out / "names.txt").write_text("".join(f"{name} {len(values)}\n" for name, values in zip(names, flat)))


if __name__ == "__main__":
    main()
