#!/usr/bin/env python3
"""The two graphs of PyTorch's that are kept as files, as `refrain graph` shows them: neither
PyTorch nor a GPU.

    snapshots.py PROGRAM FOLDER
"""
import json
import os
import re
import subprocess
import sys

ERRORS = ["CAP003", "CAP024", "CAP056", "CAP057"]


def run(program, *words):
    done = subprocess.run([program, "graph"] + list(words), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.returncode, done.stdout


def copies(path):
    """Of each copy its node, and (address, kind) of both ends."""
    with open(path, encoding="utf-8") as file:
        root = json.load(file)
    made = {}
    for i, node in enumerate(root["graphs"][0]["nodes"]):
        if node["type"] == "memcpy":
            made[i] = [(a["pointer"]["address"], a["pointer"]["kind"])
                       for a in node["accesses"]]
    return root["note"], made


class Check:
    def __init__(self):
        self.passed = self.failed = 0

    def due(self, what, is_so, said=""):
        self.passed += bool(is_so)
        self.failed += not is_so
        if not is_so:
            print("FAIL %s\n%s" % (what, said))


def check_right(check, program, path):
    status, said = run(program, "lint", path)
    check.due("the right graph is silent", status == 0 and "0 findings" in said and
              said.count("\n") == 2 and "\n  begins with at::native::" in said, said)
    counts = re.search(r"(\d+) nodes \((\d+) kernels, (\d+) foreign, 0 opaque\)", said)
    nodes, kernels, foreign = map(int, counts.groups()) if counts else (0, 0, 0)
    check.due("it is a step, of torch's kernels and ours", nodes > 25 and
              kernels > foreign > 20, said)
    status, said = run(program, "dump", path)
    names = re.findall(r"node \d+: kernel (.*?) <<<", said)
    check.due("dump shows every kernel", status == 0 and len(names) == kernels, said)
    check.due("with a name that can be read", not any(n.startswith("_Z") for n in names),
              names)
    for words in ("at::native::vectorized_layer_norm_kernel", "nvjet_", "cudnn_", "kv_pack",
                  "index_topk", "sparse_mla", "at::native::reduce_kernel<ReduceOp, ArgMaxOps>"):
        check.due("%s is among them" % words, any(words in n for n in names), names)
    for words in (r"reads lens: 16 bytes at 0x", r"writes out: \d+ bytes at 0x",
                  r"pool: \d+ bytes of a pool at 0x"):
        check.due("operands of ours: %s" % words, re.search(words, said), said)


def check_wrong(check, program, path):
    note, ends = copies(path)
    check.due("the file says where it is from", re.search(
        r"PyTorch \d.* H200, driver \d+\.\d+.*torch_lint\.py", note), note)
    status, said = run(program, "lint", path)
    check.due("the wrong graph ends with 3", status == 3, said)
    found = re.findall(r"error (CAP\d+) .*?memcpy \(node (\d+)\)(.*?)\. Fix", said)
    check.due("each mistake is named once", [rule for rule, _n, _w in found] == ERRORS, said)
    for rule, node, why in found:
        dst, src = ends[int(node)]
        check.due("%s: the node is the copy" % rule, src[0] in why, why)
        if rule in ("CAP003", "CAP024"):
            due = "from %s (%s) to %s (%s)" % (src + dst)
            check.due("%s names both sides: %s" % (rule, due), due in why, why)
            check.due("%s: one is pageable" % rule,
                      (src if rule == "CAP003" else dst)[1] == "pageable", why)


def check_diff(check, program, right, wrong):
    status, said = run(program, "diff", right, wrong)
    check.due("diff names what one has more", status == 3 and "32 nodes, the other 36" in said
              and "indexSelectSmallIndex<BFloat16> in the one, memcpy in the other" in said,
              said)
    status, said = run(program, "diff", right, right)
    check.due("a graph does not differ from itself", status == 0 and "0 findings" in said, said)


def main():
    program, folder = sys.argv[1:]
    right, wrong = (os.path.join(folder, n) for n in ("torch-right.json", "torch-wrong.json"))
    check = Check()
    check_right(check, program, right)
    check_wrong(check, program, wrong)
    check_diff(check, program, right, wrong)
    print("%d passed, %d failed" % (check.passed, check.failed))
    return check.failed > 0


if __name__ == "__main__":
    sys.exit(main())
