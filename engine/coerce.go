package engine

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// coerce brings a literal to a declared kind the way Python's int(), float(),
// str() and bool() do, and gives it back as a Go value (int64, uint64,
// float64, string, bool) and as it is to be written into metadata. Literals
// of other kinds stay as they are.
func coerce(kind string, v workflows.Value) (any, workflows.Value, error) {
	switch kind {
	case KindInt:
		n, err := coerceInt(v)
		return n.v, numberValue(n), err
	case KindFloat:
		f, err := coerceFloat(v)
		return f, workflows.FloatValue(f), err
	case KindString:
		s := pythonString(v)
		return s, workflows.StringValue(s), nil
	case KindBoolean:
		b := truth(v)
		return b, workflows.BoolValue(b), nil
	}
	return native(v), v, nil
}

func numberValue(n Number) workflows.Value {
	switch v := n.v.(type) {
	case int64:
		return workflows.IntValue(v)
	case uint64:
		return workflows.UintValue(v)
	case float64:
		return workflows.FloatValue(v)
	}
	return workflows.Value{}
}

// coerceInt keeps integers beyond 64 bits as a float, so that a range may
// still name its bound.
func coerceInt(v workflows.Value) (Number, error) {
	switch v.Kind() {
	case workflows.KindBool:
		b, _ := v.Bool()
		return Int(int64(boolNumber(b))), nil
	case workflows.KindNumber:
		return truncated(v)
	case workflows.KindString:
		s, _ := v.Str()
		n, err := integerText(s)
		if err != nil {
			return Number{}, fmt.Errorf("%s is no integer", pythonRepr(v))
		}
		return n, nil
	}
	return Number{}, fmt.Errorf("%s is no integer", v.Raw())
}

func truncated(v workflows.Value) (Number, error) {
	if i, ok := v.Int64(); ok {
		return Int(i), nil
	}
	if u, ok := v.Uint64(); ok {
		return Uint(u), nil
	}
	f, _ := v.Float64()
	switch f = math.Trunc(f); {
	case math.IsInf(f, 0) && !v.IsIntegerText():
		return Number{}, fmt.Errorf("%s is no integer", v.Raw())
	case f >= -1<<63 && f < 1<<63:
		return Int(int64(f)), nil
	case f > 0 && f < 1<<64:
		return Uint(uint64(f)), nil
	}
	return Float(f), nil
}

// integerText reads what int() reads: blanks around, a sign, digits with
// single underscores between them.
func integerText(s string) (Number, error) {
	s = strings.TrimPrefix(digitsOnly(s), "+")
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return Int(n), nil
	}
	u, err := strconv.ParseUint(s, 10, 64)
	if err == nil {
		return Uint(u), nil
	}
	if ne, ok := err.(*strconv.NumError); ok && ne.Err == strconv.ErrRange {
		return Float(float64(u)), nil
	}
	return Number{}, err
}

// digitsOnly takes blanks away, and underscores that stand between digits.
func digitsOnly(s string) string {
	s = strings.TrimSpace(s)
	if !strings.Contains(s, "_") || strings.Contains(s, "__") {
		return s
	}
	for i := range s {
		if s[i] == '_' && (i == 0 || i == len(s)-1 || !isDigit(s[i-1]) || !isDigit(s[i+1])) {
			return s
		}
	}
	return strings.ReplaceAll(s, "_", "")
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func boolNumber(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func coerceFloat(v workflows.Value) (float64, error) {
	switch v.Kind() {
	case workflows.KindBool:
		b, _ := v.Bool()
		return boolNumber(b), nil
	case workflows.KindNumber:
		f, _ := v.Float64()
		return f, nil
	case workflows.KindString:
		s, _ := v.Str()
		f, err := floatText(s)
		if err != nil {
			return 0, fmt.Errorf("%s is no number", pythonRepr(v))
		}
		return f, nil
	}
	return 0, fmt.Errorf("%s is no number", v.Raw())
}

// floatText reads what float() reads; hexadecimal floats are Go's alone.
func floatText(s string) (float64, error) {
	s = digitsOnly(s)
	if strings.ContainsAny(s, "xXpP_") {
		return 0, strconv.ErrSyntax
	}
	f, err := strconv.ParseFloat(s, 64)
	if ne, ok := err.(*strconv.NumError); ok && ne.Err == strconv.ErrRange {
		return f, nil
	}
	return f, err
}

// truth is Python's: everything but null, false, zero and what is empty.
func truth(v workflows.Value) bool {
	switch v.Kind() {
	case workflows.KindNull:
		return false
	case workflows.KindBool:
		b, _ := v.Bool()
		return b
	case workflows.KindNumber:
		f, _ := v.Float64()
		return f != 0
	}
	return len(v.Raw()) > len(`""`)
}

// native is a literal as a Go value: nil, bool, int64, uint64, float64,
// string, []any or map[string]any.
func native(v workflows.Value) any {
	switch v.Kind() {
	case workflows.KindBool:
		b, _ := v.Bool()
		return b
	case workflows.KindNumber:
		return nativeNumber(v)
	case workflows.KindString:
		s, _ := v.Str()
		return s
	case workflows.KindList:
		items, _ := v.List()
		out := make([]any, len(items))
		for i, item := range items {
			out[i] = native(item)
		}
		return out
	case workflows.KindObject:
		members, _ := v.Object()
		out := make(map[string]any, len(members))
		for _, m := range members {
			out[m.Key] = native(m.Value)
		}
		return out
	}
	return nil
}

func nativeNumber(v workflows.Value) any {
	if v.IsIntegerText() {
		if i, ok := v.Int64(); ok {
			return i
		}
		if u, ok := v.Uint64(); ok {
			return u
		}
	}
	f, _ := v.Float64()
	return f
}
