//go:build cgo

// The arithmetic of winograd.h's Kernel, compiled once for each instruction
// set. The including file defines
//   WIDTH   floats in a vector: 4, 8 or 16
//   TARGET  the attribute that lets the compiler use the instructions
//   ROWS    output channels that the product keeps in registers: a divisor of PANEL
//   KERNEL  the name of the Kernel
#include <string.h>
#include "winograd.h"

#define INLINE static inline __attribute__((always_inline)) TARGET

// UNROLL writes a loop out, so that arrays of vectors become registers.
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

typedef float Vec __attribute__((vector_size(4 * WIDTH)));
typedef float Loose __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

INLINE Vec load(const float *p) { return *(const Loose *)p; }
INLINE void store(float *p, Vec v) { *(Loose *)p = v; }

// SHUFFLE picks elements of a (from 0) and b (from WIDTH).
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int Index __attribute__((vector_size(4 * WIDTH)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Index){__VA_ARGS__})
#endif

// EVEN and ODD are every second element of a and b; LOW and HIGH undo them:
// they mix the lower (upper) halves of a and b.
#if WIDTH == 16
#define EVEN(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#define LOW(a, b) SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif WIDTH == 8
#define EVEN(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#define LOW(a, b) SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH(a, b) SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define EVEN(a, b) SHUFFLE(a, b, 0, 2, 4, 6)
#define ODD(a, b) SHUFFLE(a, b, 1, 3, 5, 7)
#define LOW(a, b) SHUFFLE(a, b, 0, 4, 1, 5)
#define HIGH(a, b) SHUFFLE(a, b, 2, 6, 3, 7)
#endif

TARGET static void split(const float *row, float *column, Size stride) {
	for (int i = 0; i < LANES; i += WIDTH, row += 4 * WIDTH, column += WIDTH) {
		Vec a = load(row), b = load(row + WIDTH), c = load(row + 2 * WIDTH), d = load(row + 3 * WIDTH);
		Vec even = EVEN(a, b), odd = ODD(a, b), even2 = EVEN(c, d), odd2 = ODD(c, d);
		Vec first = EVEN(even, even2), second = EVEN(odd, odd2);
		store(column, first);
		store(column + stride, second);
		store(column + 2 * stride, ODD(even, even2));
		store(column + 3 * stride, ODD(odd, odd2));
		store(column + 4 * stride - 1, first);
		store(column + 5 * stride - 1, second);
	}
}

// in applies the paper's Bt to six vectors.
INLINE void in(const Vec d[6], Vec t[6]) {
	Vec a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = d[3] - d[1];
	t[0] = 4 * d[0] + (d[4] - 5 * d[2]);
	t[1] = a + b;
	t[2] = a - b;
	t[3] = c + 2 * e;
	t[4] = c - 2 * e;
	t[5] = 4 * d[1] + (d[5] - 5 * d[3]);
}

TARGET static void input(const float *d, Size row, Size column, float *v, Size point) {
	for (int lane = 0; lane < LANES; lane += WIDTH, d += WIDTH, v += WIDTH) {
		Vec half[6][6], line[6], out[6];
		for (int i = 0; i < 6; i++) {
			for (int j = 0; j < 6; j++) line[j] = load(d + i * row + j * column);
			in(line, half[i]);
		}
		for (int j = 0; j < 6; j++) {
			for (int i = 0; i < 6; i++) line[i] = half[i][j];
			in(line, out);
			for (int i = 0; i < 6; i++) store(v + (6 * i + j) * point, out[i]);
		}
	}
}

// out applies the paper's At to six vectors.
INLINE void out(const Vec m[6], Vec y[4]) {
	Vec sum = m[1] + m[2], difference = m[1] - m[2], sum2 = m[3] + m[4], difference2 = m[3] - m[4];
	y[0] = m[0] + sum + sum2;
	y[1] = difference + 2 * difference2;
	y[2] = sum + 4 * sum2;
	y[3] = difference + 8 * difference2 + m[5];
}

