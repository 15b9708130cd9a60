#!/bin/bash
# What has to be run where a GPU is: builds and tests the CUDA device, stage by stage.
#
#   tests/device.sh [options] [STAGE...]       all stages: build check device conform decode
#                                              sanitize bench
#   --out DIR      where logs and a JSON per stage go (build-device/results)
#   --build DIR    the build folder (build-device)
#   --commit ID    noted in the JSON where git does not know it
#   --seed N       of the tests' random content (1)
#   --trace FILE   a request trace for `decode` ($REFRAIN_TRACE); without one the program makes
#                  requests of its own
#   --force        runs stages again that have passed
#
# tests/results/ keeps the JSON of some runs: what `decode` and `bench` measured stands in it.
#
# A stage that passed with these very sources, seed, trace, GPU and driver is kept, so that an
# interrupted run can go on. A stage that needs the build runs it first. Needs nvcc, gcc,
# Python, Meson and Ninja; what needs more and does not find it is "not run", which is not
# "passed".
#
# Exit status: 0 all stages passed; 1 one failed; 77 none failed, but one was not run.
set -u
ROOT=$(CDPATH="" cd "$(dirname "$0")/.." && pwd)
STAGES="build check device conform decode sanitize bench"
STAGE_SECONDS=${RFN_STAGE_SECONDS:-410} # under seven minutes, its end included

BUILD=${BUILD:-build-device}
# shellcheck source=tools/setup.sh
. "$ROOT/tools/setup.sh"

OUT='' COMMIT='' SEED=1 FORCE='' WANTED='' trace=''
COMMAND="tests/device.sh $*"
while [ $# -gt 0 ]; do
    case $1 in
    --out | --build | --commit | --seed | --trace)
        [ $# -ge 2 ] || die "$1 needs a value"
        case $1 in
        --out) OUT=$(absolute "$2") ;;
        --build) BUILD=$(absolute "$2") ;;
        --commit) COMMIT=$2 ;;
        --seed)
            case $2 in '' | *[!0-9]*) die "--seed wants a whole number, not '$2'" ;; esac
            SEED=$2
            ;;
        --trace) trace=$2 ;;
        esac
        shift
        ;;
    --force) FORCE=1 ;;
    *)
        case " $STAGES " in
        *" $1 "*) WANTED="$WANTED $1" ;;
        *) die "$1: known are --out, --build, --commit, --seed, --trace, --force, $STAGES" ;;
        esac
        ;;
    esac
    shift
done
[ -n "$WANTED" ] || WANTED=$STAGES
[ -n "$OUT" ] || OUT=$BUILD/results
mkdir -p "$OUT" || exit 1
command -v python3 >/dev/null 2>&1 || die "python3 is missing"
find_trace "$trace"
ITEMS=$OUT/items.tsv
TABLE=
export RFN_SEED=$SEED OMP_WAIT_POLICY=passive

# ---- what is here -----------------------------------------------------------------------

for folder in /usr/local/cuda/bin "$(dirname "$(command -v python3)")" \
    "$(python3 -c 'import ninja; print(ninja.BIN_DIR)' 2>/dev/null)"; do
    [ -d "$folder" ] && PATH=$PATH:$folder
done
MESON=(meson)
command -v meson >/dev/null 2>&1 || MESON=(python3 -m mesonbuild.mesonmain)

DEVICE=none DRIVER=none
if smi=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null); then
    DEVICE=$(head -n 1 <<<"$smi" | cut -d, -f1)
    DRIVER=$(head -n 1 <<<"$smi" | cut -d, -f2 | tr -d ' ')
fi
if id=$(git -c safe.directory='*' -C "$ROOT" rev-parse HEAD 2>/dev/null); then
    COMMIT=$id
    [ -z "$(git -c safe.directory='*' -C "$ROOT" status --porcelain 2>/dev/null)" ] ||
        COMMIT=$id-dirty
fi
[ -n "$COMMIT" ] || COMMIT=unknown

