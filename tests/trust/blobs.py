"""Promises about blobs: what somebody else may have left in the store."""
import collections
import json
import os
import re
import subprocess
import time

from common import BUILD, Place, Redis, api, check

DTYPES = ("float32", "float32+int8", "bfloat16", "int8")
USERS, CONTENTS = 20, 300  # that are left whole: U0, U1, ...; N0, N1, ...
ASKING, ASKED = [f"U{i}" for i in range(4)], [f"N{i}" for i in range(5)]
DEFAULT = "somebody"  # nobody's name


class Mutants:
    """Of one kind, in the place of what was published, and what is owed to each: the reason for its refusal or "ok", and its
    scores beside the partners: the right one, how far rounding may lead from it, and what no score is beyond."""

    def __init__(self, url, generation, world, rng, kind, first, count, sealed, partners):
        command = [BUILD / "tests/trust/mutate", url, generation, str(world), str(rng.getrandbits(60)), kind, str(first), str(count),
                   "sealed" if sealed else "broken", *partners]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.reason, self.scores = {}, {}
        for line in out.splitlines():
            name, _, reason, *numbers = line.split("\t")
            self.reason[name] = reason
            numbers = list(map(float, numbers))
            self.scores[name] = {partner: numbers[3 * i:3 * i + 3] for i, partner in enumerate(partners)} if numbers else {}
        assert len(self.reason) == count
        self.refused = sum(reason != "ok" for reason in self.reason.values())


def strict(text):
    """JSON's numbers are all finite, and no score is null."""
    def refuse(word):
        raise AssertionError(f"{word} in an answer")
    answer = json.loads(text, parse_constant=refuse)
    for result in answer.get("results", [answer]):
        for item in result.get("ranking", ()):
            if not isinstance(item["score"], (int, float)) or abs(item["score"]) > 3.4028235e38:
                raise AssertionError(f"{item} in an answer")
    return answer


