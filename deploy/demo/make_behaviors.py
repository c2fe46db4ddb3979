#!/usr/bin/env python3
"""Makes the demo's readers: who read what, what they were shown and clicked, and what they care about.

    python3 deploy/demo/make_behaviors.py [OUT_DIR]

reads news.tsv beside this script and writes behaviors.tsv, behaviors_valid.tsv and summaries.jsonl to OUT_DIR
(this folder by default). Standard library only, one seed, the same bytes on every machine: only random() is drawn
from the generator, because its sequence is the one thing that Python promises never to change.

A reader has one to three topics. 10 % of a history, and 3 % of the clicks, fall elsewhere, drawn by popularity like
the impressions that are not clicked. Each reader's last impression is held out in behaviors_valid.tsv.
"""
import datetime
import json
import math
import os
import random
import sys

SEED = 11441
TRAIN_USERS = 96  # readers in behaviors.tsv, each with one more impression in behaviors_valid.tsv
VALID_ONLY_HISTORIES = [0, 3, 8, 21]  # history lengths of the readers seen in behaviors_valid.tsv alone
# Length of the history at the first impression, where it is not drawn: sessions (4 items) and the encoder's window
# (60 items) have their edges there. STILL histories stay as they are, as MIND's do within a week; the others grow.
STILL_HISTORIES = [0, 1, 3, 4, 5, 60]
EDGE_HISTORIES = [0, 0, 1, 2, 3, 4, 5, 7, 8, 9, 36, 44, 52, 55, 59, 61]
OFF_INTEREST_HISTORY = 0.10
OFF_INTEREST_CLICK = 0.03
LEANING = 4  # a reader's favourite subcategory within a topic is read this much more often
LEANING_LEADS = 0.45  # and named in the summary from this share of the topic's items on
SKIPPED_INTEREST = 0.03  # share of unclicked items that are of the reader's own topics
FIRST_DAY = datetime.date(2026, 11, 9)
TRAIN_DAYS = 6

# How a summary speaks of a topic: in a word beside other topics, in a phrase where it is the only one, and by the
# leaning within it where one leads.
PHRASES = {
    "climate": ("the climate", ["climate change and the weather", "a warming climate and what it does"],
                {"weather": "storms and weather records", "energy": "wind and solar power", "coast": "the rising sea",
                 "nature": "nature in a warmer world", "emissions": "carbon emissions"}),
    "culture": ("films and music", ["films, music and books", "arts and culture, from opera to punk"],
                {"film": "new films", "music": "music and concerts", "series": "television drama", "books": "novels and poetry",
                 "theatre": "theatre"}),
    "cycling": ("cycling", ["bikes, on the road and off it", "cycling, from racing to the ride to work"],
                {"road-racing": "road racing", "mountain-bike": "mountain biking", "commuting": "cycling in the city",
                 "track": "track cycling", "gear": "bicycle gear"}),
    "food": ("food", ["food and cooking", "good things to eat and drink"],
             {"recipes": "recipes to cook at home", "restaurants": "restaurants and their chefs", "baking": "bread and cakes",
              "drinks": "beer, cider and coffee", "food-industry": "food prices and producers"}),
    "football": ("football", ["football, from derbies to deadline day", "the football clubs of the region"],
                 {"league": "league football", "transfers": "football transfers", "women": "women's football",
                  "grassroots": "grassroots football"}),
    "garden": ("gardening", ["the garden and the home", "jobs for house and garden"],
               {"vegetables": "growing vegetables", "flowers": "garden flowers", "home-repairs": "repairs around the house",
                "lawns": "lawns and front gardens", "pots": "houseplants", "compost": "compost"}),
    "health": ("health", ["health and medicine", "good health and how to keep it"],
               {"medicine": "new treatments and medical advice", "sleep": "good sleep", "fitness": "fitness and exercise",
                "hospitals": "hospitals and their staff", "mind": "mental health"}),
    "money": ("personal finance", ["money matters, from savings to tax", "personal finance and household budgets"],
              {"savings": "savings", "mortgages": "mortgages", "pensions": "pensions and retirement", "tax": "tax returns",
               "bills": "household bills", "investing": "shares and investing", "scams": "scams and how to avoid them"}),
    "politics": ("local politics", ["local politics and the town hall", "the council, the mayor and their quarrels"],
                 {"council": "council votes", "elections": "local elections", "planning": "planning disputes",
                  "mayor": "the mayor and the town hall"}),
    "space": ("space", ["space and the night sky", "rockets, planets and stars"],
              {"missions": "space missions", "astronomy": "astronomy", "launch": "rocket launches",
               "astronaut": "astronauts and life in orbit"}),
    "technology": ("technology", ["computers, gadgets and the internet", "technology and the people who make it"],
                   {"ai": "artificial intelligence", "gadgets": "phones and gadgets", "security": "computer security",
                    "chips": "computer chips", "software": "software and its bugs", "internet": "life on the internet"}),
    "travel": ("travel", ["travel near and far", "holidays and journeys"],
               {"trains": "railway journeys", "city-breaks": "city breaks", "hiking": "hiking in the mountains",
                "islands": "islands and the sea", "air": "flights and airports", "road-trips": "road trips"}),
}
SENTENCES = {
    1: ["Reads about {0}.", "Comes for {0} and for little else.", "Closely follows {0}.", "Mostly interested in {0}.",
        "A regular reader of stories about {0}.", "Rarely misses a story about {0}.", "Has one great interest: {0}."],
    2: ["Reads mainly about {0}, with some interest in {1}.", "Likes {0} most of all, and then {1}.",
        "Follows {0}; now and then {1}.", "Interested in {0} as well as in {1}.", "Comes for {0} but also reads about {1}.",
        "Divides the time between {0} and {1}."],
    3: ["Reads about {0} first, then {1}, then {2}.", "Follows {0}, but {1} and {2} too.",
        "Has three interests: {0}, {1}, {2}.", "Mainly {0}; beside it {1}, and at times {2}."],
}


