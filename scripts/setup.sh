# shellcheck shell=sh
# What building and running Plimsoll needs from the machine: a C compiler, cargo, libpq to link with, and
# PostgreSQL's server programs; and what some tests compare it with. Sourced by ./run and ./test, never run by itself.
#
# Missing Debian packages are installed when root or a passwordless sudo allows it, and it is said so. Otherwise
# setup_* stops with exit status 2 and the one line to run.
#
# SETUP_ROOT: look for programs and settings below this folder instead of / (for tests of this file).

say() { printf '%s\n' "plimsoll: $*" >&2; }

# stop_with TEXT...: one line each, exit 2 (wrong use or configuration).
stop_with() {
    for line in "$@"; do say "$line"; done
    exit 2
}

# holds_libpq FOLDER: whether a linker finds libpq there.
holds_libpq() {
    [ -n "$1" ] || return 1
    for file in "$1/libpq.so" "$1/libpq.dylib" "$1/libpq.a" "$1/libpq.tbd"; do
        [ -e "$file" ] && return 0
    done
    return 1
}

# Whether libpq can be linked with. Where only pkg-config or Homebrew knows the folder, PQ_LIB_DIR is exported for
# the build, which asks pg_config by itself.
have_libpq() {
    if [ -n "${PQ_LIB_DIR:-}" ]; then
        holds_libpq "$PQ_LIB_DIR" && return 0
        stop_with "PQ_LIB_DIR is $PQ_LIB_DIR, where there is no libpq to link with."
    fi
    if command -v pg_config >/dev/null 2>&1 && holds_libpq "$(pg_config --libdir 2>/dev/null)"; then
        return 0
    fi
    found=
    if command -v pkg-config >/dev/null 2>&1; then
        found=$(pkg-config --variable=libdir libpq 2>/dev/null) || found=
    fi
    for folder in "$found" \
        "${SETUP_ROOT:-}"/opt/homebrew/opt/libpq/lib "${SETUP_ROOT:-}"/usr/local/opt/libpq/lib \
        "${SETUP_ROOT:-}"/opt/homebrew/opt/postgresql@*/lib "${SETUP_ROOT:-}"/usr/local/opt/postgresql@*/lib; do
        if holds_libpq "$folder"; then
            PQ_LIB_DIR=$folder
            export PQ_LIB_DIR
            return 0
        fi
    done
    # Folders that every linker searches unasked.
    for folder in "${SETUP_ROOT:-}"/usr/lib/*-linux-gnu "${SETUP_ROOT:-}"/usr/lib64 "${SETUP_ROOT:-}"/usr/lib; do
        holds_libpq "$folder" && return 0
    done
    return 1
}

# holds_server FOLDER: whether PostgreSQL's server programs are there.
holds_server() { [ -x "$1/initdb" ] && [ -x "$1/postgres" ]; }

# Whether there is a PostgreSQL server to start, at the places where `plimsoll` itself looks.
have_server() {
    if [ -n "${PG_BIN:-}" ]; then
        holds_server "$PG_BIN" && return 0
        stop_with "PG_BIN is $PG_BIN, where there are no initdb and postgres."
    fi
    for folder in "${SETUP_ROOT:-}"/usr/lib/postgresql/*/bin "${SETUP_ROOT:-}"/usr/pgsql-*/bin \
        "${SETUP_ROOT:-}"/opt/homebrew/opt/postgresql@*/bin "${SETUP_ROOT:-}"/usr/local/opt/postgresql@*/bin; do
        holds_server "$folder" && return 0
    done
    command -v initdb >/dev/null 2>&1 && command -v postgres >/dev/null 2>&1 && return 0
    command -v pg_config >/dev/null 2>&1 && holds_server "$(pg_config --bindir 2>/dev/null)"
}

have_venv() { python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }

is_root() { [ "$(id -u)" = 0 ]; }

# Whether as_root works without asking anybody.
may_install() { is_root || sudo -n true >/dev/null 2>&1; }

as_root() { if is_root; then "$@"; else sudo -n "$@"; fi; }

