#!/usr/bin/env bash
# Tests the CUDA backend on a GPU and measures it, without a network. Needs nvcc, cmake, a C and a C++ compiler. What is
# written in Java runs too where the folder native/target/gpu-kit is (./mvnw -q package -Pgpu-kit -DskipTests makes it).
#
#   gpu-check.sh [--short] [--emulated] [options]
#
#   --short             in three minutes: memcheck alone, few rounds, a small checkpoint under one budget
#   --emulated          the same on the emulated GPU, small: that shows that this script works
#   --no-java           nothing in Java
#   --size SIZE         of the checkpoint that is streamed, such as 40GB; chosen if not given
#   --budgets LIST      of device memory that it is streamed under (4GiB,8GiB,24GiB; --short: 4GiB)
#   --work FOLDER       for the checkpoint, on the drive to be measured, where it stays (in --out: removed in the end)
#   --kit FOLDER        what -Pgpu-kit made (native/target/gpu-kit)
#   --build FOLDER      a build folder that is configured already (none: one in --out)
#   --out FOLDER        for logs and results (native/target/gpu-check)
#   --results FOLDER    where results of a GPU are kept (benchmarks/results)
#   --commit TEXT       what the results say was measured (that of git)
#
# Java is the kit's own, or that in $LAMINA_JAVA (a folder with bin/java), $JAVA_HOME or the PATH, from version 22 on.
#
# The exit status is 1 if a check failed. What could not run is said, and changes nothing; a bar that is missed neither.

# shellcheck disable=SC2317 # functions are called by step
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
short=
emulated=
java_wanted=yes
size=
budgets=
work=
kit=$root/native/target/gpu-kit
build=
out=
results=
commit=

absolute() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s\n' "$PWD/$1" ;;
    esac
}

while [ $# -gt 0 ]; do
    case $1 in
        --short) short=yes ;;
        --emulated) emulated=yes ;;
        --no-java) java_wanted= ;;
        --size | --budgets | --work | --kit | --build | --out | --results | --commit)
            [ $# -gt 1 ] || { echo "$1 needs a value" >&2; exit 2; }
            case $1 in
                --size) size=$2 ;;
                --budgets) budgets=$2 ;;
                --work) work=$(absolute "$2") ;;
                --kit) kit=$(absolute "$2") ;;
                --build) build=$(absolute "$2") ;;
                --out) out=$(absolute "$2") ;;
                --results) results=$(absolute "$2") ;;
                --commit) commit=$2 ;;
            esac
            shift
            ;;
        -h | --help)
            sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) echo "there is no option $1 (--help tells which there are)" >&2; exit 2 ;;
    esac
    shift