class Draw:
    """Draws from one seeded sequence of random() alone."""

    def __init__(self, seed):
        self.random = random.Random(seed).random

    def below(self, n):
        return int(self.random() * n)

    def between(self, low, high):
        return low + self.below(high - low + 1)

    def of(self, items):
        return items[self.below(len(items))]

    def weighted(self, items, weight):
        """One of items, each with a chance in proportion to weight(item)."""
        left = self.random() * math.fsum(weight(item) for item in items)
        for item in items:
            left -= weight(item)
            if left < 0:
                return item
        return items[-1]

    def shuffled(self, items):
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


class Catalogue:
    def __init__(self, path, draw):
        self.topic, self.leaning = {}, {}
        with open(path, encoding="utf-8", newline="\n") as news:
            for line in news:
                item, category, subcategory = line.split("\t")[:3]
                self.topic[item], self.leaning[item] = category, subcategory
        self.topics = sorted(set(self.topic.values()))
        # A long tail: the item at rank r is seen in proportion to 1 / (r + 8).
        self.popularity = {item: 1 / (rank + 8) for rank, item in enumerate(draw.shuffled(self.topic))}

    def popular(self, draw, allowed):
        """An item that is allowed, as often as it is popular."""
        return draw.weighted([item for item in self.topic if allowed(item)], self.popularity.get)


class Reader:
    def __init__(self, name, interests, history_length, grows, catalogue, draw):
        self.name, self.catalogue, self.draw, self.grows = name, catalogue, draw, grows
        self.interests = interests  # {topic: weight}
        leanings = sorted({(t, catalogue.leaning[i]) for i, t in catalogue.topic.items() if t in interests})
        self.favourites = {draw.of([pair for pair in leanings if pair[0] == t]) for t in interests}
        self.history, self.read = [], set()
        stray = OFF_INTEREST_HISTORY if history_length > 2 else 0
        for _ in range(history_length):
            self.history.append(self.click(stray))

    def click(self, stray):
        """Reads one more item, of an own topic but for the share stray; nothing is read twice."""
        topic, leaning, popularity = self.catalogue.topic, self.catalogue.leaning, self.catalogue.popularity
        own = [i for i in topic if topic[i] in self.interests and i not in self.read]
        if not own or self.draw.random() < stray:
            item = self.catalogue.popular(self.draw, lambda i: topic[i] not in self.interests and i not in self.read)
        else:
            chosen = self.draw.weighted(sorted({topic[i] for i in own}), self.interests.get)
            item = self.draw.weighted([i for i in own if topic[i] == chosen], lambda i: popularity[i] * (
                LEANING if (chosen, leaning[i]) in self.favourites else 1))
        self.read.add(item)
        return item

    def impression(self):
        """(the history before it, the items shown with their clicks); the clicks then join a history that grows."""
        topic, draw, before = self.catalogue.topic, self.draw, list(self.history)
        clicked = [self.click(OFF_INTEREST_CLICK) for _ in range(2 if draw.random() < 0.25 else 1)]
        skipped = []
        for _ in range(draw.between(8, 14)):
            new = {i for i in topic if i not in self.read and i not in skipped}
            own = draw.random() < SKIPPED_INTEREST and any(topic[i] in self.interests for i in new)
            skipped.append(self.catalogue.popular(draw, lambda i: i in new and (topic[i] in self.interests) == own))
        if self.grows:
            self.history += clicked
        return before, [f"{item}-{int(item in clicked)}" for item in draw.shuffled(clicked + skipped)]

    def summary(self, history):
        """The sentence that a good editor would write about this history: its topics, the most read first."""
        count = {t: sum(self.catalogue.topic[i] == t for i in history) for t in self.interests}
        topics = sorted((t for t in count if count[t] > 0), key=lambda t: (-count[t], t))
        if not topics:
            topics = [self.catalogue.topic[history[-1]]]
        phrases = [self.phrase(t, history, len(topics) == 1) for t in topics]
        return self.draw.of(SENTENCES[len(topics)]).format(*phrases)

    def phrase(self, topic, history, alone):
        word, general, leanings = PHRASES[topic]
        read = [self.catalogue.leaning[i] for i in history if self.catalogue.topic[i] == topic]
        most = max(sorted(set(read)), key=read.count)
        if len(read) > 2 and read.count(most) >= LEANING_LEADS * len(read):
            return leanings[most]
        return self.draw.of(general) if alone else word


