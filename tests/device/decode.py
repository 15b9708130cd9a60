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
        "graph_bytes tokens_per_s update_us launch_us replay_us host_us_per_step first_replay_s "
        "draft_tokens accepted_tokens").split()
NO_CUDA = (r"refrain: .*device_open: .*(libcuda.so.1 was not found|new enough|sees none|"
           r"-Dcuda=disabled).*\n")
GOOD = ('{"timestamp": 0, "input_length": %d, "output_length": %d, "hash_ids": [%s]}\n')
# Same bits whatever the schedule: everything but times.
TIMES = {"tokens_per_s", "update_us", "launch_us", "replay_us", "host_us_per_step", "first_replay_s"}


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


# Contexts of up to 120 tokens, top-k of 64: both length classes and all buckets up to 8 come
# up.
SMALL = ["--geometry", "tiny", "--context-limit", 120, "--requests", 20]
# Of two pages a request: with 13, eight of them have to wait for others to leave.
WHOLE = SMALL + ["--steps", 0, "--pool-pages", 13, "--verify", 12]
MODELS = (["--layers", 1], ["--batch-invariant", 1], ["--next-n", 3], ["--buckets", "3,5,8"],
          ["--arrivals", "timed:40"], ["--arrivals=timed:0.5", "--next-n", 8, "--batch", 3],
          ["--seed", "0xffffffffffffffff"])


def good_runs(check, seeds):
    got = check.totals(SMALL + ["--steps", 8], OK)
    check.due(got, bit_equal=None, max_rel_err=None, findings=0, device="host", layers=2,
              geometry="tiny", steps=8, replays=8, requests=20)
    got = check.totals(WHOLE, OK)
    check.due(got, bit_equal=True, findings=0, pages_leaked=0, eager_steps=0, buckets_used=3,
              graphs=5, finished=20)
    if not 0 < got.get("max_rel_err", 1) < 4e-3:
        check.problems.append("max_rel_err %s" % got.get("max_rel_err"))
    if not (got.get("waited", 0) >= 1 and 0 < got.get("padding_waste", 0) < 1):
        check.problems.append("%s" % got)
    same = {key: value for key, value in got.items() if key not in TIMES}
    for sched in ["lazy"] + ["random:%d" % seed for seed in range(1, seeds + 1)]:
        again = check.totals(WHOLE, OK, sched=sched)
        check.due(again, **same)
    for more in MODELS:
        got = check.totals(SMALL + ["--steps", 90, "--verify", 8] + more, OK)
        check.due(got, bit_equal=True, findings=0, pages_leaked=0, eager_steps=0)
    speculative_runs(check)
    # The default model, past its top-k: the indexer decides.
    got = check.totals(["--layers", 1, "--context-limit", 2300, "--requests", 2, "--batch", 2,
                        "--steps", 3, "--verify", 2], OK, "2 rows against double")
    check.due(got, geometry="deepseek-v3.2", bit_equal=True, findings=0, layers=1)


def speculative_runs(check):
    """Every step verified: also those behind rows of rejected tokens that are NaN."""
    for what in ("1:0", "3", "7:0.3", "3:1"):
        got = check.totals(SMALL + ["--steps", 150, "--pool-pages", 24, "--verify", 40,
                                    "--speculative", what], OK, "speculative +[1-9]")
        check.due(got, bit_equal=True, findings=0, pages_leaked=0, eager_steps=0)
        drafts, accepted = got.get("draft_tokens", 0), got.get("accepted_tokens", 0)
        runs = drafts // int(what[0])
        if not drafts or got.get("tokens") != runs + accepted:
            check.problems.append("%s: %s" % (what, got))
        if what == "1:0" and accepted or what == "3:1" and accepted < 0.9 * drafts:
            check.problems.append("%s: %d of %d accepted" % (what, accepted, drafts))
    # The same words for the same rate, written out; other schedules give the same bits.
    args = SMALL + ["--steps", 60, "--batch", 3, "--verify", 9, "--speculative"]
    same = check.totals(args + ["3:0.7"], OK, "9 steps: bit_equal true")
    same = {key: value for key, value in same.items() if key not in TIMES}
    check.due(check.totals(args + ["3"], OK), **same)
    check.due(check.totals(args + ["3", "--next-n", 4], OK, sched="lazy"), **same)
    check.due(check.totals(args + ["3"], OK, sched="random:7"), **same)
    # A context at its limit has room for the drafts.
    got = check.totals(["--geometry", "tiny", "--context-limit", 128, "--requests", 8, "--steps",
                        0, "--speculative", "7:0.5", "--verify", 9], OK)
    check.due(got, bit_equal=True, finished=8, findings=0)


