package library

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// A title that declares parameters is "NAMES: text". NAMES is one name or
// several with commas between them; a name is a lower-case letter and up to 62
// lower-case letters, digits and underscores, and may be followed by =INPUT.
// The text is the parameter's title; with several names, followed by the name.
// Whatever has another form, such as "Note: x" or "Load Image: y", is only a title.
var (
	titleForm = regexp.MustCompile(`^(` + item + `(?:, ?` + item + `)*): +(\S.*)$`)
	itemForm  = regexp.MustCompile(`^(` + paramName + `)(?:=([A-Za-z0-9_.]+))?$`)
	paramForm = regexp.MustCompile(`^` + paramName + `$`)
)

const (
	paramName = `[a-z][a-z0-9_]{0,62}`
	item      = paramName + `(?:=[A-Za-z0-9_.]+)?`
)

// declaration is a parameter that somebody declares, before the catalogue has
// been asked what it takes.
type declaration struct {
	Name, Title string
	Targets     []Target
	From        string // where it is declared, for messages
	side        *sideParam
}

// titleDeclarations reads the parameters that the titles of a workflow declare.
// The same name in several titles is one parameter with several targets.
func titleDeclarations(g *workflows.Graph, c *engine.Catalog) ([]declaration, []error) {
	var (
		list []declaration
		errs []error
	)
	for _, n := range g.Nodes() {
		m := titleForm.FindStringSubmatch(n.Title)
		if m == nil {
			continue
		}
		items := strings.Split(m[1], ",")
		for _, it := range items {
			part := itemForm.FindStringSubmatch(strings.TrimSpace(it))
			from := fmt.Sprintf("title %q of node %s (%s)", n.Title, n.ID, n.Class)
			input, err := titledInput(n, c, part[1], part[2], len(items) == 1)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", from, err))
				continue
			}
			title := m[2]
			if len(items) > 1 {
				title += ": " + part[1]
			}
			d := declaration{Name: part[1], Title: title, Targets: []Target{{n.ID, input}}, From: from}
			if i := slices.IndexFunc(list, func(x declaration) bool { return x.Name == d.Name }); i >= 0 {
				list[i].Targets = append(list[i].Targets, d.Targets...)
			} else {
				list = append(list, d)
			}
		}
	}
	return list, errs
}

// titledInput finds the input that a title means: the one that it names, else
// the one called like the parameter, else the only one there is.
func titledInput(n *workflows.Node, c *engine.Catalog, name, input string, alone bool) (string, error) {
	settable := settableInputs(n, c)
	switch {
	case input != "":
		return input, nil
	case slices.Contains(settable, name):
		return name, nil
	case alone && len(settable) == 1:
		return settable[0], nil
	case len(settable) == 0:
		return "", fmt.Errorf("parameter %s: the node has no input that can be set", name)
	}
	return "", fmt.Errorf("parameter %s: which input is meant? The node has %s: write %s=%s, for example",
		name, strings.Join(settable, ", "), name, settable[0])
}

// settableInputs are the names, sorted, of a node's inputs that hold literals
// of a kind that a parameter can have.
func settableInputs(n *workflows.Node, c *engine.Catalog) []string {
	t, ok := c.Type(n.Class)
	if !ok {
		return nil
	}
	var names []string
	for i := range t.Inputs {
		in := &t.Inputs[i]
		v, given := n.Inputs.Get(in.Name)
		if _, ok := typeOf(in); ok && given && v.Kind() != workflows.KindList && v.Kind() != workflows.KindObject {
			names = append(names, in.Name)
		}
	}
	slices.Sort(names)
	return names
}
