#!/usr/bin/env python3
"""The lists of commands, options and keys agree: what the programs' --help says, the man pages, README.md, completion, embsum.json and
config/REFERENCE.md. Names what is missing, and where.

    tests/deploy/agree.py --build build

How an option stands in a man page:     .It Fl -max-bad Ar N|X%
A key, in embsum.json.5:                .It Cm server.listen Pq Qq 127.0.0.1:8080
A variable of the environment:          .It Ev EMBSUM_API_KEY
A path that the daemon answers:         .It Pa /rank
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys

PAGES = "docs/man"
# Options in README.md that other programs have.
FOREIGN = {"mpirun": {"--host", "--bind-to", "--mca"}, "docker": {"--build", "--target"}, "git": {"--recursive"}, "make": set()}
# EMBSUM_ words that are no variable of the programs: of scripts, of tests, of Kubernetes, of compose, and names' beginnings.
OTHER_VARIABLES = {"EMBSUM_SERVICE_HOST", "EMBSUM_SLOW", "EMBSUM_GID", "EMBSUM_DATA", "EMBSUM_", "EMBSUM_STORE_", "EMBSUM_VERSION"}

failures = 0


def same(what, one, one_name, other, other_name, hint=None):
    """Two sets are the same; each difference is named, with what would be the line to add, where the hint knows it."""
    global failures
    one, other = set(one), set(other)
    for name in sorted(one - other):
        print(f"FAILED: {what} {name}: in {one_name}, not in {other_name}" + (f"\n{hint(name)}" if hint else ""))
    for name in sorted(other - one):
        print(f"FAILED: {what} {name}: in {other_name}, not in {one_name}")
    failures += len(one ^ other)
    if not one:
        failures += 1
        print(f"FAILED: no {what} found in {one_name}")


def within(what, some, some_name, all_of, all_name):
    global failures
    for name in sorted(set(some) - set(all_of)):
        failures += 1
        print(f"FAILED: {what} {name}: in {some_name}, not in {all_name}")


def read(path):
    with open(path) as file:
        return file.read()


def output(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


# ---- what the programs say ----

def options_of(text):
    """"--name VALUE" of each line of a --help."""
    found = set()
    for line in text.splitlines():
        match = re.match(r"  (--[a-z0-9-]+(?: [^ ]+)*)(?:  +|$)", line + "  ")
        if match:
            found.add(match.group(1))
    return found


def commands_of(text):
    return re.findall(r"^  ([a-z]+) +\S", text, re.M)


# ---- what the pages say ----

def page_options(path):
    return {"--" + re.sub(r" Ar | Ns ", " ", match).strip() for match in re.findall(r"^\.It Fl -(\S+(?: Ar .*)?)$", read(path), re.M)}


def option_lines(option):
    name, _, value = option.partition(" ")
    return f"    .It Fl {name[1:]}" + (f" Ar {value}" if value else "")


def page_items(path, macro, section=""):
    """Of the whole page, or of one section of it."""
    text = re.search(rf"^\.Sh {section}\n(.*?)(?=^\.Sh |\Z)", read(path), re.M | re.S).group(1) if section else read(path)
    return re.findall(rf"^\.It {macro} (\S+)", text, re.M)


# ---- what bash is offered ----

def completed(build, *words):
    """The words that completion offers for the last of these."""
    script = """
source deploy/completion/embsum.bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_embsum "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
    program = os.path.abspath(os.path.join(build, words[0]))
    return set(output("bash", "-c", script, "bash", program, *words[1:]).split())


def check_programs(build):
    main = output(f"{build}/embsum", "--help")
    commands = commands_of(main)
    readme = read("README.md")
    same("command", commands, "embsum --help", re.findall(r"^    embsum ([a-z]+) {2,}\S", readme, re.M), "README.md, The programs")
    same("command", commands, "embsum --help", page_items(f"{PAGES}/embsum.1", "Cm"), "embsum.1")
    same("command", commands, "embsum --help",
         [os.path.basename(path)[len("embsum-"):-2] for path in glob.glob(f"{PAGES}/embsum-*.1")], "the pages embsum-*.1")
    same("word", commands + ["--help", "--version"], "embsum --help", completed(build, "embsum", ""), "completion")
    options = {}
    for command in commands:
        options[command] = options_of(output(f"{build}/embsum", command, "--help"))
        page = f"{PAGES}/embsum-{command}.1"
        name = f"embsum {command} --help"
        if os.path.exists(page):
            same("option", options[command], name, page_options(page), page, option_lines)
        same("option", {option.split()[0] for option in options[command]}, name, completed(build, "embsum", command, "--"), "completion")
    daemon = options_of(output(f"{build}/embsumd", "--help"))
    same("option", daemon, "embsumd --help", page_options(f"{PAGES}/embsumd.8"), "embsumd.8", option_lines)
    same("option", {option.split()[0] for option in daemon}, "embsumd --help", completed(build, "embsumd", "--"), "completion")
    options["embsumd"] = daemon
    return options


