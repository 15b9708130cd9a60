#!/usr/bin/env python3
"""Each public header compiles alone, and twice, as C11 and as C++17.

    headers.py [--self-test] CC CXX        ("" for CXX: no C++ compiler here, C only)
"""
import os
import subprocess
import sys

import common

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wundef", "-fsyntax-only"]


def check(root, args):
    languages = [(args[0].split(), "c", ["-std=c11", "-Wstrict-prototypes"])]
    if len(args) > 1 and args[1]:
        languages.append((args[1].split(), "c++", ["-std=c++17"]))
    problems = []
    for name in common.files(root, [".h"]):
        if not name.startswith("include/"):
            continue
        header = os.path.relpath(name, "include")
        source = "#include <%s>\n#include <%s>\nint refrain_unit;\n" % (header, header)
        for compiler, language, flags in languages:
            done = subprocess.run(
                compiler + ["-x", language] + flags + WARNINGS
                + ["-I", os.path.join(root, "include"), "-"],
                input=source, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode:
                problems.append("%s alone as %s:\n%s" % (name, language, done.stdout))
    return problems


def plants():
    name = "include/refrain/a.h"
    guard = "#ifndef A_H\n#define A_H\n%s\n#endif\n"
    no_cxx = sys.argv[-1] == ""
    return [
        ({name: guard % "#include <stddef.h>\nsize_t rfn_a(int *p);"}, None),
        ({name: guard % "size_t rfn_a(int *p);"}, "a.h alone as c:"),
        ({name: "struct a { int b; };\n"}, "a.h alone as c:"),
    ] + ([] if no_cxx else [
        ({name: guard % "int rfn_a(int *class);"}, "a.h alone as c++:"),
    ])


if __name__ == "__main__":
    sys.exit(common.main(check, plants))