# One number for all sources: what a kept result belongs to.
SOURCES=$(
    cd "$ROOT" && python3 - <<'PY'
import hashlib, os
ends = (".c", ".h", ".cu", ".cuh", ".def", ".py", ".sh", ".csv", "meson.build",
        "meson_options.txt")
all_files = hashlib.sha256()
for folder, folders, names in os.walk("."):
    folders[:] = sorted(f for f in folders if not f.startswith((".", "build", "__")))
    for name in sorted(names):
        if name.endswith(ends):
            with open(os.path.join(folder, name), "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
            all_files.update(("%s %s\n" % (os.path.join(folder, name), content)).encode())
print(all_files.hexdigest()[:16])
PY
)

# ---- items and stages -------------------------------------------------------------------

left() {
    local seconds=$((STAGE_SECONDS - (SECONDS - STAGE_BEGIN)))
    echo $((seconds > 1 ? seconds : 1))
}

# note NAME RESULT SECONDS PASSED FAILED SKIPPED REASON COMMAND...
note() {
    local IFS=$'\t' line
    line=$*
    printf '%s\n' "${line//[$'\n\r']/ }" >>"$ITEMS" # one write: items may run side by side
    [ "$2" = passed ] || say "  $STAGE: $1: $2${7:+: $7}"
}

not_run() {
    note "$1" 'not run' 0 0 0 0 "$2" ''
}

# The last count that a log has of what: "7 passed, 0 failed", "2 skipped", "9 comparisons,
# 0 wrong".
counted() {
    grep -o "[0-9][0-9]* $1" "$2" | tail -n 1 | cut -d' ' -f1
}

# The line of a log that says best what failed.
said() {
    grep -m 1 '^FAIL ' "$1" || grep -m 1 'error\|ERROR' "$1" || tail -n 1 "$1"
}

# item NAME COMMAND...: runs it in what is left of the stage (or ITEM_SECONDS), with a log of
# its own. Status 77 is "skipped" with SKIPS=1, else "not run"; so is everything that found no
# device, or whose log lacks the words of NEEDS.
item() {
    local name=$1 log rc=0 begin=$SECONDS limit passed failed skipped all reason='' result
    local absent
    shift
    log=$OUT/$STAGE-${name//[^a-zA-Z0-9_-]/_}.log
    limit=${ITEM_SECONDS:-$(left)}
    if [ "$limit" -le 1 ]; then
        note "$name" failed 0 0 1 0 "the stage's $STAGE_SECONDS s are over" "$*"
        return 1
    fi
    timeout --kill-after=5 "$limit" "$@" >"$log" 2>&1 </dev/null || rc=$?
    passed=$(counted passed "$log")
    failed=$(counted failed "$log")
    skipped=$(counted skipped "$log")
    if all=$(counted comparisons "$log") && [ -n "$all" ]; then
        failed=$(counted wrong "$log")
        passed=$((all - ${failed:-0}))
    fi
    case $rc in
    0) result=passed ;;
    77)
        result=${SKIPS:+skipped}
        result=${result:-not run}
        skipped=${skipped:-1}
        reason=$(grep -m 1 '^skip\|no device\|no CUDA' "$log")
        ;;
    124 | 137) result=failed reason="no end after $limit s" ;;
    *) result=failed reason="exit status $rc: $(said "$log")" ;;
    esac
    absent=$(grep -m 1 'no CUDA device\|no CUDA driver' "$log") &&
        if [ "$rc" -eq 77 ] || [ "$DEVICE" = none ] || grep -q '^skip.*no CUDA d' "$log"; then
            result='not run' reason=$absent passed=0 failed=0
        fi
    if [ "$rc" -ne 124 ] && [ "$rc" -ne 137 ] && ! grep -q "${NEEDS:-}" "$log" && [ -n "${NEEDS:-}" ]; then
        result='not run' reason="it says nothing of \"$NEEDS\": $reason" passed=0 failed=0
    fi
    # A device that is there and does not open: its kernels do not load.
    if absent=$(grep -m 1 -o 'device_open: CUDA device.*' "$log") && [ "$rc" -ne 0 ]; then
        result=failed reason=$absent
    fi
    [ "$result" != failed ] || [ "${failed:-0}" -gt 0 ] || failed=1
    [ "$result" != passed ] || [ -n "$passed" ] || passed=1
    note "$name" "$result" $((SECONDS - begin)) "${passed:-0}" "${failed:-0}" \
        "${skipped:-0}" "$(cut -c1-300 <<<"$reason")" "$*"
    [ "$result" = passed ]
}

# crowd NAME COMMAND...: an item beside others, for those that neither measure nor look at free
# memory; the stage waits for all of them.
crowd() {
    while [ "$(jobs -rp | wc -l)" -ge 8 ]; do
        wait -n
    done
    item "$@" &
}

