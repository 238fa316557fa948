#!/usr/bin/env bash
# Tests the CUDA backend on a GPU: builds it, runs every op on the device, and looks for faults and races with
# compute-sanitizer. Needs nvcc, cmake, a C and a C++ compiler, and no network.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=native/target/gpu-check
mkdir -p native/target

cmake -S . -B "$build" -DBUILD_TESTING=ON > "$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
cmake --build "$build" --target test_cuda lamina_cuda --parallel > "$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
library=$(find "$PWD/$build" -name liblamina_cuda.so -print -quit)
test=$build/native/test_cuda

echo "every op on the device:"
"$test" "$library"

if ! command -v compute-sanitizer > /dev/null; then
    echo "compute-sanitizer is not there: no search for faults and races"
    exit 0
fi
for tool in memcheck racecheck synccheck; do
    status=0
    compute-sanitizer --tool "$tool" --error-exitcode 99 "$test" "$library" > "$build.log" 2>&1 || status=$?
    case $status in
        0) echo "$tool: nothing found" ;;
        99) cat "$build.log" >&2; echo "$tool found something" >&2; exit 1 ;;
        *) echo "$tool could not run: $(grep -m 1 -i error "$build.log" || echo "exit status $status")" ;;
    esac
done