def check_readme(options):
    """Each option in README.md is one of the programs', of the command that stands before it where one does."""
    names = {program: {option.split()[0] for option in some} for program, some in options.items()}
    everything = set.union(*names.values()) | set.union(*FOREIGN.values()) | {"--version"}
    for script in ("deploy/quickstart",):
        everything |= set(re.findall(r"^  (--[a-z-]+)", read(script), re.M))
    text = re.sub(r"\\\n *", " ", read("README.md"))
    within("option", re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text), "README.md", everything, "any --help")
    for command, rest in re.findall(r"embsum ([a-z]+)((?: [^ `\n|#;&][^`\n|#;&]*)?)", text):
        if command in names:
            within("option", re.findall(r"(?<= )--[a-z][a-z0-9-]*", rest), f"README.md, embsum {command}", names[command],
                   f"embsum {command} --help")


def key_line(key, value):
    shown = json.dumps(value) if not isinstance(value, str) else f"Qq {value}" if value else 'Qq ""'
    return f"    .It Cm {key} Pq {shown}"


def check_keys(build):
    shown = json.loads(output(f"{build}/embsumd", "--print-config"))
    keys = {f"{section}.{key}": value for section, some in shown.items() for key, value in some.items()}
    reference = dict(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| [^|]* \| `([^`]*)` \|", read("config/REFERENCE.md"), re.M))
    page = dict(re.findall(r"^\.It Cm ([a-z_]+\.[a-z_]+) Pq (?:Qq )?(\S*)$", read(f"{PAGES}/embsum.json.5"), re.M))
    shipped = {f"{section}.{key}": value for section, some in json.loads(read("config/embsum.json")).items() for key, value in some.items()}
    same("key", keys, "embsumd --print-config", reference, "config/REFERENCE.md")
    same("key", keys, "embsumd --print-config", page, "embsum.json.5", lambda key: key_line(key, keys[key]))
    same("key", keys, "embsumd --print-config", shipped, "config/embsum.json")
    same("key", [key + "=" for key in keys], "embsumd --print-config", completed(build, "embsumd", "--set", ""), "completion")
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in keys.items()}
    same("default", [f"{key} {plain[key]}" for key in plain], "embsumd --print-config",
         [f"{key} {value.strip(chr(34))}" for key, value in reference.items()], "config/REFERENCE.md")
    same("default", [f"{key} {plain[key]}" for key in plain], "embsumd --print-config",
         [f"{key} {value.strip(chr(34))}" for key, value in page.items()], "embsum.json.5")
    sections = "|".join(shown)
    mentioned = re.findall(rf"`({'(?:' + sections + ')'}\.[a-z_]+)(?:=[^`]*)?`", read("README.md"))
    within("key", [name for name in mentioned if not name.endswith((".c", ".h", ".json"))], "README.md", keys, "embsumd --print-config")
    return set(keys)


def check_variables(keys):
    """The pages name the variables that the programs ask for, and no document names another."""
    asked = set()
    for path in glob.glob("*/*.c"):
        asked.update(re.findall(r'getenv\("((?:EMBSUM|OPENAI)_[A-Z_]+)"\)', read(path)))
        asked.update(re.findall(r'"((?:EMBSUM|OPENAI)_[A-Z_]+)"', read(path)))
    asked = {name for name in asked if name not in OTHER_VARIABLES}
    by_key = {"EMBSUM_" + key.upper().replace(".", "_") for key in keys}
    pages = set()
    for path in glob.glob(f"{PAGES}/*"):
        pages.update(page_items(path, "Ev"))
    same("variable", asked - by_key, "the source", pages - by_key, "the pages")
    for path in ("README.md", "config/REFERENCE.md", "deploy/compose/compose.yaml", "deploy/kubernetes/config.yaml", "deploy/cron/embsum"):
        within("variable", re.findall(r"\bEMBSUM_[A-Z_]+\b(?!\*)", read(path)), path, asked | by_key | OTHER_VARIABLES, "the source")


def check_paths():
    table = read("server/router.c").split("routes[] =", 1)[1]
    paths = [path + "{id}" if path.endswith("/") and path != "/" else path for path in re.findall(r'\{"(/[^"]*)"', table)]
    same("path", paths, "server/router.c", page_items(f"{PAGES}/embsumd.8", "Pa", "HTTP"), "embsumd.8", lambda path: f"    .It Pa {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.environ.get("BUILD", "build"))
    build = parser.parse_args().build
    options = check_programs(build)
    check_readme(options)
    keys = check_keys(build)
    check_variables(keys)
    check_paths()
    if not failures:
        print(f"{len(options)} lists of options, {sum(map(len, options.values()))} options and {len(keys)} keys agree")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