def few_requests(check):
    one = check.path("one", GOOD % (1, 1, "0"))
    tiny = ["--geometry", "tiny"]
    got = check.totals(tiny + ["--trace", one, "--verify", 9, "--batch", 1], OK,
                       "1 steps: bit_equal")
    check.due(got, requests=1, finished=1, steps=1, tokens=1, graphs=1, padding_waste=0)
    long = check.path("long", GOOD % (5, 3, "0") + GOOD % (
        100000, 100000, ", ".join(map(str, range(196)))))
    got = check.totals(tiny + ["--trace", long, "--verify", 3, "--steps", 3], OK)
    check.due(got, requests=2, finished=1, steps=3, tokens=6)
    # The n-th line is not looked at when n - 1 are asked for.
    tail = check.path("tail", GOOD % (70, 2, "0") + "nonsense\n")
    check.due(check.totals(tiny + ["--trace", tail, "--requests", 1], OK), requests=1)
    # A table says the same.
    table = check.path("table", "timestamp,input_length,output_length,hash_ids\n"
                       "5,3,2,0\n0,700,9,4 5\n")
    lines = check.path("lines", GOOD % (3, 2, "0") + GOOD % (700, 9, "4, 5"))
    got = [check.totals(tiny + ["--trace", name, "--verify", 2], OK) for name in (table, lines)]
    check.due(got[0], requests=2, finished=2, steps=9, bit_equal=True)
    check.due(got[0], **{key: got[1].get(key) for key in KEYS if key not in TIMES})
    # Two full blocks, the first shared: 16 pages, and one more each for what is generated.
    twins = check.path("twins", GOOD % (1024, 3, "4, 5") + GOOD % (1024, 3, "4, 6"))
    got = check.totals(tiny + ["--trace", twins, "--pool-pages", 26, "--verify", 3], OK,
                       "2048 tokens, 512 of them shared")
    check.due(got, waited=0, finished=2, steps=3, bit_equal=True, pages_leaked=0)
    got = check.totals(tiny + ["--trace", twins, "--pool-pages", 25, "--verify", 9], OK)
    check.due(got, waited=1, finished=2, steps=6, bit_equal=True, pages_leaked=0)
    # One arrives in the middle of the other's life, one behind everything.
    late = check.path("late", GOOD % (9, 6, "1")
                      + (GOOD % (9, 2, "2")).replace(": 0", ": 30", 1)
                      + (GOOD % (9, 1, "3")).replace(": 0", ": 9000", 1))
    got = check.totals(tiny + ["--trace", late, "--arrivals", "timed:10"], OK)
    check.due(got, steps=7, tokens=9, finished=3, waited=0)
    check.due(check.totals(tiny + ["--trace", late], OK), steps=6, finished=3)


def verified_steps(check):
    for asked, done in ((0, None), (1, 1), (2, 2), (7, 7), (63, 63), (10**9, 64)):
        word = "verify +off" if done is None else "verify +%d steps: bit_equal true" % done
        check.run(SMALL + ["--batch", 2, "--steps", 64, "--verify", asked], OK, word)


RULES = {"host-sync": "CAP001", "sync-copy": "CAP002", "pageable-copy": "CAP003",
         "stray-stream": "CAP004", "alloc-in-region": "CAP009", "early-host-read": "CAP017",
         "cache-transpose-copy": "CAP056", "host-scalar-tensor": "CAP057",
         "corrupt-workspace": "CAP031"}


