package library

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/pelletier/go-toml/v2"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// sidecar is the content of a NAME.params.toml.
type sidecar struct {
	Title       string      `toml:"title"`
	Description string      `toml:"description"`
	Titles      *bool       `toml:"titles"` // false: node titles declare nothing
	Params      []sideParam `toml:"param"`
}

// sideParam is one [[param]] block. Without node and input it adds to what a
// title of the same name declares.
type sideParam struct {
	Name        string   `toml:"name"`
	Node        string   `toml:"node"` // id, title, or class that occurs once
	Input       string   `toml:"input"`
	Also        []string `toml:"also"` // further targets, NODE.INPUT
	Title       string   `toml:"title"`
	Description string   `toml:"description"`
	Default     any      `toml:"default"`
	Min         any      `toml:"min"`
	Max         any      `toml:"max"`
	Choices     []string `toml:"choices"`
	Required    bool     `toml:"required"`
	Advanced    bool     `toml:"advanced"`
}

// parseSidecar reads a sidecar. Unknown keys are errors, since a misspelt bound
// would otherwise bound nothing.
func parseSidecar(data []byte) (*sidecar, error) {
	var s sidecar
	decoder := toml.NewDecoder(bytes.NewReader(data))
	err := decoder.DisallowUnknownFields().Decode(&s)
	var strict *toml.StrictMissingError
	var broken *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, column := strict.Errors[0].Position()
		return nil, fmt.Errorf("line %d, column %d: unknown key %v", line, column, strict.Errors[0].Key())
	case errors.As(err, &broken):
		line, column := broken.Position()
		return nil, fmt.Errorf("line %d, column %d: %w", line, column, err)
	case err != nil:
		return nil, err
	}
	return &s, nil
}

// declare merges a sidecar's parameters into those that titles declare: a block
// with the name of one replaces what it says, all others follow in order.
func (s *sidecar) declare(titled []declaration, g *workflows.Graph) ([]declaration, []error) {
	list := titled
	if s.Titles != nil && !*s.Titles {
		list = nil
	}
	var errs []error
	seen := map[string]bool{}
	for i := range s.Params {
		p := &s.Params[i]
		err := p.declare(&list, g)
		if seen[p.Name] {
			err = errors.New("is declared twice")
		}
		seen[p.Name] = true
		if err != nil {
			errs = append(errs, fmt.Errorf("parameter %q: %w", p.Name, err))
		}
	}
	return list, errs
}

func (p *sideParam) declare(list *[]declaration, g *workflows.Graph) error {
	if !paramForm.MatchString(p.Name) {
		return errors.New("a name is a lower-case letter and up to 62 lower-case letters, digits and underscores")
	}
	targets, err := p.targets(g)
	if err != nil {
		return err
	}
	for i := range *list {
		d := &(*list)[i]
		if d.Name != p.Name {
			continue
		}
		d.side = p
		if len(targets) > 0 {
			d.Targets = targets
		}
		if p.Title != "" {
			d.Title = p.Title
		}
		return nil
	}
	if len(targets) == 0 {
		return errors.New("names no node and input, and no node's title declares it")
	}
	*list = append(*list, declaration{Name: p.Name, Title: p.Title, Targets: targets, From: "the sidecar", side: p})
	return nil
}

func (p *sideParam) targets(g *workflows.Graph) ([]Target, error) {
	var list []Target
	switch {
	case (p.Node == "") != (p.Input == ""):
		return nil, errors.New("node and input are given together or not at all")
	case p.Node == "" && len(p.Also) > 0:
		return nil, errors.New("also wants node and input beside it")
	case p.Node != "":
		n, err := g.Find(p.Node)
		if err != nil {
			return nil, err
		}
		list = append(list, Target{n.ID, p.Input})
	}
	for _, ref := range p.Also {
		n, input, err := g.Resolve(ref)
		if err != nil {
			return nil, fmt.Errorf("also: %w", err)
		}
		list = append(list, Target{n.ID, input})
	}
	return list, nil
}

// tomlValue is a TOML value as JSON; null for nothing and for what is no literal.
func tomlValue(v any) workflows.Value {
	switch v := v.(type) {
	case bool:
		return workflows.BoolValue(v)
	case int64:
		return workflows.IntValue(v)
	case float64:
		return workflows.FloatValue(v)
	case string:
		return workflows.StringValue(v)
	}
	return workflows.Value{}
}

// tomlNumber is a bound. Integers beyond 63 bits, which TOML lacks, are written
// as strings.
func tomlNumber(v any) (engine.Number, error) {
	switch v := v.(type) {
	case nil:
		return engine.Number{}, nil
	case int64:
		return engine.Int(v), nil
	case float64:
		return engine.Float(v), nil
	case string:
		if n, err := strconv.ParseUint(v, 10, 64); err == nil {
			return engine.Uint(n), nil
		}
	}
	return engine.Number{}, fmt.Errorf("%v is no number", v)
}
