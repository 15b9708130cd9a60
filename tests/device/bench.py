#!/usr/bin/env python3
"""What `refrain bench` promises to programs: exit status, JSON, hints for what is misspelt.

    bench.py PROGRAM
"""
import glob
import json
import math
import os
import re
import subprocess
import sys
import tempfile

OK, ENVIRONMENT, ARGUMENTS = 0, 1, 2
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
KEYS = ("version commit command device cpu cores geometry rows context seconds load rates "
        "cases layers step left_out").split()
RATE_KEYS = ("device threads isa read_gb_per_s copy_gb_per_s fp32_gflop_per_s "
             "matrix_gflop_per_s matrix_by").split()
CASE_KEYS = ("op case shape threads isa repeats median_us best_us bytes_read bytes_written "
             "flops gb_per_s gflop_per_s scores_per_s memory_share fp32_share "
             "matrix_share").split()
LAYER_KEYS = ("threads requests next_n context layers sets nodes_per_layer repeats median_us "
              "best_us bytes_read bytes_written flops gb_per_s gflop_per_s memory_share "
              "matrix_share peers_us of_peers").split()
STEP_KEYS = "threads what unit median best repeats of".split()
STEP = ["update", "capture", "instantiate", "upload", "launch, host time",
        "launch, after a wait", "destroy", "nodes", "ladder", "memory of a graph",
        "replay, host time, unchanged", "replay, after a wait, unchanged",
        "replay, host time, grown", "replay, after a wait, grown", "replay, after a wait, whole"]
TINY = ["--geometry", "tiny", "--rows", 2, "--context", 256, "--seconds", 0.001]


class Check:
    def __init__(self, program, folder):
        self.program = program
        self.folder = folder
        self.problems = []
        self.runs = 0

    def run(self, args, status, *words, **env):
        """Runs bench; status and every word (a regular expression) are due."""
        self.runs += 1
        args = ["bench"] + [str(a) for a in args]
        done = subprocess.run([self.program] + args, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              env=dict(os.environ, OMP_WAIT_POLICY="passive", **env),
                              timeout=120)
        missing = [word for word in words if not re.search(word, done.stdout)]
        if done.returncode != status or missing:
            self.problems.append("%s: status %d, not %d; missing %s:\n%s" % (
                " ".join(args)[:200], done.returncode, status, missing, done.stdout))
        return done.stdout

    def due(self, what, got, expected):
        if got != expected:
            self.problems.append("%s is %s, not %s" % (what, got, expected))

    def json(self, args, *words, **env):
        name = os.path.join(self.folder, "bench.json")
        self.run(TINY + list(args) + ["--json", name], OK, *words, **env)
        try:
            with open(name, encoding="utf-8") as file:
                got = json.load(file)
            os.unlink(name)
        except (OSError, ValueError) as error:
            self.problems.append("%s: no JSON: %s" % (args, error))
            return {"rates": [], "cases": [], "layers": [], "step": []}
        self.due("the folder", os.listdir(self.folder), [])
        self.due("the keys", list(got), KEYS)
        for rate in got["rates"]:
            self.due("the keys of a rate", list(rate), RATE_KEYS)
        for case in got["cases"]:
            self.due("the keys of a case", list(case), CASE_KEYS)
        for layer in got.get("layers", []):
            self.due("the keys of a layer", list(layer), LAYER_KEYS)
        for value in got.get("step", []):
            self.due("the keys of a step's value", list(value), STEP_KEYS)
        return got


