#!/usr/bin/env python3
"""No source file is longer than 600 lines, the README not longer than 250."""
import sys

import common

LONGEST = 600
README = 250


def check(root, _args):
    problems = []
    for name in common.files(root, [".c", ".h", ".cu", ".cuh", ".py", ".def", "README.md",
                                    "meson.build"]):
        lines = len(common.text(root, name).splitlines())
        limit = README if name == "README.md" else LONGEST
        if lines > limit:
            problems.append("%s: %d lines, at most %d: split it" % (name, lines, limit))
    return problems


def plants():
    return [
        ({"a.c": "int a;\n" * 600, "README.md": "x\n" * 250}, None),
        ({"a.c": "int a;\n" * 601}, "a.c: 601 lines"),
        ({"README.md": "x\n" * 251}, "README.md: 251 lines"),
    ]


if __name__ == "__main__":
    sys.exit(common.main(check, plants))
