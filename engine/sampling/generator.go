package sampling

import "math"

// Generator is torch's random generator on the CPU: MT19937 (Matsumoto and
// Nishimura 1998) and the way in which torch makes normal numbers from it. The
// numbers are those of torch's AVX2 build, bit for bit. Not safe for use by
// several goroutines.
type Generator struct {
	words  [mtWords]uint32
	next   int
	cached float64 // second normal number of a pair of the scalar path
	full   bool    // cached holds one
}

const (
	mtWords = 624
	mtShift = 397
)

// NewGenerator returns a seeded generator. Like torch's it uses the low 32 bits
// of the seed only.
func NewGenerator(seed uint64) *Generator {
	g := new(Generator)
	g.seed(uint32(seed))
	return g
}

func (g *Generator) seed(seed uint32) {
	g.words[0] = seed
	for j := 1; j < mtWords; j++ {
		prev := g.words[j-1]
		g.words[j] = 1812433253*(prev^prev>>30) + uint32(j)
	}
	g.next, g.full = mtWords, false
}

// twist computes the next block of words.
func (g *Generator) twist() {
	w := &g.words
	for i := range mtWords - mtShift {
		w[i] = w[i+mtShift] ^ twisted(w[i], w[i+1])
	}
	for i := mtWords - mtShift; i < mtWords-1; i++ {
		w[i] = w[i+mtShift-mtWords] ^ twisted(w[i], w[i+1])
	}
	w[mtWords-1] = w[mtShift-1] ^ twisted(w[mtWords-1], w[0])
	g.next = 0
}

func twisted(high, low uint32) uint32 {
	y := high&0x80000000 | low&0x7fffffff
	return y>>1 ^ -(low&1)&0x9908b0df
}

// word returns the next 32 random bits.
func (g *Generator) word() uint32 {
	if g.next >= mtWords {
		g.twist()
	}
	g.next++
	return temper(g.words[g.next-1])
}

func temper(y uint32) uint32 {
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// uniforms fills dst with numbers from [0, 1): the low 24 bits of a word each.
func (g *Generator) uniforms(dst []float32) {
	for len(dst) > 0 {
		if g.next >= mtWords {
			g.twist()
		}
		words := g.words[g.next:]
		words = words[:min(len(words), len(dst))]
		for i, w := range words {
			dst[i] = float32(temper(w)&(1<<24-1)) * (1.0 / (1 << 24))
		}
		g.next += len(words)
		dst = dst[len(words):]
	}
}

// uniform64 returns a number from [0, 1) with 53 random bits.
func (g *Generator) uniform64() float64 {
	high, low := g.word(), g.word()
	bits := uint64(high)<<32 | uint64(low)
	return float64(bits&(1<<53-1)) * (1.0 / (1 << 53))
}

// Normal fills dst with one draw of a tensor of len(dst) elements from the
// standard normal distribution. The numbers depend on the length, not only on
// the generator's state: from 16 elements on torch works in blocks of 16, and
// when the length is no multiple of that, the last 16 are drawn anew.
func (g *Generator) Normal(dst []float32) {
	n := len(dst)
	if n < 16 {
		for i := range dst {
			dst[i] = float32(g.normal64())
		}
		return
	}
	g.uniforms(dst)
	for i := 0; i+16 <= n; i += 16 {
		boxMuller(dst[i : i+16])
	}
	if n%16 != 0 {
		g.uniforms(dst[n-16:])
		boxMuller(dst[n-16:])
	}
}

// normal64 is the path for fewer than 16 elements: pairs in double precision,
// the second number of a pair waits for the next call.
func (g *Generator) normal64() float64 {
	if g.full {
		g.full = false
		return g.cached
	}
	u1, u2 := g.uniform64(), g.uniform64()
	r := math.Sqrt(-2 * math.Log1p(-u2))
	sin, cos := math.Sincos(2 * math.Pi * u1)
	g.cached, g.full = r*sin, true
	return r * cos
}
