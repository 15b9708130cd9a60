"""What the style checkers share.

A checker has check(root, args), which returns a list of problems, and plants(), which returns
violations to plant: [(files as {path: text}, words that the problem must contain)]. The first
plant is None's place for a clean tree: its words are None and nothing may be found.
"""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIP = 77


class Skip(Exception):
    pass


def files(root, suffixes=None):
    """Files of the project, root-relative: what git tracks or would, else what lies there."""
    names = None
    if os.path.exists(os.path.join(root, ".git")):
        try:
            out = subprocess.run(
                ["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z", "--cached",
                 "--others", "--exclude-standard"],
                check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            names = out.decode(errors="replace").split("\0")
        except (OSError, subprocess.CalledProcessError):
            names = None
    if names is None:
        names = []
        for folder, folders, found in os.walk(root):
            folders[:] = [f for f in folders
                          if f not in (".git", "__pycache__") and not f.startswith("build")]
            names += [os.path.relpath(os.path.join(folder, f), root) for f in found
                      if not f.endswith((".o", ".pyc"))]
    names = sorted({n for n in names if n and os.path.isfile(os.path.join(root, n))})
    return [n for n in names if not suffixes or n.endswith(tuple(suffixes))]


def text(root, name):
    with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def self_test(check, plants, args):
    wrong = []
    for tree, words in plants:
        with tempfile.TemporaryDirectory() as root:
            for name, content in tree.items():
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(content)
            found = check(root, args)
        if words is None and found:
            wrong.append("a clean tree was blamed: %s" % found)
        elif words is not None and not any(words in line for line in found):
            wrong.append("planted, not found: '%s' in %s" % (words, found))
    if wrong:
        print("\n".join(wrong))
        return 1
    print("%d plants, all as they should" % len(plants))
    return 0


def main(check, plants):
    """SCRIPT [--self-test] [ARGS...]"""
    args = sys.argv[1:]
    try:
        if args and args[0] == "--self-test":
            return self_test(check, plants(), args[1:])
        problems = check(ROOT, args)
    except Skip as reason:
        print("skipped: %s" % reason)
        return SKIP
    for line in problems:
        print(line)
    print("%d problems" % len(problems))
    return 1 if problems else 0
