//go:build cgo

#define WIDTH 16
#define ROWS 8
#define TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")))
#include "kernel.h"

const Kernel winograd_avx512 = {"avx512", split, input, multiply, output};
