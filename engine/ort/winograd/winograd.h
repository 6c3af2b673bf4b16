//go:build cgo

// Winograd convolution F(4x4, 3x3): Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2015 (arXiv:1509.09308), section 4.3.
//
// A tile is a 4x4 square of output pixels; 6x6 input pixels decide it. With
// the paper's matrices B, G and A a tile of one input channel is transformed
// to V = Bt d B, a 3x3 filter to U = G g Gt (once, see transform.go), both 6x6.
// Summing the products U V over the input channels, point by point, is 36
// matrix products of size [Cout, Cin] x [Cin, tiles]; a tile of the output is
// At M A of their result M. That is 36 products for 16 pixels and a pair of
// channels instead of 144.
#ifndef WINOGRAD_H
#define WINOGRAD_H

#include <stddef.h>

typedef ptrdiff_t Size; // counts floats, channels, pixels, tiles

enum {
	POINTS = 36, // of a transformed tile, row by row
	LANES = 16,  // tiles in a group: a group lies side by side in memory
	PANEL = 8,   // output channels that lie side by side in U
	// Input channels that are summed before they are added to the others. One
	// sum over thousands of them would lose a digit.
	SLICE = 128
};

// Product is m += u v, or m = u v, for one point of the tiles.
typedef struct {
	const float *u;    // [panels][depth][PANEL], panels lie apart floats from each other
	const float *next; // what will be wanted as u in the next product
	const float *v;    // [depth][tiles]; tiles is a multiple of LANES
	float *m;          // [panels*PANEL][tiles]
	Size apart, panels, depth, tiles;
	int add;           // 0: m holds nothing yet
} Product;

// Kernel is the arithmetic for one instruction set.
typedef struct {
	const char *name;
	// split sorts a row of 4*LANES pixels of a group's tiles into columns:
	// column j of all tiles goes to column[j*stride], j < 4. Columns 4 and 5 of
	// a tile are columns 0 and 1 of the tile to the right, so these go there
	// once more, one place to the left.
	void (*split)(const float *row, float *column, Size stride);
	// input transforms a group of tiles of one channel. Pixel (i, j) of the
	// tiles begins at d[i*row + j*column]; point p of V goes to v[p*point].
	void (*input)(const float *d, Size row, Size column, float *v, Size point);
	// multiply computes one product.
	void (*multiply)(const Product *p);
	// output transforms a group of tiles of one channel back; point p of M
	// begins at m[p*point]. Pixel row i of all tiles goes to y[i*row], tile by
	// tile.
	void (*output)(const float *m, Size point, float bias, float *y, Size row);
} Kernel;

extern const Kernel winograd_avx512, winograd_avx2, winograd_generic;

// winograd_kernel returns the kernel of that name, or the fastest one when
// name is empty; null when this processor cannot run it.
const Kernel *winograd_kernel(const char *name);

// Conv is one convolution of 3x3 with stride 1 and one pixel of zeros around:
// y [batch, cout, h, w] from x [batch, cin, h, w].
typedef struct {
	const float *x, *u, *bias;
	const float *plus; // added to y, or null
	int plus_plane;    // plus is [batch, cout, h, w], otherwise [batch, cout, 1, 1]
	float *y;
	Size batch, cin, cout, h, w;
} Conv;

// Plan divides a convolution into units, which may be computed in any order
// and at once. A unit is a block of tiles and a chunk of output channels; it
// sums the input channels in layers of a depth, a multiple of SLICE. The
// division does not change the result: products are summed in the same order.
typedef struct {
	const Kernel *kernel;
	Conv conv;
	Size rows, columns, tiles;   // tiles from top to bottom, from left to right, of all pictures
	Size block, blocks;          // tiles of a unit (a multiple of LANES), and their number
	Size panels, chunk, chunks;  // panels of PANEL output channels: all, those of a unit, and its number
	Size depth;                  // input channels of a layer
	size_t scratch;              // bytes of working memory for a unit
} Plan;

Plan winograd_plan(const Kernel *kernel, Conv conv, Size threads);
Size winograd_units(const Plan *plan);
// winograd_unit computes a unit in scratch, plan->scratch bytes of any content.
void winograd_unit(const Plan *plan, Size unit, void *scratch);

#endif
