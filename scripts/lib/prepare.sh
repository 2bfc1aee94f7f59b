# shellcheck shell=bash
# Sourced by scripts/demo and scripts/test: what the machine lacks, and the virtual environment .venv.
# Says what it does before it does it; does nothing, and takes no time, where everything is there.

say() { printf 's3mount: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Prints the first Python that is new enough, or nothing.
find_python() {
    local name
    for name in ${S3MOUNT_PYTHON:-} python3.13 python3.12 python3.11 python3 python; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
}

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo; run as root: $*"
    fi
}

# install_packages APT_NAMES DNF_NAMES: install with whichever package manager is here.
install_packages() {
    if command -v apt-get >/dev/null; then
        say "installing with apt-get: $1"
        # shellcheck disable=SC2086
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $1 >&2 || {
            say "updating apt's lists first"
            as_root apt-get update >&2
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $1 >&2
        }
    elif command -v dnf >/dev/null; then
        say "installing with dnf: $2"
        # shellcheck disable=SC2086
        as_root dnf install -y $2 >&2
    else
        fail "neither apt-get nor dnf is here; install what these names stand for: $1"
    fi
}

# Python headers and venv belong to the interpreter that is used; only the system's come from packages.
python_lacks() {
    "$1" - <<'PYTHON'
import importlib.util, os, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
bundled = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
raise SystemExit(0 if not os.path.exists(header) or not bundled else 1)
PYTHON
}

# install_missing [APT:DNF:PROGRAM...]: the packages that s3mount needs, and those named, where missing.
install_missing() {
    local apt="" dnf="" item rest python version
    want() { apt="$apt $1"; dnf="$dnf $2"; }
    command -v fusermount3 >/dev/null || want fuse3 fuse3
    command -v pkg-config >/dev/null || want pkg-config pkgconf-pkg-config
    pkg-config --exists fuse3 2>/dev/null || want libfuse3-dev fuse3-devel
    command -v cc >/dev/null || command -v gcc >/dev/null || want "gcc libc6-dev" gcc
    python=$(find_python)
    if [ -z "$python" ]; then
        # What the distribution calls python3 is too old or absent; some carry a newer one beside it.
        if command -v apt-get >/dev/null; then
            apt-cache show python3.13 >/dev/null 2>&1 || as_root apt-get update >&2
        fi
        version=$(newest_packaged_python)
        want "python$version python$version-venv python$version-dev" "python$version python$version-devel"
    elif python_lacks "$python"; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        case "$python" in
            /usr/bin/*) want "python$version-venv python$version-dev" "python$version-devel" ;;
            *) fail "$python has no headers or no venv module; name another one with S3MOUNT_PYTHON" ;;
        esac
    fi
    for item in "$@"; do
        rest=${item#*:}
        command -v "${rest#*:}" >/dev/null || want "${item%%:*}" "${rest%%:*}"
    done
    [ -z "$apt" ] || install_packages "${apt# }" "${dnf# }"
}

newest_packaged_python() {
    local version
    for version in 3.13 3.12 3.11; do
        if { command -v apt-get && apt-cache show "python$version"; } >/dev/null 2>&1 ||
            { command -v dnf && dnf -q list "python$version"; } >/dev/null 2>&1; then
            echo "$version"
            return
        fi
    done
    echo 3
}

# make_environment EXTRA: .venv with s3mount[EXTRA] in it, made again only when pyproject.toml changed.
make_environment() {
    local python stamp wanted
    stamp=.venv/.installed-$1
    wanted=$(cksum pyproject.toml s3mount/__init__.py)
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c ''; then
        return
    fi
    python=$(find_python)
    [ -n "$python" ] || fail "no Python from 3.11 to 3.13 here; name one with S3MOUNT_PYTHON"
    if ! .venv/bin/python -c '' 2>/dev/null; then
        say "making a virtual environment in .venv with $python"
        "$python" -m venv --clear .venv
    fi
    say "installing s3mount[$1] into .venv"
    .venv/bin/python -m pip install --disable-pip-version-check -e ".[$1]" >.venv/install.log 2>&1 || {
        tail -n 30 .venv/install.log >&2
        fail "installing failed; the whole output is in .venv/install.log"
    }
    printf '%s\n' "$wanted" >"$stamp"
}