# Writes the stage's JSON from its items and prints "RESULT<tab>PASSED<tab>...".
summary() {
    export STAGE DEVICE DRIVER COMMIT SEED TRACE SOURCES COMMAND
    python3 - "$ITEMS" "$OUT/$STAGE.json" "$1" <<'PY'
import json, os, sys, time
keys = ("name", "result", "seconds", "passed", "failed", "skipped", "reason")
items = []
with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
    for line in file:
        fields = line.rstrip(" \n").split("\t")
        item = dict(zip(keys, fields))
        for key in ("seconds", "passed", "failed", "skipped"):
            item[key] = int(item[key])
        item["command"] = " ".join(fields[len(keys):])
        items.append(item)
results = [i["result"] for i in items]
result = ("failed" if "failed" in results else "not run" if "not run" in results
          or "passed" not in results else "passed")
total = {k: sum(i[k] for i in items) for k in ("passed", "failed", "skipped")}
reason = next((i["name"] + ": " + i.get("reason", "") for i in items
               if i["result"] == result and result != "passed"), "")
env = os.environ
try:
    with open(sys.argv[2].replace(".json", "-measured.json"), encoding="utf-8") as file:
        measured = {"measured": json.load(file)}
except OSError:
    measured = {}
if result == "passed":
    reason = measured.get("measured", {}).get("summary", "")
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump({
        "stage": env["STAGE"], "result": result, "reason": reason,
        "seconds": int(sys.argv[3]), **total, "device": env["DEVICE"],
        "driver": env["DRIVER"], "commit": env["COMMIT"], "sources": env["SOURCES"],
        "seed": int(env["SEED"]), "trace": env["TRACE"], "command": env["COMMAND"].strip(),
        "date": time.strftime("%Y-%m-%d"), "items": items, **measured}, file, indent=1)
    file.write("\n")
print(result, total["passed"], total["failed"], total["skipped"], reason, sep="\t")
PY
}

# A field of a stage's JSON; nothing where there is none.
recorded() {
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' \
        "$OUT/$1.json" "$2" 2>/dev/null
}

# Whether the stage passed before with what it would be run with now.
kept() {
    local field
    [ -z "$FORCE" ] && [ "$(recorded "$1" result)" = passed ] &&
        [ -e "$BUILD/build.ninja" ] || return 1
    for field in SOURCES DEVICE DRIVER SEED TRACE; do
        [ "$(recorded "$1" "${field,,}")" = "${!field}" ] || return 1
    done
    [ "$1" != build ] || { is_there "$BUILD" && is_there "$BUILD" tests/capture/probe &&
        is_there "$BUILD-portable" tests/checkop/checkop; }
}

# is_there FOLDER [TARGET]: what was built has not been removed since.
is_there() {
    local folder=$1
    shift
    ninja -C "$folder" -n "$@" 2>/dev/null | grep -q 'no work to do'
}

row() {
    TABLE+=$(printf '%-9s %-8s %8s %8s %7s %8s  %s' "$@" | cut -c1-120)$'\n'
}

# ---- the stages -------------------------------------------------------------------------

stage_build() {
    local tool
    for tool in nvcc gcc ninja; do
        command -v "$tool" >/dev/null 2>&1 || {
            not_run "$tool" "$tool is missing"
            return
        }
    done
    portable &
    if [ -e "$BUILD/build.ninja" ] ||
        item setup "${MESON[@]}" setup "$BUILD" "$ROOT" -Dcuda=enabled; then
        item compile ninja -C "$BUILD" && item probe ninja -C "$BUILD" tests/capture/probe
    fi
    wait
}

# What GPUs without machine code of their own run: the driver compiles it for this one.
portable() {
    [ -e "$BUILD-portable/build.ninja" ] ||
        item 'setup portable' "${MESON[@]}" setup "$BUILD-portable" "$ROOT" -Dcuda=enabled \
            -Dgpu_arch=compute_80 || return
    item 'compile portable' ninja -C "$BUILD-portable" tests/checkop/checkop
}

stage_check() {
    local checkop=tests/checkop/checkop
    crowd cuda "$BUILD/$checkop" --seed "$SEED" --variant cuda
    crowd cuda-graph "$BUILD/$checkop" --seed "$SEED" --variant cuda-graph
    crowd 'cuda portable' "$BUILD-portable/$checkop" --seed "$SEED" --variant cuda
    wait
}

# programs PREFIX: those of the build whose names begin so, without the prefix, with paths.
programs() {
    "${MESON[@]}" introspect --targets "$BUILD" | PREFIX=$1 python3 -c '
import json, os, sys
prefix = os.environ["PREFIX"]
for target in sorted(json.load(sys.stdin), key=lambda t: t["name"]):
    if target["type"] == "executable" and target["name"].startswith(prefix):
        print(target["name"][len(prefix):], target["filename"][0])'
}

