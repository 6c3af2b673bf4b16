package policy

import (
	"fmt"
	"reflect"

	"github.com/comfyrun/comfyrun/engine"
)

// Violation is the kind of a NodeError that says what a policy does not allow.
const Violation engine.ErrorKind = "policy_violation"

// Refusal is why a workflow is not accepted: by a rule about the whole
// (Reason), or by rules that its nodes break (Nodes).
type Refusal struct {
	Reason string               // one line
	Nodes  *engine.InvalidError // nil: it is not about single nodes
}

// Error is the reason, and every violation on a line of its own.
func (r *Refusal) Error() string {
	text := "policy: " + r.Reason
	if r.Nodes != nil {
		for _, e := range r.Nodes.Errors {
			text += "\n" + e.Error()
		}
	}
	return text
}

// Unwrap is the violations.
func (r *Refusal) Unwrap() error {
	if r.Nodes == nil {
		return nil
	}
	return r.Nodes
}

// CheckSize checks the size of a request's body. The error is a *Refusal.
func (p *Policy) CheckSize(bytes int) error {
	if p == nil || p.Limits.PromptBytes == 0 || bytes <= p.Limits.PromptBytes {
		return nil
	}
	return &Refusal{Reason: fmt.Sprintf("the prompt has %d bytes, allowed are %d", bytes, p.Limits.PromptBytes)}
}

// Check finds what a plan shows to break the policy, also in nodes that will not
// run. The error is a *Refusal with every violation, in the order of the plan.
func (p *Policy) Check(plan *engine.Plan) error {
	if p == nil {
		return nil
	}
	if n := plan.Graph.Len(); p.Limits.Nodes > 0 && n > p.Limits.Nodes {
		return &Refusal{Reason: fmt.Sprintf("the workflow has %d nodes, allowed are %d", n, p.Limits.Nodes)}
	}
	var errs []*engine.NodeError
	for _, s := range plan.Steps {
		for _, v := range p.step(s) {
			errs = append(errs, &engine.NodeError{Node: s.ID, Class: s.Type.Class, Input: v.input, Kind: Violation,
				Err: fmt.Errorf("not allowed by the server's policy: %s", v.text), Details: v.text, Outputs: dependents(plan, s)})
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &Refusal{Reason: fmt.Sprintf("%d places of the workflow are not allowed", len(errs)),
		Nodes: &engine.InvalidError{Kind: engine.OutputsFailed, Errors: errs}}
}

// step checks the literals of a step; what is linked is not known yet.
func (p *Policy) step(s *engine.Step) []violation {
	return p.node(s.Type, func(i int) any {
		src := &s.Inputs[i]
		switch {
		case src.From != nil:
			return nil
		case len(src.Values) == 1:
			return src.Values[0]
		}
		return s.Type.Inputs[i].Default
	})
}

// dependents are the ids of the targets that read a step, directly or not.
func dependents(plan *engine.Plan, step *engine.Step) []string {
	var out []string
	for _, target := range plan.Targets {
		if reads(target, step, map[*engine.Step]bool{}) {
			out = append(out, target.ID)
		}
	}
	return out
}

func reads(s, wanted *engine.Step, seen map[*engine.Step]bool) bool {
	if s == wanted {
		return true
	}
	if s == nil || seen[s] {
		return false
	}
	seen[s] = true
	for _, list := range [][]engine.Source{s.Inputs, s.Rest} {
		for i := range list {
			if reads(list[i].From, wanted, seen) {
				return true
			}
		}
	}
	return false
}

// violation is what is wrong with an input; "" is the node as a whole.
type violation struct{ input, text string }

// folders says in which folders of the model store the file lies that an input names.
func folders() map[string][]string {
	return map[string][]string{
		"ckpt_name": {"checkpoints"}, "lora_name": {"loras"}, "vae_name": {"vae", "vae_approx"},
		"unet_name": {"diffusion_models"}, "control_net_name": {"controlnet"},
		"clip_name": {"text_encoders"}, "clip_name1": {"text_encoders"}, "clip_name2": {"text_encoders"},
		"clip_name3": {"text_encoders"}, "clip_name4": {"text_encoders"}, "model_name": {"upscale_models"},
		"style_model_name": {"style_models"}, "gligen_name": {"gligen"}, "hypernetwork_name": {"hypernetworks"},
	}
}

// node checks one node by the values of its inputs; nil stands for a value that is not known.
func (p *Policy) node(t *engine.NodeType, value func(i int) any) []violation {
	var out []violation
	if why := p.Nodes.refuses(t.Class); why != "" {
		out = append(out, violation{"", "node type " + why})
	}
	size := map[string]float64{}
	for i := range t.Inputs {
		name := t.Inputs[i].Name
		v := reflect.ValueOf(value(i))
		if text, ok := text(v); ok {
			out = append(out, p.model(name, text)...)
		}
		if n, ok := number(v); ok {
			size[name] = n
			out = append(out, p.number(t, name, n)...)
		}
	}
	return append(out, p.area(t, size)...)
}

// model checks the file that an input names. A name that may lie in one of several folders must be denied in none and
// allowed in one.
func (p *Policy) model(input, file string) []violation {
	if len(p.Models.Allow)+len(p.Models.Deny) == 0 || file == "" {
		return nil
	}
	why, allowed := "", false
	for _, folder := range folders()[input] {
		name := folder + "/" + file
		if denied := (Names{Deny: p.Models.Deny}).refuses(name); denied != "" {
			return []violation{{input, "model " + denied}}
		}
		refused := p.Models.refuses(name)
		allowed = allowed || refused == ""
		if why == "" {
			why = refused
		}
	}
	if allowed || why == "" {
		return nil
	}
	return []violation{{input, "model " + why}}
}

func (p *Policy) number(t *engine.NodeType, input string, n float64) []violation {
	limit, what := 0.0, ""
	switch {
	case input == "steps":
		limit, what = float64(p.Limits.Steps), "steps"
	case (input == "batch_size" || input == "amount") && makesPictures(t):
		limit, what = float64(p.Limits.Batch), "pictures at a time"
	case input == "megapixels":
		limit, what = p.Limits.Megapixels, "megapixels"
	}
	if limit == 0 || n <= limit {
		return nil
	}
	return []violation{{input, fmt.Sprintf("%v %s, allowed are %v", n, what, limit)}}
}

// area checks width times height of a node that makes something of that size.
func (p *Policy) area(t *engine.NodeType, size map[string]float64) []violation {
	limit := p.Limits.Megapixels
	width, height := size["width"], size["height"]
	if limit == 0 || !makesPictures(t) || width*height <= limit*megapixel {
		return nil
	}
	return []violation{{"width", fmt.Sprintf("%v x %v are %.2f megapixels, allowed are %v", width, height, width*height/megapixel, limit)}}
}

const megapixel = 1024 * 1024

func makesPictures(t *engine.NodeType) bool {
	for _, o := range t.Outputs {
		if o.Kind == "LATENT" || o.Kind == "IMAGE" || o.Kind == "MASK" {
			return true
		}
	}
	return false
}

func number(v reflect.Value) (float64, bool) {
	switch {
	case !v.IsValid():
		return 0, false
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}

func text(v reflect.Value) (string, bool) {
	if !v.IsValid() || v.Kind() != reflect.String {
		return "", false
	}
	return v.String(), true
}
