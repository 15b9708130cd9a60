#!/usr/bin/env python3
"""The printed reports of `refrain decode` and `refrain bench` as JSON, with or without jansson.

    report.py decode LOG JSON    exit status 1 unless the run is verified and clean
    report.py bench LOG JSON
    report.py table TRACE TABLE  a trace of JSON lines as the table that --trace takes too
    report.py self-test PROGRAM  the reports say what --json does (needs jansson)
"""
import json
import os
import re
import subprocess
import sys
import tempfile

TRACE = ("timestamp", "input_length", "output_length", "hash_ids")
# A name, and what stands where its numbers are; every line of the report is due.
DECODE = (
    (r"decode (\S+) on (\S+) \((.*)\), (\d+) layers, (\d+) requests, batch (\d+), (\d+) pages, "
     r"seed (\d+)", "geometry device device_name layers requests batch pages seed"),
    (r" +total +(\d+) +(\d+) +([\d.]+)%", "replays live_rows padding_percent"),
    (r"  requests +\d+, (\d+) admitted, (\d+) finished, (\d+) waited", "admitted finished waited"),
    (r"  steps +(\d+), (\d+) tokens, (\d+) tokens/s", "steps tokens tokens_per_s"),
    (r"  speculative +(\d+) drafts, (\d+) accepted, ([\d.]+) tokens a request and step",
     "draft_tokens accepted_tokens tokens_per_request_step"),
    (r"  a step +update (\d+) us, replay (\d+) us \(launch ([\d.]+)\), host (\d+) us",
     "update_us replay_us launch_us host_us_per_step"),
    (r"  prompts +(\d+) tokens, (\d+) of them shared, packed in ([\d.]+) s",
     "prompt_tokens shared_tokens prompt_s"),
    (r"  graphs +(\d+) captured in ([\d.]+) s, (\d+) KiB each; first replay after ([\d.]+) s",
     "graphs capture_s graph_kib first_replay_s"),
    (r"  memory +([\d.]+) MiB device \(\d+ pages, (-?\d+) leaked\), ([\d.]+) MiB pinned",
     "device_mib pages_leaked pinned_mib"),
    (r"  verify +(\d+) steps: bit_equal (\w+); (\d+) rows against double: O (\S+) relative L2, "
     r"LSE (\S+), (\d+) near-ties",
     "verified_steps bit_equal sampled_rows max_rel_err max_lse_err near_ties"),
    (r"  findings +(\d+)", "findings"),
)
DUE = {"findings": 0, "bit_equal": True, "pages_leaked": 0}
OPS = ("us mb gb_per_s memory_percent gflop_per_s fp32_percent matrix_percent mscore_per_s "
       "isa").split()
LAYER = ("requests next_n context us best_us mb gb_per_s memory_percent gflop_per_s "
         "matrix_percent nodes_per_layer layers sets peers_us of_peers").split()


def value(word):
    """A word of a table: a number, a share, nothing, or itself."""
    if word in ("true", "false", "-"):
        return {"true": True, "false": False, "-": None}[word]
    for kind in (int, float):
        try:
            return kind(word.rstrip("%"))
        except ValueError:
            pass
    return word


def decode(text):
    got, missing = {}, []
    for pattern, names in DECODE:
        found = re.search("^" + pattern, text, re.M)
        if found:
            got.update(zip(names.split(), map(value, found.groups())))
        elif names.startswith("draft"): # a line of speculative runs
            got.update(draft_tokens=0, accepted_tokens=0)
        elif not names.startswith("verified") or "  verify        off" not in text:
            missing.append("FAIL no line of %s" % names)
    return got, missing


def bench(text):
    """Sections begin with a header line; rows of words and numbers two spaces apart."""
    head = text.splitlines()[:1]
    got = {"what": head[0] if head else "", "passes": []}
    section = None
    for line in text.splitlines()[1:]:
        words = re.split(r"\s{2,}", line.strip())
        if line and not line.startswith((" ", "load ")):
            got["passes"].append({"device": line, "rates": [], "cases": [], "layers": [],
                                  "step": [], "left_out": []})
            section = "rates"
        elif not line.strip() or line.startswith("load "):
            got["load"] = line if line.startswith("load ") else got.get("load")
        elif ": left out: " in line:
            got["passes"][-1]["left_out"].append(line.strip())
        elif words[:2] == ["op", "case"]:
            section = "cases"
        elif words[0] == "requests":
            section = "layers"
        elif words[0] == "a step beside its layers":
            section = "step"
        elif words[0].startswith("a layer in a graph"):
            continue
        elif section == "rates":
            got["passes"][-1]["rates"].append(line.strip())
        elif section == "cases":
            row = dict(zip(("op", "case", "shape"), words))
            row.update(zip(OPS, map(value, " ".join(words[3:]).split())))
            got["passes"][-1]["cases"].append(row)
        elif section == "layers":
            got["passes"][-1]["layers"].append(dict(zip(LAYER, map(value, line.split()))))
        elif section == "step":
            what, median, best, unit, of = words
            got["passes"][-1]["step"].append({"what": what, "median": value(median), "best":
                                              value(best), "unit": unit, "of": of})
    missing = [] if got["passes"] and "load" in got else ["FAIL the report is not whole"]
    return got, missing


