#!/usr/bin/env bash
# Builds the servers that Lectern is measured beside into target/rivals/, from the Go module proxy. Idempotent.
set -euo pipefail
cd "$(dirname "$0")/.."
version=v1.20.1
rivals=$PWD/target/rivals
program=$rivals/mediamtx-$version

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'rivals: %s\n' "$*" >&2; exit 1; }

[ -x "$program" ] && exit 0
command -v go >/dev/null || die "MediaMTX is built with Go, which is missing (https://go.dev/dl)"
mkdir -p "$rivals"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say "building MediaMTX $version"
module=$(cd "$scratch" && go mod download -json "github.com/bluenviron/mediamtx@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -d "$module" ] || die "the module proxy has no MediaMTX $version"
cp -r "$module/." "$scratch"
chmod -R u+w "$scratch"
# What `go generate` downloads and a module does not carry: the version, and the player of HLS, which is switched off here.
echo "$version" >"$scratch/internal/core/VERSION"
[ -f "$scratch/internal/servers/hls/hls.min.js" ] || echo '// left out' >"$scratch/internal/servers/hls/hls.min.js"
(cd "$scratch" && CGO_ENABLED=0 go build -p 2 -o "$program" .)
say "$("$program" --version)"
