#!/usr/bin/env python3
"""Every source file is named by the meson.build of its folder: none is forgotten."""
import os
import re
import sys

import common


def check(root, _args):
    problems = []
    for name in common.files(root, [".c", ".cu"]):
        folder, base = os.path.split(name)
        build = os.path.join(folder, "meson.build")
        if not os.path.exists(os.path.join(root, build)):
            problems.append("%s: there is no %s" % (name, build))
            continue
        stem = base.rsplit(".", 1)[0]
        if not re.search(r"'(%s|%s)'" % (re.escape(base), re.escape(stem)),
                         common.text(root, build)):
            problems.append("%s: not named in %s" % (name, build))
    return problems


def plants():
    return [
        ({"k/meson.build": "a = files(\n  'a.c',\n)\nb = [ 'b' ]\n", "k/a.c": "", "k/b.c": ""},
         None),
        ({"k/meson.build": "files('a.c')\n", "k/a.c": "", "k/b.c": ""}, "k/b.c: not named"),
        ({"k/b.c": ""}, "there is no k/meson.build"),
    ]


if __name__ == "__main__":
    sys.exit(common.main(check, plants))
