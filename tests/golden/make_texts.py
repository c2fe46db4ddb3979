"""Seeded inputs for the tests, in MIND's layout, and texts that try a tokenizer.

    make_texts.py --out DIR [--seed N] [--items N] [--lengths 0,1,3,...]

leaves DIR/news.tsv (at least 61 items: one-word titles to abstracts that are cut, empty fields, many
scripts), DIR/behaviors.tsv (a user for each history length, several rows for some, unknown ids) and
DIR/lines.txt (over 520 byte strings, one a line, many of them not UTF-8).
"""
import argparse
import pathlib
import random
import unicodedata

LENGTHS = [0, 1, 3, 4, 5, 59, 60, 61, 200, 2, 6, 7, 8, 9, 10, 11, 12, 13]

TOPICS = {
    "sports": {
        "who": ["The home side", "A veteran goalkeeper", "The league's youngest coach", "Rowers from three villages"],
        "does": ["won the delayed final", "traded its captain", "set a record on wet grass", "lost a two-goal lead"],
        "where": ["before a sold-out stadium", "in extra time", "on the last day of the season", "at 2,300 metres"],
        "why": ["after a winter of injuries", "because the wind turned", "despite four missed penalties"],
    },
    "finance": {
        "who": ["The central bank", "A family-owned mill", "Bond traders", "Two rival grocers"],
        "does": ["raised its forecast by 0.25%", "cut 1,400 jobs", "borrowed $3.5bn", "agreed to merge"],
        "where": ["in the third quarter", "on Wall Street", "across the eurozone", "at the annual meeting"],
        "why": ["as freight costs fell", "amid doubts about demand", "to calm nervous lenders"],
    },
    "health": {
        "who": ["Nurses on night shift", "A small trial of 212 patients", "Paediatricians", "The city's oldest clinic"],
        "does": ["found that sleep matters more", "tested a cheaper vaccine", "warned about salt", "halved waiting times"],
        "where": ["in rural hospitals", "over eighteen months", "among people over 65", "at the regional congress"],
        "why": ["according to a new study", "because records were shared", "although funding ends in May"],
    },
    "travel": {
        "who": ["A night train", "Ferry passengers", "The mountain hut", "Walkers on the coastal path"],
        "does": ["returns after 27 years", "found fewer crowds", "opened its doors early", "waited for the fog to lift"],
        "where": ["between two capitals", "along the northern shore", "at the old border post", "under the viaduct"],
        "why": ["now that the tunnel is dry", "since flights grew dear", "thanks to volunteers"],
    },
    "science": {
        "who": ["A spacecraft the size of a piano", "Marine biologists", "Chemists", "An amateur astronomer"],
        "does": ["photographed a comet's tail", "mapped a reef by sound", "grew a crystal in microgravity", "counted moths"],
        "where": ["at the edge of the solar system", "off the western isles", "in a basement laboratory"],
        "why": ["to settle a fifty-year argument", "with a borrowed lens", "before the ice returned"],
    },
    "food": {
        "who": ["The corner bakery", "A three-star chef", "Olive growers", "School cooks"],
        "does": ["gave up white sugar", "wrote down her grandmother's soup", "picked two weeks early", "won over the critics"],
        "where": ["in the old harbour", "on a Tuesday morning", "from field to table", "behind the market hall"],
        "why": ["as flour doubled in price", "because nobody asked for more", "with lemons and patience"],
    },
}