def words_of(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def whole_run(check):
    """Every op of the library, its instruction set, and numbers that agree."""
    got = check.json(["--threads", 1, "--commit", "c0ffee"], "host, 1 thread, ", "sparse_mla",
                     "load [0-9.]+ at the start")
    ops = set(re.findall(r"^RFN_OP\((\w+)\)", words_of("kernels/ops.def"), re.M))
    check.due("the ops", {case["op"] for case in got["cases"]}, ops)
    check.due("commit", got.get("commit"), "c0ffee")
    check.due("geometry", got.get("geometry"), "tiny")
    check.due("left_out", got.get("left_out"), [])
    check.due("command", got.get("command", [])[:4], ["refrain", "bench", "--geometry", "tiny"])
    check.due("hard rows", [case["case"] for case in got["cases"] if case["op"] == "index_topk"],
              ["random", "all equal", "one fp16 bin", "ascending"])
    vectors = {os.path.basename(name)[:-2] for name in glob.glob(ROOT + "/kernels/*.c")
               if '"kernels/isa.h"' in words_of(os.path.relpath(name, ROOT))}
    rate = got["rates"][0] if got["rates"] else None
    for case in got["cases"] if rate else []:
        where = "%s, %s: " % (case["op"], case["case"])
        seconds = case["median_us"] * 1e-6
        memory = max(rate["read_gb_per_s"], rate["copy_gb_per_s"])
        due = [(case["gb_per_s"], (case["bytes_read"] + case["bytes_written"]) / seconds * 1e-9),
               (case["gflop_per_s"], case["flops"] / seconds * 1e-9),
               (case["memory_share"], case["gb_per_s"] / memory)]
        if case["flops"] > 0:
            due.append((case["fp32_share"],
                        case["gflop_per_s"] / rate["fp32_gflop_per_s"][rate["isa"]]))
            if rate["matrix_gflop_per_s"] is not None:
                due.append((case["matrix_share"],
                            case["gflop_per_s"] / rate["matrix_gflop_per_s"]))
        else:
            check.due(where + "share", (case["fp32_share"], case["matrix_share"]), (None, None))
        for a, b in due:
            if not math.isclose(a, b, rel_tol=1e-6):
                check.problems.append("%s%s is not %s" % (where, a, b))
        check.due(where + "threads", case["threads"], 1)
        check.due(where + "isa", case["isa"],
                  rate["isa"] if case["op"] in vectors else "base")
        if not (case["repeats"] >= 3 and 0 < case["best_us"] <= case["median_us"]
                and case["bytes_read"] > 0 and case["bytes_written"] > 0):
            check.problems.append("%s%s" % (where, case))


def layers_and_steps(check):
    """The parts beside ops: a layer's graph, its bytes from the ops' own costs, a step."""
    args = ["--threads", 1, "--part"]
    got = check.json(args + ["layer"], "peers_us")
    check.due("parts", (got["cases"], got["step"]), ([], []))
    check.due("layers", [(row["requests"], row["next_n"], row["context"], row["layers"],
                          row["nodes_per_layer"], row["peers_us"], row["of_peers"])
                         for row in got["layers"]], [(2, 1, 256, 2, 6, None, None)])
    # Rows of 2: packed, scored over 256 of 132 bytes, 64 of 656 chosen; 8 heads, 4 of the index.
    pack = 2 * (2 * 576 + 8 + 656) + 2 * (2 * 128 + 8 + 132) + 2 * 4 * (2 * 128 + 2 + 128 + 4)
    score = 2 * (4 * (128 + 4) + 256 * 132) + 2 * 4 * 2 * 256 + 4 * 2 * 2 + 4 * 2 * 64
    mla = 2 * 2 * 8 * (576 + 512) + 4 * 2 * 8 + 2 * 64 * (4 + 656)
    for row in got["layers"]:
        check.due("bytes of a layer", row["bytes_read"] + row["bytes_written"],
                  pack + score + mla)
        seconds = row["median_us"] * 1e-6
        if not (row["repeats"] >= 3 and 0 < row["best_us"] <= row["median_us"] and math.isclose(
                row["gb_per_s"] * 1e9, (pack + score + mla) / seconds, rel_tol=1e-6)):
            check.problems.append("%s" % row)
    # A context up to top-k is not scored.
    short = check.json(args + ["layer", "--context", 64])
    check.due("nodes of a short layer", [row["nodes_per_layer"] for row in short["layers"]], [4])
    got = check.json(args + ["step"], "a step beside its layers")
    check.due("parts", (got["cases"], got["layers"]), ([], []))
    check.due("values", [row["what"] for row in got["step"]], STEP)
    values = {row["what"]: row["median"] for row in got["step"]}
    check.due("nodes of a step", values.get("nodes"), 1 + 2 * 6)
    if min(values.values(), default=0) <= 0:
        check.problems.append("%s" % values)


def choices(check):
    """One op, forced instruction set, both numbers of threads."""
    got = check.json(["--op", "mla_combine"], "mla_combine", RFN_HOST_ISA="base")
    threads = list(range(1, 1 + min(2, got.get("cores", 0))))
    check.due("threads", [rate["threads"] for rate in got["rates"]], threads)
    check.due("the cases", [(case["op"], case["threads"]) for case in got["cases"]],
              [("mla_combine", n) for n in threads])
    check.due("the set", {rate["isa"] for rate in got["rates"]}, {"base"})
    check.due("commit", got.get("commit"), None)
    got = check.json(["--op", "step_update", "--commit", os.fsdecode(b"a\xffb")])
    check.due("bytes of no character", (got.get("commit"), got.get("command", [])[-3]),
              ("a?b", "a?b"))
    for sched in ("lazy", "random:3"):
        check.run(TINY + ["--op", "step_update", "--threads", 1], OK, "R 2, next_n 1",
                  RFN_HOST_SCHED=sched)


def arguments(check):
    check.run(["--help"], OK, "usage: refrain bench", "--geometry", "--json", "medians")
    for args, words in (
            (["--opp", "3"], ["no option '--opp'; the nearest is '--op'"]),
            (["--op", "sparse_mlaa"], ["no op 'sparse_mlaa'; the nearest is 'sparse_mla'"]),
            (["--op", ""], ["no op ''"]),
            (["--part", "layers"], ["no part 'layers'; the nearest is 'layer'"]),
            (["--geometry", "tinny"], ["no geometry 'tinny'; the nearest is 'tiny'"]),
            (["--device", "gpu"], ["no device 'gpu'; the nearest is"]),
            (["--rows", 0], ["--rows 0 is outside 1 .. 256"]),
            (["--rows", 257], ["--rows 257 is outside 1 .. 256"]),
            (["--context", 0], ["--context 0 is outside 1 .. "]),
            (["--context", 8193, "--geometry", "tiny"], ["--context 8193 is above the 8192"]),
            (["--threads", 0], ["--threads 0 is outside 1 .. 256"]),
            (["--threads", "two"], ["--threads wants a whole number, not 'two'"]),
            (["--seconds", "1s"], ["--seconds wants a number, not '1s'"]),
            (["--seconds", ""], ["--seconds wants a number, not ''"]),
            (["--seconds", 0], ["--seconds 0 is outside 0.001 .. 60"]),
            (["--seconds", 61], ["--seconds 61 is outside"]),
            (["--seconds", "nan"], ["--seconds nan is outside"]),
            (["--json"], ["--json wants a value: FILE"]),
            (["extra"], ["unexpected argument 'extra'"])):
        output = check.run(args, ARGUMENTS, *words)
        check.due("lines for %s" % args, len(output.splitlines()), 1)
    output = check.run(TINY + ["--device", "cuda"], ENVIRONMENT, "device_open: ",
                       CUDA_VISIBLE_DEVICES="")
    check.due("lines without a GPU", len(output.splitlines()), 1)


def files(check):
    for name in ("/nonexistent/o.json", check.folder, ""):
        output = check.run(TINY + ["--json", name], ENVIRONMENT, "cannot write")
        check.due("lines for '%s'" % name, len(output.splitlines()), 1)
    if os.path.exists("/dev/full"):
        check.run(TINY + ["--op", "step_update", "--threads", 1, "--json", "/dev/full"],
                  ENVIRONMENT, "cannot write /dev/full: No space")
    name = os.path.join(check.folder, "kept.json")
    with open(name, "w", encoding="utf-8") as file:
        file.write("kept")
    check.run(TINY + ["--json", name, "--op", "nothing"], ARGUMENTS)
    with open(name, encoding="utf-8") as file:
        check.due("the file of a refused run", file.read(), "kept")
    check.due("the folder", os.listdir(check.folder), ["kept.json"])


def main():
    with tempfile.TemporaryDirectory() as folder:
        check = Check(sys.argv[1], folder)
        whole_run(check)
        layers_and_steps(check)
        choices(check)
        arguments(check)
        files(check)
    for problem in check.problems:
        print(problem)
    print("%d runs, %d problems" % (check.runs, len(check.problems)))
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main())
