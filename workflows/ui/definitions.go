package ui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// Definitions tells what is known of classes of nodes.
type Definitions interface {
	// Class returns the definition of a class, and whether there is one.
	Class(name string) (*Class, bool)
}

// Class is what the editor must know of a class of nodes.
type Class struct {
	Name  string
	Title string // what a new node is called; the name when empty
	// Inputs are in the order of the editor.
	Inputs []Input
	// Outputs are the types of the outputs.
	Outputs []string
}

// Input is an input of a class: a slot for links, and mostly a widget too.
type Input struct {
	Name string
	// Type is the type of link that it takes; COMBO for a choice.
	Type string
	// Widget is the type of its widget; empty for an input that only takes links.
	Widget string
	// Force says that it only takes links although its type has a widget.
	Force bool
	// Default is the widget's first value; Has is false where there is none.
	Default workflows.Value
	Has     bool
	Choices []workflows.Value
	// Control says that a second widget follows, which changes the value after each run.
	Control bool
	// Declared says that the class asks for that, other than by the input's name.
	Declared bool
	// Multiline texts turn every value into text; Dynamic ones may hold {a|b}.
	Multiline, Dynamic bool
	// Grows says that further widgets follow, which depend on the value.
	Grows bool
	// Upload says that a button follows the inputs of its group.
	Upload bool
}

// ObjectInfo is the definitions of ComfyUI's object_info document, by class.
type ObjectInfo map[string]*Class

// Class returns the definition of a class.
func (o ObjectInfo) Class(name string) (*Class, bool) {
	c, ok := o[name]
	return c, ok
}

// Several is definitions of which the first that knows a class counts.
type Several []Definitions

// Class returns the first definition of a class.
func (s Several) Class(name string) (*Class, bool) {
	for _, d := range s {
		if d == nil {
			continue
		}
		if c, ok := d.Class(name); ok {
			return c, true
		}
	}
	return nil, false
}

// ParseObjectInfo reads the answer of GET /object_info: an object of classes. Text that is no JSON gives a
// *[workflows.SyntaxError].
func ParseObjectInfo(data []byte) (ObjectInfo, error) {
	v, err := workflows.ParseValue(data)
	if err != nil {
		return nil, fmt.Errorf("parse object_info: %w", err)
	}
	top, ok := v.Object()
	if !ok {
		return nil, fmt.Errorf("parse object_info: a %s where an object of classes should be", v.Kind())
	}
	info := ObjectInfo{}
	for _, m := range top {
		c, err := parseClass(m)
		if err != nil {
			return nil, fmt.Errorf("parse object_info: class %q: %w", m.Key, err)
		}
		info[m.Key] = c
	}
	return info, nil
}

func parseClass(m workflows.Member) (*Class, error) {
	o, ok := m.Value.Object()
	if !ok {
		return nil, fmt.Errorf("a %s, not an object", m.Value.Kind())
	}
	inputs, ok := o.Object("input")
	if !ok {
		return nil, fmt.Errorf(`it has no "input": object_info is the answer of GET /object_info`)
	}
	c := &Class{Name: m.Key, Title: o.Text("display_name")}
	order, _ := o.Object("input_order")
	for _, group := range []string{"required", "optional"} {
		declared, _ := inputs.Object(group)
		for _, name := range inOrder(declared, order, group) {
			spec, _ := declared.Get(name)
			in, err := parseInput(name, spec)
			if err != nil {
				return nil, fmt.Errorf("input %q: %w", name, err)
			}
			c.Inputs = append(c.Inputs, in)
		}
	}
	for _, output := range o.List("output") {
		c.Outputs = append(c.Outputs, typeName(output))
	}
	return c, nil
}

// inOrder returns the names of a group of inputs: those that input_order lists, then the others.
func inOrder(declared, order workflows.Object, group string) []string {
	var names []string
	for _, v := range order.List(group) {
		name, _ := v.Str()
		if _, ok := declared.Get(name); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range declared.Keys() {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// widgetTypes are the types whose inputs have a widget. The pages' own kinds hold a place for a value that the server
// has no use for or that ComfyUI's extensions fill.
var widgetTypes = []string{
	"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "MARKDOWN", "COLOR", "IMAGEUPLOAD", "TEXTAREA",
	"AUDIO_UI", "AUDIOUPLOAD", "AUDIO_RECORD", "WEBCAM", "LOAD_3D", "LOAD_3D_ANIMATION", "PREVIEW_3D",
	"IMAGECOMPARE", "BOUNDING_BOX", "BOUNDING_BOXES", "CHART", "GALLERIA", "PAINTER", "CURVE", "RANGE", "COLORS",
}

func parseInput(name string, spec workflows.Value) (Input, error) {
	items, ok := spec.List()
	if !ok || len(items) == 0 {
		return Input{}, fmt.Errorf("%.60s is no list of a type and options", spec.Raw())
	}
	in := Input{Name: name, Type: typeName(items[0])}
	var options workflows.Object
	if len(items) > 1 {
		options, _ = items[1].Object()
	}
	if choices, ok := items[0].List(); ok {
		in.Type, in.Choices = "COMBO", choices
	} else if in.Type == "COMBO" {
		in.Choices = options.List("options")
	}
	in.Force = truthy(options, "forceInput")
	in.Widget = in.Type
	if other := options.Text("widgetType"); other != "" {
		in.Widget = other
	}
	in.Grows = strings.HasPrefix(in.Type, "COMFY_DYNAMICCOMBO")
	if in.Force || !in.Grows && !slices.Contains(widgetTypes, in.Widget) {
		in.Widget = ""
	}
	in.options(options)
	return in, nil
}

func (in *Input) options(o workflows.Object) {
	in.Default, in.Has = o.Get("default")
	if !in.Has {
		in.Default, in.Has = in.first()
	}
	_, declared := o.Get("control_after_generate")
	in.Declared = truthy(o, "control_after_generate")
	seed := !declared && in.Type == "INT" && (in.Name == "seed" || in.Name == "noise_seed")
	in.Control = seed || in.Declared && (in.Type == "INT" || in.Type == "COMBO")
	in.Multiline, in.Dynamic = truthy(o, "multiline"), truthy(o, "dynamicPrompts")
	in.Upload = truthy(o, "image_upload") || truthy(o, "video_upload") || truthy(o, "animated_image_upload")
}

// first is the first value of a widget without a default.
func (in *Input) first() (workflows.Value, bool) {
	switch in.Widget {
	case "INT", "FLOAT":
		return workflows.IntValue(0), true
	case "STRING":
		return workflows.StringValue(""), true
	case "BOOLEAN":
		return workflows.BoolValue(false), true
	case "COMBO":
		if len(in.Choices) > 0 {
			return in.Choices[0], true
		}
	}
	return workflows.Value{}, false
}