# Items that a template would not make: (category, title, abstract).
ODD_ITEMS = [
    ("news", "Rain", ""),
    ("news", "", "An abstract without a title: the desk sent the wire before the headline was written."),
    ("", "No category for this one", "And a short abstract."),
    ("news", "", ""),
    ("", "Only a title", ""),
    ("weather", "-40 °C (-40 °F): the coldest morning since 1912", "Records fell in 14 towns; pipes froze & buses stopped."),
    ("culture", "“Señor, ¿dónde está el café?” — a comedy in three acts", "Über-funny, naïve and très charmant… ★★★★☆"),
    ("world", "Выборы в думу: что нужно знать", "Кандидаты спорят о налогах, школах и дорогах; явка выросла до 61,4 %."),
    ("world", "東京で新しい図書館が開館", "全長120メートルの書架には、三十万冊の本が並ぶ。入場は無料です。"),
    ("world", "افتتاح جسر جديد فوق النهر", "قال المهندسون إن الجسر سيختصر الطريق إلى النصف."),
    ("world", "नई रेल लाइन का उद्घाटन", "यात्रियों ने पहली यात्रा पर गीत गाए।"),
    ("social", "Why everyone posts 🎉🎂👩‍👩‍👧‍👦 this week 🇧🇷🇯🇵", "Emoji rule 😂😂😂 the timeline; ask your kids 🤷🏽‍♀️."),
    ("tech", "C++ vs. Rust: `unsafe { *ptr }` || not?", "if (a < b && c > d) { return -1; } // see https://example.org/?q=1&r=%20#top"),
    ("sports", "3-2, 4-4, 0-0, 1-1, 2-5, 6-0, 7-1: all the results of the weekend at one glance for those in a hurry, "
     "and the tables of all five divisions with goals, cards, crowds, referees and what they mean for the cup", "Tables."),
    ("finance", "Pneumonoultramicroscopicsilicovolcanoconiosis", "Donaudampfschifffahrtselektrizitätenhauptbetriebswerk"),
    ("news", "  Leading, trailing   and  doubled spaces  ", " A blank in front. "),
    ("news", "ＦＵＬＬ－ＷＩＤＴＨ　ＬＥＴＴＥＲＳ　１２３", "ﬁne ﬂour, ½ cup; № 5; ㎏; Ⅷ; e\u0301te\u0301 (combining) and été (composed)"),
    ("news", "</s> <pad> <extra_id_0> ▁", "Text that looks like control symbols <unk> <s> [SOS] is text."),
]


def sentence(rng, topic):
    words = TOPICS[topic]
    return " ".join(rng.choice(words[part]) for part in ("who", "does", "where", "why"))


def make_news(rng, count):
    rows = []
    for index in range(count - len(ODD_ITEMS)):
        topic = rng.choice(sorted(TOPICS))
        title = sentence(rng, topic).rsplit(" ", rng.randrange(0, 6))[0]
        # none to nine sentences: the longest go beyond every limit
        abstract = " ".join(sentence(rng, topic) + rng.choice([".", "!", "; more soon."]) for _ in range(index % 10))
        rows.append((topic, title, abstract))
    rows += ODD_ITEMS
    rng.shuffle(rows)
    lines = []
    for index, (category, title, abstract) in enumerate(rows):
        url = f"https://news.example.org/{index}.html"
        lines.append("\t".join([f"N{1000 + 7 * index}", category, f"{category}-other", title, abstract, url, "[]", "[]"]))
    lines.insert(20, lines[3])  # a row that repeats an earlier one
    return lines


