#!/usr/bin/env python3
"""refrain decode --ranges FILE: every node of every graph once, with what recorded it."""
import json
import os
import subprocess
import sys
import tempfile

LAYER = ["kv_pack", "index_pack", "index_query_pack", "index_logits", "index_topk", "sparse_mla"]


def problems_of(document, verify):
    problems = []
    graphs = document["graphs"]
    if document["domain"] != "refrain" or not graphs:
        problems.append("domain or graphs: %s" % document)
    if len({g["name"] for g in graphs}) != len(graphs):
        problems.append("a graph twice: %s" % [g["name"] for g in graphs])
    for graph in graphs:
        name, nodes = graph["name"], graph["nodes"]
        capture = name.replace("bucket", "capture")
        ops = LAYER if not name.endswith("short") else LAYER[:2] + LAYER[4:]
        if [n["node"] for n in nodes] != list(range(len(nodes))):
            problems.append("%s: nodes are not 0, 1, ..." % name)
        if [n["launch"] for n in nodes if "op" in n] != list(range(sum("op" in n for n in nodes))):
            problems.append("%s: launches are not 0, 1, ..." % name)
        for layer in range(2):
            got = [n["op"] for n in nodes if n.get("layer") == layer]
            if got != ops:
                problems.append("%s, layer %d: %s" % (name, layer, got))
        for node in nodes:
            want = [capture]
            if node.get("op") == "step_update":
                want.append("update")
            elif "layer" in node:
                want.append("forward")
            if "op" in node and node["range"] != want:
                problems.append("%s: %s; due %s" % (name, node, want))
            if ("op" in node) != (node["type"] == "kernel"):
                problems.append("%s: %s" % (name, node))
        if sum(n["type"] == "memcpy" for n in nodes) != (2 if verify else 0):
            problems.append("%s: copies of what was chosen" % name)
    return problems


def run(program, folder, arguments):
    path = os.path.join(folder, "ranges.json")
    result = subprocess.run([program, "decode", "--device", "host", "--geometry", "tiny",
                             "--ranges", path] + arguments, capture_output=True, text=True)
    if result.returncode != 0:
        return ["exit %d: %s%s" % (result.returncode, result.stdout, result.stderr)]
    with open(path, encoding="utf-8") as file:
        found = problems_of(json.load(file), "--verify" in arguments)
    return found


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        problems = run(program, folder, ["--requests", "4", "--steps", "4"])
        problems += run(program, folder, ["--requests", "9", "--steps", "12", "--batch", "5",
                                          "--verify", "2"])
        result = subprocess.run([program, "decode", "--ranges", folder], capture_output=True,
                                text=True)
        if result.returncode == 0 or folder not in result.stderr:
            problems.append("a folder as FILE: %s" % result.stderr)
    for problem in problems:
        print(problem)
    print("%d problems" % len(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