class Asking:
    """One daemon, to which all are strangers but those it has been asked for; what is wrong with its answers."""

    def __init__(self, url, dtype):
        self.dtype, self.wrong, self.scores = dtype, [], collections.defaultdict(dict)
        self.exact = dtype.startswith("float32")
        self.daemon = api.Daemon(url, "memory.preload=false", f"scoring.dtype={dtype}", "rank.deadline_ms=60000",
                                 "store.command_timeout_ms=60000")
        while self.daemon.ask("GET", "/readyz")[0] != 200:
            time.sleep(0.02)
        self.raw = api.Raw(self.daemon)

    def rank(self, **body):
        self.raw.send(api.post(json.dumps(body).encode()))
        answer = self.raw.receive()
        if answer is None or answer[0] != 200:
            raise AssertionError(f"{answer} for {body}")
        return strict(answer[2])

    def note(self, what):
        self.wrong.append(f"{self.dtype}: {what}")

    def refused(self):
        """How many blobs of each reason the daemon says that it has refused."""
        text = self.daemon.ask("GET", "/metrics")[2].decode()
        return {reason: int(count) for reason, count in re.findall(r'^embsum_blobs_refused_total\{reason="(\w+)"\} (\d+)$', text, re.M)}

    def judge(self, who, what, score, owed, whole):
        """owed: of Mutants, a right score, or None where there is none. Whole pairs that are not scored in float32 are the same
        as before."""
        if owed is None:
            good = False
        elif isinstance(owed, list):
            good = abs(score - owed[0]) <= owed[1] if self.exact else abs(score) <= 1.05 * owed[2] + 1e-30
        elif self.exact:
            good = abs(score - owed) <= 1e-5 * max(1, abs(owed))
        else:
            good = score == whole[who][what]
        if not good:
            self.note(f"{who} beside {what} has {score}, not {owed}")

    # ---- contents ----

    def ask_contents(self, mutants, right, whole, rng):
        """All of them, 400 with 100 whole ones at a time, for some users at once and then for one's best."""
        names = rng.sample(list(mutants.reason), len(mutants.reason))
        before = self.refused()
        for at in range(0, len(names), 400):
            asked = names[at:at + 400] + rng.sample([f"N{i}" for i in range(CONTENTS)], 100)
            rng.shuffle(asked)
            answer = self.rank(users=ASKING, candidates=asked)
            missing = {item["id"]: item["reason"] for item in answer["missing"]}
            wanted = {name: "corrupt" for name in asked if mutants.reason.get(name, "ok") != "ok"}
            if missing != wanted:
                self.note(f"missing and should not, or the other way round: {set(missing.items()) ^ set(wanted.items())}")
            for result in answer["results"]:
                self.judge_contents(result, [name for name in asked if name not in wanted], mutants, right, whole)
            who = rng.choice(ASKING)
            best = self.rank(user=who, candidates=asked, top_k=10)["ranking"]
            if best != next(result["ranking"] for result in answer["results"] if result["user"] == who)[:10]:
                self.note(f"{who}'s best 10 are others")
            some = [name for name in asked if name in mutants.reason][:3]
            if "null" in json.dumps(self.rank(user=who, candidates=some, explain=True)):
                self.note(f"null in the explanation of {some}")
        all_whole = [f"N{i}" for i in range(CONTENTS)]
        for result in self.rank(users=ASKING, candidates=all_whole)["results"]:
            self.judge_contents(result, all_whole, mutants, right, whole)
        return self.told(before, mutants, len(names))

    def judge_contents(self, result, names, mutants, right, whole):
        who, scores = result["user"], [item["score"] for item in result["ranking"]]
        if sorted(item["id"] for item in result["ranking"]) != sorted(names) or scores != sorted(scores, reverse=True):
            self.note(f"{who} has another ranking")
        for item in result["ranking"]:
            name = item["id"]
            owed = mutants.scores[name].get(who) if name in mutants.reason else right[who][name]
            self.judge(who, name, item["score"], owed, whole)
            self.scores[who][name] = item["score"]

    def told(self, before, mutants, count):
        """Does the daemon count what was refused, by the right reasons? What is known to be bad is read again after a second."""
        after = self.refused()
        told = {reason: after[reason] - before[reason] for reason in after if after[reason] != before[reason]}
        owed = collections.Counter(reason for reason in mutants.reason.values() if reason != "ok")
        if any(told.get(reason, 0) < number for reason, number in owed.items()) or set(told) - set(owed):
            self.note(f"of {count} blobs it says that it has refused {told}, not {dict(owed)}")
        return sum(told.values())

    def ask_catalogue(self, mutants):
        """The best of all, whatever is among them."""
        for who in ASKING[:2]:
            answer = self.rank(user=who, top_k=50)
            scores = [item["score"] for item in answer["ranking"]]
            if scores != sorted(self.scores[who].values(), reverse=True)[:50] or any(
                    self.scores[who].get(item["id"]) != item["score"] for item in answer["ranking"]):
                self.note(f"{who}'s best 50 of the catalogue are others")
            if answer["missing_count"] != mutants.refused:
                self.note(f"{answer['missing_count']} of the catalogue are missing, not {mutants.refused}")

    # ---- users ----

    def ask_users(self, mutants, right, whole, rng):
        """All of them, 48 with 16 whole ones at a time; who cannot be read is ranked as somebody unknown would be."""
        names = rng.sample(list(mutants.reason), len(mutants.reason))
        before = self.refused()
        for at in range(0, len(names), 48):
            asked = names[at:at + 48] + rng.sample([f"U{i}" for i in range(USERS)], 16)
            rng.shuffle(asked)
            answer = self.rank(users=asked, candidates=ASKED)
            if [result["user"] for result in answer["results"]] != asked or answer["missing"]:
                self.note(f"others than {asked}")
            for result in answer["results"]:
                self.judge_user(result, mutants, right, whole)
            alone = rng.choice(names[at:at + 48])
            self.judge_user(self.rank(user=alone, candidates=ASKED), mutants, right, whole)
            status, _, text = self.daemon.ask("GET", f"/users/{alone}")
            if status != 200 or strict(text)["user_status"] != ("present" if mutants.reason[alone] == "ok" else "corrupt"):
                self.note(f"/users/{alone} is {status}: {text}")
        return self.told(before, mutants, len(names))

    def judge_user(self, result, mutants, right, whole):
        who = result["user"]
        bad = mutants.reason.get(who, "ok") != "ok"
        status = (result["user_status"], result.get("degraded"))
        if status != (("default", ["user_corrupt"]) if bad else ("present", None)):
            self.note(f"{who} ({mutants.reason.get(who)}) is {status}")
        if sorted(item["id"] for item in result["ranking"]) != ASKED:
            self.note(f"{who} is ranked {result['ranking']}")
        for item in result["ranking"]:
            if bad:
                owed = right[DEFAULT][item["id"]]
            else:
                owed = mutants.scores[who][item["id"]] if who in mutants.reason else right[who][item["id"]]
            self.judge(DEFAULT if bad else who, item["id"], item["score"], owed, whole)

    def end(self):
        self.raw.close()
        if self.daemon.ask("GET", "/livez")[0] != 200 or self.daemon.stop()[0] != 0:
            self.note("it did not end well")


