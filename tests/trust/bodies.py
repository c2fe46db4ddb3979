"""Promises about what is asked."""
import hostile_json as cases
from common import Place, api, check


def hostile_json(rng, short=False):
    """Texts that are no JSON, of every kind that public corpora know, and JSON that is no request, in every place of a body."""
    damaged = 2000 if short else 50000
    with Place() as place:
        daemon = api.Daemon(place.url)
        bodies = [body for _, _, body in cases.bodies()]
        rng.shuffle(bodies)
        made = cases.damaged(rng)
        with api.Raw(daemon) as raw:
            for name, texts in (("of the table", bodies), ("damaged at random", (next(made) for _ in range(damaged)))):
                statuses, problems = cases.play(raw, api.post, texts)
                for problem in problems[:5]:
                    print(f"  {problem}")
                check(not problems, f"{sum(statuses.values())} bodies {name} on one connection, {len(problems)} answered otherwise than "
                      f"they should: " + ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())))
            problems = cases.play_queries(raw)
            for problem in problems[:5]:
                print(f"  {problem}")
            check(not problems, f"{len(cases.QUERIES)} queries that are none, {len(problems)} of them not refused or without a place")
            raw.send(api.post(api.GOOD))
            check(raw.receive()[0] == 200, f"the connection still ranks; {sum(map(len, cases.MALFORMED.values()))} texts that are no JSON, of "
                  f"{len(cases.MALFORMED)} kinds, {sum(map(len, cases.WELL_FORMED.values()))} that are, in {len(cases.PLACES)} places")
        check(daemon.stop()[0] == 0, "the daemon ends with 0")
