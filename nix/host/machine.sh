# shellcheck shell=sh
# What this machine has, and how the rest gets onto it. Sourced by rehearse and check, which set
# `root` to the repository. Every function says on stderr what it does to the machine, and why.

: "${root:?}"

say() { printf '%s\n' "$*" >&2; }

# have COMMAND...: all of them are in PATH.
have() {
    for command; do
        command -v "$command" >/dev/null 2>&1 || return 1
    done
}

# as_root COMMAND...: runs it as root, or explains why it cannot.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        say "    this needs root, and there is no sudo to ask; as root, run:" "$*"
        return 1
    fi
}

# packages WHY PACKAGE...: installs Debian packages.
packages() {
    why=$1
    shift
    say "installing $* from Debian: $why"
    have apt-get || {
        say "    there is no apt-get: install what holds them on this system, then run this again"
        return 1
    }
    log=$root/.serein/apt.log
    mkdir -p -- "$root/.serein"
    if [ -z "${lists_updated:-}" ]; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update >"$log" 2>&1 || {
            tail -n 3 "$log" >&2
            return 1
        }
        lists_updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        return 1
    }
}

# The server, as the stage looks for it: /usr/lib/postgresql/*/bin, pg_config, PATH.
have_postgresql() {
    for initdb in /usr/lib/postgresql/*/bin/initdb "$(pg_config --bindir 2>/dev/null)/initdb"; do
        [ ! -x "$initdb" ] || return 0
    done
    have initdb postgres
}

need_postgresql() {
    have_postgresql || packages "the stage runs a real PostgreSQL of its own, in a directory of its own" postgresql
}

# A C compiler, and the C library to link with statically.
need_c() {
    if ! have cc || [ "$(cc -print-file-name=libc.a)" = libc.a ]; then
        packages "cryptography is part C, and the app is linked statically" gcc libc6-dev
    fi
}

# A Rust toolchain that is new enough. rustup brings one, where rustup is or Debian has it.
need_rust() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    have cargo || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    rust_is_new "$wanted" && return
    if ! have rustup && have apt-cache && [ -n "$(apt-cache show rustup 2>/dev/null)" ]; then
        packages "it brings Rust $wanted, which Debian itself does not have yet" rustup || return 1
    fi
    if have rustup; then
        say "installing Rust $wanted by rustup: the workspace is written for it"
        rustup toolchain install "$wanted" --profile minimal --component clippy,rustfmt >&2 || return 1
        export RUSTUP_TOOLCHAIN="$wanted"
        rust_is_new "$wanted" && return
    fi
    say "Rust $wanted or newer is needed; this machine has $(rustc --version 2>/dev/null || echo none)," \
        "and Debian $(cat /etc/debian_version 2>/dev/null) has no newer one." \
        "Install rustup as rustup.rs says (no root needed), then run this again."
    return 1
}

rust_is_new() {
    have cargo rustc || return 1
    found=$(rustc --version 2>/dev/null | cut -d ' ' -f 2) && [ -n "$found" ] || return 1
    [ "$(printf '%s\n' "$1" "$found" | sort -V | head -n 1)" = "$1" ]
}

# Prints the nix that can build here: `nix` where nixpkgs and a binary cache answer, nix/host/nix
# where this machine's toolchain has been prepared. Fails where there is neither.
working_nix() {
    have nix || return 1
    if [ -L "$root/.serein/host/toolchain" ]; then
        echo "$root/nix/host/nix"
        return
    fi
    features='--extra-experimental-features nix-command --extra-experimental-features flakes'
    # shellcheck disable=SC2086 # the options are words
    for cache in $({ nix $features show-config || nix $features config show; } 2>/dev/null | sed -n 's/^substituters = //p'); do
        if timeout 5 nix $features store ping --store "$cache" >/dev/null 2>&1 &&
            (cd "$root" && nix $features eval --raw .#default.name) >/dev/null 2>&1; then
            echo "nix $features"
            return
        fi
    done
    return 1
}

# built NAME: the directory or file that the link .serein/NAME of `nix build --out-link` stands for.
built() {
    path=$(readlink "$root/.serein/$1")
    [ ! -d "$root/.serein/store/$path" ] && [ ! -f "$root/.serein/store/$path" ] || path=$root/.serein/store$path
    printf '%s\n' "$path"
}
