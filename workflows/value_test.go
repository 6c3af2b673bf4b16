package workflows

import (
	"encoding/json"
	"math"
	"testing"
)

func value(t *testing.T, text string) Value {
	t.Helper()
	v, err := ParseValue([]byte(text))
	if err != nil {
		t.Fatalf("ParseValue(%s): %v", text, err)
	}
	return v
}

func TestIntegers(t *testing.T) {
	type want struct {
		i   int64
		iOK bool
		u   uint64
		uOK bool
	}
	for text, w := range map[string]want{
		"0":                     {0, true, 0, true},
		"-0":                    {0, true, 0, true},
		"-0.0":                  {0, true, 0, true},
		"7.0":                   {7, true, 7, true},
		"1e3":                   {1000, true, 1000, true},
		"7.5":                   {},
		"-3":                    {-3, true, 0, false},
		"9007199254740993":      {1<<53 + 1, true, 1<<53 + 1, true},
		"9223372036854775807":   {math.MaxInt64, true, math.MaxInt64, true},
		"9223372036854775808":   {0, false, 1 << 63, true},
		"-9223372036854775808":  {math.MinInt64, true, 0, false},
		"-9223372036854775809":  {},
		"18446744073709551615":  {0, false, math.MaxUint64, true},
		"18446744073709551616":  {},
		"18446744073709551616.": {},
		"1e400":                 {},
		`"5"`:                   {},
		"true":                  {},
		"null":                  {},
	} {
		v, err := ParseValue([]byte(text))
		if err != nil {
			continue
		}
		var got want
		got.i, got.iOK = v.Int64()
		got.u, got.uOK = v.Uint64()
		if got != w {
			t.Errorf("%s = %+v, want %+v", text, got, w)
		}
	}
}

func TestKinds(t *testing.T) {
	for text, want := range map[string]Kind{
		"null": KindNull, "NaN": KindNull, "true": KindBool, "false": KindBool, "-1.5": KindNumber, `"x"`: KindString,
		"[]": KindList, "{}": KindObject,
	} {
		if got := value(t, text).Kind(); got != want {
			t.Errorf("%s is a %v, want %v", text, got, want)
		}
	}
	if (Value{}) != value(t, "null") || (Value{}).Raw() != "null" {
		t.Error("the zero Value is not null")
	}
}

func TestStrings(t *testing.T) {
	for text, want := range map[string]string{
		`"a\"\\\/\b\f\n\r\té\u0000"`: "a\"\\/\b\f\n\r\té\x00",
		`"\ud83d\ude00😀"`:            "😀😀",
		`"\ud83dx"`:                  "\ufffdx",
		`"\ude00\ud83d"`:             "\ufffd\ufffd",
		`"\uD83D\u0041"`:             "\ufffdA",
	} {
		v := value(t, text)
		if got, ok := v.Str(); !ok || got != want {
			t.Errorf("%s = %q, %v; want %q", text, got, ok, want)
		}
		if w := value(t, v.Raw()); w != v {
			t.Errorf("%s: raw %s reads as %s", text, v.Raw(), w.Raw())
		}
	}
	for _, s := range []string{"", "\x00\x1f\x7f\"\\/", "é😀\u2028", "\ufffd"} {
		v := StringValue(s)
		var std string
		if err := json.Unmarshal([]byte(v.Raw()), &std); err != nil || std != s {
			t.Errorf("StringValue(%q) = %s, which reads as %q, %v", s, v.Raw(), std, err)
		}
	}
}

func TestLinks(t *testing.T) {
	for text, want := range map[string]Link{`["4",0]`: {"4", 0}, ` [ "12:7" , 1.0 ] `: {"12:7", 1}, `["a\"b]",2]`: {"a\"b]", 2}, `["4",-1]`: {"4", -1}} {
		if got, ok := value(t, text).Link(); !ok || got != want {
			t.Errorf("%s = %v, %v; want %v", text, got, ok, want)
		}
		if got, ok := LinkValue(want).Link(); !ok || got != want {
			t.Errorf("LinkValue(%v) = %v", want, got)
		}
	}
	for _, text := range []string{`[]`, `["4"]`, `[4,0]`, `["4","0"]`, `["4",0.5]`, `["4",0,1]`, `["4",1e30]`, `"4"`, `{"__value__":["4",0]}`} {
		if l, ok := value(t, text).Link(); ok {
			t.Errorf("%s is taken for link %v", text, l)
		}
	}
}

func TestCompound(t *testing.T) {
	v := value(t, ` { "a" : [ 1.0 , "x,]}" , { } , [ ] ] , "b\"" : { "c" : null } } `)
	if want := `{"a":[1.0,"x,]}",{},[]],"b\"":{"c":null}}`; v.Raw() != want {
		t.Errorf("raw = %s", v.Raw())
	}
	o, _ := v.Object()
	if keys := o.Keys(); len(keys) != 2 || keys[1] != `b"` {
		t.Errorf("keys = %q", keys)
	}
	a, _ := o.Get("a")
	items, _ := a.List()
	if len(items) != 4 || items[0] != FloatValue(1) || items[1] != StringValue("x,]}") || ListValue(items...) != a {
		t.Errorf("items = %v", items)
	}
	inner, ok := value(t, `{"__type__":"CURVE","__value__":[1]}`).Unwrap()
	if !ok || inner.Raw() != "[1]" {
		t.Errorf("Unwrap = %s, %v", inner.Raw(), ok)
	}
	if same, ok := v.Unwrap(); ok || same != v {
		t.Error("an object without __value__ was unwrapped")
	}
}

func TestFloatValue(t *testing.T) {
	for f, want := range map[float64]string{7: "7.0", 0.1: "0.1", 1e30: "1e+30", -2: "-2.0", math.Inf(1): "null"} {
		if got := FloatValue(f).Raw(); got != want {
			t.Errorf("FloatValue(%v) = %s, want %s", f, got, want)
		}
	}
}

func TestValueInJSON(t *testing.T) {
	var v map[string]Value
	if err := json.Unmarshal([]byte(`{"a": 7.0, "b": [18446744073709551615 ]}`), &v); err != nil {
		t.Fatal(err)
	}
	if data, err := json.Marshal(v); err != nil || string(data) != `{"a":7.0,"b":[18446744073709551615]}` {
		t.Errorf("Marshal = %s, %v", data, err)
	}
}
