package check

import (
	"slices"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// LeaveFiles changes the types of a catalogue for checking: what a type depends on beside its inputs is not looked at,
// since nothing will run, and with pictures neither is whether a picture or another file is there that a node loads, so
// that the findings are the same on every machine.
func LeaveFiles(c *engine.Catalog, pictures bool) {
	for _, t := range c.Types() {
		reads := t.Fingerprint != nil
		t.Fingerprint = nil
		if !pictures {
			continue
		}
		var own []string
		if reads && t.Validator != nil {
			own = t.Validator.Inputs
			t.Validator = nil
		}
		for i := range t.Inputs {
			in := &t.Inputs[i]
			in.Loose = in.Loose || slices.Contains(own, in.Name) || uploads(in)
		}
	}
}

// uploads is whether a page can send a file that becomes a choice of the input.
func uploads(in *engine.Input) bool {
	return slices.ContainsFunc(in.Options, func(m engine.Member) bool {
		return m.Value == true && slices.Contains([]string{"image_upload", "animated_image_upload", "video_upload", "audio_upload", "file_upload"}, m.Key)
	})
}

// IsWorkflow reports whether data looks like a workflow in either format, or like the ruins of some JSON, rather than
// like JSON of another sort.
func IsWorkflow(data []byte) bool {
	v, err := workflows.ParseValue(data)
	if err != nil {
		return true
	}
	top, _ := v.Object()
	nodes, _ := top.Get("nodes")
	links, _ := top.Get("links")
	if nodes.Kind() == workflows.KindList && links.Kind() == workflows.KindList {
		return true
	}
	prompt, _ := top.Get("prompt")
	if inner, ok := prompt.Object(); ok && slices.ContainsFunc(inner, isNode) {
		return true
	}
	return slices.ContainsFunc(top, isNode)
}

func isNode(m workflows.Member) bool {
	o, _ := m.Value.Object()
	_, ok := o.Get("class_type")
	return ok
}
