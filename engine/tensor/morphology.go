package tensor

// Window is a square around a pixel: it reaches Before pixels to the left and
// up, After pixels to the right and down.
type Window struct{ Before, After int }

// Extremum says which of two values Extreme keeps.
type Extremum func(a, b float32) float32

// Largest keeps the larger value, which makes Extreme a dilation.
func Largest(a, b float32) float32 { return max(a, b) }

// Smallest keeps the smaller value, which makes Extreme an erosion.
func Smallest(a, b float32) float32 { return min(a, b) }

// Extreme returns t, [batch, channel, height, width], with every value replaced
// by the largest, or smallest, in the window around it. What lies beyond the
// edges does not count. The time does not depend on the window's size (van
// Herk, "A fast algorithm for local minimum and maximum filters on rectangular
// and octagonal kernels", 1992).
func Extreme(t *Tensor, w Window, pick Extremum) *Tensor {
	out := t.Clone()
	width, height := t.Dim(3), t.Dim(2)
	line := newSlider(w, max(width, height), pick)
	for row := range len(t.Data) / max(width, 1) {
		line.run(out.Data[row*width:(row+1)*width], 1)
	}
	area := width * height
	for p := range t.Dim(0) * t.Dim(1) {
		for x := range width {
			line.run(out.Data[p*area+x:(p+1)*area], width)
		}
	}
	return out
}

// slider finds the extremes of one line. The line is cut into blocks of the
// window's length: a window covers the end of one block and the beginning of
// the next, whose running extremes are known.
type slider struct {
	w                 Window
	pick              Extremum
	forward, backward []float32
}

func newSlider(w Window, n int, pick Extremum) *slider {
	return &slider{w: w, pick: pick, forward: make([]float32, n), backward: make([]float32, n)}
}

// run works on every step-th value of data, in place.
func (s *slider) run(data []float32, step int) {
	n, size := (len(data)+step-1)/step, s.w.Before+s.w.After+1
	for i := range n {
		s.forward[i] = data[i*step]
		if i%size != 0 {
			s.forward[i] = s.pick(s.forward[i], s.forward[i-1])
		}
	}
	for i := n - 1; i >= 0; i-- {
		s.backward[i] = data[i*step]
		if i+1 < n && (i+1)%size != 0 {
			s.backward[i] = s.pick(s.backward[i], s.backward[i+1])
		}
	}
	for i := range n {
		lo, hi := i-s.w.Before, min(i+s.w.After, n-1)
		switch {
		case lo <= 0:
			data[i*step] = s.forward[hi]
		case lo/size == hi/size:
			data[i*step] = s.backward[lo]
		default:
			data[i*step] = s.pick(s.backward[lo], s.forward[hi])
		}
	}
}
