package sampling

// seedSequence derives seeds for the nodes of a tree from one seed: numpy's
// SeedSequence (O'Neill's randutils, 2015) with a pool of 24 words.
type seedSequence struct{ pool [seedPool]uint32 }

const seedPool = 24

// newSeedSequence mixes the seed and the key of a child; no key is the root.
func newSeedSequence(seed uint64, key ...uint64) *seedSequence {
	entropy := appendWords(make([]uint32, 0, seedPool+6), seed)
	if len(key) > 0 {
		entropy = entropy[:seedPool]
		for _, k := range key {
			entropy = appendWords(entropy, k)
		}
	}
	s, hash := new(seedSequence), hasher(0x43b0d7e5)
	for i := range s.pool {
		var w uint32
		if i < len(entropy) {
			w = entropy[i]
		}
		s.pool[i] = hash.mix(w)
	}
	for src := range s.pool {
		for dst := range s.pool {
			if src != dst {
				s.pool[dst] = blendWords(s.pool[dst], hash.mix(s.pool[src]))
			}
		}
	}
	for _, w := range entropy[min(seedPool, len(entropy)):] {
		for dst := range s.pool {
			s.pool[dst] = blendWords(s.pool[dst], hash.mix(w))
		}
	}
	return s
}

// words returns the first n words of the sequence's state.
func (s *seedSequence) words(n int) []uint32 {
	out := make([]uint32, n)
	hash := uint32(0x8b51f9dd)
	for i := range out {
		v := s.pool[i%seedPool] ^ hash
		hash *= 0x58f38ded
		v *= hash
		out[i] = v ^ v>>16
	}
	return out
}

// appendWords appends the 32-bit words of v, low word first; 0 is one word.
func appendWords(dst []uint32, v uint64) []uint32 {
	dst = append(dst, uint32(v))
	if v>>32 != 0 {
		dst = append(dst, uint32(v>>32))
	}
	return dst
}

// hasher is the running constant of the pool's hash.
type hasher uint32

func (h *hasher) mix(v uint32) uint32 {
	v ^= uint32(*h)
	*h *= 0x931e8875
	v *= uint32(*h)
	return v ^ v>>16
}

func blendWords(x, y uint32) uint32 {
	r := 0xca01f9dd*x - 0x4973f715*y
	return r ^ r>>16
}