TARGET static void output(const float *m, Size point, float bias, float *y, Size row) {
	for (int lane = 0; lane < LANES; lane += WIDTH, m += WIDTH, y += 4 * WIDTH) {
		Vec half[4][6], line[6], q[4];
		for (int j = 0; j < 6; j++) {
			for (int i = 0; i < 6; i++) line[i] = load(m + (6 * i + j) * point);
			out(line, q);
			for (int i = 0; i < 4; i++) half[i][j] = q[i];
		}
		for (int i = 0; i < 4; i++) {
			out(half[i], q);
			Vec low = LOW(q[0], q[2]), high = HIGH(q[0], q[2]), low2 = LOW(q[1], q[3]), high2 = HIGH(q[1], q[3]);
			store(y + i * row, LOW(low, low2) + bias);
			store(y + i * row + WIDTH, HIGH(low, low2) + bias);
			store(y + i * row + 2 * WIDTH, LOW(high, high2) + bias);
			store(y + i * row + 3 * WIDTH, HIGH(high, high2) + bias);
		}
	}
}

// micro is the product of rows output channels, from u on, and wide vectors of
// tiles, from v on, for a slice of at most SLICE input channels: sums stay in
// registers, so rows and wide are constants where it is inlined. Meanwhile it
// fetches the panel that follows. It adds to m unless p->add is 0 and the slice
// is the first.
INLINE void micro(const int rows, const int wide, const Product *p, const float *u, const float *next, const float *v,
                  float *m, Size from) {
	Vec sum[2 * PANEL][3];
	const Size apart = p->apart, depth = p->depth - from < SLICE ? p->depth - from : SLICE, tiles = p->tiles;
	u += from * PANEL, next += from * PANEL, v += from * tiles;
	UNROLL for (int i = 0; i < rows; i++)
		UNROLL for (int j = 0; j < wide; j++) sum[i][j] = (Vec){0};
	for (Size k = 0; k < depth; k++, u += PANEL, next += PANEL, v += tiles) {
		__builtin_prefetch(next);
		if (rows > PANEL) __builtin_prefetch(next + apart);
		Vec b[3];
		UNROLL for (int j = 0; j < wide; j++) b[j] = load(v + j * WIDTH);
		UNROLL for (int i = 0; i < rows; i++)
			UNROLL for (int j = 0; j < wide; j++) sum[i][j] += u[i / PANEL * apart + i % PANEL] * b[j];
	}
	const int add = p->add || from;
	UNROLL for (int i = 0; i < rows; i++)
		UNROLL for (int j = 0; j < wide; j++) {
			float *to = m + i * tiles + j * WIDTH;
			store(to, add ? load(to) + sum[i][j] : sum[i][j]);
		}
}

#define MICRO(name, rows, wide) \
	TARGET static void name(const Product *p, const float *u, const float *next, const float *v, float *m) { \
		for (Size from = 0; from < p->depth; from += SLICE) micro(rows, wide, p, u, next, v, m, from); \
	}
MICRO(micro1, ROWS, 1)
MICRO(micro2, ROWS, 2)
MICRO(micro3, ROWS, 3)
MICRO(micro1x2, 2 * PANEL, 1)

// panel multiplies one panel of U with all tiles. Three vectors of tiles at a
// time make the best use of the registers, and one the worst.
TARGET static void panel(const Product *p, const float *u, const float *next, float *m) {
	for (Size at = 0, left = p->tiles / WIDTH, wide; left > 0; left -= wide, at += wide * WIDTH) {
		wide = left == 4 ? 2 : left < 3 ? left : 3;
		for (int i = 0; i < PANEL; i += ROWS)
			(wide == 3 ? micro3 : wide == 2 ? micro2 : micro1)(p, u + i, next, p->v + at, m + i * p->tiles + at);
	}
}

TARGET static void multiply(const Product *p) {
	int both = p->tiles == WIDTH && ROWS == PANEL; // one vector only: two panels give the adders enough to do
	for (Size i = 0, step; i < p->panels; i += step) {
		step = both && i + 2 <= p->panels ? 2 : 1;
		const float *u = p->u + i * p->apart, *next = i + step < p->panels ? u + step * p->apart : p->next;
		float *m = p->m + i * PANEL * p->tiles;
		if (step == 2) micro1x2(p, u, next, p->v, m);
		else panel(p, u, next, m);
	}
}