# Tests in Python of whole frameworks: "NAME<tab>COMMAND", to be run in the build folder. A
# planted one has to fail.
frameworks() {
    "${MESON[@]}" introspect --tests "$BUILD" | python3 -c '
import json, shlex, sys
for test in json.load(sys.stdin):
    if any("/tests/torch/" in word for word in test["cmd"]) and "planted" not in test["name"]:
        print(test["name"], shlex.join(test["cmd"]), sep="\t")'
}

# Those of the host device only run as well: the same build, another machine. Ladders are
# counted by free memory: one after the other.
stage_device() {
    local name path SKIPS=1
    while read -r name path; do
        case $name in
        *_planted) ;; # has to fail where order is the host's to choose
        *_time) ;;    # measures: stage bench
        cuda_*) item "$name" env RFN_TEST_DEVICE=cuda "$path" --no-times ;;
        *) item "$name" env RFN_TEST_DEVICE=cuda "$path" ;;
        esac
    done < <(programs device_)
    while read -r name path; do
        crowd "capture_$name" env RFN_TEST_DEVICE=cuda "$path"
    done < <(programs capture_)
    while read -r name path; do
        crowd "incidents_$name" env RFN_TEST_DEVICE=cuda "$path"
    done < <(programs incidents_)
    crowd incidents "$BUILD/refrain" incidents --device cuda --seed "$SEED"
    wait
    # What of the host's known answers is the same here; the host device alone sees 018.
    # shellcheck disable=SC2016
    item 'known answers' bash -c \
        'exec "$@" "$0"/tests/capture/capture_cap*_bad "$0"/tests/capture/capture_cap*_good' \
        "$BUILD" python3 "$ROOT/tests/capture/rule_counts.py" --device cuda --least 30 \
        --json "$OUT/device-measured.json" "$BUILD/refrain" "$OUT/rule-counts.tsv"
    while IFS=$'\t' read -r name path; do
        item "$name" bash -c "cd \"\$0\" && $path" "$BUILD"
    done < <(frameworks)
}

stage_conform() {
    local csv=$ROOT/tests/capture/h200-driver580.csv major
    item recording env RFN_TEST_DEVICE=cuda "$BUILD/tests/capture/recording" "$csv"
    major=$(sed -n 's/^# driver \([0-9]*\).*/\1/p' "$csv")
    case "$DEVICE ${DRIVER%%.*}" in
    *H200*" $major")
        item probe "$BUILD/tests/capture/probe" --jobs 8 --seconds $(($(left) - 20)) \
            "$OUT/probe.csv" || return
        item 'probe against the recording' python3 "$ROOT/tests/capture/recordings.py" \
            "$csv" "$OUT/probe.csv"
        ;;
    *)
        note probe skipped 0 0 0 1 \
            "the recording is of an H200 with driver $major, here are $DEVICE, $DRIVER" ''
        ;;
    esac
}

# The report that is read is the printed one: a build without jansson has no other, and reads
# a trace as a table.
stage_decode() {
    local report=$ROOT/tests/device/report.py
    set -- --layers 61 --requests 512 --steps 400 --batch 128 --verify 16 --seed "$SEED"
    if [ -n "$TRACE" ]; then
        item table python3 "$report" table "$TRACE" "$OUT/trace.tsv" || return
        set -- --trace "$OUT/trace.tsv" "$@"
    fi
    item refrain "$BUILD/refrain" decode --device cuda "$@" &&
        item report python3 "$report" decode "$OUT/decode-refrain.log" \
            "$OUT/decode-measured.json"
    item speculative "$BUILD/refrain" decode --device cuda "$@" --requests 64 --steps 60 \
        --batch 32 --verify 4 --speculative 3:0.7
    geometries "$@" --layers 2 --requests 3 --steps 6 --batch 4 --verify 6
}

# geometries OPTIONS...: a few whole steps, a row of each padded, of every model that the
# program names: each has its own heads, indexer and scale.
geometries() {
    local model
    "$BUILD/refrain" info | sed '1,/^geometries/d' >"$OUT/geometries.txt"
    while read -r model _; do
        item "geometry $model" "$BUILD/refrain" decode --device cuda "$@" --geometry "$model"
    done <"$OUT/geometries.txt"
    [ -s "$OUT/geometries.txt" ] || note geometries failed 0 0 1 0 'info names none' ''
}

