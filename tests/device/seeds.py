#!/usr/bin/env python3
"""Runs a program under RFN_HOST_SCHED=random:<seed> for N seeds; names the first that fails.

    seeds.py [--seeds N] [--first SEED] [--expect-fail] PROGRAM [ARGS...]

--expect-fail turns it round: every program run may pass, but at least one must fail. It is
how a planted mistake is shown to be found. Exit status: 0, 1, or 77 when the program skips.
"""
import argparse
import os
import subprocess
import sys

USUAL = 50  # $RFN_TEST_SEEDS stands for so many; who runs fewer runs fewer of those


def run(command, seed, timeout_s):
    env = dict(os.environ, RFN_HOST_SCHED="random:%d" % seed)
    try:
        done = subprocess.run(command, env=env, timeout=timeout_s, text=True,
                              errors="replace", stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        return "no end after %d s" % timeout_s, ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--timeout", type=int, default=60)
    parser.add_argument("--expect-fail", action="store_true")
    parser.add_argument("program")
    parser.add_argument("args", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command = [args.program] + args.args
    if not args.expect_fail:
        wanted = int(os.environ.get("RFN_TEST_SEEDS", USUAL))
        args.seeds = max(1, args.seeds * wanted // USUAL)

    for seed in range(args.first, args.first + args.seeds):
        code, output = run(command, seed, args.timeout)
        if code == 77:
            print(output, end="")
            return 77
        if code == 0:
            continue
        if args.expect_fail:
            print("seed %d finds it: exit status %s" % (seed, code))
            return 0
        print(output, end="")
        print("seed %d failed: %s" % (seed, code))
        print("replay it: RFN_HOST_SCHED=random:%d %s" % (seed, " ".join(command)))
        return 1
    if args.expect_fail:
        print("%d seeds, none failed: the mistake was not found" % args.seeds)
        return 1
    print("%d seeds passed" % args.seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
