package engine

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// field is one field of an input struct that takes a declared input.
type field struct {
	index int
	slot
}

// fields is what Add derives from a struct of inputs: where each input goes.
type fields struct {
	inputs []Input
	fields []field // parallel to inputs
	hidden []Hidden
	hide   []int // field indexes, parallel to hidden
	rest   int   // field index of the map for undeclared inputs, -1: none
	errs   []error
}

// deriveFields reads the tags of a struct of inputs.
func (c *Catalog) deriveFields(defaults reflect.Value) *fields {
	f := &fields{rest: -1}
	t := defaults.Type()
	if t.Kind() != reflect.Struct {
		f.errs = append(f.errs, fmt.Errorf("inputs want a struct, not %s", t))
		return f
	}
	for i := range t.NumField() {
		if err := f.add(c, t.Field(i), defaults.Field(i)); err != nil {
			f.errs = append(f.errs, fmt.Errorf("%s: %w", t.Field(i).Name, err))
		}
	}
	return f
}

var restType = reflect.TypeFor[map[string]any]()

func (f *fields) add(c *Catalog, sf reflect.StructField, value reflect.Value) error {
	name, flags, _ := strings.Cut(sf.Tag.Get("in"), ",")
	i := sf.Index[0]
	if !sf.IsExported() {
		return errors.New("is not exported")
	}
	if kind, std, ok := hiddenKind(sf.Type); ok {
		f.hidden = append(f.hidden, Hidden{Name: orElse(name, std), Kind: kind})
		f.hide = append(f.hide, i)
		return nil
	}
	switch {
	case name == "":
		return errors.New(`has no tag in:"name"`)
	case name == "*" && sf.Type == restType && f.rest < 0:
		f.rest = i
		return nil
	case name == "*":
		return errors.New(`in:"*" wants one map[string]any`)
	case flags != "" && flags != "optional":
		return fmt.Errorf("tag in: %q is not optional", flags)
	}
	s, err := c.slotOf(sf.Type)
	if err != nil {
		return err
	}
	in, err := newInput(name, s, sf.Tag)
	in.Optional = flags == "optional"
	in.linkOnly = s.linkOnly()
	in.Default = defaultOf(in, s, value)
	if err == nil {
		err = in.checkDefault()
	}
	f.inputs = append(f.inputs, in)
	f.fields = append(f.fields, field{index: i, slot: s})
	return err
}

func newInput(name string, s slot, tag reflect.StructTag) (Input, error) {
	in := Input{Name: name, Kind: s.Name, Choices: s.Choices, List: s.list, Doc: tag.Get("doc")}
	return in, errors.Join(in.setRange(tag.Get("range")), in.setUI(tag.Get("ui")))
}

func (in *Input) setRange(tag string) error {
	if tag == "" {
		return nil
	}
	if in.Kind != KindInt && in.Kind != KindFloat {
		return fmt.Errorf("tag range: %s has no range", in.Kind)
	}
	parts := strings.Split(tag, ",")
	if len(parts) < 2 || len(parts) > 4 {
		return fmt.Errorf("tag range: %q is not min,max[,step[,round]]", tag)
	}
	for i, into := range []*Number{&in.Min, &in.Max, &in.Step, &in.Round}[:len(parts)] {
		n, err := parseNumber(parts[i], in.Kind == KindFloat)
		if err != nil {
			return fmt.Errorf("tag range: %q: %w", parts[i], err)
		}
		*into = n
	}
	if in.Min.IsSet() && in.Max.IsSet() && in.Min.Compare(in.Max) > 0 {
		return fmt.Errorf("tag range: %s is above %s", in.Min, in.Max)
	}
	return nil
}

// uiFlags are the words of a ui tag that object_info shows as they are; the
// meaning is the page's.
var uiFlags = []string{
	"advanced", "audio_upload", "chip", "control_after_generate", "defaultInput", "display", "display_name",
	"dynamicPrompts", "file_upload", "forceInput", "hidden", "image_folder", "image_upload", "label_off", "label_on",
	"lazy", "multi_select", "multiline", "multiselect", "placeholder", "rawLink", "remote", "round", "socketless",
	"video_upload", "widgetType",
}

// setUI reads words such as multiline, display=slider. Three of them are for
// the engine only: loose (a combo that takes other values too), nodefault
// and default (show the default of an INT or the empty default of a STRING).
func (in *Input) setUI(tag string) error {
	if tag == "" {
		return nil
	}
	for flag := range strings.SplitSeq(tag, ",") {
		key, value, _ := strings.Cut(flag, "=")
		switch {
		case key == "loose":
			in.Loose = true
		case key == "default" || key == "nodefault":
			in.Default = key
		case slices.Contains(uiFlags, key):
			in.Options = append(in.Options, Member{Key: key, Value: optionValue(value)})
		default:
			return fmt.Errorf("tag ui: %q is not one of %s, loose, default, nodefault", key, strings.Join(uiFlags, ", "))
		}
	}
	in.Lazy = in.flag("lazy")
	in.RawLink = in.flag("rawLink")
	return nil
}

func (in *Input) flag(key string) bool {
	for _, o := range in.Options {
		if o.Key == key {
			return o.Value == true
		}
	}
	return false
}

func optionValue(s string) any {
	if s == "" {
		return true
	}
	if b, err := strconv.ParseBool(s); err == nil && len(s) > 1 {
		return b
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	return s
}

// defaultOf is the default that object_info shows. Numbers and booleans show
// theirs always, strings and choices only when there is one.
func defaultOf(in Input, s slot, value reflect.Value) any {
	word, _ := in.Default.(string)
	if word == "nodefault" || s.list || in.flag("forceInput") {
		return nil
	}
	if s.nullable {
		if value.IsNil() {
			return nil
		}
		value, word = value.Elem(), "default"
	}
	switch s.Name {
	case KindInt, KindFloat:
		return numberOf(value)
	case KindBoolean:
		return value.Bool()
	case KindString, KindCombo:
		if value.String() != "" || word == "default" {
			return value.String()
		}
	}
	return nil
}

// checkDefault refuses a default that the input itself would not take, such
// as a zero that was left where the range begins at 1.
func (in *Input) checkDefault() error {
	n, ok := in.Default.(Number)
	if ok && (in.Min.IsSet() && n.Compare(in.Min) < 0 || in.Max.IsSet() && n.Compare(in.Max) > 0) {
		return fmt.Errorf("default %s is outside of %s to %s", n, in.Min, in.Max)
	}
	return nil
}

func numberOf(v reflect.Value) Number {
	switch {
	case v.CanInt():
		return Int(v.Int())
	case v.CanUint():
		return Uint(v.Uint())
	}
	return Float(v.Float())
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
