#!/usr/bin/env bash
# Tests the CUDA backend on a GPU and measures it, without a network. Needs nvcc, cmake, a C and a C++ compiler. What is
# written in Java runs too where the folder native/target/gpu-kit is (./mvnw -q package -Pgpu-kit -DskipTests makes it).
#
#   gpu-check.sh [--short] [--emulated] [options]
#
#   --short             in four minutes: memcheck alone, few rounds, a small checkpoint under one budget
#   --emulated          the same on the emulated GPU, small: that shows that this script works
#   --no-java           nothing in Java
#   --size SIZE         of the checkpoint that is streamed, such as 40GB; chosen if not given
#   --budgets LIST      of device memory that it is streamed under (4GiB,8GiB,24GiB; --short: 4GiB)
#   --limit SECONDS     for each program, so that none hangs (600; the sweeps of a mode have three times that): one that
#                       takes longer has failed
#   --work FOLDER       for the checkpoint, on the drive to be measured, where it stays (in --out: removed in the end)
#   --kit FOLDER        what -Pgpu-kit made (native/target/gpu-kit)
#   --build FOLDER      a build folder that is configured already (none: one in --out)
#   --out FOLDER        in which gpu-check is made, or gpu-check-emulated, for logs and results (native/target)
#   --results FOLDER    where results of a GPU are kept if nothing failed (benchmarks/results)
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
limit=600
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
        --size | --budgets | --limit | --work | --kit | --build | --out | --results | --commit)
            [ $# -gt 1 ] || { echo "$1 needs a value" >&2; exit 2; }
            case $1 in
                --size) size=$2 ;;
                --budgets) budgets=$2 ;;
                --limit) limit=$2 ;;
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
[[ $limit =~ ^[1-9][0-9]*$ ]] || { echo "--limit is a number of seconds, not $limit" >&2; exit 2; }
out=${out:-$root/native/target}/gpu-check${emulated:+-emulated} # all that is in there is this script's own
if [ -z "$work" ]; then
    work=$out/work
    trap 'rm -rf "$work"' EXIT # it is large; a folder that was given stays, for the next time
