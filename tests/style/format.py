#!/usr/bin/env python3
"""clang-format 14 has nothing to say. Skipped where it is absent: versions disagree."""
import re
import shutil
import subprocess
import sys

import common


def clang_format():
    for name in ("clang-format-14", "clang-format"):
        path = shutil.which(name)
        if path:
            version = subprocess.run([path, "--version"], stdout=subprocess.PIPE,
                                     text=True).stdout
            if re.search(r"version 14\.", version):
                return path
    raise common.Skip("no clang-format 14 here")


def check(root, _args):
    tool = clang_format()
    names = common.files(root, [".c", ".h", ".cu", ".cuh"])
    done = subprocess.run([tool, "--dry-run", "-Werror", "--style=file"] + names, cwd=root,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0:
        return []
    lines = [l for l in done.stdout.splitlines() if "clang-format-violations" in l]
    return lines or [done.stdout]


def plants():
    style = common.text(common.ROOT, ".clang-format")
    return [
        ({".clang-format": style, "a.c": "int f(int *p)\n{\n    return *p;\n}\n"}, None),
        ({".clang-format": style, "b.c": "int f(int* p) {\n  return *p;\n}\n"}, "b.c:1"),
        ({".clang-format": style, "b.cu": "int f(int* p) {\n  return *p;\n}\n"}, "b.cu:1"),
    ]


if __name__ == "__main__":
    sys.exit(common.main(check, plants))
