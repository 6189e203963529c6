#!/usr/bin/env bash
# Builds and runs the C side of the tests in one configuration.
#
#   tools/check_c.sh CONFIGURATION MODEL.gguf BUILD_FOLDER
#
# CONFIGURATION: gcc, clang, address (ASan + UBSan), thread (TSan), or aarch64 (cross-compiled, under qemu-user).
# MODEL.gguf is any encoder's model file. PYTHON (default: python3) is an interpreter with keypilot, gguf, cmake and ninja.
set -euo pipefail

configuration=$1 model=$(realpath "$2") build=$3
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
mkdir -p "$build"

openblas=$("$python" -c 'import scipy_openblas32 as b; print(b.get_lib_dir())')
openblas_include=$("$python" -c 'import scipy_openblas32 as b; print(b.get_include_dir())')
options=(-G Ninja -DKP_BUILD_TESTS=ON)
run=()
cores=(native)

case $configuration in
  gcc) options+=(-DCMAKE_C_COMPILER=gcc) ;;
  clang) options+=(-DCMAKE_C_COMPILER=clang) ;;
  address) options+=(-DCMAKE_C_COMPILER=clang -DKP_SANITIZE=address,undefined) ;;
  thread) options+=(-DCMAKE_C_COMPILER=clang -DKP_SANITIZE=thread) ;;
  aarch64)
    "$python" -m pip download -q --no-deps --only-binary=:all: -d "$build/wheel" \
      --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
      "scipy-openblas32==$("$python" -c 'from importlib.metadata import version; print(version("scipy-openblas32"))')"
    "$python" -m zipfile -e "$build"/wheel/scipy_openblas32-*.whl "$build/openblas"
    openblas=$build/openblas/scipy_openblas32/lib
    openblas_include=$build/openblas/scipy_openblas32/include
    options+=(-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64)
    # A core that OpenBLAS has right kernels for under this emulator: with -cpu max it picks SME ones, which compute zeros there.
    run=(qemu-aarch64 -cpu cortex-a76 -L /usr/aarch64-linux-gnu -E "LD_LIBRARY_PATH=$openblas")
    cores=(cortex-a57 cortex-a76 max,sme=off) # without dotprod, with it, and with i8mm
    ;;
  *)
    echo "check_c.sh: expected gcc, clang, address, thread or aarch64, got '$configuration'" >&2
    exit 2
    ;;
esac

"$python" -m cmake -S "$root/csrc" -B "$build/cmake" "${options[@]}" \
  -DKP_OPENBLAS_LIB="$openblas/libscipy_openblas.so" -DKP_OPENBLAS_INCLUDE="$openblas_include" >"$build/configure.log" ||
  { cat "$build/configure.log"; exit 1; }
"$python" -m cmake --build "$build/cmake" --parallel "$(nproc)" >"$build/build.log" || { cat "$build/build.log"; exit 1; }
export LD_LIBRARY_PATH=$openblas${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export UBSAN_OPTIONS=print_stacktrace=1

step() {
  echo "[$configuration] ${*:-}"
  "${run[@]}" "$build/cmake/$@"
}

# The digest of a small int8 model is the same on every core, but for the header's seven lines.
check_golden_digest() {
  [ "$1" = native ] || run[2]=$1
  step encode --digest "$build/int8.digest" "$build/int8.gguf" "$build/int8.ppm" "see you at 8" >/dev/null
  diff <(tail -n +8 "$root/tests/data/int8.digest") <(tail -n +8 "$build/int8.digest") ||
    { echo "check_c.sh: $1: the digest differs from tests/data/int8.digest" >&2; return 1; }
  sed -n 's/^isa /  equal to the golden digest: isa /p' "$build/int8.digest"
}

"$python" "$root/tests/c/make_models.py" "$build/models"
"$python" -c 'import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2])' \
  "$root/examples/screen.png" "$build/screen.ppm"

[ "$configuration" = thread ] || step kcheck
step tests/c/ctest_core "$build/models"
step encode --digest "$build/screen.digest" "$model" "$build/screen.ppm" "see you at"
if [ "$configuration" != aarch64 ]; then # the same bytes as Python's, header and all
  "$python" -m keypilot digest "$model" "$build/screen.ppm" --text "see you at" --threads 1 --out "$build/python.digest"
  cmp "$build/screen.digest" "$build/python.digest"
fi
"$python" "$root/tests/int8_files.py" "$build/int8.gguf" "$build/int8.ppm"
for core in "${cores[@]}"; do
  check_golden_digest "$core"
done
if [ "$configuration" = address ]; then
  for model in sample wordpiece clip encoder; do step tests/c/fuzz_model "$build/models/$model.gguf"; done
  step tests/c/fuzz_model "$build/int8.gguf"
fi
