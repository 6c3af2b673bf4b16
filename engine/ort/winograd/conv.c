//go:build cgo

#include <stdint.h>
#include <string.h>
#include "winograd.h"

enum {
	ALIGN = 64, // bytes of a cache line
	// Floats between two points of V and M beyond their size. Without them the
	// points of a tile would often lie a power of two apart, and share one set
	// of the cache.
	GAP = ALIGN / sizeof(float),
	// Largest V and M of a unit, in floats for each point: 3.5 MB each. Smaller
	// ones cost repeated work, larger ones leave the caches.
	POINT_SIZE = 3 * SLICE * 64,
	// Tiles of a unit. The more, the fewer times U comes from memory.
	MANY_TILES = 64,
	SOME_TILES = 32,
	// Panels of a unit. The fewer, the more units transform the same input.
	SOME_PANELS = 20,
	FEW_PANELS = 8
};

static Size up(Size a, Size b) { return (a + b - 1) / b; }
static Size least(Size a, Size b) { return a < b ? a : b; }
static Size most(Size a, Size b) { return a > b ? a : b; }

Size winograd_units(const Plan *p) { return p->blocks * p->chunks; }

const Kernel *winograd_kernel(const char *name) {
	const Kernel *known[] = {
#ifdef __x86_64__
		__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
			__builtin_cpu_supports("avx512bw") ? &winograd_avx512 : 0,
		__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &winograd_avx2 : 0,
#endif
		&winograd_generic};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (known[i] && (!*name || !strcmp(name, known[i]->name))) return known[i];
	return 0;
}

// block sets the tiles of a unit to at most so many.
static void block(Plan *p, Size limit) {
	Size groups = up(p->tiles, LANES);
	p->block = up(groups, up(groups * LANES, limit)) * LANES;
	p->blocks = up(p->tiles, p->block);
}

// chunk sets the panels of a unit to at most so many.
static void chunk(Plan *p, Size limit) {
	p->chunk = up(p->panels, up(p->panels, limit));
	p->chunks = up(p->panels, p->chunk);
}

// halve makes units smaller, in the way that costs least; 0 when they are
// small already.
static int halve(Plan *p) {
	if (p->block > SOME_TILES) block(p, SOME_TILES);
	else if (p->chunk > SOME_PANELS) chunk(p, up(p->chunk, 2));
	else if (p->block > LANES) block(p, LANES);
	else if (p->chunk > FEW_PANELS) chunk(p, up(p->chunk, 2));
	else return 0;
	return 1;
}

// divide sets how much a unit computes: as much as keeps V and M small, and
// less as long as there are fewer than two units for each thread.
static void divide(Plan *p, Size threads) {
	block(p, p->panels * PANEL * MANY_TILES <= POINT_SIZE ? MANY_TILES : SOME_TILES);
	chunk(p, POINT_SIZE / PANEL / p->block);
	while (threads > 1 && winograd_units(p) < 2 * threads && halve(p)) continue;
	Size slices = up(p->conv.cin, SLICE);
	p->depth = least(up(slices, up(slices, POINT_SIZE / SLICE / p->block)) * SLICE, p->conv.cin);
}

// Sizes, in floats, of the parts of a unit's working memory.
static Size v_point(const Plan *p) { return p->depth * p->block + GAP; }
static Size m_point(const Plan *p) { return p->chunk * PANEL * p->block + GAP; }
static Size column_size(const Plan *p) { return p->block + LANES; }
static Size row_size(const Plan *p) { return 4 * p->block; }

Plan winograd_plan(const Kernel *kernel, Conv conv, Size threads) {
	Plan p = {.kernel = kernel, .conv = conv, .rows = up(conv.h, 4), .columns = up(conv.w, 4), .panels = up(conv.cout, PANEL)};
	p.tiles = conv.batch * p.rows * p.columns;
	divide(&p, threads);
	Size floats = POINTS * (v_point(&p) + m_point(&p)) + 36 * column_size(&p) + 4 * row_size(&p);
	p.scratch = floats * sizeof(float) + ALIGN;
	return p;
}

// Run is a row of tiles in a picture that lies within a block.
typedef struct {
	Size picture, y, x; // of the first tile's first pixel
	Size lane, length;  // the first tile's place in the block, and the number of tiles
} Run;

// find lists the runs of the block that begins at tile first, and returns
// their number.
static int find(const Plan *p, Size first, Run *runs) {
	int n = 0;
	for (Size lane = 0, length; lane < least(p->block, p->tiles - first); lane += length, n++) {
		Size tile = first + lane, row = tile / p->columns, column = tile % p->columns;
		length = least(least(p->block, p->tiles - first) - lane, p->columns - column);
		runs[n] = (Run){row / p->rows, row % p->rows * 4, column * 4, lane, length};
	}
	return n;
}

// Unit is a unit under way.
typedef struct {
	Run runs[MANY_TILES];
	int count;
	Size lanes; // of the block that hold tiles
	float *v, *m;
	float *columns; // [6][6][column_size]: the pixels of one channel, by their place in the tile
	float *rows;    // [4][row_size]: rows of pixels, tile by tile
} Unit;

// soon fetches n floats that are to be read, and due those to be written: a
// channel's rows lie too far from the last channel's for the processor to
// foresee them.
static void soon(const float *at, Size n) {
	for (Size i = 0; i < n; i += GAP) __builtin_prefetch(at + i);
}

static void due(const float *at, Size n) {
	for (Size i = 0; i < n; i += GAP) __builtin_prefetch(at + i, 1);
}

