"""Reads the RFN_API declarations of include/refrain: [(header, line, name, text, comment)]."""
import re

import common

COMMENT = re.compile(r"/\*.*?\*/", re.S)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def strip(source):
    """Comments and preprocessor lines turned to blanks; offsets and lines stay."""
    source = COMMENT.sub(blank, source)
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, source, flags=re.M)


def declarations(root):
    result = []
    for name in common.files(root, [".h"]):
        if not name.startswith("include/"):
            continue
        source = common.text(root, name)
        bare = strip(source)
        comments = [(m.end(), m.group(0)) for m in COMMENT.finditer(source)]
        for match in re.finditer(r"[^;{}]*\bRFN_API\b[^;]*;", bare):
            text = " ".join(match.group(0).split())
            found = re.search(r"\b(\w+)\s*\(", text) or re.search(r"(\w+)\s*(\[[^]]*\]\s*)?;",
                                                                 text)
            start = match.start() + len(match.group(0)) - len(match.group(0).lstrip())
            comment = ""
            for end, words in comments:
                if end <= start and not source[end:start].strip():
                    comment = words
            line = source.count("\n", 0, start) + 1
            result.append((name, line, found.group(1), text, comment))
    return result
