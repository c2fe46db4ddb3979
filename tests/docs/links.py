#!/usr/bin/env python3
"""Every link of every .md of the tree leads somewhere: relative paths exist, and so do the headings that anchors name. What
stands between backticks exists, too: `make TARGET` in the Makefile, `sh FILE` and `python3 FILE` in the tree, and each option of
`embsum COMMAND --option` in that command's --help (where $BUILD has the programs)."""
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(ROOT, os.environ.get("BUILD", "build"))


def without_code(text):
    text = re.sub(r"^ {0,3}```.*?^ {0,3}```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(?<=\n\n)((?: {4}.*\n|\n)+)", "\n", text)


def anchors(path):
    """GitHub's: lower case, blanks become hyphens, punctuation goes; a second of the same name gets -1."""
    seen = {}
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", without_code(path.read_text(encoding="utf-8")), re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
        seen[name] = seen.get(name, -1) + 1
        yield name if not seen[name] else f"{name}-{seen[name]}"


def links(page, text):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        to = page.parent / path if path else page
        if not to.exists():
            yield f"there is no {target}"
        elif anchor and to.suffix == ".md" and anchor not in set(anchors(to)):
            yield f"{to.relative_to(ROOT)} has no heading #{anchor}"


def help_of(command, known={}):
    if command not in known:
        program = [str(BUILD / "embsum")] + command.split()
        known[command] = subprocess.run(program + ["--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    return known[command]


def code(text, targets):
    for span in re.findall(r"`([^`\n]+)`", text):
        words = span.split()
        if re.match(r"make [a-z]", span) and words[1].split("=")[0] not in targets and "=" not in words[1]:
            yield f"the Makefile has no {words[1]}"
        if re.match(r"(sh|bash|python3) [\w.]+/", span) and not (ROOT / words[1]).exists():
            yield f"there is no {words[1]}"


def options(text):
    """Of embsum's commands, wherever they stand."""
    if not (BUILD / "embsum").exists():
        return
    for command, rest in re.findall(r"\bembsum ([a-z]+)((?: [^|;&`#\n]*)?)", re.sub(r"\\\n", " ", text)):
        for option in re.findall(r"(?<= )--[a-z0-9-]+", rest):
            if option != "--help" and not re.search(rf"{option}(?![a-z0-9-])", help_of(command)):
                yield f"embsum {command} has no {option}"


def main():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [p for p in ROOT.rglob("*.md") if not {"build", ".git", "node_modules"} & set(p.relative_to(ROOT).parts)]
    failed = count = 0
    for page in sorted(pages):
        whole = page.read_text(encoding="utf-8")
        text = without_code(whole)
        count += len(re.findall(r"\]\(", text))
        for wrong in [*links(page, text), *code(text, targets), *options(whole)]:
            print(f"{page.relative_to(ROOT)}: {wrong}")
            failed += 1
    print(f"{len(pages)} pages, {count} links, {failed} wrong")
    sys.exit(1 if failed or count < 20 else 0)


if __name__ == "__main__":
    main()
