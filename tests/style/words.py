#!/usr/bin/env python3
"""No line speaks of how the project was made or of the machines it was made on."""
import re
import sys

import common

# In halves, so that this file passes.
BANNED = [
    (r"/wo" r"rk/", "a path of somebody's machine"),
    (r"(?<![\w/])/(home|ro" r"ot)/\w", "a path of somebody's machine"),
    (r"\bsha" r"red/(spec|design|background|hooks)\b", "a document that is not in the project"),
    (r"(?i)\bsess" r"ions?\b", "how the project is made"),
    (r"(?i)\b(sub-?)?age" r"nts?\b", "how the project is made"),
    (r"(?i)\b(clau" r"de|anthro" r"pic|chat" r"gpt|open" r"ai)\b", "how the project is made"),
    (r"(?i)\b(py" r"pi\.org|python" r"hosted\.org|registry\.npm" r"js|crat" r"es\.io"
     r"|proxy\.gol" r"ang|repo\.anac" r"onda|hub\.dock" r"er)", "a package registry's host"),
]
ALLOWED = {"LICENSE"}


def check(root, _args):
    problems = []
    for name in common.files(root):
        if name in ALLOWED:
            continue
        for number, line in enumerate([name] + common.text(root, name).splitlines()):
            for pattern, why in BANNED:
                found = re.search(pattern, line)
                if found:
                    problems.append("%s:%d: '%s': %s" % (name, number, found.group(0), why))
    return problems


def plants():
    return [
        ({"a.c": "/* what a capture has seen */\n", "tools/x": "cat ../shared/data/t\n"}, None),
        ({"a.c": "/* see /wo" + "rk/main */\n"}, "a.c:1: '/wo"),
        ({"a.def": "/* shared/" + "spec/x.md */\n"}, "not in the project"),
        ({"b.md": "one\nof last Sess" + "ion.\n"}, "b.md:2: 'Sess"),
        ({"c.py": "# an age" + "nt wrote it\n"}, "how the project is made"),
        ({"d.sh": "curl https://py" + "pi.org/simple\n"}, "a package registry's host"),
        ({"age" + "nts.txt": "\n"}, "how the project is made"),
    ]


if __name__ == "__main__":
    sys.exit(common.main(check, plants))