done
out=${out:-$root/native/target/gpu-check${emulated:+-emulated}}
work=${work:-$out/work}
mkdir -p "$out" "$work"
rm -f "$out"/*.log "$out"/*.json
trap 'rm -rf "$out/work"' EXIT # it is large; what lies elsewhere stays, for the next time
cd "$root"
cmake=${CMAKE:-cmake}

# -- steps: each has a log; their outcome is told again at the end ----------------------------------------------------

summary=
failed=
began=$SECONDS

note() { # outcome, name, seconds or reason
    summary+=$(printf '%-8s %s (%s)' "$1" "$2" "$3")$'\n'
    [ "$1" != FAILED ] || failed=yes
}

missing() { # name, why it is not run
    echo "-- $1: not run: $2"
    note "not run" "$1" "$2"
}

log_of() {
    printf '%s/%s.log\n' "$out" "$(printf '%s' "$1" | tr -cs 'A-Za-z0-9_' '-')"
}

step() { # name, command ...; its output goes to a log, of which the end is shown if it fails
    local name=$1 start=$SECONDS log
    log=$(log_of "$name")
    shift
    echo "-- $name"
    if "$@" > "$log" 2>&1; then
        note passed "$name" "$((SECONDS - start)) s"
    else
        tail -n 40 "$log"
        echo "$name failed: $log has all of it"
        note FAILED "$name" "$((SECONDS - start)) s"
        return 1
    fi
}

finish() {
    echo
    printf '%s' "$summary"
    echo "$((SECONDS - began)) s in all"
    [ -z "$failed" ] || { echo "something failed" >&2; exit 1; }
    exit 0
}

# -- the machine -----------------------------------------------------------------------------------------------------

driver=
if [ -z "$commit" ]; then
    commit=$(git rev-parse --short HEAD 2> /dev/null || true)
    [ -z "$commit" ] || git diff --quiet HEAD 2> /dev/null || commit=$commit+
fi
if [ -z "$emulated" ] && command -v nvidia-smi > /dev/null; then
    gpu_says() {
        nvidia-smi --id=0 --query-gpu="$1" --format=csv,noheader 2> /dev/null | head -n 1
    }
    driver=$(gpu_says driver_version || true)
    gpu_says name,memory.total,memory.used,pcie.link.gen.max,pcie.link.width.max,power.limit || true
fi

# -- the build ---------------------------------------------------------------------------------------------------------

threads=$(getconf _NPROCESSORS_ONLN)
if [ -n "$emulated" ]; then
    device=cuda-emulated
    backend=lamina_cuda_emulated
    bench=bench_cuda_emulated
else
    device=cuda
    backend=lamina_cuda
    bench=bench_cuda
fi

configure() {
    if [ -n "$emulated" ]; then # which needs no nvcc
        "$cmake" -S . -B "$build" -DBUILD_TESTING=ON -DCMAKE_CUDA_COMPILER=NOTFOUND
    else
        "$cmake" -S . -B "$build" -DBUILD_TESTING=ON
    fi
}

compile() {
    "$cmake" --build "$build" --config Release --parallel "$threads" --target "$@"
}

if [ -z "$build" ]; then
    build=$out/build
    step configure configure || finish
    if [ -z "$emulated" ] && grep -q "No CUDA compiler" "$(log_of configure)"; then
        note FAILED compile "no nvcc: put it on the PATH, or set CUDACXX to it"
        finish
    fi
fi
step compile compile lamina "$backend" test_cuda "$bench" || finish
has_fragments=
if [ -z "$emulated" ] && "$cmake" --build "$build" --target help 2> /dev/null | grep test_fragments_cuda > /dev/null; then
    step "compile test_fragments_cuda" compile test_fragments_cuda && has_fragments=yes
fi

natives=$(sed -n 's/^LAMINA_NATIVES:PATH=//p' "$build/CMakeCache.txt")
find_built() { # folder, name: a library, or a program
    find "$1" -type f \( -name "lib$2.so" -o -name "lib$2.dylib" -o -name "$2" \) -print -quit
}
core=$(find_built "$natives" lamina)
library=$(find_built "$natives" "$backend")
test_arguments=()
[ -n "$emulated" ] || test_arguments=("$library")

# -- is it right? ------------------------------------------------------------------------------------------------------

test_cuda=$(find_built "$build" test_cuda)
if [ -n "$emulated" ]; then # ctest runs all of it
    step "some ops on the device" "$test_cuda" few || true
else
    step "every op on the device" "$test_cuda" "$library" || true
fi
fragments=
if [ -n "$has_fragments" ]; then
    fragments=$(find_built "$build" test_fragments_cuda)
    step "tensor core fragments" "$fragments" || true
fi

sanitize() { # tool, log, program ...
    local tool=$1 log=$2
    shift 2
    timeout 240 compute-sanitizer --tool "$tool" --error-exitcode 99 "$@" > "$log" 2>&1
}

# A tool that refuses to run says nothing about the kernels; what it finds does, and so does a test that fails under it.
judge() { # name, log, exit status, seconds
    case $3 in
        0) note passed "$1" "$4 s" ;;
        99) tail -n 60 "$2"; note FAILED "$1" "it found something: $2" ;;
        124) missing "$1" "it took more than 240 s" ;;
        *)
            if grep -Eq '^test_[a-z_]*: [1-9][0-9]* failures' "$2"; then
                tail -n 60 "$2"
                note FAILED "$1" "the test failed: $2"
            else
                missing "$1" "$(grep -m 1 -i error "$2" || echo "exit status $3")"
            fi
            ;;
    esac
}

tools=(memcheck racecheck synccheck)
[ -z "$short" ] || tools=(memcheck)
if [ -n "$emulated" ]; then
    missing compute-sanitizer "it needs a GPU"
elif ! command -v compute-sanitizer > /dev/null; then
    missing compute-sanitizer "it is not there"
else
    echo "-- compute-sanitizer: ${tools[*]}"
    start=$SECONDS
    names=()
    logs=()
    jobs=()
    for tool in "${tools[@]}"; do # at the same time: nothing is timed
        names+=("$tool of some ops")
        logs+=("$(log_of "$tool")")
        sanitize "$tool" "${logs[-1]}" "$test_cuda" few "$library" &
        jobs+=($!)
        if [ -n "$fragments" ]; then
            names+=("$tool of the fragments")
            logs+=("$(log_of "$tool-fragments")")
            sanitize "$tool" "${logs[-1]}" "$fragments" &
            jobs+=($!)
        fi
    done
    for i in "${!jobs[@]}"; do
        status=0
        wait "${jobs[i]}" || status=$?
        judge "${names[i]}" "${logs[i]}" "$status" $((SECONDS - start))
    done
fi

# -- how fast is it? ---------------------------------------------------------------------------------------------------

measured() { # name, its log: shows what a program that measures printed
    cat "$(log_of "$1")"
}

bench_arguments=(--json "$out/bench_cuda.json" --driver "$driver" --commit "$commit")
[ -z "$short" ] || bench_arguments+=(--short)
bench_program=$(find_built "$build" "$bench")
step "bus and kernels" "$bench_program" "${bench_arguments[@]}" "${test_arguments[@]}" && measured "bus and kernels"

# -- Java --------------------------------------------------------------------------------------------------------------

find_java() {
    local each version
    for each in "$kit/java/bin/java" "${LAMINA_JAVA:+$LAMINA_JAVA/bin/java}" "${JAVA_HOME:+$JAVA_HOME/bin/java}" \
        "$(command -v java || true)"; do
        version=
        [ ! -x "$each" ] || version=$("$each" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
        if [ "${version:-0}" -ge 22 ]; then
            echo "$each"
            return
        fi
    done
}

lamina_java() {
    LAMINA_CACHE=$out/cache "$java" --enable-native-access=ALL-UNNAMED -Dlamina.library.path="$core" \
        -Dlamina.test.device="$device" -cp "$kit/classes:$kit/lib/*" "$@"
}

run_tests() {
    local selected=() each
    for each in "$@"; do
        selected+=(--select-class "dev.lamina.internal.generate.$each")
    done
    cd java/core # where the fixtures are looked for
    lamina_java org.junit.platform.console.ConsoleLauncher execute "${selected[@]}" --details=tree --disable-banner \
        --disable-ansi-colors --fail-if-no-tests
}

golden() (run_tests DeviceGoldenTest EmulatedDeviceTest)

# A few minutes of the emulation: one that has a few seconds shows that the kit is whole.
device_tests() (run_tests EmulatedDeviceTest)

sweeps() {
    local arguments=(--device "$device" --work "$work" --json "$out/device-sweep.json" --commit "$commit")
    if [ -n "$emulated" ]; then
        arguments+=(--size "${size:-4MB}" --budgets "${budgets:-2MiB}" --host-memory 2MiB --panel 64KiB --area 256KiB)
    else
        if [ -n "$short" ]; then
            arguments+=(--seconds 30 --budgets "${budgets:-4GiB}")
        else
            arguments+=(--budgets "${budgets:-4GiB,8GiB,24GiB}")
        fi
        [ -z "$size" ] || arguments+=(--size "$size")
    fi
    lamina_java dev.lamina.benchmarks.DeviceSweep "${arguments[@]}"
}

java=$(find_java)
if [ -z "$java_wanted" ]; then
    missing "all that is written in Java" "--no-java"
elif [ ! -d "$kit/lib" ]; then
    missing "all that is written in Java" "$kit is not there: ./mvnw -q package -Pgpu-kit -DskipTests makes it"
elif [ -z "$java" ]; then
    missing "all that is written in Java" "there is no Java 22 or newer"
else
    if [ -n "$emulated" ]; then
        step "models on the device" device_tests || true
    else
        step "golden fixtures and models on the device" golden || true
    fi
    step "sweeps of large checkpoints" sweeps && measured "sweeps of large checkpoints"
fi

# -- results -----------------------------------------------------------------------------------------------------------

keep() { # a JSON file: named by GPU and date
    local gpu
    gpu=$("$cmake" -DFILE="$1" -DMEMBER=gpu -P native/test/json-member.cmake) || return 1
    gpu=$(printf '%s' "$gpu" | tr -cs 'A-Za-z0-9' '-' | tr '[:upper:]' '[:lower:]')
    mkdir -p "$results"
    cp "$1" "$results/$gpu-$(date -u +%Y-%m-%d)-$(basename "$1")"
}

[ -n "$results" ] || [ -n "$emulated" ] || results=$root/benchmarks/results
if [ -n "$results" ]; then
    for json in "$out"/*.json; do
        [ ! -e "$json" ] || step "keep $(basename "$json")" keep "$json" || true
    done
fi
finish