def make_readers(catalogue, draw):
    histories = [(length, False) for length in STILL_HISTORIES] + [(length, True) for length in EDGE_HISTORIES]
    while len(histories) < TRAIN_USERS:
        histories.append((draw.between(4, 14) if draw.random() < 0.6 else draw.between(15, 30), True))
    histories = draw.shuffled(histories) + [(length, True) for length in VALID_ONLY_HISTORIES]
    # Every topic is the first one of as many readers as any other.
    first = draw.shuffled(catalogue.topics * (1 + len(histories) // len(catalogue.topics)))
    readers = []
    for n, (length, grows) in enumerate(histories):
        # A topic has 24 items, so that the long histories need more than one of them.
        share = draw.random()
        interests = 3 if length > 30 else 1 if length <= 14 and share < 0.85 else 2 if share < 0.9 else 3
        topics = [first[n]] + [t for t in draw.shuffled(catalogue.topics) if t != first[n]]
        weights = dict(zip(topics[:interests], [5, 3, 2]))
        readers.append(Reader(f"U{n + 1}", weights, length, grows, catalogue, draw))
    return readers


def times(count, first_day, days, draw):
    """count increasing moments between 6 in the morning and 11 at night of the given days."""
    seconds = sorted((draw.below(days), draw.between(6 * 3600, 23 * 3600)) for _ in range(count))
    for day, second in seconds:
        yield datetime.datetime.combine(first_day, datetime.time()) + datetime.timedelta(days=day, seconds=second)


def mind_time(t):
    return f"{t.month}/{t.day}/{t.year} {t.hour % 12 or 12}:{t.minute:02}:{t.second:02} {'AM' if t.hour < 12 else 'PM'}"


def write_behaviors(path, first_number, readers, moments):
    """One impression for each of readers, in this order; returns {reader: the history it had}, the last one if many."""
    histories = {}
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        for number, (reader, moment) in enumerate(zip(readers, moments), first_number):
            histories[reader], shown = reader.impression()
            print(number, reader.name, mind_time(moment), " ".join(histories[reader]), " ".join(shown), sep="\t", file=out)
    return histories


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[1] if len(sys.argv) > 1 else here
    draw = Draw(SEED)
    catalogue = Catalogue(os.path.join(here, "news.tsv"), draw)
    readers = make_readers(catalogue, draw)
    train = draw.shuffled([r for r in readers[:TRAIN_USERS] for _ in range(draw.between(3, 5))])
    valid = draw.shuffled(readers)
    histories = write_behaviors(os.path.join(out, "behaviors.tsv"), 1, train, times(len(train), FIRST_DAY, TRAIN_DAYS, draw))
    held_out = write_behaviors(os.path.join(out, "behaviors_valid.tsv"), len(train) + 1, valid,
                               times(len(valid), FIRST_DAY + datetime.timedelta(TRAIN_DAYS), 1, draw))
    with open(os.path.join(out, "summaries.jsonl"), "w", encoding="utf-8", newline="\n") as summaries:
        for reader in readers:
            history = histories.get(reader, held_out[reader])
            if history:
                line = {"user": reader.name, "summary": reader.summary(history)}
                print(json.dumps(line, ensure_ascii=False), file=summaries)


if __name__ == "__main__":
    main()
