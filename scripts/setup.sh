#!/usr/bin/env bash
# Installs what the project needs: `setup.sh run` for running it, `setup.sh test` for everything else as well, and
# `setup.sh interop` for what it is played with besides.
# Idempotent, and quick when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-run}

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'set-up: %s\n' "$*" >&2; exit 1; }

# `at_least 1.95 1.100.2` is true: versions, not decimals.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

check_toolchains() {
    command -v cargo >/dev/null || die "cargo is missing; install Rust 1.95 or newer (https://rustup.rs)"
    local rust node
    rust=$(rustc --version | cut -d' ' -f2)
    at_least 1.95.0 "$rust" || die "Rust $rust is too old; 1.95 or newer is needed"
    command -v node >/dev/null && command -v npm >/dev/null || die "node or npm is missing; install Node.js 22.12 or newer"
    node=$(node --version | tr -d v)
    at_least 20.19.0 "$node" && { at_least 22.12.0 "$node" || [[ $node == 20.* ]]; } || die "Node.js $node is not supported; 20.19 or later of 20, or 22.12 or newer is needed"
}

# Debian packages that are wanted and not installed.
missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

install_packages() {
    command -v dpkg-query >/dev/null || { say "not a Debian system: see that these are there: $*"; return; }
    local missing sudo=()
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            die "these Debian packages are missing; install them and try again:
    sudo apt-get install --no-install-recommends ${missing[*]}"
        fi
        sudo=(sudo -n)
    fi
    say "installing ${missing[*]}"
    # Debian would run one at once, on the port of our own metrics: the tests start theirs.
    if [[ " ${missing[*]} " == *" prometheus "* ]] && [ -d /run/systemd/system ]; then
        "${sudo[@]}" systemctl mask --quiet prometheus
    fi
    "${sudo[@]}" apt-get update -q >&2
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
}

# npm ci in folder $1, for $2, when the lock file is not the one that was installed.
install_node_modules() {
    local stamp=$1/node_modules/.installed
    if ! cmp -s "$1/package-lock.json" "$stamp"; then
        say "installing the packages of $2"
        (cd "$1" && npm ci --no-audit --no-fund >&2)
        cp "$1/package-lock.json" "$stamp"
    fi
}

build_page() {
    local newer
    newer=$(find frontend/src frontend/public frontend/index.html frontend/vite.config.ts frontend/svelte.config.js \
        frontend/package-lock.json -newer frontend/dist/index.html 2>/dev/null | head -n 1 || true)
    if [ ! -f frontend/dist/index.html ] || [ -n "$newer" ]; then
        say "building the web page"
        (cd frontend && npm run --silent build >&2)
    fi
}

# aiortc views the lesson in tests: a WebRTC implementation that shares nothing with ours.
install_python() {
    local python=.venv/bin/python
    if ! "$python" -c 'import aiortc, aiohttp, numpy' 2>/dev/null; then
        say "installing aiortc"
        python3 -m venv .venv
        .venv/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements.txt >&2
    fi
}

# Whether $1 is there and nothing of folder $2 is newer.
is_fresh() { [ -x "$1" ] && [ -z "$(find "$2" -name target -prune -o -type f -newer "$1" -print -quit)" ]; }

# Players that are built from the libraries of others. One whose toolchain is missing is left out, and its row says so.
build_interop_clients() {
    local clients=frontend/e2e/interop/clients built=$PWD/target/interop/bin go
    mkdir -p "$built"
    go=$(command -v go || echo /usr/local/go/bin/go)
    if [ ! -x "$go" ]; then
        say "Go is missing (https://go.dev/dl): pion is left out"
    elif ! is_fresh "$built/pion-viewer" "$clients/pion"; then
        say "building the player of pion"
        (cd "$clients/pion" && CGO_ENABLED=0 "$go" build -o "$built/pion-viewer" .) ||
            say "$("$go" version) does not build it: pion is left out"
    fi
    if ! pkg-config --exists gstreamer-webrtc-1.0 gstreamer-app-1.0; then
        say "the development files of GStreamer are missing: its player is left out"
    elif ! is_fresh "$built/gstreamer-viewer" "$clients/gstreamer"; then
        say "building the player of GStreamer"
        cargo build --locked --manifest-path "$clients/gstreamer/Cargo.toml" --target-dir target/interop-gst
        cp target/interop-gst/debug/gstreamer-viewer "$built/"
    fi
}

check_toolchains
test_packages=(build-essential cmake ffmpeg chromium fonts-dejavu-core iproute2 nftables python3-venv valgrind
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
    gstreamer1.0-libav libnss3-tools postgresql prometheus)
interop_packages=(firefox-esr gstreamer1.0-nice gstreamer1.0-plugins-ugly libgl1-mesa-dri libgstreamer1.0-dev
    libgstreamer-plugins-bad1.0-dev libgstreamer-plugins-base1.0-dev librtmp-dev obs-studio pkg-config vlc-bin
    vlc-plugin-base xvfb)
case $what in
run)
    install_packages build-essential cmake
    install_node_modules frontend "the web page"
    build_page
    ;;
test | interop)
    [ "$what" = interop ] && test_packages+=("${interop_packages[@]}")
    install_packages "${test_packages[@]}"
    install_node_modules frontend "the web page"
    build_page
    install_python
    if [ "$what" = interop ]; then
        install_node_modules frontend/e2e/interop/clients/npm "other people's players"
        build_interop_clients
    fi
    ;;
*) die "usage: setup.sh run|test|interop" ;;
esac