def mistakes(check):
    listed = check.run(["--inject", "list"], OK)
    rows = dict(line.split()[:2] for line in listed.splitlines())
    if rows != RULES:
        check.problems.append("--inject list: %s" % rows)
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/inject.c")
    with open(source, encoding="utf-8") as file:
        lines = file.read().splitlines()
    small = SMALL + ["--batch", 4, "--steps", 16]
    for name, rule in rows.items():
        if rule == "CAP031":
            got = check.totals(small + ["--inject", name], FINDINGS, "bit_equal false",
                               r"error CAP031 .*top-k slots\[0\]\[0\]")
            check.due(got, bit_equal=False, findings=1)
            continue
        refused = name in ("host-sync", "alloc-in-region")
        for sched in ("fifo", "lazy"):
            got = check.totals(small + ["--inject", name], FINDINGS, rule, sched=sched)
            check.due(got, findings=1, bit_equal=None, steps=16, eager_steps=int(refused),
                      replays=16 - refused)
        output = check.run(small + ["--inject", name, "--verify", 4], FINDINGS,
                           "bit_equal true", r"(decode step > forward 0|replay( > plan)?): ")
        place = re.search(r"tools/inject\.c:(\d+)\D.*%s" % rule, output)
        function = "plant_" + name.replace("-", "_")
        near = lines[max(0, int(place.group(1)) - 8):int(place.group(1))] if place else []
        if not any(function in line for line in near):
            check.problems.append("%s: found at %s, planted in %s" % (
                name, place and place.group(0), function))


def arguments(check):
    check.run(["--help"], OK, "usage: refrain decode", "--inject", "--json",
              "three quarters of the memory", "columns apart by tabs")
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
            (["--geometry", "tinny"], ["tinny.* nearest is tiny"]),
            (["--geometry", "glm5"], ["nearest is glm-5"]),
            (["--layers", "62"], ["--layers 62: deepseek-v3.2 has 61"]),
            (["--geometry", "tiny", "--layers", "3"], ["--layers 3: tiny has 2"]),
            (["--layers", "0"], ["--layers 0 is outside 1 .. "]),
            (["--next-n", "0"], ["--next-n 0 is outside 1 .. 8"]),
            (["--next-n", "9"], ["--next-n 9 is outside 1 .. 8"]),
            (["--context-limit", "163841"], ["--context-limit 163841.* 163840 tokens"]),
            (["--context-limit", "1"], ["--context-limit 1 is outside 2 .. "]),
            (["--pool-pages", "0"], ["--pool-pages 0 is outside 1 .. "]),
            (["--pool-pages", "3", "--geometry", "tiny"],
             ["one request needs 128 pages, the pool has 3"]),
            (["--pool-pages", "99999999"], ["--pool-pages 99999999.* is the most"]),
            (["--layers", "61", "--requests", "64"], ["one request needs", "the pool has 6"]),
            (["--buckets", "4,2,8"], ["--buckets: 2 after 4"]),
            (["--buckets", "4,4,8"], ["--buckets: 4 after 4"]),
            (["--buckets", "2,16"], ["--buckets: 16 after 2.* --batch 8"]),
            (["--buckets", "2,4"], ["--buckets end at 4, but --batch is 8"]),
            (["--buckets", "0,8"], ["--buckets: 0 after 0"]),
            (["--buckets", "2,,8"], ["whole numbers with commas", "'2,,8'"]),
            (["--buckets", ""], ["whole numbers with commas"]),
            (["--arrivals", "open"], ["'open'", "'closed'", "timed:<ms per step>"]),
            (["--arrivals", "timed:"], ["timed: wants milliseconds"]),
            (["--arrivals", "timed:-1"], ["'-1'"]),
            (["--arrivals", "timed:nan"], ["'nan'"]),
            (["--device", "gpu"], ["'gpu'", "nearest"]),
            (["--speculative", "0"], ["--speculative '0'", "N or N:rate", "1 .. 7"]),
            (["--speculative", "8:0.5"], ["'8:0.5'", "1 .. 7"]),
            (["--speculative", "3:1.5"], ["'3:1.5'", "rate of 0 .. 1"]),
            (["--speculative", "3:nan"], ["'3:nan'"]),
            (["--speculative", "3:"], ["'3:'"]),
            (["--speculative", ""], ["--speculative ''"]),
            (["--speculative", "3", "--next-n", "3"],
             ["--speculative 3 has 4 rows a request, --next-n says 3"]),
            (["--speculative", "7", "--context-limit", "8"],
             ["needs contexts of 9 tokens, --context-limit is 8"]),
            (["--inject", "sync-cpy"], ["nearest is 'sync-copy'"]),
            (["extra"], ["unexpected argument 'extra'"]),
            (["--" + "x" * 5000, "1"], ["nearest"])):
        check.run(args, ARGUMENTS, *words)


