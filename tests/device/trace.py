#!/usr/bin/env python3
"""`refrain decode` on a real request trace: verified, no findings, nothing leaked.

    trace.py PROGRAM TRACE      skipped when TRACE is ""
"""
import json
import os
import subprocess
import sys
import tempfile

ARGS = ["--geometry", "tiny", "--requests", "16", "--steps", "64", "--verify", "16"]
DUE = {"findings": 0, "bit_equal": True, "pages_leaked": 0, "eager_steps": 0, "steps": 64}


def main():
    program, trace = sys.argv[1:]
    if not trace:
        print("skipped: no trace, see the option `trace`")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "o.json")
        status = subprocess.run([program, "decode", "--trace", trace, "--json", name]
                                + ARGS, stderr=subprocess.STDOUT).returncode
        wrong = ["exit status %d" % status] if status else []
        with open(name, encoding="utf-8") as file:
            got = json.load(file)
    wrong += ["%s is %s, not %s" % (key, got.get(key), value)
              for key, value in DUE.items() if got.get(key) != value]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