def table(trace, name):
    with open(trace, encoding="utf-8") as lines, open(name, "w", encoding="utf-8") as out:
        out.write("\t".join(TRACE) + "\n")
        for line in filter(str.strip, lines):
            row = json.loads(line)
            out.write("%d\t%d\t%d\t" % tuple(row[key] for key in TRACE[:3])
                      + " ".join(map(str, row["hash_ids"])) + "\n")


def close(a, b, digits):
    return a == b or (isinstance(a, (int, float)) and isinstance(b, (int, float))
                      and abs(a - b) <= 10 ** -digits * (1 + abs(b)))


def self_test(program):
    """What is read from the report is what the program writes as JSON, to the digits shown."""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "o.json")

        def both(*args):
            done = subprocess.run([program, *args, "--json", name], stdout=subprocess.PIPE,
                                  text=True, check=True,
                                  env=dict(os.environ, OMP_WAIT_POLICY="passive"))
            with open(name, encoding="utf-8") as file:
                return done.stdout, json.load(file)

        text, due = both("decode", "--device", "host", "--geometry", "tiny", "--verify", "3",
                         "--steps", "4", "--speculative", "2")
        got, missing = decode(text)
        problems += missing
        if not 0 < due["accepted_tokens"] == got["accepted_tokens"] < got["draft_tokens"]:
            problems.append("decode, speculative: %s, not %s" % (got, due))
        text, due = both("decode", "--device", "host", "--geometry", "tiny", "--verify", "3")
        got, missing = decode(text)
        problems += missing
        for key in set(due) - {"buckets_used", "padding_waste", "eager_steps", "graph_bytes"}:
            digits = 2 if "max" in key or key.endswith("_s") else 0
            if not close(got.get(key), due[key], digits):
                problems.append("decode, %s: %s, not %s" % (key, got.get(key), due[key]))
        if not decode(text.replace("  findings ", "  finding "))[1]:
            problems.append("a report without its findings is taken for whole")

        text, due = both("bench", "--geometry", "tiny", "--rows", "2", "--context", "256",
                         "--seconds", "0.001", "--threads", "1")
        got, missing = bench(text)
        problems += missing
        one = got["passes"][0] if len(got["passes"]) == 1 else {}
        for part, pairs in (
                ("cases", (("op", "op"), ("case", "case"), ("shape", "shape"), ("isa", "isa"),
                           ("us", "median_us"))),
                ("layers", (("requests", "requests"), ("context", "context"),
                            ("us", "median_us"), ("best_us", "best_us"), ("sets", "sets"),
                            ("nodes_per_layer", "nodes_per_layer"),
                            ("peers_us", "peers_us"))),
                ("step", (("what", "what"), ("median", "median"), ("unit", "unit"),
                          ("of", "of")))):
            rows = one.get(part, [])
            if len(rows) != len(due[part]) or not rows:
                problems.append("%s: %d rows, not %d" % (part, len(rows), len(due[part])))
            for row, want in zip(rows, due[part]):
                for mine, its in pairs:
                    if not close(row.get(mine), want[its], 1):
                        problems.append("%s, %s: %s, not %s" % (part, mine, row.get(mine),
                                                                want[its]))
    for problem in problems:
        print(problem)
    print("%d problems" % len(problems))
    return 1 if problems else 0


def main():
    what, source = sys.argv[1:3]
    if what == "self-test":
        return self_test(source)
    if what == "table":
        return table(source, sys.argv[3]) or 0
    with open(source, encoding="utf-8", errors="replace") as file:
        got, wrong = {"decode": decode, "bench": bench}[what](file.read())
    if what == "decode":
        wrong += ["FAIL %s is %s, not %s" % (key, got.get(key), due)
                  for key, due in DUE.items() if got.get(key) != due]
    with open(sys.argv[3], "w", encoding="utf-8") as file:
        json.dump(got, file, indent=1)
        file.write("\n")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
