//go:build cgo

// For every processor: vectors of four floats, which are NEON's and SSE's.
#define WIDTH 4
#ifdef __aarch64__
#define ROWS 8 // 32 registers
#else
#define ROWS 4
#endif
#define TARGET
#include "kernel.h"

const Kernel winograd_generic = {"generic", split, input, multiply, output};