def no_gpu(check):
    """Who asks for a GPU is told in one line what is missing, and no file is begun."""
    names = {option: check.path("none" + option) for option in
             ("--json", "--ranges", "--snapshot", "--report", "--sarif", "--html",
              "--write-baseline")}
    files = [word for pair in names.items() for word in pair]
    env = dict(os.environ, CUDA_VISIBLE_DEVICES="")
    for args in (["decode"], ["decode", "--check"], ["decode", *files], ["bench"], ["incidents"]):
        done = subprocess.run([check.program, *args, "--device", "cuda"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=env, timeout=60)
        if done.returncode != ENVIRONMENT or not re.fullmatch(NO_CUDA, done.stdout):
            check.problems.append("%s without a GPU: %d\n%s" % (args, done.returncode, done.stdout))
    left = [name for name in os.listdir(check.folder) if name.startswith("none")]
    if left:
        check.problems.append("without a GPU: left %s" % left)


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
    head = "timestamp\tinput_length\toutput_length\thash_ids\n"
    for number, (text, words) in enumerate((
            (head + "0\t9\t-2\t1\n", ':2: expected "output_length".*found "-2"'),
            (head + "0\t9\t2\t1 2\n", ':2: expected 1 "hash_ids".* of 9 tokens, found 2'),
            (head + good, ":2: expected 4 columns, found 1"),
            (head, ": expected at least one request, found none"),
            (head.replace("hash_ids", "ids"), ':1: expected column 4 as "hash_ids"'))):
        name = check.path("table%d" % number, text)
        check.run(["--trace", name], ARGUMENTS, re.escape(name) + words)
    check.run(["--trace", check.path("empty", "")], ARGUMENTS, "expected at least one request")
    check.run(["--trace", check.path("absent")], ENVIRONMENT, "No such file")
    check.run(["--trace", check.folder], ENVIRONMENT, "Is a directory")


def files(check):
    for name in ("/nonexistent/o.json", check.folder, ""):
        output = check.run(["--json", name], ENVIRONMENT, "cannot write")
        if len(output.splitlines()) != 1:
            check.problems.append("an unwritable file is named after the run:\n" + output)
    if os.path.exists("/dev/full"):
        check.run(SMALL + ["--steps", 2, "--json", "/dev/full"], ENVIRONMENT,
                  "cannot write /dev/full: No space")
        check.run(SMALL + ["--steps", 2, "--snapshot", "/dev/full"], ENVIRONMENT,
                  "cannot write /dev/full: No space")
    name = check.path("twice.json")
    check.run(SMALL + ["--json", name, "--snapshot", name], ARGUMENTS, "two outputs")
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
        few_requests(check)
        verified_steps(check)
        mistakes(check)
        arguments(check)
        no_gpu(check)
        traces(check)
        files(check)
    for problem in check.problems:
        print(problem)
    print("%d runs, %d problems" % (check.runs, len(check.problems)))
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main())
