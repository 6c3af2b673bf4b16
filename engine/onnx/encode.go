package onnx

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// AttributeProto.AttributeType values that Encode writes.
const (
	attrFloat  = 1
	attrInt    = 2
	attrString = 3
	attrFloats = 6
	attrInts   = 7
)

// irVersions lists, for each version of the ai.onnx operator set, the format
// version that belongs to it
// (https://github.com/onnx/onnx/blob/main/docs/Versioning.md).
var irVersions = map[int64]int64{
	17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 11,
}

// Encode writes the model as an ONNX ModelProto. External initializers become
// entries whose location is the path without its leading slash, to be resolved
// against the folder "/". Encoding the same model twice gives the same bytes.
//
// It fails on an operator set that it has no format version for, on an
// attribute value of a type that Attr does not allow, on a relative external
// path and on an initializer that has both or neither kind of bytes.
func Encode(m *Model) ([]byte, error) {
	ir, ok := irVersions[m.Opset[""]]
	if !ok {
		return nil, fmt.Errorf("encode model: ai.onnx operator set %d, want one of %v",
			m.Opset[""], slices.Sorted(maps.Keys(irVersions)))
	}
	graph, err := encodeGraph(&m.Graph)
	if err != nil {
		return nil, fmt.Errorf("encode model: %w", err)
	}
	w := make(wire, 0, len(graph)+256)
	w.varint(1, ir)
	w.text(2, m.Producer)
	w.bytes(7, graph)
	for _, domain := range slices.Sorted(maps.Keys(m.Opset)) {
		var set wire
		set.text(1, domain)
		set.varint(2, m.Opset[domain])
		w.bytes(8, set)
	}
	return w, nil
}

func encodeGraph(g *Graph) (wire, error) {
	var w wire
	for i := range g.Nodes {
		node, err := encodeNode(&g.Nodes[i])
		if err != nil {
			return nil, err
		}
		w.bytes(1, node)
	}
	w.text(2, g.Name)
	for i := range g.Initializers {
		init, err := encodeInitializer(&g.Initializers[i])
		if err != nil {
			return nil, err
		}
		w.bytes(5, init)
	}
	for _, v := range g.Inputs {
		w.bytes(11, encodeValueInfo(v))
	}
	for _, v := range g.Outputs {
		w.bytes(12, encodeValueInfo(v))
	}
	for _, v := range g.Values {
		w.bytes(13, encodeValueInfo(v))
	}
	return w, nil
}

func encodeNode(n *Node) (wire, error) {
	var w wire
	for _, in := range n.Inputs {
		w.text(1, in) // an empty name stays: it holds the place of an input left out
	}
	for _, out := range n.Outputs {
		w.text(2, out)
	}
	w.text(3, n.Name)
	w.text(4, n.Op)
	for _, a := range n.Attrs {
		attr, err := encodeAttr(a)
		if err != nil {
			return nil, fmt.Errorf("node %q (%s): %w", n.Name, n.Op, err)
		}
		w.bytes(5, attr)
	}
	if n.Domain != "" {
		w.text(7, n.Domain)
	}
	return w, nil
}

func encodeAttr(a Attr) (wire, error) {
	var w wire
	w.text(1, a.Name)
	var kind int64
	switch v := a.Value.(type) {
	case float32:
		kind = attrFloat
		w.float(2, v)
	case int64:
		kind = attrInt
		w.varint(3, v)
	case string:
		kind = attrString
		w.text(4, v)
	case []float32:
		kind = attrFloats
		w.floats(7, v)
	case []int64:
		kind = attrInts
		w.packed(8, v)
	default:
		return nil, fmt.Errorf("attribute %q: %T, want int64, float32, string, []int64 or []float32", a.Name, a.Value)
	}
	w.varint(20, kind)
	return w, nil
}

func encodeInitializer(t *Initializer) (wire, error) {
	if (t.External == nil) == (t.Raw == nil) {
		return nil, fmt.Errorf("initializer %q: want either raw bytes or an external range", t.Name)
	}
	var w wire
	w.packed(1, t.Dims)
	w.varint(2, int64(t.Type))
	w.text(8, t.Name)
	if t.External == nil {
		w.bytes(9, t.Raw)
		return w, nil
	}
	location, absolute := strings.CutPrefix(t.External.Path, "/")
	if !absolute {
		return nil, fmt.Errorf("initializer %q: external path %q is not absolute", t.Name, t.External.Path)
	}
	w.bytes(13, encodeEntry("location", location))
	w.bytes(13, encodeEntry("offset", strconv.FormatInt(t.External.Offset, 10)))
	w.bytes(13, encodeEntry("length", strconv.FormatInt(t.External.Length, 10)))
	w.varint(14, 1)
	return w, nil
}

func encodeEntry(key, value string) wire {
	var w wire
	w.text(1, key)
	w.text(2, value)
	return w
}

func encodeValueInfo(v ValueInfo) wire {
	var shape wire
	for _, d := range v.Dims {
		var dim wire
		switch {
		case d.Name != "":
			dim.text(2, d.Name)
		case d.Size >= 0:
			dim.varint(1, d.Size)
		}
		shape.bytes(1, dim)
	}
	var tensor wire
	tensor.varint(1, int64(v.Type))
	tensor.bytes(2, shape)
	var kind wire
	kind.bytes(1, tensor)
	var w wire
	w.text(1, v.Name)
	w.bytes(2, kind)
	return w
}
