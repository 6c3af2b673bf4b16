package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Number is an exact number of a range or a literal: an integer between
// -2^63 and 2^64-1 (seeds need all of it) or a float64. The zero Number is
// unset.
type Number struct{ v any } // nil, int64, uint64 (only above MaxInt64) or float64

// Int is an integer Number.
func Int(n int64) Number { return Number{n} }

// Uint is an integer Number.
func Uint(n uint64) Number {
	if n <= math.MaxInt64 {
		return Number{int64(n)}
	}
	return Number{n}
}

// Float is a floating-point Number; it stays one when it is whole ("8.0").
func Float(f float64) Number { return Number{f} }

// IsSet tells a number from the zero value.
func (n Number) IsSet() bool { return n.v != nil }

// IsFloat tells 8.0 from 8.
func (n Number) IsFloat() bool { _, ok := n.v.(float64); return ok }

// Float64 is the nearest float64.
func (n Number) Float64() float64 {
	switch v := n.v.(type) {
	case int64:
		return float64(v)
	case uint64:
		return float64(v)
	case float64:
		return v
	}
	return math.NaN()
}

// Compare orders exactly, also integers that no float64 can hold; NaN equals
// everything, as in ComfyUI where it passes every range.
func (n Number) Compare(m Number) int {
	a, aInt := n.v.(int64)
	b, bInt := m.v.(int64)
	switch {
	case aInt && bInt:
		return cmp.Compare(a, b)
	case math.IsNaN(n.Float64()) || math.IsNaN(m.Float64()):
		return 0
	case math.IsInf(n.Float64(), 0) || math.IsInf(m.Float64(), 0):
		return cmp.Compare(n.Float64(), m.Float64())
	}
	return n.big().Cmp(m.big())
}

func (n Number) big() *big.Float {
	switch v := n.v.(type) {
	case int64:
		return new(big.Float).SetInt64(v)
	case uint64:
		return new(big.Float).SetUint64(v)
	case float64:
		return new(big.Float).SetFloat64(v)
	}
	return new(big.Float)
}

// String writes the number as Python's repr does: 8, 8.0, 1e+20, nan.
func (n Number) String() string {
	switch v := n.v.(type) {
	case nil:
		return ""
	case float64:
		return pythonFloat(v)
	}
	return fmt.Sprint(n.v)
}

// MarshalJSON writes floats with a point, as ComfyUI does; NaN and the
// infinities, which JSON lacks, become null.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.IsSet() || n.IsFloat() && (math.IsNaN(n.Float64()) || math.IsInf(n.Float64(), 0)) {
		return []byte("null"), nil
	}
	return []byte(n.String()), nil
}

var _ json.Marshaler = Number{}

// pythonFloat is Python's repr of a float: the shortest digits, exponents
// from 1e16 on and below 1e-4, with two digits at least.
func pythonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 0):
		return strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(f, 'f', -1, 64), "+"))
	}
	if abs := math.Abs(f); abs != 0 && (abs >= 1e16 || abs < 1e-4) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// parseNumber reads a bound of a range tag: "0x" integers, integers, floats.
// float says whether the input is a FLOAT, whose bounds are always floats.
func parseNumber(s string, float bool) (Number, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Number{}, nil
	}
	if !float {
		return parseInt(s)
	}
	f, err := strconv.ParseFloat(s, 64)
	return Float(f), err
}

func parseInt(s string) (Number, error) {
	if n, err := strconv.ParseInt(s, 0, 64); err == nil {
		return Int(n), nil
	}
	n, err := strconv.ParseUint(s, 0, 64)
	return Uint(n), err
}
