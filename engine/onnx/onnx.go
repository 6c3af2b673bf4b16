// Package onnx holds ONNX models as plain structs and writes them in the ONNX
// protobuf wire format. It is the intermediate form between engine/nn, which
// appends to a Graph, and engine/ort, which runs the encoded Model.
//
// Vocabulary is ONNX's own: https://github.com/onnx/onnx/blob/main/docs/IR.md.
// Weights are initializers whose bytes lie in some other file (external data),
// or small constants carried in the model itself.
package onnx

// ElemType is an ONNX tensor element type, TensorProto.DataType.
type ElemType int32

// Element types that our graphs use.
const (
	Float    ElemType = 1
	Uint8    ElemType = 2
	Int8     ElemType = 3
	Int32    ElemType = 6
	Int64    ElemType = 7
	Bool     ElemType = 9
	Float16  ElemType = 10
	Double   ElemType = 11
	BFloat16 ElemType = 16
)

// Model is a graph with the operator sets that it was written against.
type Model struct {
	Producer string
	Opset    map[string]int64 // domain ("" is ai.onnx) to version
	Graph    Graph
}

// Graph is a list of nodes in topological order with its inputs, outputs and
// initializers.
type Graph struct {
	Name         string
	Inputs       []ValueInfo
	Outputs      []ValueInfo
	Initializers []Initializer
	Nodes        []Node
	// Values declares outputs of nodes in between, for operators whose result the
	// runtime cannot infer.
	Values []ValueInfo
}

// ValueInfo declares an input or output.
type ValueInfo struct {
	Name string
	Type ElemType
	Dims []Dim
}

// Dim is a dimension: a size, a name when the size is known only at run time, or
// a negative size when nothing is known about it.
type Dim struct {
	Size int64
	Name string
}

// Initializer is a constant: either Raw bytes carried in the model, or a
// byte range of another file (External).
type Initializer struct {
	Name     string
	Type     ElemType
	Dims     []int64
	Raw      []byte
	External *External
}

// External says where an initializer's bytes lie. Path is absolute and free
// of symbolic links; engine/ort relies on it.
type External struct {
	Path   string
	Offset int64
	Length int64
}

// Node is one operator application. An empty input name leaves the input out.
type Node struct {
	Name    string
	Op      string
	Domain  string // "" is ai.onnx, "com.microsoft" the ONNX Runtime operators
	Inputs  []string
	Outputs []string
	Attrs   []Attr
}

// Attr is a node attribute. Value is an int64, float32, string, []int64 or
// []float32.
type Attr struct {
	Name  string
	Value any
}
