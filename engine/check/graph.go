package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/policy"
	"github.com/comfyrun/comfyrun/workflows"
)

// check adds what is wrong with a graph.
func (r *report) check(g *workflows.Graph) {
	r.graph = g
	c := r.checker
	plan := r.plan(g)
	r.obey(plan)
	r.inside(g, plan)
	r.models(g)
	r.unused(g)
	for _, n := range g.Nodes() {
		if t, known := c.Catalog.Type(n.Class); known {
			r.unknownInputs(n, t)
		}
	}
}

// plan adds what planning finds. The plan is nil where there is none; nodes of unknown classes have stand-ins in it.
func (r *report) plan(g *workflows.Graph) *engine.Plan {
	for _, n := range g.Nodes() {
		if _, known := r.checker.Catalog.Type(n.Class); !known {
			r.unknownClass(n)
		}
	}
	whole, catalog := r.withStandIns(g)
	plan, err := engine.NewPlan(whole, catalog, engine.PlanOptions{})
	invalid := &engine.InvalidError{}
	switch {
	case err == nil:
		invalid = plan.Invalid
	case !errors.As(err, &invalid):
		r.wrong(InvalidWorkflow, err)
		return nil
	}
	if invalid == nil {
		return plan
	}
	if invalid.Kind == engine.NoOutputs {
		r.at(g, Finding{Severity: Error, Kind: engine.NoOutputs, Message: "no output node, such as SaveImage, is in it: nothing would run"})
	}
	for _, e := range invalid.Errors {
		r.nodeError(g, e, e.Node)
	}
	return plan
}

// unknownClass adds that a node's class is not in the catalogue, and why.
func (r *report) unknownClass(n *workflows.Node) {
	r.strange = true
	f := Finding{Severity: Error, Kind: engine.MissingNodeType, Node: n.ID, Class: n.Class}
	reason, known := "", false
	if r.checker.Unsupported != nil {
		reason, known = r.checker.Unsupported(n.Class)
	}
	switch {
	case n.Class == "":
		f.Message = "has no class_type"
	case known:
		f.Message = fmt.Sprintf("the node type %s is not supported: %s; see docs/nodes.md", n.Class, reason)
	default:
		f.Message = "there is no node type " + n.Class
		if near := r.nearest(n.Class); near != "" {
			f.Message += "; the nearest is " + near
		}
	}
	r.at(r.graph, f)
}

// suggestions is how many classes of one file are compared with all that there are.
const suggestions = 100

// nearest is the class that was most likely meant.
func (r *report) nearest(class string) string {
	if near, ok := r.near[class]; ok || len(r.near) == suggestions {
		return near
	}
	var names []string
	for _, t := range r.checker.Catalog.Types() {
		names = append(names, t.Class)
	}
	if r.near == nil {
		r.near = map[string]string{}
	}
	r.near[class] = engine.Nearest(class, names)
	return r.near[class]
}

// nodeError adds a mistake that planning found, at a node of the file.
func (r *report) nodeError(g *workflows.Graph, e *engine.NodeError, at string) {
	f := Finding{Severity: Error, Kind: e.Kind, Node: at, Class: e.Class, Input: e.Input, Message: strings.ReplaceAll(e.Err.Error(), "\n", "; ")}
	if n := g.Node(at); n != nil {
		f.Class = n.Class
	}
	if at != e.Node {
		f.Message = fmt.Sprintf("%s (inside of it, node %s, %s)", f.Message, e.Node, e.Class)
		f.Input = ""
	}
	if in := r.input(e.Class, e.Input); in != nil && e.Kind != policy.Violation {
		f.Allowed = allowed(in, e.Kind)
		if e.Kind == engine.InvalidType && in.Kind == engine.KindCombo {
			f.Kind = engine.NotInList // of a list that is not only of texts
		}
		if name := modelName(g, e); f.Kind == engine.NotInList && name != "" {
			f.Kind = ModelMissing
			if has := r.checker.HasModel; has != nil && has(name) {
				return
			}
		}
	}
	r.at(g, f)
}

func (r *report) input(class, name string) *engine.Input {
	t, ok := r.checker.Catalog.Type(class)
	if !ok {
		return nil
	}
	i := slices.IndexFunc(t.Inputs, func(in engine.Input) bool { return in.Name == name })
	if i < 0 {
		return nil
	}
	return &t.Inputs[i]
}

// allowed is what of an input's declaration a kind of mistake is about.
func allowed(in *engine.Input, kind engine.ErrorKind) *Allowed {
	a := &Allowed{Type: in.Kind}
	switch kind {
	case engine.TooSmall, engine.TooBig, engine.InvalidType, engine.InputMissing:
		a.Min, a.Max = in.Min, in.Max
	}
	if in.Choices != nil {
		a.Choices = in.Choices()
	}
	return a
}

// modelEndings are those of files that hold weights.
var modelEndings = []string{".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx"}

// modelName is the value of an input, if it looks like the name of a model file.
func modelName(g *workflows.Graph, e *engine.NodeError) string {
	n := g.Node(e.Node)
	if n == nil {
		return ""
	}
	v, _ := n.Inputs.Get(e.Input)
	text, _ := v.Str()
	if slices.ContainsFunc(modelEndings, func(end string) bool { return strings.HasSuffix(strings.ToLower(text), end) }) {
		return text
	}
	return ""
}

