package winograd

// Panel is the number of output channels that lie side by side in transformed
// weights.
const Panel = 8

// Points is the number of points of a transformed tile.
const points = 36

// TransformName names Transform and its layout in keys of caches: it changes
// whenever the result does.
const TransformName = "winograd-f4x4-v1"

// Shape returns the shape of transformed weights: [36, cout/8 rounded up, cin,
// 8]. Value (p, o/8, i, o%8) belongs to point p of the filter from input channel
// i to output channel o; rows that round cout up are zero.
func Shape(cout, cin int) [4]int {
	return [4]int{points, (cout + Panel - 1) / Panel, cin, Panel}
}

// Transform fills dst, of Shape(cout, cin), with the transforms U = G g Gt of
// the filters src [cout, cin, 3, 3] (Lavin and Gray 2015, section 4.3). It
// computes in float64 and rounds once.
func Transform(dst, src []float32, cout, cin int) {
	shape := Shape(cout, cin)
	point := shape[1] * cin * Panel
	for row := range shape[1] {
		lanes := min(Panel, cout-row*Panel)
		for in := range cin {
			var u [points][Panel]float32
			for lane := range lanes {
				transformFilter(&u, lane, src[((row*Panel+lane)*cin+in)*9:][:9])
			}
			at := (row*cin + in) * Panel
			for p := range u {
				copy(dst[p*point+at:][:Panel], u[p][:])
			}
		}
	}
}

// transformFilter computes G g Gt for one filter.
func transformFilter(u *[points][Panel]float32, lane int, g []float32) {
	var half [6][3]float64
	for j := range 3 {
		column := column(float64(g[j]), float64(g[3+j]), float64(g[6+j]))
		for i, v := range column {
			half[i][j] = v
		}
	}
	for i, row := range half {
		for j, v := range column(row[0], row[1], row[2]) {
			u[6*i+j][lane] = float32(v)
		}
	}
}

// column is the product of the paper's G with a column.
func column(a, b, c float64) [6]float64 {
	sum, wide := -(a+c)/6, a/24+c/6
	return [6]float64{a / 4, sum - b/6, sum + b/6, wide + b/12, wide - b/12, c}
}
