#!/usr/bin/env python3
"""The shared library exports what the public headers declare RFN_API, and nothing else; and
it loads late: a process that has loaded much has no room left for static TLS.

    symbols.py [--self-test] LIBRARY
"""
import subprocess
import sys

import common
import declared


def check(root, args):
    out = subprocess.run(["nm", "-D", "--defined-only", args[0]], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    exported = {line.split()[-1].split("@")[0] for line in out.splitlines() if line.strip()}
    due = {function for _, _, function, _, _ in declared.declarations(root)}
    flags = subprocess.run(["readelf", "-dW", args[0]], check=True, text=True,
                           stdout=subprocess.PIPE).stdout
    late = ["STATIC_TLS: a thread-local variable with tls_model initial-exec"]
    return (late * ("STATIC_TLS" in flags)
            + ["exported, but in no public header: %s" % s for s in sorted(exported - due)]
            + ["declared RFN_API, but not exported: %s" % s for s in sorted(due - exported)])


def plants():
    real = {name: common.text(common.ROOT, name) for name in common.files(common.ROOT, [".h"])
            if name.startswith("include/")}
    extra = {"include/refrain/zz.h": "RFN_API extern const int rfn_not_there[4];\n"}
    fewer = {n: t.replace("RFN_API const char *rfn_last_error", "const char *rfn_last_error")
             for n, t in real.items()}
    return [
        (real, None),
        (dict(real, **extra), "not exported: rfn_not_there"),
        (fewer, "no public header: rfn_last_error"),
    ]


if __name__ == "__main__":
    sys.exit(common.main(check, plants))
