#!/usr/bin/env python3
"""Compares two recordings of the driver row by row, but for its words in the last column.

    recordings.py OLD NEW
"""
import csv
import sys


def read(name):
    with open(name, newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.reader(line for line in file if not line.startswith("#")))
    return {tuple(row[:3]): row[3:] for row in rows[1:]}


def main():
    old, new = read(sys.argv[1]), read(sys.argv[2])
    both = sorted({**old, **new})
    wrong = [key for key in both
             if key not in old or key not in new or old[key][:-1] != new[key][:-1]]
    for key in wrong:
        print("FAIL %s: %s, but recorded is %s" % (
            " ".join(key), ",".join(new.get(key, ["no row", ""])[:-1]),
            ",".join(old.get(key, ["no row", ""])[:-1])))
    print("the driver's words differ in %d rows" % sum(
        old[key][-1:] != new[key][-1:] for key in both if key in old and key in new))
    print("%d passed, %d failed" % (len(both) - len(wrong), len(wrong)))
    return 1 if wrong or not old else 0


if __name__ == "__main__":
    sys.exit(main())
