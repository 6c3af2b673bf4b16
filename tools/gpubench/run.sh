#!/bin/sh
# Runs the golden workflows on the first NVIDIA GPU, then measures. It needs bin/gpubench and bin/golden.test (make
# gpu-bench builds them) and the GPU library in lib/cuda; with them it runs where there is no Go and no network.
# Arguments go to gpubench. What happens is kept in dist/gpu-bench.
set -eu
cd "$(dirname "$0")/../.."
out=dist/gpu-bench
mkdir -p "$out"
{
  date -u '+%Y-%m-%d %H:%M UTC'
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv 2>&1 || true
  grep -m1 'model name' /proc/cpuinfo
  nproc
} | tee "$out/machine.txt"
golden=0
(cd nodes && ../bin/golden.test -test.v -test.count=1 -test.run '^TestGoldenCUDA$') >"$out/goldens.txt" 2>&1 || golden=$?
grep -E '^ *(---|PASS|FAIL)|levels' "$out/goldens.txt" || tail -20 "$out/goldens.txt"
bin/gpubench --dir "$out" "$@" | tee "$out/table.md"
exit "$golden"
