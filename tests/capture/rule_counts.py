#!/usr/bin/env python3
"""Runs the known-answer programs and counts, a rule: how many bad ones fired exactly it, how many
good ones were silent. `refrain graph rules --counts` shows the file.

    rule_counts.py [options] REFRAIN OUT PROGRAM...    called cap001_bad or cap005_host_good
        --device cuda    where they run (host)
        --least N        so many rules have to fire, a skipped program is none (0)
        --json FILE      the same in a line for people and in numbers
    rule_counts.py --self-test REFRAIN     programs that do something else, files that are none

The verdict is taken from the findings that a program prints, beside its exit status. Ends with 1
when a rule of the library has no bad or no good program, or one did not do what is due.
"""
import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile

FINDING = re.compile(r"^(?:\(no site\)|[^\s:]+:\d+): (?:error|warning|info) (CAP\d{3}) ", re.M)
PROGRAM = re.compile(r"(?:capture_)?((cap\d{3})_(?:\w+_)?(bad|good))(?:\.exe)?$")
HEADER = "rule\tclass\tbad\tfired\tgood\tsilent\tprograms\n"
SKIPPED = 77


def rules_of(refrain):
    done = subprocess.run([refrain, "graph", "rules", "--json"], stdout=subprocess.PIPE,
                          text=True, check=True)
    return {rule["id"]: rule["class"] for rule in json.loads(done.stdout)["rules"]}


def sort_out(paths):
    """{rule: {"bad": {name: path}, "good": ...}}; other programs are left out."""
    found = {}
    for path in paths:
        match = PROGRAM.match(os.path.basename(path))
        if match:
            sides = found.setdefault(match.group(2).upper(), {"bad": {}, "good": {}})
            sides[match.group(3)][match.group(1)] = path
    return found