# sanitized NAME TOOL COMMAND...: the tool's own last line decides: one that could not attach
# says nothing of errors.
sanitized() {
    local name=$1 tool=$2 NEEDS='SUMMARY: '
    shift 2
    item "$name" compute-sanitizer --tool "$tool" --error-exitcode 86 "$@" &&
        ! grep -q 'SUMMARY: 0 ' "$OUT/sanitize-${name//[^a-zA-Z0-9_-]/_}.log" &&
        note "$name, summary" failed 0 0 1 0 \
            "$(grep -m 1 'SUMMARY: ' "$OUT/sanitize-${name//[^a-zA-Z0-9_-]/_}.log")" ''
}

# Every op small; then shapes whose kernels reuse what is in shared memory: rings that turn,
# rows in several chunks, clusters.
stage_sanitize() {
    local tool shape device=$BUILD/tests/device/device_cuda
    for tool in memcheck racecheck synccheck; do
        if command -v compute-sanitizer >/dev/null 2>&1; then
            sanitized "$tool" "$tool" \
                "$BUILD/tests/checkop/checkop" --seed "$SEED" --variant cuda --small &
        else
            not_run "$tool" "compute-sanitizer is missing"
        fi
    done
    if command -v compute-sanitizer >/dev/null 2>&1; then
        for shape in 1 4 5 6 7 12 15; do
            sanitized "racecheck logits $shape" racecheck \
                "${device}_logits" --seed "$SEED" --no-times --shape "$shape" &
        done
        sanitized 'racecheck mla' racecheck "${device}_mla" --seed "$SEED" --small &
        sanitized 'racecheck topk' racecheck "${device}_topk" --seed "$SEED" --small &
    fi
    wait
}

stage_bench() {
    local name path
    while read -r name path; do
        rm -f "$OUT/cuda_$name.json"
        item "cuda_$name" "$path" --seed "$SEED" "$OUT/cuda_$name.json" || continue
        [ -s "$OUT/cuda_$name.json" ] ||
            note "cuda_$name.json" skipped 0 0 0 1 'the program wrote no times' ''
    done < <(programs device_cuda_)
    item refrain "$BUILD/refrain" bench --device cuda --seconds 0.2 &&
        item report python3 "$ROOT/tests/device/report.py" bench "$OUT/bench-refrain.log" \
            "$OUT/bench-measured.json"
}

# ---- all of it ---------------------------------------------------------------------------

# run STAGE: keeps what passed, else runs it. Status 0 when it passed, now or before.
run() {
    STAGE=$1 STAGE_BEGIN=$SECONDS
    if kept "$1"; then
        row "$1" passed "$(recorded "$1" seconds)" "$(recorded "$1" passed)" \
            "$(recorded "$1" failed)" "$(recorded "$1" skipped)" "kept"
        return 0
    fi
    : >"$ITEMS"
    rm -f "$OUT/$STAGE.json" "$OUT/$STAGE-measured.json"
    case $1 in
    build) stage_build ;;
    check) stage_check ;;
    device) stage_device ;;
    conform) stage_conform ;;
    decode) stage_decode ;;
    sanitize) stage_sanitize ;;
    bench) stage_bench ;;
    esac
    local seconds=$((SECONDS - STAGE_BEGIN)) result passed failed skipped reason
    IFS=$'\t' read -r result passed failed skipped reason <<<"$(summary "$seconds")"
    [ -n "$result" ] || result=failed reason='its items could not be summed up'
    row "$1" "$result" "$seconds" "$passed" "$failed" "$skipped" "$reason"
    case $result in
    passed) return 0 ;;
    failed) STATUS=1 ;;
    *) [ "$STATUS" -eq 1 ] || STATUS=77 ;;
    esac
    return 1
}

STATUS=0
built=''
for stage in $WANTED; do
    if [ -z "$built" ] && run build; then
        built=yes
    elif [ -z "$built" ]; then
        built=no
    fi
    [ "$stage" != build ] || continue
    if [ $built = yes ]; then
        run "$stage"
    else
        row "$stage" 'not run' 0 0 0 0 'nothing was built'
    fi
done
rm -f "$ITEMS"
printf '\n%s, driver %s, commit %s, seed %s\n' "$DEVICE" "$DRIVER" "$COMMIT" "$SEED"
printf '%-9s %-8s %8s %8s %7s %8s\n%s' stage result seconds passed failed skipped "$TABLE"
exit "$STATUS"
