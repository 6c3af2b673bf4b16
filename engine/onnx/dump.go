package onnx

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Dump writes the model as text, one input, output, initializer or node a
// line: for people and for golden tests. Initializers are sorted by name;
// everything else keeps the order of the graph. External paths are left out,
// so that the text does not depend on where the weights lie.
func Dump(w io.Writer, m *Model) error {
	b := bufio.NewWriter(w)
	for _, domain := range slices.Sorted(maps.Keys(m.Opset)) {
		fmt.Fprintf(b, "opset %s %d\n", domainName(domain), m.Opset[domain])
	}
	g := &m.Graph
	fmt.Fprintf(b, "graph %s\n", g.Name)
	for _, v := range g.Inputs {
		fmt.Fprintf(b, "input %s\n", v)
	}
	inits := slices.Clone(g.Initializers)
	slices.SortStableFunc(inits, func(a, b Initializer) int { return strings.Compare(a.Name, b.Name) })
	for i := range inits {
		fmt.Fprintf(b, "init %s\n", inits[i].line())
	}
	for i := range g.Nodes {
		fmt.Fprintf(b, "node %s\n", g.Nodes[i].line())
	}
	for _, v := range g.Outputs {
		fmt.Fprintf(b, "output %s\n", v)
	}
	return b.Flush()
}

func domainName(domain string) string {
	if domain == "" {
		return "ai.onnx"
	}
	return domain
}

// String prints the declaration as "x float[n,3,64]".
func (v ValueInfo) String() string {
	dims := make([]string, len(v.Dims))
	for i, d := range v.Dims {
		dims[i] = d.Name
		if d.Name == "" {
			dims[i] = strconv.FormatInt(d.Size, 10)
		}
	}
	return fmt.Sprintf("%s %s[%s]", v.Name, v.Type, strings.Join(dims, ","))
}

// String returns the type's name as ONNX writes it, in lower case.
func (t ElemType) String() string {
	switch t {
	case Float:
		return "float"
	case Uint8:
		return "uint8"
	case Int8:
		return "int8"
	case Int32:
		return "int32"
	case Int64:
		return "int64"
	case Bool:
		return "bool"
	case Float16:
		return "float16"
	case Double:
		return "double"
	case BFloat16:
		return "bfloat16"
	}
	return "type" + strconv.Itoa(int(t))
}

func (t *Initializer) line() string {
	s := fmt.Sprintf("%s %s%s", t.Name, t.Type, joinInts(t.Dims))
	if t.External != nil {
		return fmt.Sprintf("%s external %d+%d", s, t.External.Offset, t.External.Length)
	}
	const shown = 32 // bytes; enough for shape constants, which matter most
	if len(t.Raw) > shown {
		return fmt.Sprintf("%s raw %x… (%d bytes)", s, t.Raw[:shown], len(t.Raw))
	}
	return fmt.Sprintf("%s raw %x", s, t.Raw)
}

func (n *Node) line() string {
	op := n.Op
	if n.Domain != "" {
		op = n.Domain + "." + n.Op
	}
	inputs := slices.Clone(n.Inputs)
	for i, in := range inputs {
		if in == "" {
			inputs[i] = "_"
		}
	}
	s := fmt.Sprintf("%s = %s(%s)", strings.Join(n.Outputs, ", "), op, strings.Join(inputs, ", "))
	attrs := slices.Clone(n.Attrs)
	slices.SortStableFunc(attrs, func(a, b Attr) int { return strings.Compare(a.Name, b.Name) })
	for _, a := range attrs {
		s += " " + a.Name + "=" + attrText(a.Value)
	}
	return s
}

func attrText(value any) string {
	switch v := value.(type) {
	case []int64:
		return joinInts(v)
	case string:
		return strconv.Quote(v)
	}
	return fmt.Sprint(value)
}

func joinInts(vs []int64) string {
	parts := make([]string, len(vs))
	for i, v := range vs {
		parts[i] = strconv.FormatInt(v, 10)
	}
	return "[" + strings.Join(parts, ",") + "]"
}
