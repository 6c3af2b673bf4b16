// Package winograd is an operator for ONNX Runtime that computes convolutions of
// 3x3 with stride 1 and one pixel of zeros around several times faster than
// ONNX Runtime's Conv: the algorithm F(4x4, 3x3) of Lavin and Gray, "Fast
// Algorithms for Convolutional Neural Networks", 2015 (arXiv:1509.09308).
//
// The node: domain Domain, type Op, version 1, no attributes. Inputs, all
// float32:
//
//	x     [batch, cin, height, width]
//	u     weights as Transform makes them, of Shape(cout, cin)
//	bias  [cout]
//	plus  optional: added to the result, [batch, cout, height, width] or [batch, cout, 1, 1]
//
// Output: y [batch, cout, height, width]. All sizes from 1 on are fine.
//
// Vocabulary: a tile is a square of 4x4 output pixels. A point is one of the 36
// values of a transformed tile or filter. A kernel is the arithmetic for one
// instruction set; the processor decides which one runs. A unit is the part of
// a convolution that one thread computes at a time.
//
// The result does not depend on the number of threads. Against exact arithmetic
// it is off by up to 2e-6 to 7e-6 of the largest value, about ten times as much
// as a plain float32 convolution.
//
// It pays for planes of 16x16 pixels and more, whatever the channels: on a core
// with AVX-512 it takes between a third and a quarter of Conv's time. On smaller
// planes reading the weights, four times as large as before, takes as long as
// Conv.
//
// Transform, Shape and the names need no cgo.
package winograd

// Name of the operator in a graph.
const (
	Domain  = "comfyrun"
	Op      = "WinogradConv"
	Version = 1 // of the domain, for the graph's list of operator sets
)
