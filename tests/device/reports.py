#!/usr/bin/env python3
"""The files that `refrain decode` and `refrain graph lint` write of findings, the baseline
that they read, and what --check adds.

    reports.py PROGRAM            JSON, SARIF, the page, baseline, and what is refused
    reports.py PROGRAM --sarif    the SARIF file as a reader of somebody else sees it:
                                  sarif-tools or sarif-pydantic; skipped (77) without both
"""
import html.parser
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

PLANTED = {"sync-copy": "CAP002", "pageable-copy": "CAP003"}
RUN = ["decode", "--device", "host", "--geometry", "tiny", "--requests", "4", "--steps", "6"]


def run(program, *args, words=None):
    done = subprocess.run([program] + (words or RUN) + list(args), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.returncode, done.stdout


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write(path, value):
    with open(path, "w", encoding="utf-8") as file:
        file.write(value if isinstance(value, str) else json.dumps(value))


class Check:
    def __init__(self):
        self.problems = []
        self.done = 0

    def due(self, what, is_so, said=""):
        self.done += 1
        if not is_so:
            self.problems.append("%s\n%s" % (what, said))


def check_files(check, program, folder):
    report, sarif, accepted = (os.path.join(folder, n) for n in ("r.json", "s.sarif", "b"))
    for name, rule in PLANTED.items():
        files = ["--report", report, "--sarif", sarif, "--write-baseline", accepted]
        status, said = run(program, "--inject", name, *files)
        check.due("%s ends with 3" % name, status == 3, said)
        findings = [f for f in read(report)["findings"] if f["rule"] == rule]
        check.due("%s is in the JSON" % rule, len(findings) >= 1, said)
        for f in findings:
            place = "%s:%d" % (f["file"], f["line"])
            check.due("%s: %s was printed too" % (rule, place), place in said, said)
        log = read(sarif)["runs"][0]
        rules = log["tool"]["driver"]["rules"]
        all_findings = read(report)["findings"]
        check.due("as many results as findings", len(log["results"]) == len(all_findings))
        for result, f in zip(log["results"], all_findings):
            check.due("the index is the rule's",
                      rules[result["ruleIndex"]]["id"] == result["ruleId"] == f["rule"])
            where = result["locations"][0]["physicalLocation"]
            check.due("the place is the finding's",
                      (where["artifactLocation"]["uri"], where["region"]["startLine"]) ==
                      (f["file"], f["line"]))
            check.due("not suppressed", "suppressions" not in result)

        again = ["--inject", name, "--baseline", accepted]
        status, said = run(program, *again)
        check.due("no reason, no baseline", status == 2 and "without a reason" in said, said)
        baseline = read(accepted)
        for i, entry in enumerate(baseline["accepted"]):
            entry["reason"] = "planted, %d" % i
        write(accepted, baseline)
        status, said = run(program, *again, "--report", report, "--sarif", sarif)
        check.due("accepted findings end with 0", status == 0, said)
        check.due("each is told with its reason",
                  said.count("accepted: planted, ") == said.count(" CAP") >= 1, said)
        check.due("reasons are told",
                  all(f["accepted"].startswith("planted") for f in read(report)["findings"]))
        check.due("suppressed in SARIF", all(
            r["suppressions"][0]["justification"].startswith("planted")
            for r in read(sarif)["runs"][0]["results"]))
        kept = os.path.join(folder, "kept")
        run(program, *again, "--write-baseline", kept)
        check.due("reasons are kept", read(kept) == baseline)
        other = next(n for n in PLANTED if n != name)
        status, said = run(program, "--inject", other, "--baseline", accepted)
        check.due("another finding is not accepted", status == 3, said)


def check_refused(check, program, folder):
    path = os.path.join(folder, "bad")
    one = {"fingerprint": "CAP002:a.c:copy_sync", "reason": "x"}
    good = {"refrain_baseline": 1, "accepted": [one]}
    for what, value, words in [
            ("another version", dict(good, refrain_baseline=2), "version 2"),
            ("cut off", json.dumps(good)[:-3], "bad:1"),
            ("no baseline", {"accepted": []}, "no baseline"),
            ("no rule", dict(good, accepted=[dict(one, fingerprint="CAP0O2:a.c:copy_sync")]),
             "entry 1: no rule 'CAP0O2'; the nearest is 'CAP002'"),
            ("no list", dict(good, accepted=3), "no list"),
            ("twice", dict(good, accepted=[one, one]), "entry 2"),
            ("a blank reason", dict(good, accepted=[dict(one, reason=" ")]), "entry 1"),
            ("an unknown key", dict(good, accepted=[dict(one, why="y")]), "entry 1")]:
        write(path, value)
        target = os.path.join(folder, "kept.json")
        write(target, "as it was")
        status, said = run(program, "--baseline", path, "--report", target)
        check.due("%s is refused" % what, status == 2 and words in said, said)
        with open(target, encoding="utf-8") as file:
            check.due("%s: nothing was overwritten" % what, file.read() == "as it was")
    status, said = run(program, "--baseline", os.path.join(folder, "absent"))
    check.due("no file", status == 1 and "absent" in said, said)
    status, said = run(program, "--sarif", os.path.join(folder, "no", "such"))
    check.due("no folder", status == 1 and "such" in said, said)
    left = [n for n in os.listdir(folder) if n.endswith(".tmp")]
    check.due("nothing is left: %s" % left, not left)


class Page(html.parser.HTMLParser):
    """What is in a page; every tag that opens has to close."""
    EMPTY = {"meta", "rect", "path", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.wrong, self.links = [], {}, [], []
        self.bad = 0
        self.feed(text)
        self.wrong += self.open

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        attrs = dict(attrs)
        self.bad += attrs.get("class") == "bad"
        self.links += [attrs[k] for k in ("href", "src") if k in attrs]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append("/" + tag)


def check_page(check, program, folder):
    page, snapshot, report = (os.path.join(folder, n) for n in ("p.html", "g.json", "r"))
    for name, bad in [("pageable-copy", 1), (None, 0)]:
        planted = ["--inject", name] if name else []
        status, said = run(program, *planted, "--html", page, "--snapshot", snapshot)
        check.due("%s: status" % name, status == (3 if name else 0), said)
        graphs = read(snapshot)["graphs"]
        nodes = sum(len(g["nodes"]) for g in graphs)
        edges = sum(len(g["edges"]) for g in graphs)
        with open(page, encoding="utf-8") as file:
            got = Page(file.read())
        check.due("the page closes what it opens: %s" % got.wrong, not got.wrong)
        check.due("a picture a graph", got.count.get("svg") == len(graphs), got.count)
        check.due("all nodes are in it", got.count.get("rect") == nodes > 0, got.count)
        check.due("all edges are in it", got.count.get("path") == edges > 0, got.count)
        check.due("what is wrong is marked in place", got.bad == bad, got.bad)
        check.due("nothing is fetched",
                  all(re.match("#(f[0-9]+|n[0-9]+-[0-9]+)$", x) for x in got.links))
        check.due("both ways are there", len(got.links) == 2 * bad, got.links)
        status, said = run(program, "--json", report, "--html", page, snapshot,
                           words=["graph", "lint"])
        check.due("lint of the saved graph", status == (3 if name else 0), said)
        check.due("finds the same", [f["rule"] for f in read(report)["findings"]] ==
                  ["CAP003"] * bad, said)


def check_hostile(check, program, folder):
    """A saved graph may say anything: on the page it is text, on a terminal a line."""
    page, snapshot = (os.path.join(folder, n) for n in ("h.html", "h.json"))
    say = "<script>&\"'\x1b[2J\n"
    write(snapshot, {"format": "refrain graphs", "version": 1, "graphs": [{
        "name": say, "device": say, "edges": [], "nodes": [
            {"type": "host", "name": say, "file": say, "line": 1, "region": say,
             "accesses": [{"access": "read", "name": say}]}]}]})
    status, said = run(program, "--html", page, snapshot, words=["graph", "lint"])
    check.due("a hostile graph is linted", status == 3, said)
    check.due("in its own lines", "\x1b" not in said and said.count("\n") == 4, said)
    with open(page, encoding="utf-8") as file:
        got = Page(file.read())
    check.due("it brings no tags: %s" % got.count,
              not got.wrong and "script" not in got.count and got.count.get("svg") == 1)
    write(snapshot, {"refrain_baseline": 1, "accepted": [{"fingerprint": say, "reason": "x"}]})
    status, said = run(program, "--baseline", snapshot)
    check.due("what is refused is one line",
              status == 2 and "\x1b" not in said and said.count("\n") == 1, said)


def pageable(at, touched=4096):
    """The accesses of a copy from host memory."""
    def one(name, access, address, kind):
        return {"name": name, "access": access, "bytes": touched, "rows": 1,
                "row_bytes": touched, "pointer": {"address": hex(address), "kind": kind}}
    return [one("dst", "write", 0x7f0000000000 + at, "device"),
            one("src", "read", at, "pageable")]


def graphs_of_others(nodes):
    return {"format": "refrain graphs", "version": 1, "graphs": [
        {"name": "one", "device": "cuda", "nodes": [{"type": "kernel", "name": "k"}]},
        {"name": "two", "device": "cuda", "nodes": nodes}]}


def check_without_sites(check, program, folder):
    """Graphs of others have no call sites; what is wrong is found and marked all the same."""
    page, snapshot, report, sarif, accepted = (
        os.path.join(folder, n) for n in ("o.html", "o.json", "or", "os.sarif", "ob"))
    child = {"name": "", "device": "cuda", "nodes": [
        {"type": "kernel", "name": "k"},
        {"type": "memcpy", "name": "memcpy", "opaque": 1, "why": "slices",
         "accesses": pageable(0x30000)}]}
    write(snapshot, graphs_of_others([
        {"type": "kernel", "name": "void " + "\u20ac" * 40},
        {"type": "memcpy", "name": "memcpy", "accesses": pageable(0x10000)},
        {"type": "memcpy", "name": "memcpy", "accesses": pageable(0x20000, 96)},
        {"type": "child", "name": "child", "child": child}]))
    files = ["--html", page, "--json", report, "--sarif", sarif, "--write-baseline", accepted]
    status, said = run(program, words=["graph", "lint", snapshot] + files)
    check.due("it has findings", status == 3, said)
    check.due("and a node that nobody can read",
              "info CAP040 not-inspected (heuristic): memcpy (node 1): slices" in said, said)
    check.due("where it begins and ends", "(node 0), memcpy (node 1), memcpy (node 2) and 1 more;"
              " ends with " in said and "\n  begins with void " in said, said)
    found = read(report)["findings"]
    check.due("each copy is one", [f["node"] for f in found] == [1, 2, 3, 3], found)
    places = [r["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]
              for r in read(sarif)["runs"][0]["results"]]
    check.due("with its place", places == [
        "memcpy of %d bytes (node %d)" % at for at in ((4096, 1), (96, 2), (4096, 3), (4096, 3))],
        places)
    with open(page, encoding="utf-8") as file:
        text = file.read()
    got = Page(text)
    check.due("the page closes what it opens: %s" % got.wrong, not got.wrong)
    check.due("a picture a graph, and the child's", got.count.get("svg") == 3, got.count)
    check.due("a name that was cut stands beside its box",
              text.count(">void " + "\u20ac" * 23 + "<") == 1)
    check.due("marked in place, in their own graph",
              re.findall('class="bad" id="(n[0-9-]+)"', text) == ["n1-1", "n1-2", "n1-3"])
    baseline = read(accepted)
    check.due("lint writes a baseline", sorted(e["fingerprint"] for e in baseline["accepted"]) == [
        "CAP003::memcpy of 4096 bytes", "CAP003::memcpy of 96 bytes",
        "CAP040::memcpy of 4096 bytes"], baseline)
    for entry in baseline["accepted"]:
        entry["reason"] = "theirs"
    write(accepted, baseline)
    status, said = run(program, words=["graph", "lint", snapshot, "--baseline", accepted])
    check.due("and reads it", status == 0 and "4 of the findings" in said, said)


def check_utf8(check, program, folder):
    """Sentences are cut at a byte: what is written is UTF-8 all the same."""
    page, snapshot, report, sarif = (
        os.path.join(folder, n) for n in ("u.html", "u.json", "ur", "us.sarif"))
    for i in range(4):
        name = "x" * i + "\u00e4\u20ac\U0001f600" * 150
        write(snapshot, graphs_of_others([
            {"type": "kernel", "name": name},
            {"type": "host", "name": name, "file": "a b%.c", "line": 7, "region": name}]))
        status, said = run(program, words=["graph", "lint", "--html", page, "--json", report,
                                           "--sarif", sarif, snapshot])
        check.due("long names are cut", status == 3, said)
        check.due("and written", len(read(report)["findings"]) == 1)
        place = read(sarif)["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
        check.due("a URI", place["artifactLocation"]["uri"] == "a%20b%25.c", place)
        with open(page, encoding="utf-8") as file:
            check.due("the page closes", not Page(file.read()).wrong)


def check_command(check, program, folder):
    """What people type: options behind files, links, a file that is read and written."""
    snapshot, other, link, far, out, new = (
        os.path.join(folder, n) for n in ("g.json", "h.json", "link", "far", "out", "new"))
    graphs = graphs_of_others([{"type": "kernel", "name": "k"}])
    write(snapshot, graphs)
    write(other, graphs)
    for words, due, part in [
            (["lint", snapshot, "--json", out], 0, "0 findings"),
            (["lint", snapshot, "--jsn", out], 2, "no option '--jsn'"),
            (["diff", snapshot, other, "--moved"], 0, "0 findings"),
            (["diff", snapshot, other, "--mvd"], 2, "the nearest is '--moved'"),
            (["diff", snapshot], 2, "two files, not 1"),
            (["dump", snapshot, "--all"], 2, "no option --all"),
            (["dump", "--help"], 0, "usage"), (["diff", "--help"], 0, "usage"),
            (["lint", "--help"], 0, "usage"),
            (["snapshot", "--geometry", "tiny"], 2, "the file comes first"),
            (["lint", "--html", new, "--json", folder + "/./new", snapshot], 2, "two outputs"),
            (["lint", "--json", snapshot, snapshot], 2, "would be overwritten"),
            (["lint", "--html", folder + "/./g.json", snapshot], 2, "would be overwritten"),
            (["lint", "--html", out, "--json", folder + "/./out", snapshot], 2, "two outputs")]:
        status, said = run(program, words=["graph"] + words)
        check.due("graph %s" % " ".join(words), status == due and part in said, said)
        check.due("what was read is there", read(snapshot) == graphs)
    os.symlink(out, link)
    os.chmod(out, 0o640)
    for path in (link, out):
        status, said = run(program, words=["graph", "lint", snapshot, "--json", path])
        check.due("through a link", status == 0 and os.path.islink(link), said)
        check.due("the mode is kept", os.stat(out).st_mode & 0o777 == 0o640)
    os.symlink(os.path.join(folder, "no", "such"), far)
    status, said = run(program, words=["graph", "lint", snapshot, "--json", far])
    check.due("a link that leads nowhere", status == 1 and "far" in said, said)
    status, said = run(program, "--json", "/dev/full")
    check.due("a full disk", status == 1 and "No space left" in said, said)
    left = [n for n in os.listdir(folder) if n.endswith(".tmp")]
    check.due("nothing is left: %s" % left, not left)


def check_interrupted(check, program, folder):
    """Ctrl-C in the middle of a run: what stood there stands there, and nothing else does."""
    inside = os.path.join(folder, "interrupted")
    os.mkdir(inside)
    path = os.path.join(inside, "r.json")
    write(path, "as it was")
    long = RUN[:-1] + ["100000", "--report", path, "--html", os.path.join(inside, "h.html")]
    with subprocess.Popen([program] + long, stdout=subprocess.PIPE) as running:
        running.stdout.readline()  # its files were opened before the first line
        running.send_signal(signal.SIGINT)
        running.stdout.read()
    with open(path, encoding="utf-8") as file:
        check.due("as it was", file.read() == "as it was")
    check.due("nothing is left", os.listdir(inside) == ["r.json"], os.listdir(inside))


def check_rules(check, program):
    """Each rule of the catalogue is there or not covered, and can be asked for."""
    status, said = run(program, words=["graph", "rules", "--json"])
    rules = json.loads(said)
    ids = [r["id"] for r in rules["rules"] + rules["not_covered"]]
    check.due("57 rules", sorted(ids) == ["CAP%03d" % i for i in range(1, 58)], ids)
    names = [r["name"] for r in rules["rules"] + rules["not_covered"]]
    check.due("each has a name", len(set(names)) == 57)
    status, text = run(program, words=["graph", "rules"])
    status, all_of_them = run(program, words=["explain"])
    for r in rules["not_covered"]:
        status, said = run(program, words=["explain", r["name"]])
        check.due("explain %s" % r["id"], status == 0 and "not covered" in said and
                  r["reason"] in said, said)
        check.due("%s in both lists" % r["id"], r["reason"] in text and r["id"] in all_of_them)
    for name, part in [("cap017", "host device"), ("CAP040", "CUDA device")]:
        status, said = run(program, words=["explain", name])
        check.due("explain %s" % name, status == 0 and part in said, said)
    status, said = run(program, words=["explain", "CAP099"])
    check.due("no such rule", status == 2 and "no rule 'CAP099'" in said, said)


def check_verified(check, program, folder):
    """A replay that differs is a finding in the files, not in the exit status alone."""
    path = os.path.join(folder, "v.sarif")
    status, said = run(program, "--inject", "corrupt-workspace", "--sarif", path)
    results = [r["ruleId"] for r in read(path)["runs"][0]["results"]]
    check.due("a replay that differs", status == 3 and results == ["CAP031"], said)


def check_more(check, program):
    status, said = run(program, "--check")
    check.due("--check finds nothing of ours", status == 0 and
              re.search("findings +0", said) and "bit_equal true" in said, said)
    values = re.search(r"checked +(\d+) graphs, (\d+) nodes, (\d+) values .*, with the memory "
                       r"elsewhere (\d+) addresses moved, 0 stayed", said.replace(";", ","))
    check.due("and looked, with all memory elsewhere",
              values and all(int(x) > 0 for x in values.groups()), said)
    status, said = run(program, "--check", "--inject", "pageable-copy")
    check.due("one finding a place", status == 3 and said.count("error CAP003") == 1, said)
    status, said = run(program, "--check=1")
    check.due("a flag has no value", status == 2 and "takes no value" in said, said)


def check_foreign(check, program, folder):
    path = os.path.join(folder, "s.sarif")
    readers = 0
    for args in [["--inject", "sync-copy"], []]:
        run(program, "--sarif", path, *args)
        due = len(read(path)["runs"][0]["results"])
        try:
            from sarif import loader
            readers += 1
            got = loader.load_sarif_file(path).get_result_count()
            check.due("sarif-tools sees %d results, not %d" % (got, due), got == due)
        except ImportError:
            pass
        try:
            from sarif_pydantic import Sarif
            readers += 1
            with open(path, encoding="utf-8") as file:
                got = Sarif.model_validate_json(file.read())
            check.due("sarif-pydantic sees all", len(got.runs[0].results) == due)
        except ImportError:
            pass
    if readers == 0:
        print("skip: neither sarif-tools nor sarif-pydantic is installed")
        sys.exit(77)


def main():
    check = Check()
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[2:] == ["--sarif"]:
            check_foreign(check, sys.argv[1], folder)
        else:
            check_files(check, sys.argv[1], folder)
            check_refused(check, sys.argv[1], folder)
            check_page(check, sys.argv[1], folder)
            check_hostile(check, sys.argv[1], folder)
            check_without_sites(check, sys.argv[1], folder)
            check_utf8(check, sys.argv[1], folder)
            check_command(check, sys.argv[1], folder)
            check_interrupted(check, sys.argv[1], folder)
            check_rules(check, sys.argv[1])
            check_verified(check, sys.argv[1], folder)
            check_more(check, sys.argv[1])
    for problem in check.problems:
        print("FAIL", problem)
    print("%d passed, %d failed" % (check.done - len(check.problems), len(check.problems)))
    return len(check.problems) > 0


if __name__ == "__main__":
    sys.exit(main())
