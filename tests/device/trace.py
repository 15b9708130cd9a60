#!/usr/bin/env python3
"""`refrain decode` on a real request trace: verified, no findings, nothing leaked.

    trace.py PROGRAM TRACE      skipped when TRACE is ""
"""
import json
import os
import subprocess
import sys
import tempfile

# To the end: requests have to wait for pages, and the batch thins out at the end.
TINY = ("--geometry tiny --context-limit 1500 --requests 64 --steps 0 --batch 32 "
        "--pool-pages 500 --verify 16")
TINY_DUE = {"requests": 64, "finished": 64}
# The default model, at the lengths that the trace has.
LARGE = "--layers 1 --requests 2 --batch 2 --steps 4 --verify 2"
LARGE_DUE = {"geometry": "deepseek-v3.2", "layers": 1, "steps": 4}
DUE = {"findings": 0, "bit_equal": True, "pages_leaked": 0, "eager_steps": 0}


def run(program, trace, args, due):
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "o.json")
        command = [program, "decode", "--device", "host", "--trace", trace, "--json", name]
        status = subprocess.run(command + args.split(), stderr=subprocess.STDOUT).returncode
        if status:
            return {}, ["exit status %d" % status]
        with open(name, encoding="utf-8") as file:
            got = json.load(file)
    return got, ["%s is %s, not %s" % (key, got.get(key), value)
                 for key, value in {**DUE, **due}.items() if got.get(key) != value]


def main():
    program, trace = sys.argv[1:]
    if not trace:
        print("skipped: no trace, see the option `trace`")
        return 77
    got, wrong = run(program, trace, TINY, TINY_DUE)
    if not wrong and not (got["buckets_used"] >= 5 and got["waited"] >= 1):
        wrong.append("%d buckets were used, %d requests waited" % (
            got["buckets_used"], got["waited"]))
    wrong += run(program, trace, LARGE, LARGE_DUE)[1]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
