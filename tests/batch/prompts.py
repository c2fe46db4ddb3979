"""What `embsum summarize --dry-run` must print, by an implementation of its own that reads MIND's files with Python.

    /usr/bin/python3 tests/batch/prompts.py TEMPLATE NEWS BEHAVIORS

Knows of a template what the shipped ones use: comments and settings, [user] with {history} at the end of a text, and an
[item] of {title}; {abstract}. From the contract: the longest history of a user counts, among equals the later; the newest 30
items; abstracts cut to 100 words, which are what ASCII's white space and control characters leave.
"""

import re
import sys


def one_line(text, words=None):
    return " ".join(re.findall(r"[^\x00-\x20\x7f]+", text)[:words])


def item(title, abstract):
    return "; ".join(part for part in (one_line(title), one_line(abstract, 100)) if part)


def main():
    template, news_path, behaviors_path = sys.argv[1:]
    with open(template, encoding="utf-8") as file:
        text = file.read().split("\n[user]\n")[1].split("\n[item]\n")[0].strip("\n")
    with open(news_path, encoding="utf-8", newline="\n") as file:
        news = {row[0]: item(row[3], row[4]) for row in (line.rstrip("\r\n").split("\t") for line in file)}
    histories = {}
    with open(behaviors_path, encoding="utf-8", newline="\n") as file:
        for row in (line.rstrip("\r\n").split("\t") for line in file):
            ids = row[3].split(" ") if row[3] else []
            if len(ids) >= len(histories.get(row[1], [])):
                histories.setdefault(row[1], [])
                histories[row[1]] = ids
    for user, ids in histories.items():
        texts = [news[i] for i in reversed(ids) if news.get(i)][:30]
        if texts:
            lines = "\n".join(f"{number}. {line}" for number, line in enumerate(texts, 1))
            print(f"==== {user} ====\n[user]\n{text.replace('{history}', lines)}\n")


main()