// obey adds what breaks the policy.
func (r *report) obey(plan *engine.Plan) {
	if plan == nil || r.checker.Policy == nil {
		return
	}
	refusal, ok := errors.AsType[*policy.Refusal](r.checker.Policy.Check(plan))
	switch {
	case !ok:
	case refusal.Nodes == nil:
		r.wrong(policy.Violation, fmt.Errorf("not allowed by the policy: %s", refusal.Reason))
	default:
		for _, e := range refusal.Nodes.Errors {
			r.refused(e, e.Node)
		}
	}
}

func (r *report) refused(e *engine.NodeError, at string) {
	e.Err = fmt.Errorf("not allowed by the policy: %s", e.Details)
	r.nodeError(r.graph, e, at)
}

// inside checks what stands behind nodes that a workflow defines, where the workflow itself is sound.
func (r *report) inside(g *workflows.Graph, plan *engine.Plan) {
	if r.checker.WriteOut == nil || plan == nil || plan.Invalid != nil || r.strange {
		return
	}
	written, err := r.checker.WriteOut(g)
	if err != nil {
		r.wrong(InvalidWorkflow, err)
		return
	}
	if written == g {
		return
	}
	inner, err := engine.NewPlan(written, r.checker.Catalog, engine.PlanOptions{})
	if err == nil && inner.Invalid != nil {
		err = inner.Invalid
	}
	if invalid, ok := errors.AsType[*engine.InvalidError](err); ok {
		for _, e := range invalid.Errors {
			r.nodeError(g, e, outer(g, e.Node))
		}
	}
	if inner == nil {
		return
	}
	if refusal, ok := errors.AsType[*policy.Refusal](r.checker.Policy.Check(inner)); ok && refusal.Nodes != nil {
		for _, e := range refusal.Nodes.Errors {
			if at := outer(g, e.Node); at != e.Node {
				r.refused(e, at)
			}
		}
	}
}

// outer is the node of a workflow that a node of the written out one stands for.
func outer(g *workflows.Graph, id string) string {
	for i := len(id) - 1; i > 0 && g.Node(id) == nil; i-- {
		if id[i] == ':' && g.Node(id[:i]) != nil {
			return id[:i]
		}
	}
	return id
}

// models adds what there is to say about model files.
func (r *report) models(g *workflows.Graph) {
	if r.checker.Models == nil {
		return
	}
	found, err := r.checker.Models(g)
	if err != nil {
		r.wrong(InvalidWorkflow, err)
		return
	}
	for _, m := range found {
		f := Finding{Severity: m.Severity, Kind: m.Kind, Node: outer(g, m.Node), Class: m.Class, Input: m.Input, Message: m.Message}
		if f.Node != m.Node {
			f.Message = fmt.Sprintf("%s (inside of it, node %s, %s)", f.Message, m.Node, m.Class)
			f.Class, f.Input = g.Node(f.Node).Class, ""
		}
		if len(m.Allowed) > 0 {
			f.Allowed = &Allowed{Choices: m.Allowed}
		}
		r.at(g, f)
	}
}

// unused adds a warning for each node that no output needs. What a node of an unknown class does nobody knows, so it
// counts as an output. Without any output there is no point in naming all nodes.
func (r *report) unused(g *workflows.Graph) {
	needed := map[string]bool{}
	var todo []*workflows.Node
	for _, n := range g.Nodes() {
		if t, known := r.checker.Catalog.Type(n.Class); !known || t.IsOutput {
			needed[n.ID] = true
			todo = append(todo, n)
		}
	}
	if len(todo) == 0 {
		return
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, m := range n.Inputs {
			l, _ := m.Value.Link()
			if from := g.Node(l.Node); from != nil && !needed[from.ID] {
				needed[from.ID] = true
				todo = append(todo, from)
			}
		}
	}
	for _, n := range g.Nodes() {
		if !needed[n.ID] {
			r.at(g, Finding{Severity: Warning, Kind: NodeUnused, Node: n.ID, Class: n.Class, Message: "no output needs it, so that it does not run"})
		}
	}
}

// pageInputs are written into prompts by pages and mean nothing to nodes.
var pageInputs = []string{"upload", "control_after_generate", "speak_and_recognation", "audioUI"}

// unknownInputs adds a warning for each input that a class does not declare: mostly a misspelt one. Foreign nodes may
// take what they do not declare.
func (r *report) unknownInputs(n *workflows.Node, t *engine.NodeType) {
	if t.Rest || strings.HasPrefix(t.Module, "custom_nodes") {
		return
	}
	var names []string
	for i := range t.Inputs {
		names = append(names, t.Inputs[i].Name)
	}
	for _, h := range t.Hidden {
		names = append(names, h.Name)
	}
	for _, m := range n.Inputs {
		if slices.Contains(names, m.Key) || slices.Contains(pageInputs, m.Key) || strings.Contains(m.Key, ".") {
			continue
		}
		f := Finding{Severity: Warning, Kind: InputUnknown, Node: n.ID, Class: n.Class, Input: m.Key, Message: "its class has no such input, so that it counts for nothing"}
		if near := engine.Nearest(m.Key, names); near != "" {
			f.Message += "; the nearest is " + near
		}
		if len(names) > 0 {
			f.Allowed = &Allowed{Choices: names}
		}
		r.at(r.graph, f)
	}
}