# apt_install PACKAGE...: no recommendations, no questions, and no database cluster or service left running.
apt_install() {
    as_who="as root"
    is_root || as_who="with sudo"
    say "installing $* $as_who (apt-get, without recommended packages)"

    # Debian's server package would create and start a cluster of its own. A setting that is there already is the
    # owner's word and stays; ours lasts for this installation only.
    conf_dir="${SETUP_ROOT:-}/etc/postgresql-common"
    ours="$conf_dir/createcluster.d/plimsoll-setup.conf"
    made=
    case " $* " in *" postgresql "*)
        if ! grep -Eqs '^[[:space:]]*create_main_cluster' "$conf_dir/createcluster.conf" "$conf_dir"/createcluster.d/*.conf; then
            as_root mkdir -p "$conf_dir/createcluster.d"
            echo "create_main_cluster = false" | as_root tee "$ours" >/dev/null
            made=yes
        fi
        ;;
    esac
    service_before=no
    [ -e "${SETUP_ROOT:-}/etc/init.d/postgresql" ] && service_before=yes

    as_root apt-get -q update >&2 ||
        say "apt-get update failed; going on with the package lists that are there"
    installed=0
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 \
        install --no-install-recommends "$@" </dev/null >&2 || installed=$?

    if [ -n "$made" ]; then
        as_root rm -f "$ours"
        as_root rmdir "$conf_dir/createcluster.d" 2>/dev/null || true
    fi
    # The package also enables a service that would start clusters at boot; there was none before, so there is none now.
    if [ "$service_before" = no ] && [ -e "${SETUP_ROOT:-}/etc/init.d/postgresql" ]; then
        say "switching the new postgresql service off (to have it: update-rc.d postgresql enable)"
        if [ -d "${SETUP_ROOT:-}/run/systemd/system" ]; then
            as_root systemctl stop postgresql.service >&2 || true
        fi
        as_root update-rc.d postgresql disable >&2 || true
    fi
    return "$installed"
}

# apt_line PACKAGE...: the one line a person runs.
apt_line() {
    line="apt-get update && apt-get install -y --no-install-recommends $*"
    if is_root; then
        echo "$line"
    elif command -v sudo >/dev/null 2>&1; then
        echo "sudo sh -c '$line'"
    else
        echo "su -c '$line'"
    fi
}

# Stops unless cargo and a C compiler are there: these are the two things Plimsoll does not install.
setup_compilers() {
    command -v cargo >/dev/null 2>&1 || [ ! -x "${HOME:-}/.cargo/bin/cargo" ] || PATH="$HOME/.cargo/bin:$PATH"
    command -v cargo >/dev/null 2>&1 ||
        stop_with "cargo is missing. Install Rust 1.95 or newer: https://rustup.rs"
    if ! command -v cc >/dev/null 2>&1; then
        if command -v apt-get >/dev/null 2>&1; then
            stop_with "a C compiler is missing. Run: $(apt_line gcc libc6-dev)"
        fi
        stop_with "a C compiler (cc) is missing. Install one: gcc or clang; on macOS: xcode-select --install"
    fi
}

# libpq and PostgreSQL's server programs: found, installed, or exit 2 with the line to run.
setup_postgres() {
    missing=
    have_libpq || missing="libpq-dev"
    have_server || missing="$missing postgresql"
    missing=${missing# }
    [ -n "$missing" ] || return 0

    if command -v apt-get >/dev/null 2>&1; then
        # Package names have no blanks: one word each.
        # shellcheck disable=SC2086
        if ! may_install; then
            stop_with "Debian packages are missing: $missing. Run: $(apt_line $missing)"
        elif ! apt_install $missing; then
            stop_with "apt-get could not install $missing. Run: $(apt_line $missing)"
        fi
    elif command -v brew >/dev/null 2>&1; then
        stop_with "PostgreSQL is missing. Run: brew install libpq postgresql@17"
    elif command -v dnf >/dev/null 2>&1; then
        stop_with "PostgreSQL is missing. Run: sudo dnf install -y libpq-devel postgresql-server"
    else
        stop_with "PostgreSQL is missing: install its server programs and libpq with its development files." \
            "Elsewhere than usual? Set PG_BIN (the folder of initdb and postgres) and PQ_LIB_DIR (the folder of libpq)."
    fi
    have_libpq || stop_with "libpq is installed, but no folder with it was found. Set PQ_LIB_DIR to that folder."
    have_server || stop_with "PostgreSQL is installed, but no folder with initdb and postgres was found. Set PG_BIN to it."
}

# The reader of QR codes: found, installed, or returns 1 having said why, and the test that needs it says it is skipped.
setup_zbar() {
    command -v zbarimg >/dev/null 2>&1 && return 0
    if command -v apt-get >/dev/null 2>&1 && may_install; then
        apt_install zbar-tools || true
        command -v zbarimg >/dev/null 2>&1 && return 0
    fi
    say "zbarimg is missing: the check of QR codes will be skipped."
    if command -v apt-get >/dev/null 2>&1; then say "To have it, run: $(apt_line zbar-tools)"; fi
    return 1
}

# Node for the example client of the WebSocket: found, installed, or returns 1 having said why, and the test that needs it
# says it is skipped.
setup_node() {
    command -v node >/dev/null 2>&1 && return 0
    if command -v apt-get >/dev/null 2>&1 && may_install; then
        apt_install nodejs || true
        command -v node >/dev/null 2>&1 && return 0
    fi
    say "node is missing: the check of the JavaScript client will be skipped."
    if command -v apt-get >/dev/null 2>&1; then say "To have it, run: $(apt_line nodejs)"; fi
    return 1
}

# setup_python FOLDER REQUIREMENTS: a virtual environment in FOLDER with what REQUIREMENTS lists, rebuilt when the
# list has changed. Exports TEST_PYTHON, or returns 1 having said why: tests that need it then say they are skipped.
setup_python() {
    if ! have_venv; then
        if command -v apt-get >/dev/null 2>&1 && may_install; then
            apt_install python3-venv || true
        fi
        if ! have_venv; then
            say "python3 with its venv module is missing: checks against outside Python programs will be skipped."
            if command -v apt-get >/dev/null 2>&1; then say "To have them, run: $(apt_line python3-venv)"; fi
            return 1
        fi
    fi
    if ! cmp -s "$2" "$1/requirements.txt" || ! "$1/bin/python" -c '' >/dev/null 2>&1; then
        say "making a Python environment in $1"
        rm -rf "$1"
        if ! { python3 -m venv "$1" &&
            "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$2"; } >&2; then
            rm -rf "$1"
            say "the Python packages could not be installed: checks that need them will be skipped."
            return 1
        fi
        cp "$2" "$1/requirements.txt"
    fi
    TEST_PYTHON="$1/bin/python"
    export TEST_PYTHON
}
