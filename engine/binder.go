package engine

import (
	"fmt"
	"math"
	"reflect"

	"github.com/comfyrun/comfyrun/workflows"
)

// binder moves values between argument lists and a struct of inputs. All
// reflection beyond the declaration happens here.
type binder struct {
	*fields
	defaults reflect.Value
	results  *results
}

// bindLazy is bind with lazy inputs zero that were not evaluated yet.
func (b *binder) bindLazy(dst reflect.Value, a *Args) error {
	err := b.bind(dst, a)
	for i, f := range b.fields.fields {
		if b.inputs[i].Lazy && a.Values[i] == nil {
			dst.Field(f.index).SetZero()
		}
	}
	return err
}

// bind fills a struct: the defaults first, then everything given.
func (b *binder) bind(dst reflect.Value, a *Args) error {
	dst.Set(b.defaults)
	for i, f := range b.fields.fields {
		if a.Values[i] == nil {
			continue
		}
		if err := b.set(dst.Field(f.index), f, a.Values[i]); err != nil {
			return &InputError{Input: b.inputs[i].Name, Err: err}
		}
	}
	for i, index := range b.hide {
		dst.Field(index).Set(a.Hidden.value(b.hidden[i].Kind))
	}
	if b.rest >= 0 {
		dst.Field(b.rest).Set(reflect.ValueOf(restValues(a)))
	}
	return nil
}

func restValues(a *Args) map[string]any {
	rest := make(map[string]any, len(a.Rest))
	for name, values := range a.Rest {
		switch {
		case a.Type.InputIsList:
			rest[name] = values
		case len(values) > 0:
			rest[name] = values[0]
		}
	}
	return rest
}

func (b *binder) set(dst reflect.Value, f field, values []any) error {
	if f.list {
		return setList(dst, values)
	}
	if len(values) == 0 {
		return nil
	}
	return setValue(dst, values[0])
}

func setList(dst reflect.Value, values []any) error {
	dst.Set(reflect.MakeSlice(dst.Type(), len(values), len(values)))
	for i, v := range values {
		if err := setValue(dst.Index(i), v); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

// setValue assigns v, converting only within a kind: between the integer
// types of INT, from integers to FLOAT, between strings, and from a value to
// a pointer to it. Nil, ComfyUI's null, is the zero value.
func setValue(dst reflect.Value, v any) error {
	if v == nil {
		dst.SetZero()
		return nil
	}
	src, t := reflect.ValueOf(v), dst.Type()
	switch {
	case src.Type() == t, t.Kind() == reflect.Interface && src.Type().Implements(t):
		dst.Set(src)
		return nil
	case t.Kind() == reflect.Pointer:
		p := reflect.New(t.Elem())
		dst.Set(p)
		return setValue(p.Elem(), v)
	case src.CanInt() || src.CanUint():
		return setInteger(dst, src)
	case sameKind(src.Type(), t):
		dst.Set(src.Convert(t))
		return nil
	}
	return fmt.Errorf("got %s, want %s", src.Type(), t)
}

func sameKind(a, b reflect.Type) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case reflect.String, reflect.Bool, reflect.Float64:
		return true
	case reflect.Struct: // a raw link for a type of its own
		return a == reflect.TypeFor[workflows.Link]() && a.ConvertibleTo(b)
	}
	return false
}

func setInteger(dst, src reflect.Value) error {
	n := numberOf(src)
	switch {
	case dst.CanFloat():
		dst.SetFloat(n.Float64())
	case dst.CanInt() && n.Compare(Int(math.MaxInt64)) <= 0 && !dst.OverflowInt(src.Convert(int64Type).Int()):
		dst.SetInt(src.Convert(int64Type).Int())
	case dst.CanUint() && n.Compare(Int(0)) >= 0 && !dst.OverflowUint(src.Convert(uint64Type).Uint()):
		dst.SetUint(src.Convert(uint64Type).Uint())
	case dst.CanInt() || dst.CanUint():
		return fmt.Errorf("%s is out of the range of %s", n, dst.Type())
	default:
		return fmt.Errorf("got %s, want %s", src.Type(), dst.Type())
	}
	return nil
}

var (
	int64Type  = reflect.TypeFor[int64]()
	uint64Type = reflect.TypeFor[uint64]()
)

// takes says whether a literal fits the Go type of input i, so that planning
// can refuse what a call could not take.
func (b *binder) takes(i int) func(any) error {
	f := b.fields.fields[i]
	t := b.defaults.Type().Field(f.index).Type
	return func(v any) error { return b.set(reflect.New(t).Elem(), f, []any{v}) }
}