def run(path, device):
    done = subprocess.run([path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100,
                          check=False, env=dict(os.environ, RFN_TEST_DEVICE=device))
    text = done.stdout.decode(errors="replace")
    why = re.search(r"^skip .*: no .*", text, re.M) # no device
    return done.returncode, set(FINDING.findall(text)), why.group() if why else ""


def missing(rules, programs):
    problems = ["%s has no %s program" % (rule, side) for rule in sorted(rules)
                for side in ("bad", "good") if not programs.get(rule, {}).get(side)]
    return problems + ["%s: no such rule, but it has programs" % rule
                       for rule in sorted(set(programs) - set(rules))]


def count(rules, programs, device):
    """Lines of the file, and what did not do what is due; no lines without a device."""
    lines, problems = [], []
    jobs = [(rule, side, name, path) for rule in sorted(rules)
            for side in ("bad", "good") for name, path in sorted(programs[rule][side].items())]
    with concurrent.futures.ThreadPoolExecutor(2 if device == "host" else 8) as pool:
        ends = dict(zip([job[:3] for job in jobs],
                        pool.map(lambda job: run(job[3], device), jobs)))
    why = next((end[2] for end in ends.values() if end[2]), "")
    if why and all(end[0] == SKIPPED for end in ends.values()):
        return [], [why]
    for rule in sorted(rules):
        row = [rule, rules[rule]]
        names = []
        for side in ("bad", "good"):
            due = {rule} if side == "bad" else set()
            mine = sorted(programs[rule][side])
            right = 0
            for name in mine:
                status, fired, _ = ends[rule, side, name]
                names.append(name)
                if status == 0 and fired == due:
                    right += 1
                elif status == SKIPPED:
                    names[-1] += " (skipped)"
                else:
                    problems.append("%s: exit status %d, fired %s, not %s" % (
                        name, status, " ".join(sorted(fired)) or "nothing",
                        " ".join(due) or "nothing"))
            row += [str(len(mine)), str(right)]
        lines.append("\t".join(row + [" ".join(names)]) + "\n")
    return lines, problems


def write(path, text):
    temporary = "%s.%d.tmp" % (path, os.getpid())
    with open(temporary, "w") as file:
        file.write(text)
    os.replace(temporary, path)


def numbers(lines, device):
    """What came out, and the same in a line."""
    cells = [line.split("\t") for line in lines]
    got = {
        "rules": len(cells),
        "rules_fired": sum(int(row[3]) > 0 for row in cells),
        "bad_fired": sum(int(row[3]) for row in cells),
        "good_silent": sum(int(row[5]) for row in cells),
        "rules_skipped": [row[0] for row in cells if row[3] == "0" and "(skipped)" in row[6]],
    }
    got["summary"] = "%d of %d rules fired on %s: %d bad programs, %d good ones silent%s" % (
        got["rules_fired"], got["rules"], device, got["bad_fired"], got["good_silent"],
        "; skipped: " + " ".join(got["rules_skipped"]) if got["rules_skipped"] else "")
    return got


def check(refrain, out, paths, device="host", least=0, js=None):
    """Problems; prints the table."""
    rules, programs = rules_of(refrain), sort_out(paths)
    problems = missing(rules, programs)
    if problems:
        return problems
    lines, problems = count(rules, programs, device)
    if not lines:
        print(problems[0])
        sys.exit(SKIPPED)
    write(out, HEADER + "".join(lines))
    got = numbers(lines, device)
    if js:
        write(js, json.dumps(got) + "\n")
    done = subprocess.run([refrain, "graph", "rules", "--counts", out], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, end="")
    if done.returncode:
        problems.append("refrain graph rules --counts ends with %d" % done.returncode)
    if got["rules_fired"] < least:
        problems.append("%d rules fired, but %d are due" % (got["rules_fired"], least))
    print(got["summary"])
    return problems


# ---- the self-test ------------------------------------------------------------------------

def program(folder, name, fires=(), status=0):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write("#!/bin/sh\n" + "".join(
            "echo 'step.c:7: error %s a-name (proved): why. Fix: fix. []'\n" % rule
            for rule in fires) + "exit %d\n" % status)
    os.chmod(path, 0o755)
    return path


def planted(refrain, folder):
    """(what, changes to a good set of programs, the problem that is due or None)"""
    rules = sorted(rules_of(refrain))
    first, second = rules[:2]
    name = "capture_%s_bad" % first.lower()
    good = name.replace("bad", "good")
    plants = [
        ("nothing", {}, None),
        ("no bad program", {name: None}, "%s has no bad program" % first),
        ("no good program", {good: None}, "%s has no good program" % first),
        ("nothing fires", {name: program(folder, "1", ())}, "fired nothing, not " + first),
        ("another rule fires", {name: program(folder, "2", [second])}, "fired " + second),
        ("two rules fire", {name: program(folder, "3", [first, second])}, "fired"),
        ("a good one fires", {good: program(folder, "4", [first])}, "not nothing"),
        ("a bad one fails", {name: program(folder, "5", [first], 1)}, "exit status 1"),
        ("a good one skips", {good: program(folder, "6", (), SKIPPED)}, None),
        ("a rule that is none", {"capture_cap999_bad": program(folder, "7", ["CAP999"])},
         "CAP999: no such rule"),
    ]
    whole = {}
    for rule in rules:
        for side, fires in (("bad", [rule]), ("good", [])):
            base = "capture_%s_%s" % (rule.lower(), side)
            whole[base] = program(folder, base, fires)
    for what, changes, due in plants:
        paths = []
        for base, path in dict(whole, **changes).items():
            if path and os.path.basename(path) != base:
                place = tempfile.mkdtemp(dir=folder)
                os.symlink(path, os.path.join(place, base))
                path = os.path.join(place, base)
            paths += [path] if path else []
        yield what, paths, due


def bad_files(good):
    """(what, bytes, words of the error line)"""
    lines = good.splitlines(True)
    cells = lines[1].split("\t")
    return [
        ("empty", "", "empty"),
        ("no header", "".join(lines[1:]), "first line"),
        ("cut", good[:-3], "cut"),
        ("another rule", good.replace(cells[0], "CAP0001", 1), "the nearest is '%s'" % cells[0]),
        ("twice", good + lines[1], "second line"),
        ("another class", good.replace("\tproved\t", "\theuristic\t", 1), "another version"),
        ("no count", lines[0] + "\t".join(cells[:2] + ["x"] + cells[3:]), "no count: 'x'"),
        ("few columns", lines[0] + "\t".join(cells[:3]) + "\n", "less than 7"),
        ("many columns", lines[0] + lines[1].rstrip("\n") + "\t1\n", "more than 7"),
        ("bytes", "\0\1\2\n", "a byte is 0"),
        ("more than all", lines[0] + "\t".join(cells[:3] + ["7"] + cells[4:]), "7 of 1 bad"),
        ("a long line", lines[0] + "x" * 5000 + "\n", "5000 bytes"),
        ("a large file", lines[0] * 30000, "more than 1048576"),
    ]


def few(refrain, folder, out):
    """A rule whose bad program is skipped has not fired; the device is handed on."""
    rules = sorted(rules_of(refrain))
    place = tempfile.mkdtemp(dir=folder)
    paths = []
    for rule in rules:
        base = "capture_%s_" % rule.lower()
        paths += [program(place, base + "bad", [rule]), program(place, base + "good")]
    with open(paths[0], "w") as file:
        file.write('#!/bin/sh\n[ "$RFN_TEST_DEVICE" = cuda ] && exit %d\n' % SKIPPED)
    js = os.path.join(place, "numbers.json")
    due = len(rules) - 1
    failed = ["few: " + line for line in check(refrain, out, paths, "cuda", due, js)]
    with open(js) as file:
        got = json.load(file)
    if got["rules_fired"] != due or got["rules_skipped"] != rules[:1]:
        failed.append("few: %s" % got)
    if not any("are due" in line for line in check(refrain, out, paths, "cuda", due + 1)):
        failed.append("few: %d rules fired, and %d are enough" % (due, due + 1))
    return failed


def self_test(refrain):
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "counts.tsv")
        failed += few(refrain, folder, out)
        for what, paths, due in planted(refrain, folder):
            found = check(refrain, out, paths)
            if (not found) != (due is None) or due and not any(due in line for line in found):
                failed.append("%s: %s" % (what, "; ".join(found) or "nothing found"))
        with open(out) as file:
            good = file.read()
        for what, text, words in bad_files(good):
            with open(out, "w") as file:
                file.write(text)
            done = subprocess.run([refrain, "graph", "rules", "--counts", out], check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if (done.returncode != 2 or words not in done.stderr or done.stdout
                    or done.stderr.count("\n") != 1):
                failed.append("file %s: %d, %s" % (what, done.returncode, done.stderr))
    return failed


def main():
    if sys.argv[1] == "--self-test":
        problems = self_test(sys.argv[2])
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("--device", default="host")
        parser.add_argument("--least", type=int, default=0)
        parser.add_argument("--json")
        parser.add_argument("refrain")
        parser.add_argument("out")
        parser.add_argument("programs", nargs="+")
        args = parser.parse_args()
        problems = check(args.refrain, args.out, args.programs, args.device, args.least,
                         args.json)
    for problem in problems:
        print("FAIL " + problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
