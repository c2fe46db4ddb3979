"""Catalogue, readers and summaries for the training benchmark, in MIND's format, of realistic lengths.

The words are those of the demo's news, drawn at random by a seed: a tokenizer cuts them as it cuts English, and the
loss has nothing to learn from them, which does not matter here. A reader has 8 to 20 items in the history, one
impression of a positive and four negatives, and a summary.
"""
import json
import pathlib
import random

NEGATIVES = 4
HISTORY = (8, 20)  # items, from and to
TITLE_WORDS = (6, 12)
ABSTRACT_WORDS = (34, 54)
SUMMARY_WORDS = (38, 50)


def words_of(news):
    rows = [line.split("\t") for line in pathlib.Path(news).read_text().splitlines()]
    return sorted({word for row in rows for text in row[3:5] for word in text.split()}), sorted({row[1] for row in rows})


def make(out, examples, seed, news):
    """Write news.tsv, behaviors.tsv and summaries.jsonl into the folder `out`: one impression for each of the examples."""
    rng = random.Random(seed)
    words, categories = words_of(news)

    def text(length):
        return " ".join(rng.choice(words) for _ in range(rng.randint(*length)))

    items, behaviors, summaries = [], [], []

    def item():
        items.append(f"N{len(items) + 1}\t{rng.choice(categories)}\tnone\t{text(TITLE_WORDS)}\t{text(ABSTRACT_WORDS)}\t\t[]\t[]")
        return f"N{len(items)}"

    for user in range(1, examples + 1):
        history = " ".join(item() for _ in range(rng.randint(*HISTORY)))
        impression = [f"{item()}-{int(i == 0)}" for i in range(1 + NEGATIVES)]
        rng.shuffle(impression)
        behaviors.append(f"{user}\tU{user}\t11/9/2026 6:15:00 AM\t{history}\t{' '.join(impression)}")
        summaries.append(json.dumps({"user": f"U{user}", "summary": text(SUMMARY_WORDS)}))
    out = pathlib.Path(out)
    for name, lines in ("news.tsv", items), ("behaviors.tsv", behaviors), ("summaries.jsonl", summaries):
        (out / name).write_text("".join(line + "\n" for line in lines))
