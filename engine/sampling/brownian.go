package sampling

import (
	"math"
	"strconv"
)

// brownian is one path of a Brownian motion per element of the state, in the
// time "sigma". The noise of a step is the path's increment over it, so steps
// of another length see the same path: torchsde's BrownianTree (Li et al. 2020)
// in the form that k-diffusion uses.
//
// The path is a binary tree: the root spans all sigmas of the run, every node is
// split in the middle by a Brownian bridge whose noise comes from a generator
// seeded by the node's place. A query walks down from the root to both of its
// ends; what it computes on the way is kept until the next query, which mostly
// begins where this one ended.
type brownian struct {
	seed  uint64
	root  node
	walks [2][]bridge // the way to the low end and to the high end, by level
	low   int         // which of them leads to the low end
	sum   []float32
}

// node is an interval of the tree with the path's increment over it.
type node struct {
	key        uint64 // place within its level, from the left
	depth      uint64
	start, end float64 // rounded to 6 places
	w          []float32
}

// bridge holds the increments of the two halves of the node at a place.
type bridge struct {
	key         uint64
	left, right []float32
}

// newBrownian makes the path between two sigmas for a state of n elements.
func newBrownian(seed uint64, low, high float32, n int) *brownian {
	t0, t1 := float64(low), float64(high)
	b := &brownian{seed: seed, sum: make([]float32, n)}
	b.root = node{start: round6(t0), end: round6(t1), w: make([]float32, n)}
	NewGenerator(uint64(newSeedSequence(seed).words(1)[0])).Normal(b.root.w)
	scale := float32(math.Sqrt(t1 - t0))
	for i := range b.root.w {
		b.root.w[i] *= scale
	}
	return b
}

// noise returns the unit noise of a step from sigma a down to b. The slice is
// valid until the next call.
func (t *brownian) noise(a, b float32) []float32 {
	clear(t.sum)
	clamp := func(v float32) float64 { return min(max(float64(v), t.root.start), t.root.end) }
	low, high := clamp(min(a, b)), clamp(max(a, b))
	t.low = 1 - t.low // the last low end is likely to be the high end now
	if low < high {
		t.collect(t.root, t.low, round6(low), round6(high))
	}
	scale := -1 / math.Sqrt(math.Abs(float64(b-a)))
	if a < b {
		scale = -scale
	}
	for i, w := range t.sum {
		t.sum[i] = float32(float64(w) * scale)
	}
	return t.sum
}

// collect adds the increment over [low, high], which lies within n, from left
// to right. What is new on the way is stored in that walk.
func (t *brownian) collect(n node, walk int, low, high float64) {
	mid := round6(0.5 * (n.end + n.start))
	if n.start == low && n.end == high || mid <= n.start || mid >= n.end {
		for i, w := range n.w {
			t.sum[i] += w
		}
		return
	}
	left, right := t.split(n, walk, mid)
	switch {
	case high <= mid:
		t.collect(left, walk, low, high)
	case low >= mid:
		t.collect(right, walk, low, high)
	default:
		t.collect(left, t.low, low, mid)
		t.collect(right, 1-t.low, mid, high)
	}
}

// split returns the two halves of n.
func (t *brownian) split(n node, walk int, mid float64) (left, right node) {
	b := t.bridge(n, walk, mid)
	left = node{2 * n.key, n.depth + 1, n.start, mid, b.left}
	right = node{2*n.key + 1, n.depth + 1, mid, n.end, b.right}
	return left, right
}

// bridge finds the increments over the halves of n, or computes them into walk.
func (t *brownian) bridge(n node, walk int, mid float64) bridge {
	for _, w := range t.walks {
		if int(n.depth) < len(w) && w[n.depth].left != nil && w[n.depth].key == n.key {
			return w[n.depth]
		}
	}
	for int(n.depth) >= len(t.walks[walk]) {
		t.walks[walk] = append(t.walks[walk], bridge{})
	}
	b := &t.walks[walk][n.depth]
	if b.left == nil {
		b.left, b.right = make([]float32, len(n.w)), make([]float32, len(n.w))
	}
	b.key = n.key
	seed := newSeedSequence(t.seed, n.key, n.depth).words(1)[0]
	NewGenerator(uint64(seed)).Normal(b.left)

	h, l, r := 1/(n.end-n.start), mid-n.start, n.end-mid
	l32, h32, dev := float32(l), float32(h), float32(math.Sqrt(l*r*h))
	for i, w := range n.w {
		mean := float32(float32(l32*w) * h32)
		v := mean + float32(dev*b.left[i])
		b.left[i], b.right[i] = v, w-v
	}
	return *b
}

// round6 rounds to 6 decimal places, half to even on the exact value, as
// printing with %.6f does.
func round6(v float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'f', 6, 64), 64)
	if err != nil {
		return v
	}
	return r
}
