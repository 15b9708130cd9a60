#!/usr/bin/env python3
"""What tests/device.sh says of tools that are there and fail: "failed" or "not run", never
"passed". It runs here with programs in place of the compiler's and the GPU's.

    stages.py
"""
import json
import os
import subprocess
import sys
import tempfile

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "device.sh")
PASSED, FAILED, NOT_RUN = 0, 1, 77
MESON = """case $1 in
setup) mkdir -p "$2/tests/checkop" && : >"$2/build.ninja"
       cp "$0" "$2/tests/checkop/checkop" ;;
introspect) echo "[]" ;;
esac"""
NINJA = """case $3 in
-n) [ ! -e "$2/built" ] || echo ninja: no work to do. ;;
*) : >"$2/built" ;;
esac"""
TOOLS = {
    "nvcc": "exit 0",
    "gcc": "exit 0",
    "ninja": NINJA,
    "meson": MESON,
    "nvidia-smi": "echo it has failed; exit 9",
    "compute-sanitizer": "echo Error: cannot attach; exit 1",
}
SAID = "printf 'step 1\\rerror: of the\\tcompiler\\r\\n'; exit 3"


def run(folder, stage, *options, **instead):
    """Status, the stage's result in JSON and all that was printed."""
    tools = os.path.join(folder, "tools")
    os.makedirs(tools, exist_ok=True)
    for name, body in dict(TOOLS, **instead).items():
        path = os.path.join(tools, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n" + body + "\n")
        os.chmod(path, 0o755)
    out = os.path.join(folder, "out")
    path = tools + os.pathsep + os.environ["PATH"]
    done = subprocess.run(["bash", SCRIPT, "--build", os.path.join(folder, "build"), "--out", out,
                           *options, stage], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", timeout=60,
                          env=dict(os.environ, PATH=path))
    try:
        with open(os.path.join(out, stage + ".json"), encoding="utf-8") as file:
            return done.returncode, json.load(file)["result"], done.stdout
    except (OSError, ValueError):
        return done.returncode, "none", done.stdout


def main():
    problems = []
    due = (
        ("good tools", (PASSED, "passed"), "build", (), {}),
        ("a compiler that fails, its lines of progress", (FAILED, "failed"), "build", (),
         {"ninja": SAID}),
        ("a sanitizer that cannot attach", (NOT_RUN, "not run"), "sanitize", (), {}),
        ("a sanitizer that finds something", (FAILED, "failed"), "sanitize", (),
         {"compute-sanitizer": "echo '= ERROR SUMMARY: 2 errors'; exit 86"}),
        ("errors though the status is good", (FAILED, "failed"), "sanitize", (),
         {"compute-sanitizer": "echo '= ERROR SUMMARY: 2 errors'"}),
        ("a seed that is no number", (FAILED, "none"), "build", ("--seed", "0x10"), {}),
    )
    for name, (status, result), stage, options, instead in due:
        with tempfile.TemporaryDirectory() as folder:
            got = run(folder, stage, *options, **instead)
        if got[:2] != (status, result) or "Traceback" in got[2]:
            problems.append("%s: %s, %s, not %s, %s:\n%s" % (name, got[0], got[1], status,
                                                           result, got[2]))
    with tempfile.TemporaryDirectory() as folder:
        for gone, kept in ((None, False), (None, True), ("build", False), (None, True),
                           ("build-portable", False)):
            if gone:
                os.unlink(os.path.join(folder, gone, "built"))
            got = run(folder, "build")
            if got[:2] != (PASSED, "passed") or kept != got[2].rstrip().endswith("kept"):
                problems.append("%s was removed: it is to be %s:\n%s" % (
                    gone, "kept" if kept else "built", got[2]))
    for problem in problems:
        print(problem)
    print("%d problems" % len(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