def make_behaviors(rng, items, lengths):
    """One user a length and four more: one who read only items that are gone, one whose longest row is not
    the last, one with two histories of one length, one whose longest row is not the one with most known items."""
    rows = []

    def row(user, history):
        shown = rng.sample(items, min(6, len(items)))
        impressions = " ".join(f"{item}-{int(i == 0)}" for i, item in enumerate(shown))
        rows.append([user, " ".join(history), impressions])

    def draw(count):
        return [rng.choice(items) for _ in range(count)]

    for index, length in enumerate(lengths):
        history = draw(length)
        if index % 3 == 1:  # an earlier impression of the same user, with less history
            row(f"U{100 + index}", history[: length // 2])
        mixed = list(history)
        if index % 4 == 3:  # ids that news.tsv does not know
            for _ in range(3):
                mixed.insert(rng.randrange(len(mixed) + 1), f"X{rng.randrange(10**6)}")
        row(f"U{100 + index}", mixed)
    row("Ugone", ["X1", "X2", "X3"])
    row("Uolder", draw(10))
    row("Uequal", draw(6))
    row("Uolder", draw(4))
    row("Uequal", draw(6))
    row("Ulost", ["X4", "X5", items[0]])  # the longer history, of which the shorter part is known
    row("Ulost", draw(2))
    return ["\t".join([str(1 + i), user, "11/24/2026 3:00:00 AM", history, shown]) for i, (user, history, shown) in enumerate(rows)]


# ---- texts for the tokenizer ---------------------------------------------------------------------------

SCRIPTS = {
    "latin": (0x61, 0x7A),
    "latin-1": (0xC0, 0xFF),
    "greek": (0x3B1, 0x3C9),
    "cyrillic": (0x430, 0x44F),
    "hebrew": (0x5D0, 0x5EA),
    "arabic": (0x627, 0x64A),
    "devanagari": (0x905, 0x939),
    "thai": (0xE01, 0xE3A),
    "hiragana": (0x3041, 0x3096),
    "han": (0x4E00, 0x9FFF),
    "hangul": (0xAC00, 0xD7A3),
    "full-width": (0xFF01, 0xFF5E),
    "emoji": (0x1F600, 0x1F64F),
    "mathematical": (0x1D400, 0x1D7CB),
}

FIXED_LINES = [
    "", " ", "  ", "   a", "a   ", "a  b   c", "\t", "\ta\tb\t", "\r", "a\r", "a\rb", "\u00a0", "a\u00a0b", "\u3000", "a\u2003b",
    "\u200b", "zero\u200bwidth", "soft\u00adhyphen", "\ufeff", "\ufeffmark", "\u2028", "line\u2028separator", "\x0b\x0c",
    "▁", "▁▁▁", "▁a", "a▁b", " ▁ a", "</s>", "<s>", "<unk>", "<pad>", "<extra_id_0>", "<extra_id_99>", "a</s>b", "<pad><pad> x",
    "<0x41>", "[SOS] text </s>", "the", "The", "THE", "don't", "it's", "e.g.", "U.S.A.", "3.14159", "1,000,000", "1e-6", "$5.00",
    "50%", "C++", "C#", "a/b\\c", "http://a.b/c?d=e&f=%20", "user@example.org", "@user #tag", "...", "…", "—", "–", "“quoted”",
    "‘single’", "``backticks''", "!?!?!?", "((()))", "[]{}<>", "~`^|", "\\n", "\\", "\"", "'", "😀", "😀😀😀", "👩‍👩‍👧‍👦",
    "👨🏽‍🚀", "🏳️‍🌈", "🇩🇪🇫🇷", "🇩", "☺️", "☺", "1️⃣", "❤️‍🔥", "a😀b", "é", "e\u0301", "E\u0301\u0327", "\u0301", "\u0301\u0301\u0301",
    "Å", "A\u030a", "\u212b", "ﬁ ﬂ ﬃ", "½ ¼ ¾", "①②③", "㎏ ㎡ ㏒", "Ⅷ", "ｱｲｳ", "ＡＢＣ　１２３", "①", "²³", "x² + y²", "™ ® ©",
    "שלום עולם", "مرحبا بالعالم", "\u202eright to left\u202c", "\u200fmark", "سلام 123 abc", "สวัสดีชาวโลก", "กำลังใจ", "你好，世界",
    "日本語のテキスト", "東京タワー2020", "안녕하세요", "각", "\u1100\u1161\u11a8", "नमस्ते दुनिया", "Привет, мир", "Ελληνικά",
    "Tiếng Việt", "İstanbul ı", "ß ẞ", "ŉ", "ǆ", "Z̷a̵l̶g̸o̴", "ä̴̧̢̛̖͎͙̈́̾͝", "\u0000", "a\u0000b", "\u0000\u0000", "\u0001\u0002\u0003", "\u007f",
    "\u0080\u009f", "\x1b[31mred\x1b[0m", "\ue000", "\uf8ff", "\U000f0000", "\U0010ffff", "\ufffd", "\ufffe", "\uffff", "\U0001d54f",
    "a" * 500, "ab" * 400, " " * 300, "x " * 300, "." * 200, "supercalifragilisticexpialidocious" * 8, "你" * 200, "😀" * 100,
    "a\u0301" * 100, "▁" * 100,
]

BROKEN_LINES = [
    b"\x80", b"\xbf", b"a\x80b", b"\x80\x80\x80\x80", b"\xc3", b"a\xc3", b"\xc3a", b"\xe2\x82", b"\xe2\x82a", b"\xe2", b"\xf0\x9f\x98",
    b"\xf0\x9f", b"\xf0", b"a\xf0\x9f\x98 b", b"\xc0\x80", b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xf0\x80\x80\x80",
    b"\xf0\x8f\xbf\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xfe", b"\xff", b"\xfe\xff", b"\xff\xfe\x00a", b"caf\xe9 na\xefve",
    b"ok \xc3\xa9 bad \xe9 ok", b"\x00\x80\x00", b"\xe2\x96", b"\xe2\x96\x81\xe2\x96", b"\xef\xbf", b"\xf0\x9f\x98\x80\x80",
]


def text_of(rng, script, length):
    low, high = SCRIPTS[script]
    text = "".join(chr(rng.randint(low, high)) if rng.random() > 0.15 else " " for _ in range(length))
    return text


def zalgo(rng, text):
    return "".join(c + "".join(chr(rng.randint(0x300, 0x36F)) for _ in range(rng.randrange(6))) for c in text)


def make_lines(rng, news):
    lines = [text.encode() for text in FIXED_LINES] + list(BROKEN_LINES)
    lines += [text.encode() for row in news for text in row.split("\t")[3:5]]
    for script in SCRIPTS:
        lines += [text_of(rng, script, rng.randint(1, 80)).encode() for _ in range(12)]
    for _ in range(25):
        lines.append("".join(text_of(rng, rng.choice(sorted(SCRIPTS)), rng.randint(1, 12)) for _ in range(8)).encode())
    for form in ("NFD", "NFKD", "NFKC"):
        lines += [unicodedata.normalize(form, text_of(rng, script, 30)).encode() for script in ("latin-1", "hangul", "thai")]
    lines += [zalgo(rng, "He comes").encode() for _ in range(10)]
    for _ in range(40):  # any bytes but the one that ends a line
        lines.append(bytes(rng.choice([b for b in range(256) if b != 10]) for _ in range(rng.randint(1, 60))))
    for _ in range(40):  # a good text with one byte hit
        hit = bytearray(rng.choice(lines) or b"x")
        hit[rng.randrange(len(hit))] = rng.choice([0x80, 0xC3, 0xE2, 0xF0, 0xFF, 0x00])
        lines.append(bytes(hit))
    words = " ".join(sentence(rng, topic) for topic in sorted(TOPICS) for _ in range(40))
    mixed = "".join(text_of(rng, rng.choice(sorted(SCRIPTS)), 50) for _ in range(200))
    lines += [words[:10000].encode(), mixed[:10000].encode(), b"\x80" * 10000, ("é" * 10000).encode()]
    assert len(lines) >= 520 and all(b"\n" not in line for line in lines)
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--items", type=int, default=70)
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    news = make_news(rng, args.items)
    items = sorted({row.split("\t")[0] for row in news})
    behaviors = make_behaviors(rng, items, [int(length) for length in args.lengths.split(",")])
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "news.tsv").write_text("".join(row + "\n" for row in news))
    (out / "behaviors.tsv").write_text("".join(row + "\n" for row in behaviors))
    (out / "lines.txt").write_bytes(b"".join(line + b"\n" for line in make_lines(rng, news)))


if __name__ == "__main__":
    main()
