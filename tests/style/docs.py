#!/usr/bin/env python3
"""Every public function has its comment, with the labels in their order.

Capture is due everywhere. Threads is due, and Errors where a status comes back, unless the
comment at the top of the header says it for all. An op (a function of a stream and its
argument struct) says everything but, maybe, its source.
"""
import re
import sys

import common
import declared

LABELS = ["Shapes", "Capture", "Stream", "Threads", "Accuracy", "Cost", "Errors", "Source"]
LABEL = re.compile(r"^ \*(?: {1,3})([A-Z][a-z]+) {2,}\S", re.M)
OP = re.compile(r"\(struct rfn_stream \*stream, const struct rfn_\w+_args \*args\)")
# Hands back the status that it was given.
NO_ERRORS = {"rfn_error"}


def check(root, _args):
    problems = []
    top = {}
    for name, line, function, text, comment in declared.declarations(root):
        if "(" not in text:
            continue
        if name not in top:
            head = declared.COMMENT.match(common.text(root, name))
            top[name] = LABEL.findall(head.group(0)) if head else []

        def problem(words):
            problems.append("%s:%d: %s: %s" % (name, line, function, words))
        if not comment.startswith("/**\n"):
            problem("no comment /** ... */ right before it")
            continue
        labels = LABEL.findall(comment)
        for label in labels:
            if label not in LABELS:
                problem("unknown label %s" % label)
            elif labels.count(label) > 1:
                problem("label %s twice" % label)
        known = [l for l in labels if l in LABELS]
        if known != sorted(known, key=LABELS.index):
            problem("labels in the order %s, due: %s" % (" ".join(known), " ".join(LABELS)))
        due = ["Capture", "Threads"]
        if text.startswith("RFN_API enum rfn_status ") and function not in NO_ERRORS:
            due.append("Errors")
        if OP.search(text):
            due = LABELS[:-1]
        for label in due:
            if label not in labels and label not in top[name]:
                problem("no label %s" % label)
    return problems


def plants():
    name = "include/refrain/a.h"
    top = "/* A header.\n *\n *   Threads   Any.\n *   Errors    RFN_INVALID.\n */\n"
    plain = "RFN_API enum rfn_status rfn_a(int b);\n"
    op = ("RFN_API enum rfn_status rfn_a(struct rfn_stream *stream,\n"
          "                              const struct rfn_a_args *args);\n")

    def doc(*labels):
        return "/**\n * Does it.\n *\n%s */\n" % "".join(
            " * %-9s Words of it.\n" % label for label in labels)
    every = ["Shapes", "Capture", "Stream", "Threads", "Accuracy", "Cost", "Errors"]
    return [
        ({name: doc("Capture", "Threads", "Errors") + plain}, None),
        ({name: top + doc("Capture") + plain}, None),
        ({name: doc(*every) + op}, None),
        ({name: doc("Capture", "Threads") + "RFN_API int rfn_a(void);\n"}, None),
        ({name: plain}, "rfn_a: no comment"),
        ({name: "/* Does it. */\n" + plain}, "no comment"),
        ({name: doc("Threads", "Errors") + plain}, "no label Capture"),
        ({name: doc("Capture", "Errors") + plain}, "no label Threads"),
        ({name: doc("Capture", "Threads") + plain}, "no label Errors"),
        ({name: doc("Capture", "Threads", "Errors", "Note") + plain}, "unknown label Note"),
        ({name: doc("Threads", "Capture", "Errors") + plain}, "labels in the order"),
        ({name: doc("Capture", "Capture", "Threads", "Errors") + plain}, "Capture twice"),
        ({name: doc(*every[1:]) + op}, "no label Shapes"),
    ]


if __name__ == "__main__":
    sys.exit(common.main(check, plants))