def verified(url):
    """What `embsum generations verify` has to say against each blob."""
    out = subprocess.run([BUILD / "embsum", "generations", "verify", "--store", url], capture_output=True, text=True, check=False)
    return {(kind, name): reason for kind, name, reason in re.findall(r"^bad: (\w+) (\S+): (\w+)$", out.stdout, re.M)}, out.returncode


def play(where, url, rng, sealed, count):
    """A generation of which `count` blobs are mutants: a fifth of them users, the others contents."""
    world, users = rng.getrandbits(20), count // 5
    contents = count - users
    generation = subprocess.run([os.environ["TEST_API"], "publish", url, str(world), str(USERS + users), str(CONTENTS + contents)],
                                check=True, capture_output=True, text=True).stdout.strip()
    all_whole = [f"N{i}" for i in range(CONTENTS)]
    right = {who: api.right_scores(world, who, all_whole) for who in [f"U{i}" for i in range(USERS)]}
    right[DEFAULT] = api.right_scores(world, "", ASKED)
    askings, whole = [], {}
    for dtype in DTYPES:
        before = Asking(url, dtype)  # one that never sees a mutant
        results = before.rank(users=[*list(right)[:USERS], DEFAULT], candidates=all_whole)["results"]
        whole[dtype] = {result["user"]: {item["id"]: item["score"] for item in result["ranking"]} for result in results}
        before.end()
        askings.append(Asking(url, dtype))
    bad_contents = Mutants(url, generation, world, rng, "c", CONTENTS, contents, sealed, ASKING)
    bad_users = Mutants(url, generation, world, rng, "u", USERS, users, sealed, ASKED)
    wrong, told, start = [], 0, time.monotonic()
    for asking in askings:
        try:
            told += asking.ask_contents(bad_contents, right, whole[asking.dtype], rng)
            asking.ask_catalogue(bad_contents)
            told += asking.ask_users(bad_users, right, whole[asking.dtype], rng)
        except AssertionError as error:
            asking.note(str(error)[:300])
        asking.end()
        wrong += asking.wrong
    seconds = time.monotonic() - start
    refused = bad_contents.refused + bad_users.refused
    for text in wrong[:8]:
        print(f"  {text}")
    which = "with the right checksum" if sealed else "with a wrong checksum"
    check(not wrong and (sealed or refused == count), f"{where}: of {count} {which} {refused} are to be refused, {count - refused} scored as they "
          f"are: {len(wrong)} answers wrong in {', '.join(DTYPES)}; {told} refusals counted; {seconds:.0f} s")
    found, code = verified(url)
    owed = {(kind, name): reason for kind, mutants in (("content", bad_contents), ("user", bad_users))
            for name, reason in mutants.reason.items() if reason != "ok"}
    check(found == owed and code == 1, f"{where}: generations verify names {len(found)}, {len(found.keys() - owed.keys())} of them for nothing, "
          f"and misses {len(owed.keys() - found.keys())}")
    return collections.Counter(reason for mutants in (bad_contents, bad_users) for reason in mutants.reason.values())


def blobs(rng, short=False):
    """10,000 blobs with wrong checksums and 10,000 with right ones on each store, read cold, in each dtype that scores."""
    count = 300 if short else 10000
    reasons = {sealed: collections.Counter() for sealed in (False, True)}
    for sealed in (False, True):
        with Place() as place:
            reasons[sealed] += play("LMDB", place.url, rng, sealed, count)
            reasons[sealed] += play("Redis", Redis(place.folder).url(), rng, sealed, count)
    for sealed, counts in reasons.items():
        print(f"  {'right' if sealed else 'wrong'} checksums: " + ", ".join(f"{n} {reason}" for reason, n in counts.most_common()))
