package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// missingType is the error of a node whose class nobody knows, or nobody can
// run.
func (c *Catalog) missingType(n *workflows.Node) *NodeError {
	e := &NodeError{Node: n.ID, Class: n.Class, Kind: MissingNodeType, Details: fmt.Sprintf("Node ID '#%s'", n.ID)}
	var class any
	switch {
	case n.Class == "":
		e.Err = errors.New("has no class_type")
	case c.types[n.Class] != nil:
		class, e.Kind, e.Err = n.Class, UnsupportedType, c.types[n.Class].unsupported()
	default:
		class = n.Class
		e.Err = fmt.Errorf("there is no node type %s%s", n.Class, didYouMean(n.Class, c.classes()))
	}
	e.Extra = Members{{"node_id", n.ID}, {"class_type", class}, {"node_title", n.Title}}
	return e
}

// unsupported is the error of using the type, nil for one that is supported.
func (t *NodeType) unsupported() error {
	if t.Unsupported == "" {
		return nil
	}
	return fmt.Errorf("the node type %s is not supported: %s", t.Class, t.Unsupported)
}

// classes are those that a workflow may use.
func (c *Catalog) classes() []string {
	var out []string
	for _, t := range c.Types() {
		if t.Unsupported == "" {
			out = append(out, t.Class)
		}
	}
	return out
}

func didYouMean(name string, names []string) string {
	if n := nearest(name, names); n != "" {
		return fmt.Sprintf("; the nearest is %s", n)
	}
	return ""
}

