package imagefile

import (
	"cmp"
	"slices"
)

// Palette picks up to n colours for a picture, as Pillow's Image.quantize does
// for RGB by default: Heckbert's median cut ("Color image quantization for
// frame buffer display", 1982) over the colours that occur, always of the box
// with the most pixels, along the axis that is longest after weighing red,
// green and blue with 77, 150 and 29. A palette colour is the mean of its box.
// n is 1 to 256; the alpha channel plays no part.
func Palette(p Picture, n int) [][3]byte {
	var h boxHeap
	root := &colourBox{colours: coloursOf(p)}
	for _, c := range root.colours {
		root.pixels += c.pixels
	}
	h.add(root)
	for range n - 1 {
		b := h.remove()
		for b != nil && b.single() {
			b = h.remove()
		}
		if b == nil {
			break
		}
		b.split()
		h.add(b.high)
		h.add(b.low)
	}
	return root.means(nil)
}

// colour is one colour, or a group of similar ones, of a picture.
type colour struct {
	value  [3]byte // shifted where colours are grouped
	pixels int
	sum    [3]int // of the true values of the pixels
}

// maxColours is how many different colours are told apart; beyond that the
// last bits are dropped, as many as it takes.
const maxColours = 65536

func coloursOf(p Picture) []colour {
	for shift := 0; ; shift++ {
		if list, ok := countColours(p, shift); ok {
			return list
		}
	}
}

// countColours gives up when there are too many colours.
func countColours(p Picture, shift int) ([]colour, bool) {
	index := map[[3]byte]int{}
	var list []colour
	for i := 0; i < len(p.RGB); i += 3 {
		px := p.RGB[i : i+3]
		key := [3]byte{px[0] >> shift, px[1] >> shift, px[2] >> shift}
		at, seen := index[key]
		if !seen {
			if at = len(list); at == maxColours {
				return nil, false
			}
			index[key] = at
			list = append(list, colour{value: key})
		}
		list[at].pixels++
		for k, v := range px {
			list[at].sum[k] += int(v)
		}
	}
	return list, true
}

// colourBox is a set of colours, or the two boxes that it was split into.
type colourBox struct {
	colours   []colour
	pixels    int
	high, low *colourBox
}

// extent is the lowest and highest value of each channel.
func (b *colourBox) extent() (low, high [3]byte) {
	low = [3]byte{255, 255, 255}
	for _, c := range b.colours {
		for k, v := range c.value {
			low[k], high[k] = min(low[k], v), max(high[k], v)
		}
	}
	return low, high
}

func (b *colourBox) single() bool { return len(b.colours) <= 1 }

// axis is the channel to split along.
func (b *colourBox) axis() int {
	low, high := b.extent()
	best, axis := -1, 0
	for k, weight := range [3]int{77, 150, 29} {
		if length := int(high[k]-low[k]) * weight; length > best {
			best, axis = length, k
		}
	}
	return axis
}

// split puts the highest values into one box until it holds more than half of
// the pixels, and the others into the other box; equal values stay together
// and neither box is empty.
func (b *colourBox) split() {
	axis := b.axis()
	list := b.colours
	slices.SortFunc(list, func(x, y colour) int { return cmp.Compare(y.value[axis], x.value[axis]) })
	at, count := 0, 0
	for at < len(list) && count*2 <= b.pixels {
		count += list[at].pixels
		at++
	}
	for at < len(list) && list[at].value[axis] == list[at-1].value[axis] {
		at++
	}
	if at == len(list) {
		for at--; at > 0 && list[at-1].value[axis] == list[at].value[axis]; {
			at--
		}
	}
	b.high, b.low = &colourBox{colours: list[:at]}, &colourBox{colours: list[at:]}
	for _, half := range []*colourBox{b.high, b.low} {
		for _, c := range half.colours {
			half.pixels += c.pixels
		}
	}
	b.colours = nil
}

// means appends the mean colours of the boxes, high ones first.
func (b *colourBox) means(out [][3]byte) [][3]byte {
	if b.high != nil {
		return b.low.means(b.high.means(out))
	}
	if b.pixels == 0 {
		return out
	}
	var mean [3]byte
	for k := range mean {
		sum := 0
		for _, c := range b.colours {
			sum += c.sum[k]
		}
		mean[k] = byte(0.5 + float64(sum)/float64(b.pixels))
	}
	return append(out, mean)
}

// boxHeap hands out the box with the most pixels. Which of two equal ones
// comes first decides about the palette, so the order of comparisons is
// Pillow's: a new box stops below an equal one, and a box that sinks follows
// the first of two equal children down to the last level below it.
type boxHeap []*colourBox

func (h *boxHeap) add(b *colourBox) {
	*h = append(*h, b)
	list := *h
	at := len(list) - 1
	for at > 0 && b.pixels > list[(at-1)/2].pixels {
		list[at] = list[(at-1)/2]
		at = (at - 1) / 2
	}
	list[at] = b
}

// remove takes the top; nil when there is none.
func (h *boxHeap) remove() *colourBox {
	list := *h
	if len(list) == 0 {
		return nil
	}
	top, last := list[0], list[len(list)-1]
	list = list[:len(list)-1]
	at := 0
	for 2*at+1 < len(list) {
		child := 2*at + 1
		if child+1 < len(list) && list[child].pixels < list[child+1].pixels {
			child++
		}
		if last.pixels > list[child].pixels {
			break
		}
		list[at] = list[child]
		at = child
	}
	if len(list) > 0 {
		list[at] = last
	}
	*h = list
	return top
}