// pick copies pixels x to x+n of a row of width w, zeros outside of it.
static void pick(float *to, const float *row, Size x, Size n, Size w) {
	Size before = most(0, -x), inside = least(n, w - x) - before;
	for (Size i = 0; i < before; i++) to[i] = 0;
	memcpy(to + before, row + x + before, inside * sizeof(float));
	for (Size i = before + inside; i < n; i++) to[i] = 0;
}

// gather brings row i of the tiles of one channel into columns.
static void gather(const Plan *p, const Unit *u, Size channel, int i) {
	const Conv *c = &p->conv;
	Size size = column_size(p);
	float *to = u->columns + 6 * i * size + 1; // split writes one place before columns 4 and 5
	float edge[MANY_TILES][2];
	for (int n = 0; n < u->count; n++) {
		const Run *r = &u->runs[n];
		Size y = r->y + i - 1, end = r->x + 4 * r->length - 1;
		edge[n][0] = edge[n][1] = 0;
		if (y < 0 || y >= c->h) {
			memset(u->rows + 4 * r->lane, 0, 4 * r->length * sizeof(float));
			continue;
		}
		const float *row = c->x + ((r->picture * c->cin + channel) * c->h + y) * c->w;
		soon(row + r->x + c->h * c->w, 4 * r->length);
		pick(u->rows + 4 * r->lane, row, r->x - 1, 4 * r->length, c->w);
		for (int j = 0; j < 2 && end + j < c->w; j++) edge[n][j] = row[end + j];
	}
	for (Size lane = 0; lane < p->block; lane += LANES) p->kernel->split(u->rows + 4 * lane, to + lane, size);
	for (int n = 0; n < u->count; n++)
		for (int j = 0; j < 2; j++) to[(4 + j) * size + u->runs[n].lane + u->runs[n].length - 1] = edge[n][j];
}

// enter computes V for a layer of input channels.
static void enter(const Plan *p, const Unit *u, Size channel, Size depth) {
	Size size = column_size(p), point = v_point(p);
	memset(u->rows + 4 * u->lanes, 0, 4 * (p->block - u->lanes) * sizeof(float));
	for (Size k = 0; k < depth; k++) {
		for (int i = 0; i < 6; i++) gather(p, u, channel + k, i);
		for (Size lane = 0; lane < p->block; lane += LANES)
			p->kernel->input(u->columns + 1 + lane, 6 * size, size, u->v + k * p->block + lane, point);
	}
}

// put writes a row of n pixels to y at an offset, with what is added to it.
static void put(const Conv *c, const float *row, Size n, Size at) {
	float *y = c->y + at;
	due(y + c->h * c->w, n);
	if (!c->plus) {
		memcpy(y, row, n * sizeof(float));
	} else if (c->plus_plane) {
		const float *plus = c->plus + at;
		soon(plus + c->h * c->w, n);
		for (Size i = 0; i < n; i++) y[i] = row[i] + plus[i];
	} else {
		float plus = c->plus[at / (c->h * c->w)];
		for (Size i = 0; i < n; i++) y[i] = row[i] + plus;
	}
}

// leave transforms the tiles of one output channel back and puts them into y.
static void leave(const Plan *p, const Unit *u, Size channel, const float *m) {
	const Conv *c = &p->conv;
	Size size = row_size(p);
	for (Size lane = 0; lane < p->block; lane += LANES)
		p->kernel->output(m + lane, m_point(p), c->bias[channel], u->rows + 4 * lane, size);
	for (const Run *r = u->runs; r < u->runs + u->count; r++) {
		Size at = ((r->picture * c->cout + channel) * c->h + r->y) * c->w + r->x;
		for (int i = 0; i < 4 && r->y + i < c->h; i++, at += c->w)
			put(c, u->rows + i * size + 4 * r->lane, least(4 * r->length, c->w - r->x), at);
	}
}

static Unit begin(const Plan *p, Size first, void *memory) {
	float *at = (float *)(((uintptr_t)memory + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
	Unit u = {.v = at, .lanes = least(p->block, p->tiles - first)};
	u.m = u.v + POINTS * v_point(p);
	u.columns = u.m + POINTS * m_point(p);
	u.rows = u.columns + 36 * column_size(p);
	u.count = find(p, first, u.runs);
	return u;
}

// sum adds the products of a layer of input channels to M.
static void sum(const Plan *p, const Unit *u, Size panel, Size panels, Size channel, Size depth) {
	Size apart = p->conv.cin * PANEL, point = p->panels * apart;
	const float *from = p->conv.u + panel * apart + channel * PANEL;
	for (Size i = 0; i < POINTS; i++, from += point)
		p->kernel->multiply(&(Product){
			.u = from, .next = from + point, .apart = apart, .v = u->v + i * v_point(p), .m = u->m + i * m_point(p),
			.panels = panels, .depth = depth, .tiles = p->block, .add = channel > 0});
}

void winograd_unit(const Plan *p, Size unit, void *memory) {
	Unit u = begin(p, unit % p->blocks * p->block, memory);
	Size panel = unit / p->blocks * p->chunk, panels = least(p->chunk, p->panels - panel);
	for (Size k = 0; k < p->conv.cin; k += p->depth) {
		Size depth = least(p->depth, p->conv.cin - k);
		enter(p, &u, k, depth);
		sum(p, &u, panel, panels, k, depth);
	}
	for (Size i = 0; i < least(panels * PANEL, p->conv.cout - panel * PANEL); i++)
		leave(p, &u, panel * PANEL + i, u.m + i * p->block);
}
