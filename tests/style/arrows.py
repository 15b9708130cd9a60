#!/usr/bin/env python3
"""Which folder may include which. The picture stands in the README."""
import os
import re
import sys

import common

ALLOWED = {
    "include": ["include"],
    "kernels": ["kernels", "include"],
    "runtime": ["runtime", "kernels", "include"],
    "graph": ["graph", "runtime", "include"],
    "tools": ["tools", "include"],
    "tests": ["tests", "graph", "runtime", "kernels", "include", "tools"],
}
# Ops report their errors as everybody does: (folder, header).
EXCEPTIONS = {("kernels", "runtime/error.h")}
# Ranges for profilers are headers only, and of use without CUDA: (file, header).
CUDA_EXCEPTIONS = {("runtime/range.c", "nvtx3/nvToolsExt.h")}

CUDA = re.compile(r"^(cuda|cu[A-Z]|cublas|cupti|cuda_|nccl|nvrtc|nvtx|nvml|cooperative_groups|"
                  r"driver_types|vector_types|device_launch|sm_\d|mma\.h|cute/|cutlass/)")
CUDA_FOLDERS = ("runtime/cuda/", "kernels/cuda/", "graph/inject/", "tests/")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def resolve(root, name, quote, header):
    """The root-relative file that an include means, None for one from outside."""
    places = [os.path.join("include", header)]
    if quote == '"':
        places = [os.path.join(os.path.dirname(name), header), header] + places
    for place in places:
        if os.path.isfile(os.path.join(root, place)):
            return os.path.normpath(place)
    return None


def check(root, _args):
    problems = []
    for name in common.files(root, [".c", ".h", ".cu", ".cuh", ".def"]):
        source = common.text(root, name)
        folder = name.split("/")[0]
        if folder not in ALLOWED:
            problems.append("%s: no source files in this folder" % name)
            continue
        for match in INCLUDE.finditer(source):
            quote, header = match.groups()
            where = "%s:%d" % (name, source.count("\n", 0, match.start()) + 1)
            target = resolve(root, name, quote, header)
            if target is None:
                if quote == '"' or header.startswith("refrain/"):
                    problems.append("%s: \"%s\" is not in the project" % (where, header))
                elif (name, header) in CUDA_EXCEPTIONS:
                    continue
                elif CUDA.match(header) and not (
                        name.startswith(CUDA_FOLDERS)
                        or re.match(r"kernels/[^/]+\.cu$", name)):
                    problems.append("%s: <%s>: CUDA headers stay in %s and kernels/*.cu"
                                    % (where, header, " ".join(CUDA_FOLDERS)))
                continue
            to = target.split("/")[0]
            if to not in ALLOWED[folder] and (folder, target) not in EXCEPTIONS:
                problems.append("%s: %s/ must not include %s" % (where, folder, target))
    return problems


def plants():
    headers = {"include/refrain/a.h": "", "runtime/error.h": "", "runtime/x.h": "",
               "graph/g.h": "", "kernels/op.h": "", "tests/support/s.h": ""}

    def tree(name, include):
        return dict(headers, **{name: "/* x */\n#include %s\n" % include})
    return [
        (dict(headers, **{
            "kernels/a.c": '#include "kernels/op.h"\n#include "runtime/error.h"\n',
            "kernels/a.cu": "#include <cuda_runtime.h>\n",
            "graph/b.c": '#include "g.h"\n#include "runtime/x.h"\n#include <refrain/a.h>\n',
            "runtime/cuda/c.c": "#include <cuda_runtime_api.h>\n#include <stdio.h>\n",
            "runtime/range.c": "#include <nvtx3/nvToolsExt.h>\n",
            "tests/t.c": '#include "graph/g.h"\n#include <cuda.h>\n'}), None),
        (tree("runtime/a.c", "<nvtx3/nvToolsExt.h>"), "CUDA headers stay in"),
        (tree("kernels/a.c", '"runtime/x.h"'), "kernels/a.c:2: kernels/ must not include"),
        (tree("runtime/a.c", '"graph/g.h"'), "runtime/ must not include graph/g.h"),
        (tree("graph/a.c", '"kernels/op.h"'), "graph/ must not include kernels/op.h"),
        (tree("tools/a.c", '"runtime/error.h"'), "tools/ must not include runtime/error.h"),
        (tree("include/refrain/b.h", '"runtime/error.h"'), "include/ must not include"),
        (tree("graph/a.c", '"tests/support/s.h"'), "graph/ must not include tests/"),
        (tree("runtime/host/a.c", "<cuda_runtime_api.h>"), "CUDA headers stay in"),
        (tree("kernels/a.c", "<cuda_fp8.h>"), "CUDA headers stay in"),
        (tree("runtime/a.c", '"runtime/gone.h"'), "is not in the project"),
        (tree("misc/a.c", "<stdio.h>"), "no source files in this folder"),
    ]


if __name__ == "__main__":
    sys.exit(common.main(check, plants))
