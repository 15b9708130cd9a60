# shellcheck shell=sh
# What tools/test, tools/demo and .ci/run share: packages, trace, configure, build.
# To be sourced, with ROOT set to the project's folder.

CALLER=$(pwd)
# Paths of the caller are relative to where the caller stands.
absolute() {
    case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s\n' "$CALLER/$1" ;;
    esac
}
BUILD=$(absolute "${BUILD:-$ROOT/build}")

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "$*"
    exit 1
}

# Runs a command in silence; its last lines and status 1 when it fails.
quietly() {
    what=$1
    shift
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        die "failed: $what"
    fi
    rm -f "$log"
}

compiles() {
    printf '%s\n' "#include <$1>" | gcc -fsyntax-only -x c - >/dev/null 2>&1
}

# Whether what an apt package brings is here, whoever brought it.
present() {
    case $1 in
    libc6-dev) compiles stdio.h ;;
    libjansson-dev) compiles jansson.h ;;
    libcmocka-dev) printf '%s\n' '#include <stdarg.h>' '#include <stddef.h>' \
        '#include <setjmp.h>' '#include <stdint.h>' '#include <cmocka.h>' |
        gcc -fsyntax-only -x c - >/dev/null 2>&1 ;;
    ninja-build) command -v ninja >/dev/null 2>&1 ;;
    libclang-rt-14-dev) ls /usr/lib/llvm-14/lib/clang/*/lib/linux/*tsan* >/dev/null 2>&1 ;;
    python3-venv) python3 -c 'import ensurepip' >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# Installs the packages that are missing, named first; without root only names them.
need() {
    missing=
    for package in "$@"; do
        present "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command="apt-get install -y --no-install-recommends$missing"
    command -v apt-get >/dev/null 2>&1 || die "missing (Debian's names):$missing"
    if [ "$(id -u)" -ne 0 ]; then
        say "missing packages:$missing"
        die "install them as root: $command"
    fi
    say "installing packages:$missing"
    quietly "apt-get update" apt-get update
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive quietly "$command" $command
}

# The request trace: the one that was asked for, else where it usually lies; may be none.
find_trace() {
    if [ -n "${1:-}" ]; then
        TRACE=$(absolute "$1")
        [ -r "$TRACE" ] || die "no such trace: $1"
        return
    fi
    TRACE=
    for trace in "${REFRAIN_TRACE:-}" "$ROOT/../shared/data/conversation_trace.jsonl"; do
        if [ -n "$trace" ] && [ -r "$(absolute "$trace")" ]; then
            TRACE=$(absolute "$trace")
            return
        fi
    done
}

# Configures $BUILD, once, and again when what it was configured from has changed.
# Further arguments are Meson's.
configure() {
    cuda=disabled
    if [ -e /dev/nvidia0 ] || [ -e /dev/nvidiactl ]; then
        cuda=auto
    fi
    stamp="$ROOT $* cuda=$cuda trace=${TRACE:-} gcc=$(gcc -dumpfullversion)"
    stamp="$stamp meson=$(meson --version) nvcc=$(command -v nvcc || :)"
    for package in libjansson-dev libcmocka-dev g++; do
        present "$package" && stamp="$stamp $package"
    done
    [ "$(cat "$BUILD/refrain-stamp" 2>/dev/null)" != "$stamp" ] || return 0
    set -- "$BUILD" "$ROOT" "-Dcuda=$cuda" "-Dtrace=${TRACE:-}" "$@"
    if [ ! -e "$BUILD/meson-private" ]; then
        quietly "meson setup" meson setup "$@"
    elif ! meson setup --reconfigure "$@" >/dev/null 2>&1; then
        quietly "meson setup --wipe" meson setup --wipe "$@"
    fi
    printf '%s\n' "$stamp" >"$BUILD/refrain-stamp"
}
