#!/usr/bin/env python3
"""How often each rule fired where it should and was silent where it should, and whether that
is what the table says.

    counts.py [--write] TABLE SCHEDULES PROGRAM...

Every program capNNN_*bad and capNNN_*good runs under every schedule (with commas between). A
bad one counts as fired when it gave exactly its rule's finding, a good one as silent when it
gave none; any other end is an error. --write replaces the table.
"""
import os
import re
import subprocess
import sys

HEAD = "rule\tbad programs\tfired\tgood programs\tsilent\n"


def verdict(program, schedule):
    env = dict(os.environ, RFN_HOST_SCHED=schedule)
    run = subprocess.run([program], env=env, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, timeout=120, check=False)
    text = run.stdout.decode(errors="replace")
    said = re.findall(r"^verdict (\w+)$", text, re.M)
    # What is found in a graph stands beside the verdict on the calls.
    said += re.findall(r": (?:error|warning|info) (CAP\d{3}) ", text)
    return run.returncode, said


def count(programs, schedules):
    rows, wrong = {}, []
    for program in sorted(programs):
        name = os.path.basename(program).replace("capture_", "", 1)
        parts = re.match(r"(cap\d{3})_(?:\w+_)?(bad|good)(?:\.exe)?$", name)
        if not parts:
            continue
        rule, bad = parts.group(1).upper(), parts.group(2) == "bad"
        row = rows.setdefault(rule, [0, 0, 0, 0])
        row[0 if bad else 2] += 1
        want = rule if bad else "silent"
        for schedule in schedules:
            code, said = verdict(program, schedule)
            # A good one that prints nothing of the kind has its exit code.
            if code or (bad and want not in said) or set(said) - {"silent", want}:
                wrong.append("%s under %s: exit code %d, verdict %s" % (
                    name, schedule, code, " ".join(said) or "none"))
            else:
                row[1 if bad else 3] += 1
    for rule, row in rows.items():
        if not row[0] or not row[2]:
            wrong.append("%s has %d bad and %d good programs" % (rule, row[0], row[2]))
    return rows, wrong


def main():
    args = sys.argv[1:]
    write = args[0] == "--write"
    table, schedules, programs = args[write], args[write + 1].split(","), args[write + 2:]
    rows, wrong = count(programs, schedules)
    text = HEAD + "".join("%s\t%d\t%d\t%d\t%d\n" % (rule, *rows[rule])
                          for rule in sorted(rows))
    for line in wrong:
        print("FAIL " + line)
    if write and not wrong:
        with open(table, "w", encoding="utf-8") as file:
            file.write(text)
    with open(table, encoding="utf-8") as file:
        there = file.read()
    if there != text:
        print("FAIL %s is not what the programs did; counts.py --write makes it:\n%s" % (
            os.path.basename(table), text))
    print("%d rules: %d times fired, %d times silent" % (
        len(rows), sum(r[1] for r in rows.values()), sum(r[3] for r in rows.values())))
    return 1 if wrong or there != text else 0


if __name__ == "__main__":
    sys.exit(main())
