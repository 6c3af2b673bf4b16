package library

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// Filled is a workflow whose parameters have values.
type Filled struct {
	Graph  *workflows.Graph
	Values workflows.Object // of every parameter, in their order: given, default or picked
}

// UnknownParameter is the kind of a problem with a name that no parameter has.
const UnknownParameter engine.ErrorKind = "unknown_parameter"

// Problem is what is wrong with one value of a call.
type Problem struct {
	Param    string
	Kind     engine.ErrorKind // in the engine's words, or UnknownParameter
	Message  string           // what is wrong and what is allowed
	Allowed  []string         // the choices, or the parameters that there are
	Received workflows.Value
}

// ValuesError says what is wrong with the values of a call: all of it, sorted
// by parameter.
type ValuesError struct {
	Workflow string
	Problems []Problem
}

// Error lists all problems, one a line.
func (e *ValuesError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("parameter %s: %s", p.Param, p.Message)
	}
	return fmt.Sprintf("workflow %s: %s", e.Workflow, strings.Join(lines, "\n"))
}

// Fill sets the parameters to the given values, and those that are not given to
// their defaults; a seed is picked at random. Types are strict: "7" is no
// number. A null counts as not given. The error is a *ValuesError.
func (w *Workflow) Fill(given workflows.Object) (*Filled, error) {
	f := &Filled{Graph: w.graph.Clone()}
	problems := w.unknown(given)
	for i := range w.Params {
		p := &w.Params[i]
		v, _ := given.Get(p.Name)
		v, problem := p.choose(v)
		if problem != nil {
			problems = append(problems, *problem)
			continue
		}
		if v.IsNull() {
			continue // an optional input that the workflow leaves out, too
		}
		p.set(f.Graph, v)
		f.Values = append(f.Values, workflows.Member{Key: p.Name, Value: v})
	}
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Param, b.Param) })
		return nil, &ValuesError{w.Name, problems}
	}
	return f, nil
}

func (w *Workflow) unknown(given workflows.Object) []Problem {
	var problems []Problem
	for _, m := range given {
		if _, ok := w.Param(m.Key); ok {
			continue
		}
		names := make([]string, len(w.Params))
		for i, p := range w.Params {
			names[i] = p.Name
		}
		slices.Sort(names)
		text := "there is no such parameter; the workflow has none"
		if len(names) > 0 {
			text = "there is no such parameter; there are " + strings.Join(names, ", ")
		}
		problems = append(problems, Problem{Param: m.Key, Kind: UnknownParameter, Message: text, Allowed: names, Received: m.Value})
	}
	return problems
}

// choose is the value that a parameter gets.
func (p *Param) choose(given workflows.Value) (workflows.Value, *Problem) {
	switch {
	case !given.IsNull():
		if problem := p.accept(given); problem != nil {
			return given, problem
		}
		return p.exact(given), nil
	case p.Required:
		return given, p.problem(engine.InputMissing, given, "is required: %s", p.wanted())
	case p.Seed:
		return p.pick(), nil
	}
	return p.Default, nil
}

// exact writes an integer as one: 7.0 and 1e3 are integers, but a node would
// see another literal and run again.
func (p *Param) exact(v workflows.Value) workflows.Value {
	if p.Type != Integer || v.IsIntegerText() {
		return v
	}
	if i, ok := v.Int64(); ok {
		return workflows.IntValue(i)
	}
	if u, ok := v.Uint64(); ok {
		return workflows.UintValue(u)
	}
	return v
}

// accept says what is wrong with a value; nil: nothing.
func (p *Param) accept(v workflows.Value) *Problem {
	switch p.Type {
	case Integer, Number:
		n, ok := number(v, p.Type == Integer)
		if !ok {
			return p.problem(engine.InvalidType, v, "%s is not %s", brief(v), p.wanted())
		}
		return p.inRange(n, v)
	case Boolean:
		if _, ok := v.Bool(); !ok {
			return p.problem(engine.InvalidType, v, "%s is not %s", brief(v), p.wanted())
		}
		return nil
	}
	s, ok := v.Str()
	if !ok {
		return p.problem(engine.InvalidType, v, "%s is not %s", brief(v), p.wanted())
	}
	listed := p.Type == Choice && !p.loose || len(p.narrow) > 0
	if choices := p.Choices(); listed && !slices.Contains(choices, s) {
		problem := p.problem(engine.NotInList, v, "%s is none of %s", brief(v), shortList(choices))
		problem.Allowed = choices
		return problem
	}
	return nil
}

func (p *Param) inRange(n engine.Number, v workflows.Value) *Problem {
	switch {
	case p.Min.IsSet() && n.Compare(p.Min) < 0:
		return p.problem(engine.TooSmall, v, "%s is below %s", brief(v), p.Min)
	case p.Max.IsSet() && n.Compare(p.Max) > 0:
		return p.problem(engine.TooBig, v, "%s is above %s", brief(v), p.Max)
	}
	return nil
}

// number is a JSON number as the engine counts; integers are exact.
func number(v workflows.Value, integer bool) (engine.Number, bool) {
	if v.Kind() != workflows.KindNumber {
		return engine.Number{}, false
	}
	if i, ok := v.Int64(); ok {
		return engine.Int(i), true
	}
	if u, ok := v.Uint64(); ok {
		return engine.Uint(u), true
	}
	f, ok := v.Float64()
	return engine.Float(f), ok && !integer && !math.IsInf(f, 0)
}

// wanted says in words what the parameter takes.
func (p *Param) wanted() string {
	word := map[Type]string{
		Integer: "an integer", Number: "a number", String: "a string", Boolean: "true or false",
		Choice: "one of the choices", Picture: "a picture",
	}[p.Type]
	switch {
	case p.Min.IsSet() && p.Max.IsSet():
		return fmt.Sprintf("%s from %s to %s", word, p.Min, p.Max)
	case p.Min.IsSet():
		return fmt.Sprintf("%s from %s", word, p.Min)
	case p.Max.IsSet():
		return fmt.Sprintf("%s up to %s", word, p.Max)
	}
	return word
}

func (p *Param) problem(kind engine.ErrorKind, v workflows.Value, format string, args ...any) *Problem {
	return &Problem{Param: p.Name, Kind: kind, Message: fmt.Sprintf(format, args...), Received: v}
}

// brief is a value for a message.
func brief(v workflows.Value) string {
	const most = 100
	raw := v.Raw()
	if len(raw) > most {
		return raw[:most] + "…"
	}
	return raw
}

// maxPicked bounds random seeds: larger ones are not exact in JavaScript, where
// many clients read them.
const maxPicked = 1<<53 - 1

// pick chooses a random value for a seed.
func (p *Param) pick() workflows.Value {
	low, high := int64(0), int64(maxPicked)
	if n, ok := p.bound(p.Min); ok {
		low = n
	}
	if n, ok := p.bound(p.Max); ok && n < high {
		high = n
	}
	low = min(max(low, -maxPicked), high)
	var b [8]byte
	rand.Read(b[:]) // never fails
	return workflows.IntValue(low + int64(binary.LittleEndian.Uint64(b[:])%uint64(high-low+1)))
}

// bound is a bound as an integer; false: there is none within 63 bits.
func (p *Param) bound(n engine.Number) (int64, bool) {
	v, err := workflows.ParseValue([]byte(n.String()))
	if !n.IsSet() || err != nil {
		return 0, false
	}
	return v.Int64()
}

func (p *Param) set(g *workflows.Graph, v workflows.Value) {
	for _, t := range p.Targets {
		g.Node(t.Node).Inputs.Set(t.Input, v)
	}
}
