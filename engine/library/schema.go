package library

import (
	"math"

	"github.com/comfyrun/comfyrun/engine"
)

// Dialect is the JSON Schema that Workflow.Schema speaks.
const Dialect = "https://json-schema.org/draft/2020-12/schema"

// Schema is a JSON Schema of the object that a call gives: one property per
// parameter, in their order. What a form wants to know beside it stands in
// members that begin with "x-": x-type is the parameter's Type, x-seed,
// x-multiline and x-advanced are its flags, x-step the step of a number.
func (w *Workflow) Schema() engine.Members {
	m := engine.Members{{Key: "$schema", Value: Dialect}, {Key: "title", Value: w.Title}}
	if w.Description != "" {
		m = append(m, engine.Member{Key: "description", Value: w.Description})
	}
	properties := engine.Members{}
	required := []string{}
	for i := range w.Params {
		p := &w.Params[i]
		properties = append(properties, engine.Member{Key: p.Name, Value: p.Schema()})
		if p.Required {
			required = append(required, p.Name)
		}
	}
	return append(m, engine.Members{
		{Key: "type", Value: "object"}, {Key: "properties", Value: properties},
		{Key: "required", Value: required}, {Key: "additionalProperties", Value: false},
	}...)
}

// Schema is the JSON Schema of one parameter.
func (p *Param) Schema() engine.Members {
	m := engine.Members{{Key: "title", Value: p.Title}}
	if text := p.about(); text != "" {
		m = append(m, engine.Member{Key: "description", Value: text})
	}
	m = append(m, p.constraints()...)
	if !p.Default.IsNull() {
		m = append(m, engine.Member{Key: "default", Value: p.Default})
	}
	m = append(m, engine.Member{Key: "x-type", Value: p.Type})
	for _, flag := range []struct {
		key string
		set bool
	}{{"x-seed", p.Seed}, {"x-multiline", p.Multiline}, {"x-advanced", p.Advanced}} {
		if flag.set {
			m = append(m, engine.Member{Key: flag.key, Value: true})
		}
	}
	if p.Step.IsSet() {
		m = append(m, engine.Member{Key: "x-step", Value: p.Step})
	}
	return m
}

func (p *Param) about() string {
	const seed = "Picked at random when not given."
	switch {
	case p.Seed && p.Description != "":
		return p.Description + " " + seed
	case p.Seed:
		return seed
	}
	return p.Description
}

// constraints are the keywords that decide whether a value is taken.
func (p *Param) constraints() engine.Members {
	switch p.Type {
	case Picture:
		return engine.Members{{Key: "oneOf", Value: []engine.Members{
			{{Key: "type", Value: "string"}, {Key: "description", Value: "Name of an uploaded picture, or a data: URL."}},
			{{Key: "type", Value: "object"}, {Key: "properties", Value: engine.Members{
				{Key: "data", Value: engine.Members{{Key: "type", Value: "string"}, {Key: "format", Value: "byte"}}},
				{Key: "filename", Value: engine.Members{{Key: "type", Value: "string"}}},
			}}, {Key: "required", Value: []string{"data"}}, {Key: "additionalProperties", Value: false}},
		}}}
	case Integer, Number, Boolean:
		m := engine.Members{{Key: "type", Value: string(p.Type)}}
		if finite(p.Min) {
			m = append(m, engine.Member{Key: "minimum", Value: p.Min})
		}
		if finite(p.Max) {
			m = append(m, engine.Member{Key: "maximum", Value: p.Max})
		}
		return m
	}
	m := engine.Members{{Key: "type", Value: "string"}}
	if choices := p.Choices(); len(choices) > 0 && (len(p.narrow) > 0 || !p.loose) {
		m = append(m, engine.Member{Key: "enum", Value: choices})
	}
	return m
}

func finite(n engine.Number) bool { return n.IsSet() && !math.IsInf(n.Float64(), 0) }