fi
mkdir -p "$out" "$work"
rm -f "$out"/*.log "$out"/*.json
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

within() { # seconds, program ...
    if command -v timeout > /dev/null; then
        timeout --foreground -k 5 "$@" # in the foreground, so that Ctrl-C ends it
    else # macOS, where there is only the emulation
        "${@:2}"
    fi
}

how_it_ended() { # exit status of what ran under timeout
    case $1 in
        124) echo "it took too long" ;;
        137) echo "it was killed: it took too long and did not end by itself, or the memory ran out" ;;
        *) echo "exit status $1" ;;
    esac
}

step() { # name, command ...; its output goes to a log, of which the end is shown if it fails
    local name=$1 start=$SECONDS log status=0 outcome
    log=$(log_of "$name")
    shift
    echo "-- $name"
    "$@" > "$log" 2>&1 || status=$?
    outcome="$((SECONDS - start)) s"
    if [ "$status" = 0 ]; then
        note passed "$name" "$outcome"
    else
        tail -n 40 "$log"
        echo "$name failed: $log has all of it"
        note FAILED "$name" "$outcome, $(how_it_ended "$status")"
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

cached() { # an entry of the build folder's cache
    sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"
}

find_built() { # variable, folder, name of a library or a program: its path, without which nothing can go on
    local path=
    [ ! -d "$2" ] || path=$(find "$2" -type f \( -name "lib$3.so" -o -name "lib$3.dylib" -o -name "$3" \) -print -quit)
    if [ -z "$path" ]; then
        note FAILED "find $3" "it is not in ${2:-any folder that the build names}"
        finish
    fi
    printf -v "$1" '%s' "$path"
}

natives=$(cached LAMINA_NATIVES)
[ -z "$natives" ] || natives=$natives/$(cached LAMINA_PLATFORM) # those of other systems may lie beside it
core=
library=
test_cuda=
fragments=
bench_program=
find_built core "$natives" lamina
find_built library "$natives" "$backend"
test_arguments=()
[ -n "$emulated" ] || test_arguments=("$library")

# -- is it right? ------------------------------------------------------------------------------------------------------

find_built test_cuda "$build" test_cuda
if [ -n "$emulated" ]; then # ctest runs all of it
    step "some ops on the device" within "$limit" "$test_cuda" few || true
else
    step "every op on the device" within "$limit" "$test_cuda" "$library" || true
fi
if [ -n "$has_fragments" ]; then
    find_built fragments "$build" test_fragments_cuda
    step "tensor core fragments" within "$limit" "$fragments" || true
fi

# The tool's own lines begin so; one about a call of the program ("Program hit ...") is a finding, not a refusal.
refusal='^=+ (Internal Sanitizer )?Error: .*(Unable to|[Nn]ot supported|Unsupported|Failed to initialize|[Nn]ot permitted'
refusal+='|[Ii]nsufficient|No attachable process)'

# A tool that refuses to run says nothing about the kernels. All else does: what it finds, a test that fails or crashes
# under it, and one that never ends.
judge() { # name, log, exit status, seconds
    local refused
    refused=$(grep -Em 1 "$refusal" "$2" || true)
    if [ "$3" = 0 ] && grep -q '^=.* SUMMARY: ' "$2"; then
        note passed "$1" "$4 s"
    elif [ "$3" = 0 ]; then
        missing "$1" "${refused:-the tool did not say what it found: $2}"
    elif [ "$3" = 99 ]; then
        tail -n 60 "$2"
        note FAILED "$1" "it found something: $2"
    elif [ -n "$refused" ] && { [ "$3" -lt 124 ] || [ "$3" = 255 ]; } &&
        ! grep -Eq '^test_[a-z_]*: [1-9][0-9]* failures' "$2"; then # 124 and the like: too long, crashes
        missing "$1" "$refused"
    else
        tail -n 60 "$2"
        note FAILED "$1" "$(how_it_ended "$3"): $2"
    fi
}

sanitize() { # tool, name of what it runs, program ...
    local tool=$1 name="$1 of $2" log status=0 start=$SECONDS
    log=$(log_of "$name")
    shift 2
    echo "-- $name"
    # Not in the foreground: what the tool has started is to end with it.
    timeout -k 5 "$limit" compute-sanitizer --tool "$tool" --error-exitcode 99 "$@" > "$log" 2>&1 || status=$?
    judge "$name" "$log" "$status" $((SECONDS - start))
}

tools=(memcheck racecheck synccheck)
[ -z "$short" ] || tools=(memcheck)
if [ -n "$emulated" ]; then
    missing compute-sanitizer "it needs a GPU"
elif ! command -v compute-sanitizer > /dev/null; then
    missing compute-sanitizer "it is not there"
else
    for tool in "${tools[@]}"; do # one after the other: no test finds memory of the GPU taken by another one
        sanitize "$tool" "some ops" "$test_cuda" few "$library"
        [ -z "$fragments" ] || sanitize "$tool" "the fragments" "$fragments"
    done
fi

# -- how fast is it? ---------------------------------------------------------------------------------------------------

measured() { # name, its log: shows what a program that measures printed
    cat "$(log_of "$1")"
}

bench_arguments=(--json "$out/bench_cuda.json" --driver "$driver" --commit "$commit")
[ -z "$short" ] || bench_arguments+=(--short)
find_built bench_program "$build" "$bench"
step "bus and kernels" within "$limit" "$bench_program" "${bench_arguments[@]}" "${test_arguments[@]}" &&
    measured "bus and kernels"

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

lamina_java() { # seconds that it may take, arguments ...
    LAMINA_CACHE=$out/cache within "$1" "$java" --enable-native-access=ALL-UNNAMED -Dlamina.library.path="$core" \
        -Dlamina.test.device="$device" -cp "$kit/classes:$kit/lib/*" "${@:2}"
}

run_tests() {
    local selected=() each
    for each in "$@"; do
        selected+=(--select-class "dev.lamina.internal.generate.$each")
    done
    cd java/core # where the fixtures are looked for
    lamina_java "$limit" org.junit.platform.console.ConsoleLauncher execute "${selected[@]}" --details=tree --disable-banner \
        --disable-ansi-colors --fail-if-no-tests
}

golden() (run_tests DeviceGoldenTest EmulatedDeviceTest FastModeTest)

# A few minutes of the emulation: one that has a few seconds shows that the kit is whole.
device_tests() (run_tests EmulatedDeviceTest)

sweeps() { # mode, JSON file, size of the checkpoint or nothing
    local arguments=(--device "$device" --mode "$1" --work "$work" --json "$2" --commit "$commit")
    if [ -n "$emulated" ]; then
        arguments+=(--size "${3:-4MB}" --budgets "${budgets:-2MiB}" --host-memory 2MiB --panel 64KiB --area 256KiB)
    else
        if [ -n "$short" ]; then
            arguments+=(--seconds 30 --budgets "${budgets:-4GiB}")
        else
            arguments+=(--budgets "${budgets:-4GiB,8GiB,24GiB}")
        fi
        [ -z "$3" ] || arguments+=(--size "$3")
    fi
    lamina_java $((3 * limit)) dev.lamina.benchmarks.DeviceSweep "${arguments[@]}"
}

member() { # JSON file, name
    "$cmake" -DFILE="$1" -DMEMBER="$2" -P native/test/json-member.cmake
}

sweeps_of_both_modes() {
    local exact=$out/device-sweep.json written
    step "sweeps of large checkpoints" sweeps exact "$exact" "$size" && measured "sweeps of large checkpoints"
    # The same checkpoint again: another one might not have room beside it.
    if written=$(member "$exact" size 2> /dev/null); then
        step "sweeps with fast products" sweeps fast "$out/device-sweep-fast.json" "$written" &&
            measured "sweeps with fast products"
    else
        missing "sweeps with fast products" "those of exact ones measured nothing"
    fi
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
    sweeps_of_both_modes || true
fi

# -- results -----------------------------------------------------------------------------------------------------------

as_name() {
    printf '%s' "$1" | tr -cs 'A-Za-z0-9+' '-'
}

keep() { # a JSON file: named by GPU, date and what was measured how
    local gpu
    gpu=$(member "$1" gpu) || return 1
    gpu=$(as_name "$gpu" | tr '[:upper:]' '[:lower:]')
    mkdir -p "$results"
    cp "$1" "$results/$gpu-$(date -u +%Y-%m-%d)${commit:+-$(as_name "$commit")}${short:+-short}-$(basename "$1")"
}

[ -n "$results" ] || [ -n "$emulated" ] || results=$root/benchmarks/results
if [ -n "$results" ] && [ -n "$failed" ]; then
    missing "keep the results" "something failed: they are in $out"
elif [ -n "$results" ]; then
    for json in "$out"/*.json; do
        [ ! -e "$json" ] || step "keep $(basename "$json")" keep "$json" || true
    done
fi
finish