// checkInputs goes through the declared inputs: links must lead to a slot of
// a fitting kind, literals are coerced and compared with range and list.
func (s *Step) checkInputs() []*NodeError {
	var errs []*NodeError
	for i := range s.Type.Inputs {
		in := &s.Type.Inputs[i]
		v, given := s.node.Inputs.Get(in.Name)
		var err *NodeError
		switch {
		case !given && !in.Optional:
			err = s.fault(in, InputMissing, errors.New("is missing"), in.Name)
		case !given:
		case v.Kind() == workflows.KindList:
			err = s.checkLink(in, &s.Inputs[i], v)
		default:
			err = s.checkLiteral(in, &s.Inputs[i], v)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	for i := range s.Rest {
		if err := s.checkRest(&s.Rest[i]); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (s *Step) fault(in *Input, kind ErrorKind, err error, details string) *NodeError {
	return &NodeError{
		Node: s.ID, Class: s.Type.Class, Input: in.Name, Kind: kind, Err: err, Details: details,
		Extra: Members{{"input_name", in.Name}},
	}
}

func (s *Step) checkLink(in *Input, src *Source, v workflows.Value) *NodeError {
	items, _ := v.List()
	link, ok := v.Link()
	switch {
	case len(items) != 2:
		err := fmt.Errorf("a link is a list of a node's id and a slot, not %s", v.Raw())
		return s.fault(in, BadLink, err, in.Name).with(in.config(), Member{"received_value", v})
	case !ok:
		return s.broken(in, "TypeError", fmt.Errorf("a link names its node as text and its slot as a number, not %s", v.Raw()))
	case src.From == nil:
		return s.broken(in, "KeyError", fmt.Errorf("is linked to node %s, which does not exist", link.Node))
	case src.From.Type.unknown:
		return nil
	case link.Slot < 0 || link.Slot >= len(src.From.Type.Outputs):
		return s.broken(in, "IndexError", src.From.noSlot(link.Slot))
	}
	out := &src.From.Type.Outputs[link.Slot]
	if s.typesOff() || compatible(out, in) {
		return nil
	}
	err := fmt.Errorf("takes %s, but node %s gives %s", in.kindText(), link.Node, out.kindText())
	details := fmt.Sprintf("%s, received_type(%s) mismatch input_type(%s)", in.Name, out.kindText(), in.kindText())
	return s.fault(in, TypeMismatch, err, details).
		with(in.config(), Member{"received_type", out.info()}, Member{"linked_node", v})
}

func (s *Step) noSlot(slot int) error {
	return fmt.Errorf("is linked to output %d of node %s (%s), which has %d", slot, s.ID, s.Type.Class, len(s.Type.Outputs))
}

func (s *Step) checkRest(src *Source) *NodeError {
	in := &Input{Name: src.Name, Kind: KindAny}
	switch {
	case src.From == nil:
		l, _ := s.linked(src.Name).Link()
		return s.broken(in, "KeyError", fmt.Errorf("is linked to node %s, which does not exist", l.Node))
	case !src.From.Type.unknown && (src.Slot < 0 || src.Slot >= len(src.From.Type.Outputs)):
		return s.broken(in, "IndexError", src.From.noSlot(src.Slot))
	}
	return nil
}

func (s *Step) linked(input string) workflows.Value {
	v, _ := s.node.Inputs.Get(input)
	return v
}

// broken is a mistake that makes ComfyUI's check itself fail. It has one kind
// at an output node and another above it, where the JSON tells of the node
// that reads this one.
func (s *Step) broken(in *Input, exception string, err error) *NodeError {
	return s.breakdown(in.Name, exception, err)
}

func (s *Step) breakdown(input, exception string, err error) *NodeError {
	text := err.Error()
	if input != "" {
		text = input + " " + text
	}
	e := &NodeError{Node: s.ID, Class: s.Type.Class, Input: input, Kind: ValidationBroke, Err: err, Details: text}
	if s.used.step == nil {
		e.Extra = Members{{"exception_type", exception}, {"traceback", []string{}}}
		return e
	}
	e.Kind = InnerBroke
	if s.used.input != nil {
		e.Extra = Members{{"input_name", s.used.input.Name}, s.used.input.config()}
	}
	e.Extra = append(e.Extra, Member{"exception_message", text}, Member{"exception_type", exception},
		Member{"traceback", []string{}}, Member{"linked_node", workflows.LinkValue(s.used.link)})
	return e
}

func (e *NodeError) with(m ...Member) *NodeError {
	e.Extra = append(e.Extra, m...)
	return e
}

// config is the input's declaration as errors show it. Long lists of choices
// are left out.
func (in *Input) config() Member {
	info := in.info(false)
	if len(info) == 1 {
		info = append(info, Members{})
	}
	return Member{"input_config", info}
}

func (in *Input) kindText() string { return kindText(in.Kind, in.Choices) }

func (o *Output) kindText() string { return kindText(o.Kind, o.Choices) }

func kindText(kind string, choices func() []string) string {
	if choices == nil {
		return kind
	}
	return reprNames(choices())
}

// compatible compares the words of two kinds: one in common is enough, "*"
// has all. Combos go with combos of the same choices.
func compatible(out *Output, in *Input) bool {
	switch {
	case out.Kind == in.Kind && in.Choices == nil, out.Kind == KindAny, in.Kind == KindAny:
		return true
	case out.Choices != nil && in.Choices != nil:
		return slices.Equal(out.Choices(), in.Choices())
	case out.Choices != nil || in.Choices != nil:
		return false
	}
	words := strings.Split(in.Kind, ",")
	for word := range strings.SplitSeq(out.Kind, ",") {
		if slices.ContainsFunc(words, func(w string) bool { return strings.TrimSpace(w) == strings.TrimSpace(word) }) {
			return true
		}
	}
	return false
}

// checkLiteral stops at the first thing wrong with the input.
func (s *Step) checkLiteral(in *Input, src *Source, v workflows.Value) *NodeError {
	given := v
	v, _ = v.Unwrap()
	if in.linkOnly && !(in.Optional && v.IsNull()) {
		return s.invalidType(in, v, fmt.Errorf("wants a link to %s, not the %s %s", in.Kind, v.Kind(), v.Raw()))
	}
	value, coerced, err := coerce(in.Kind, v)
	if err != nil {
		return s.invalidType(in, v, err)
	}
	if !s.own(in.Name) {
		if e := s.checkRange(in, value, coerced); e != nil {
			return e
		}
		if e := s.checkChoice(in, v); e != nil {
			return e
		}
	}
	if err := in.refuses(value); err != nil {
		return s.invalidType(in, v, err)
	}
	src.Values = []any{value}
	if coerced != given {
		s.literal = append(s.literal, literal{in.Name, coerced})
	}
	return nil
}

// refuses says why the Go field of the input cannot hold the value.
func (in *Input) refuses(value any) error {
	if f, ok := value.(float64); ok && in.Kind == KindInt {
		return fmt.Errorf("%s does not fit into 64 bits", pythonFloat(f))
	}
	if in.takes == nil {
		return nil
	}
	return in.takes(value)
}

func (s *Step) invalidType(in *Input, v workflows.Value, err error) *NodeError {
	details := fmt.Sprintf("%s, %s, %v", in.Name, pythonString(v), err)
	return s.fault(in, InvalidType, err, details).
		with(in.config(), Member{"received_value", v}, Member{"exception_message", err.Error()})
}

func (s *Step) checkRange(in *Input, value any, v workflows.Value) *NodeError {
	n, ok := toNumber(value)
	if !ok {
		return nil
	}
	kind, text, bound := ErrorKind(""), "", Number{}
	switch {
	case in.Min.IsSet() && n.Compare(in.Min) < 0:
		kind, text, bound = TooSmall, "below the minimum", in.Min
	case in.Max.IsSet() && n.Compare(in.Max) > 0:
		kind, text, bound = TooBig, "above the maximum", in.Max
	default:
		return nil
	}
	return s.fault(in, kind, fmt.Errorf("%s is %s %s", n, text, bound), in.Name).
		with(in.config(), Member{"received_value", v})
}

func toNumber(v any) (Number, bool) {
	switch v := v.(type) {
	case int64:
		return Int(v), true
	case uint64:
		return Uint(v), true
	case float64:
		return Float(v), true
	}
	return Number{}, false
}

// listed is the longest list of choices that an error repeats.
const listed = 20

func (s *Step) checkChoice(in *Input, v workflows.Value) *NodeError {
	if in.Choices == nil || in.Loose {
		return nil
	}
	choices := in.Choices()
	text, isText := v.Str()
	if isText && slices.Contains(choices, text) {
		return nil
	}
	config, list, allowed := in.config(), reprNames(choices), strings.Join(choices, ", ")
	if len(choices) > listed {
		config, list = Member{"input_config", nil}, fmt.Sprintf("(list of length %d)", len(choices))
		allowed = fmt.Sprintf("%d choices", len(choices))
	}
	err := fmt.Errorf("%s is not one of %s%s", pythonRepr(v), orElse(allowed, "no choices at all"), didYouMean(text, choices))
	details := fmt.Sprintf("%s: '%s' not in %s", in.Name, pythonString(v), list)
	return s.fault(in, NotInList, err, details).with(config, Member{"received_value", v})
}

func (s *Step) typesOff() bool { return s.Type.Validator != nil && s.Type.Validator.Types }

// own says whether the type's validator takes over the checks of an input.
func (s *Step) own(input string) bool {
	v := s.Type.Validator
	return v != nil && (v.All || slices.Contains(v.Inputs, input))
}

// checkOwn asks the type's own validator. errs are the mistakes known so far;
// a literal that could not be coerced is not shown to it.
func (s *Step) checkOwn(errs []*NodeError) []*NodeError {
	v := s.Type.Validator
	if v == nil || v.Check == nil || slices.ContainsFunc(errs, func(e *NodeError) bool { return e.Kind == InvalidType }) {
		return nil
	}
	args, passed := s.literalArgs(s.own)
	if len(passed) == 0 {
		return nil
	}
	err := catch(func() error { return v.Check(args, s.linkedKinds(v.Types)) })
	if err == nil {
		return nil
	}
	if broke, ok := errors.AsType[*PanicError](err); ok {
		return []*NodeError{s.breakdown("", "RuntimeError", broke)}
	}
	var out []*NodeError
	for _, name := range passed {
		details := name
		if !errors.Is(err, ErrInvalid) {
			details += " - " + err.Error()
		}
		out = append(out, s.fault(&Input{Name: name}, CustomFailed, err, details))
	}
	return out
}

// literalArgs is the literals of the inputs that pass the filter, null in
// place of links, and the names of those that are given at all.
func (s *Step) literalArgs(filter func(input string) bool) (a *Args, given []string) {
	a = &Args{Type: s.Type, Values: make([][]any, len(s.Inputs))}
	a.Hidden.UniqueID = UniqueID(s.ID)
	for i := range s.Inputs {
		src := &s.Inputs[i]
		if src.Given() && filter(src.Name) {
			given = append(given, src.Name)
			a.Values[i] = src.Values
			if src.From != nil {
				a.Values[i] = []any{nil}
			}
		}
	}
	return a, given
}

func (s *Step) linkedKinds(on bool) map[string]string {
	if !on {
		return nil
	}
	kinds := map[string]string{}
	s.links(func(src *Source) {
		if src.Slot >= 0 && src.Slot < len(src.From.Type.Outputs) {
			kinds[src.Name] = src.From.Type.Outputs[src.Slot].kindText()
		}
	})
	return kinds
}
