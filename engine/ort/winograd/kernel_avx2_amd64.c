//go:build cgo

#define WIDTH 8
#define ROWS 4
#define TARGET __attribute__((target("avx2,fma")))
#include "kernel.h"

const Kernel winograd_avx2 = {"avx2", split, input, multiply, output};
