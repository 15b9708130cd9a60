#!/usr/bin/env python3
"""The C example of the README compiles without a warning and runs.

    readme.py [--self-test] CC LIBRARY      or: readme.py --print
"""
import os
import re
import subprocess
import sys
import tempfile

import common

FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
EXAMPLE = re.compile(r"^```c\n(.*?)^```$", re.S | re.M)


def example(root):
    found = EXAMPLE.search(common.text(root, "README.md"))
    return found.group(1) if found else ""


def check(root, args):
    compiler, library = args
    source = example(root)
    if not source.strip():
        return ["README.md: no example between ```c and ```"]
    folder = os.path.dirname(os.path.abspath(library))
    with tempfile.TemporaryDirectory() as work:
        program = os.path.join(work, "example")
        done = subprocess.run(
            compiler.split() + FLAGS + ["-I", os.path.join(common.ROOT, "include"), "-x", "c",
                                        "-", "-o", program, "-L", folder, "-lrefrain",
                                        "-Wl,-rpath," + folder],
            input=source, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            return ["README.md: the example does not compile:\n" + done.stdout]
        done = subprocess.run([program], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60)
        if done.returncode:
            return ["README.md: the example ends with %d:\n%s" % (done.returncode, done.stdout)]
    return []


def plants():
    body = "```c\n#include <refrain/refrain.h>\nint main(void)\n{\n    %s\n}\n```\n"
    return [
        ({"README.md": body % "return rfn_last_code();"}, None),
        ({"README.md": body % "int unused; return 0;"}, "does not compile"),
        ({"README.md": body % "return 3;"}, "ends with 3"),
        ({"README.md": "nothing\n"}, "no example"),
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(example(common.ROOT), end="")
        sys.exit(0)
    sys.exit(common.main(check, plants))
