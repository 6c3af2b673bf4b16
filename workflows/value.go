package workflows

import (
	"math"
	"strconv"
	"strings"
)

// Kind is the JSON type of a value.
type Kind int

// The kinds of values.
const (
	KindNull Kind = iota
	KindBool
	KindNumber
	KindString
	KindList
	KindObject
)

// String returns the word for a kind, for messages.
func (k Kind) String() string {
	return [...]string{"null", "bool", "number", "string", "list", "object"}[k]
}

// Value is a JSON value. It is immutable and may be compared with ==: two values
// are equal when they were written alike, apart from blanks and escapes, so 7 and
// 7.0 differ. The zero Value is null.
type Value struct {
	// raw is compact, valid JSON; numbers as they were written, strings with as
	// few escapes as possible. Empty means null.
	raw string
}

// ParseValue reads one JSON value. The error is a *[SyntaxError].
func ParseValue(data []byte) (Value, error) {
	return compact(data)
}

// checked makes a value of compact JSON.
func checked(raw string) Value {
	if raw == "null" {
		return Value{}
	}
	return Value{raw}
}

// StringValue returns a string; bytes that are no UTF-8 become U+FFFD.
func StringValue(s string) Value {
	return Value{string(appendQuoted(nil, strings.ToValidUTF8(s, "\ufffd")))}
}

// IntValue returns an integer.
func IntValue(i int64) Value { return Value{strconv.FormatInt(i, 10)} }

// UintValue returns an integer without sign, such as a seed.
func UintValue(u uint64) Value { return Value{strconv.FormatUint(u, 10)} }

// FloatValue returns the shortest number that reads as f, always with a point or
// an exponent; what JSON cannot say (NaN, infinities) is null.
func FloatValue(f float64) Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return Value{s}
}

// BoolValue returns true or false.
func BoolValue(b bool) Value { return Value{strconv.FormatBool(b)} }

// LinkValue returns a link as the API format writes it.
func LinkValue(l Link) Value { return ListValue(StringValue(l.Node), IntValue(int64(l.Slot))) }

// ListValue returns a list.
func ListValue(items ...Value) Value {
	var b strings.Builder
	b.WriteByte('[')
	for i, v := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(v.Raw())
	}
	b.WriteByte(']')
	return Value{b.String()}
}

// ObjectValue returns an object; the keys must differ.
func ObjectValue(members Object) Value {
	b := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(appendQuoted(b, m.Key), ':'), m.Value.Raw()...)
	}
	return Value{string(append(b, '}'))}
}

// Raw returns the value as compact JSON. Numbers have the text they were written
// with.
func (v Value) Raw() string {
	if v.raw == "" {
		return "null"
	}
	return v.raw
}

// Kind returns the JSON type.
func (v Value) Kind() Kind {
	switch v.Raw()[0] {
	case 'n':
		return KindNull
	case 't', 'f':
		return KindBool
	case '"':
		return KindString
	case '[':
		return KindList
	case '{':
		return KindObject
	}
	return KindNumber
}

// IsNull says whether the value is null.
func (v Value) IsNull() bool { return v.Kind() == KindNull }

// Str returns the text of a string. Half a surrogate pair reads as U+FFFD.
func (v Value) Str() (string, bool) {
	if v.Kind() != KindString {
		return "", false
	}
	return unquote(v.raw), true
}

// Bool returns a bool.
func (v Value) Bool() (b, ok bool) {
	return v.raw == "true", v.Kind() == KindBool
}

// Float64 returns a number, rounded to the nearest float64. A number beyond the
// range of float64 is an infinity.
func (v Value) Float64() (float64, bool) {
	if v.Kind() != KindNumber {
		return 0, false
	}
	// The text is a valid number, so the only error left is the range, and then
	// the result is the infinity that is wanted.
	f, _ := strconv.ParseFloat(v.raw, 64)
	return f, true
}

// Int64 returns a number that is an integer within range, exactly; 7.0 and 1e3
// count, 7.5 does not.
func (v Value) Int64() (int64, bool) {
	f, ok := v.Float64()
	if !ok {
		return 0, false
	}
	if i, err := strconv.ParseInt(v.raw, 10, 64); err == nil {
		return i, true
	}
	if v.IsIntegerText() || f != math.Trunc(f) || f < -1<<63 || f >= 1<<63 {
		return 0, false
	}
	return int64(f), true
}

// Uint64 returns a number that is an integer from 0 to 2^64-1, exactly; 7.0 and
// 1e3 count, 7.5 does not.
func (v Value) Uint64() (uint64, bool) {
	f, ok := v.Float64()
	if !ok {
		return 0, false
	}
	if u, err := strconv.ParseUint(v.raw, 10, 64); err == nil {
		return u, true
	}
	if f == 0 {
		return 0, true
	}
	if v.IsIntegerText() || f != math.Trunc(f) || f < 0 || f >= 1<<64 {
		return 0, false
	}
	return uint64(f), true
}

// IsIntegerText says whether the value is a number written without point and
// exponent, which is what makes an int of it in Python.
func (v Value) IsIntegerText() bool {
	return v.Kind() == KindNumber && !strings.ContainsAny(v.raw, ".eE")
}

// List returns the items of a list.
func (v Value) List() ([]Value, bool) {
	if v.Kind() != KindList {
		return nil, false
	}
	return splitList(v.raw), true
}

// Object returns the members of an object.
func (v Value) Object() (Object, bool) {
	if v.Kind() != KindObject {
		return nil, false
	}
	return splitObject(v.raw), true
}

// IsLink says whether the value is a list of a string and a whole number.
func (v Value) IsLink() bool {
	_, ok := v.Link()
	return ok
}

// Link returns the link that the value is: a list of a node id, which is a
// string, and the number of an output slot. The slot is not checked.
func (v Value) Link() (Link, bool) {
	if !strings.HasPrefix(v.raw, `["`) {
		return Link{}, false
	}
	items := splitList(v.raw)
	if len(items) != 2 {
		return Link{}, false
	}
	id, isString := items[0].Str()
	slot, isInt := items[1].Int64()
	if !isString || !isInt || slot != int64(int32(slot)) {
		return Link{}, false
	}
	return Link{id, int(slot)}, true
}

// Unwrap returns X of {"__value__": X}, the form in which a list is given as a
// literal, and whether the value had that form. Any other value is returned as
// it is.
func (v Value) Unwrap() (Value, bool) {
	if members, ok := v.Object(); ok {
		if inner, ok := members.Get("__value__"); ok {
			return inner, true
		}
	}
	return v, false
}

// MarshalJSON returns the raw text.
func (v Value) MarshalJSON() ([]byte, error) { return []byte(v.Raw()), nil }

// UnmarshalJSON reads any JSON value.
func (v *Value) UnmarshalJSON(data []byte) error {
	w, err := ParseValue(data)
	if err == nil {
		*v = w
	}
	return err
}
