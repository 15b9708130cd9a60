#!/usr/bin/env python3
"""What `refrain decode` promises to programs: exit status, JSON, file and line of findings.

    decode.py PROGRAM [--seeds N]    N seeds of the random schedule, 3 unless given
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

OK, ENVIRONMENT, ARGUMENTS, FINDINGS = 0, 1, 2, 3
KEYS = ("device geometry layers requests finished waited steps tokens graphs buckets_used "
        "replays padding_waste eager_steps findings bit_equal max_rel_err pages_leaked "
        "tokens_per_s update_us replay_us host_us_per_step first_replay_s").split()
GOOD = ('{"timestamp": 0, "input_length": %d, "output_length": %d, "hash_ids": [%s]}\n')
# Same bits whatever the schedule: everything but times.
TIMES = {"tokens_per_s", "update_us", "replay_us", "host_us_per_step", "first_replay_s"}


class Check:
    def __init__(self, program, folder):
        self.program = program
        self.folder = folder
        self.problems = []
        self.runs = 0

    def path(self, name, content=None):
        name = os.path.join(self.folder, name)
        if content is not None:
            with open(name, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
        return name

    def run(self, args, status, *words, sched=None):
        """Runs decode; status and every word (a regular expression) are due."""
        env = dict(os.environ)
        env.pop("RFN_HOST_SCHED", None)
        # Threads that spin beside other tests' threads make a step sixty times slower.
        env.setdefault("OMP_WAIT_POLICY", "passive")
        if sched:
            env["RFN_HOST_SCHED"] = sched
        args = ["decode", "--device", "host"] + [str(a) for a in args]
        done = subprocess.run([self.program] + args, stdout=subprocess.PIPE, env=env,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=120)
        self.runs += 1
        missing = [word for word in words if not re.search(word, done.stdout)]
        if done.returncode != status or missing:
            self.problems.append("%s: status %d, not %d; missing %s:\n%s" % (
                " ".join(args), done.returncode, status, missing, done.stdout))
        return done.stdout

    def totals(self, args, status, *words, sched=None):
        name = self.path("totals.json")
        if os.path.exists(name):
            os.unlink(name)
        self.run(list(args) + ["--json", name], status, *words, sched=sched)
        try:
            with open(name, encoding="utf-8") as file:
                got = json.load(file)
        except (OSError, ValueError) as error:
            self.problems.append("%s: no JSON: %s" % (args, error))
            return {}
        if list(got) != KEYS:
            self.problems.append("%s: JSON keys %s" % (args, list(got)))
        left = [n for n in os.listdir(self.folder) if n.endswith(".tmp")]
        if left:
            self.problems.append("%s: left %s" % (args, left))
        return got

    def due(self, got, **values):
        for key, value in values.items():
            if got.get(key) != value:
                self.problems.append("%s is %s, not %s" % (key, got.get(key), value))


def good_runs(check, seeds):
    got = check.totals([], OK)
    check.due(got, bit_equal=None, max_rel_err=None, findings=0, device="host", layers=2)
    got = check.totals(["--steps", 0, "--verify", 1000], OK)
    check.due(got, bit_equal=True, findings=0, pages_leaked=0, waited=0, eager_steps=0,
              graphs=5, buckets_used=5, finished=got.get("requests"))
    if not 0 < got.get("max_rel_err", 1) < 4e-3:
        check.problems.append("max_rel_err %s" % got.get("max_rel_err"))
    same = {key: value for key, value in got.items() if key not in TIMES}
    for sched in ["lazy"] + ["random:%d" % seed for seed in range(1, seeds + 1)]:
        again = check.totals(["--steps", 0, "--verify", 1000], OK, sched=sched)
        check.due(again, **same)
    one = check.path("one", GOOD % (1, 1, "0"))
    got = check.totals(["--trace", one, "--verify", 9, "--batch", 1], OK, "1 steps: bit_equal")
    check.due(got, requests=1, finished=1, steps=1, tokens=1, graphs=1, padding_waste=0)
    long = check.path("long", GOOD % (5, 3, "0") + GOOD % (
        100000, 100000, ", ".join(map(str, range(196)))))
    got = check.totals(["--trace", long, "--verify", 3, "--steps", 3], OK)
    check.due(got, requests=2, finished=1, steps=3, tokens=6)
    # The n-th line is not looked at when n - 1 are asked for.
    tail = check.path("tail", GOOD % (70, 2, "0") + "nonsense\n")
    check.due(check.totals(["--trace", tail, "--requests", 1], OK), requests=1)


def verified_steps(check):
    for asked, done in ((0, None), (1, 1), (2, 2), (3, 3), (7, 7), (63, 63), (64, 64),
                        (10**9, 64)):
        word = "verify +off" if done is None else "verify +%d steps: bit_equal true" % done
        check.run(["--verify", asked], OK, word)


def mistakes(check):
    listed = check.run(["--inject", "list"], OK)
    rows = [line.split()[:2] for line in listed.splitlines()]
    if sorted(rows) != sorted([["host-sync", "CAP001"], ["sync-copy", "CAP002"],
                               ["pageable-copy", "CAP003"], ["stray-stream", "CAP004"],
                               ["corrupt-workspace", "bit_equal"]]):
        check.problems.append("--inject list: %s" % rows)
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/inject.c")
    with open(source, encoding="utf-8") as file:
        lines = file.read().splitlines()
    for name, rule in rows:
        if rule == "bit_equal":
            got = check.totals(["--inject", name], FINDINGS, "bit_equal false",
                               r"top-k slots\[0\]\[0\]")
            check.due(got, bit_equal=False, findings=0)
            continue
        for sched in ("fifo", "lazy"):
            got = check.totals(["--inject", name], FINDINGS, rule, name, sched=sched)
            check.due(got, findings=1, bit_equal=None, steps=64,
                      graphs=4 if name == "host-sync" else 5)
        output = check.run(["--inject", name, "--verify", 4], FINDINGS, "bit_equal true")
        place = re.search(r"tools/inject\.c:(\d+)\D", output)
        function = "plant_" + name.replace("-", "_")
        near = lines[max(0, int(place.group(1)) - 6):int(place.group(1))] if place else []
        if not any(function in line for line in near):
            check.problems.append("%s: found at %s, planted in %s" % (
                name, place and place.group(0), function))
    # The only bucket has no graph: nothing can be replayed, and the run says so.
    got = check.totals(["--inject", "host-sync", "--batch", 1], FINDINGS, "no graph holds 1")
    check.due(got, findings=1, graphs=0, replays=0, steps=0, tokens=0, pages_leaked=0)


def arguments(check):
    check.run(["--help"], OK, "usage: refrain decode", "--inject", "--json")
    for args, words in (
            (["--stepz", "3"], ["--stepz", "nearest is '--steps'"]),
            (["--steps"], ["--steps wants a value"]),
            (["--steps", ""], ["--steps wants a whole number"]),
            (["--steps", "3x"], ["'3x'"]),
            (["--steps", "1e3"], ["'1e3'"]),
            (["--steps", "-1"], ["--steps -1 is outside 0 .. "]),
            (["--requests", "0"], ["--requests 0 is outside 1 .. "]),
            (["--requests", "9" * 40], ["--requests 9{40} is outside 1 .. "]),
            (["--batch", "0"], ["--batch 0 is outside 1 .. 256"]),
            (["--batch", "257"], ["--batch 257 is outside 1 .. 256"]),
            (["--batch=9223372036854775808"], ["outside 1 .. 256"]),
            (["--verify", "-3"], ["--verify -3 is outside 0 .. "]),
            (["--seed", "-1"], ["--seed"]),
            (["--seed", "18446744073709551616"], ["outside 0 .. 18446744073709551615"]),
            (["--geometry", "tinny"], ["nearest is 'tiny'"]),
            (["--geometry", "glm5"], ["nearest is 'glm-5'"]),
            (["--geometry", "deepseek-v3.2"], ["cannot run"]),
            (["--device", "gpu"], ["'gpu'", "nearest"]),
            (["--inject", "sync-cpy"], ["nearest is 'sync-copy'"]),
            (["extra"], ["unexpected argument 'extra'"]),
            (["--" + "x" * 5000, "1"], ["nearest"])):
        check.run(args, ARGUMENTS, *words)
    check.run(["--seed", "0xffffffffffffffff", "--steps", 2, "--verify", 2], OK)


def traces(check):
    good = GOOD % (70, 2, "0")
    for number, (line, words) in enumerate((
            ("{", "expected one JSON object"),
            ("[]", "expected a JSON object, found an array"),
            ("{}", 'expected "timestamp" as an integer, found nothing'),
            (GOOD % (0, 2, ""), 'expected "input_length" in 1 .. 16777216, found 0'),
            (GOOD % (99999999, 2, "1"), "found 99999999"),
            (GOOD % (9, -2, "1"), "found -2"),
            (GOOD % (9, 2, "1, 2"), 'expected 1 "hash_ids".*found 2'),
            (GOOD % (9, 2, '"a"'), r'"hash_ids"\[0\] as an integer'),
            (b"\xff\xfe\x00", "expected one JSON object"),
            ("[" * 100000, "expected one JSON object"),
            ("x" * 2000000, "at most 1048576 bytes"))):
        line = line if isinstance(line, bytes) else line.encode()
        name = check.path("bad%d" % number, good.encode() + line)
        output = check.run(["--trace", name], ARGUMENTS, re.escape(name) + ":2: ", words)
        if len(output.splitlines()) != 1:
            check.problems.append("a malformed trace was half-run:\n" + output)
    check.run(["--trace", check.path("empty", "")], ARGUMENTS, "expected at least one request")
    check.run(["--trace", check.path("absent")], ENVIRONMENT, "No such file")
    check.run(["--trace", check.folder], ENVIRONMENT, "Is a directory")


def files(check):
    for name in ("/nonexistent/o.json", check.folder, ""):
        output = check.run(["--json", name], ENVIRONMENT, "cannot write")
        if len(output.splitlines()) != 1:
            check.problems.append("an unwritable file is named after the run:\n" + output)
    if os.path.exists("/dev/full"):
        check.run(["--json", "/dev/full"], ENVIRONMENT, "cannot write /dev/full: No space")
    # A run that fails leaves what was there.
    name = check.path("kept.json", "kept")
    check.run(["--json", name, "--geometry", "tinny"], ARGUMENTS)
    with open(name, encoding="utf-8") as file:
        if file.read() != "kept":
            check.problems.append("a refused run wrote its JSON file")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check = Check(args.program, folder)
        good_runs(check, args.seeds)
        verified_steps(check)
        mistakes(check)
        arguments(check)
        traces(check)
        files(check)
    for problem in check.problems:
        print(problem)
    print("%d runs, %d problems" % (check.runs, len(check.problems)))
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main())
