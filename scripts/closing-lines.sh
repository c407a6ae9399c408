#!/usr/bin/env bash
# Prints how each runner of `make test` closed, together, from what they said: `closing-lines.sh FOLDER`.
set -euo pipefail
cd "$1"

echo
echo 'cargo test:'
# One line for each test binary, and few read all of them.
awk '/^test result: / { binaries += 1; passed += $4; failed += $6; ignored += $8 }
    END { printf "  %d binaries: %d passed, %d failed, %d ignored\n", binaries, passed, failed, ignored }' rust
for runner in page e2e; do
    echo "vitest, $runner:"
    # Colours come in where a terminal is pretended.
    sed 's/\x1b\[[0-9;]*m//g' "$runner" | grep -E '^ +(Test Files|Tests|Duration) ' || echo '  it did not come to its end'
done
