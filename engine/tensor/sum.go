package tensor

import "math/bits"

// sumLanes and sumStreams are the width of torch's vectors of float32 (AVX2)
// and the number of sums it keeps at the same time.
const (
	sumLanes   = 8
	sumStreams = 4
)

// sum adds values in the order of torch.sum on a CPU (aten/native/cpu/
// SumKernel.cpp): 8 lanes, in each 4 interleaved streams, which are added up in
// blocks of at least 16 so that rounding grows slowly.
func sum(v []float32) float32 {
	rows := len(v) / sumLanes
	var total float32
	for _, x := range v[rows*sumLanes:] {
		total += x
	}
	for lane := range sumLanes {
		total += sumColumn(v, lane, rows)
	}
	return total
}

// sumColumn adds every eighth value from lane on, rows of them.
func sumColumn(v []float32, lane, rows int) float32 {
	perStream := rows / sumStreams
	var streams [sumStreams]float32
	for s := range streams {
		streams[s] = cascade(perStream, func(i int) float32 { return v[(i*sumStreams+s)*sumLanes+lane] })
	}
	for i := perStream * sumStreams; i < rows; i++ {
		streams[0] += v[i*sumLanes+lane]
	}
	return streams[0] + streams[1] + streams[2] + streams[3]
}

// cascade adds n values on four levels: blocks, blocks of blocks, and so on.
func cascade(n int, at func(int) float32) float32 {
	const levels = 4
	power := max(4, bits.Len(uint(max(n-1, 0)))/levels)
	step := 1 << power
	var acc [levels]float32
	i := 0
	for i+step <= n {
		for range step {
			acc[0] += at(i)
			i++
		}
		for j := 1; j < levels; j++ {
			acc[j] += acc[j-1]
			acc[j-1] = 0
			if i&((step-1)<<(j*power)) != 0 {
				break
			}
		}
	}
	for ; i < n; i++ {
		acc[0] += at(i)
	}
	return acc[0] + acc[1] + acc[2] + acc[3]
}
