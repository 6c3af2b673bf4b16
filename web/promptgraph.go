package web

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// uiFormat is the hint for a workflow as the editor saves it.
const uiFormat = `The workflow is in the format in which the editor saves it, with "nodes" and "links". ` +
	`Send the API format: "Export (API)" in the editor's menu.`

// readGraph reads the prompt itself. What ComfyUI refuses before it looks at inputs is refused here. The graph is exact
// when it says no more and no less than the text.
func (s *Server) readGraph(raw json.RawMessage, catalog *engine.Catalog) (graph *workflows.Graph, exact bool, err error) {
	v, err := workflows.ParseValue(raw)
	if err != nil {
		return nil, false, refused("invalid_prompt", "The prompt cannot be read.", err.Error())
	}
	nodes, err := promptNodes(v)
	if err != nil {
		return nil, false, err
	}
	changed, err := s.scanNodes(nodes, catalog)
	if err != nil {
		return nil, false, err
	}
	if changed {
		v = workflows.ObjectValue(nodes)
	}
	if graph, err = workflows.FromValue(v); err != nil {
		return nil, false, refused("invalid_prompt", "The prompt cannot be read.", err.Error())
	}
	return graph, !changed, nil
}

// promptNodes is the members of a prompt. An empty list or text stands for no nodes.
func promptNodes(v workflows.Value) (workflows.Object, error) {
	nodes, ok := v.Object()
	switch kind := v.Kind(); {
	case ok && isUI(nodes):
		return nil, refused("invalid_prompt", "The prompt is no workflow in the API format.", uiFormat)
	case ok:
		return nodes, nil
	case kind == workflows.KindNull:
		return nil, errTrouble
	case v.Raw() == "[]" || v.Raw() == `""`:
		return nil, &engine.InvalidError{Kind: engine.NoOutputs}
	default:
		return nil, refused("invalid_prompt", fmt.Sprintf("The prompt is a %s, not an object of nodes.", kind), "")
	}
}

func isUI(top workflows.Object) bool {
	nodes, _ := top.Get("nodes")
	links, _ := top.Get("links")
	return nodes.Kind() == workflows.KindList && links.Kind() == workflows.KindList
}

// scanNodes looks for a class that nobody knows, in the prompt's order, and brings inputs of another shape than an object
// into one: a list has no names in it, and everything else counts as absent.
func (s *Server) scanNodes(nodes workflows.Object, catalog *engine.Catalog) (changed bool, err error) {
	for i, node := range nodes {
		members, ok := node.Value.Object()
		if !ok {
			return false, noNode(node)
		}
		class, ok := members.Get("class_type")
		if !ok {
			return false, classMissing(node.Key)
		}
		name, _ := pythonText(json.RawMessage(class.Raw()))
		if _, known := catalog.Type(name); !known || class.Kind() != workflows.KindString {
			return false, s.classUnknown(node.Key, name)
		}
		inputs, ok := members.Get("inputs")
		switch kind := inputs.Kind(); {
		case !ok || kind == workflows.KindObject:
			continue
		case kind == workflows.KindList:
			members.Set("inputs", workflows.ObjectValue(nil))
		default:
			members.Delete("inputs")
		}
		nodes[i].Value, changed = workflows.ObjectValue(members), true
	}
	return changed, nil
}

// noNode refuses a node that is no object. In a list or text ComfyUI finds no class_type; over others it stumbles.
func noNode(node workflows.Member) error {
	switch node.Value.Kind() {
	case workflows.KindList, workflows.KindString:
		return classMissing(node.Key)
	}
	return errTrouble
}

func classMissing(id string) error {
	return refused("invalid_prompt", "Cannot execute because a node is missing the class_type property.", nodeID(id))
}

func (s *Server) classUnknown(id, class string) error {
	if s.Unsupported != nil {
		if reason, known := s.Unsupported(class); known {
			return refused("invalid_prompt", fmt.Sprintf("Cannot execute because node %s is not supported: %s; see docs/nodes.md.", class, reason), nodeID(id))
		}
	}
	return refused("invalid_prompt", fmt.Sprintf("Cannot execute because node %s does not exist.", class), nodeID(id))
}

func nodeID(id string) string { return fmt.Sprintf("Node ID '#%s'", id) }

// encodeGraph writes the graph as it goes to the queue: with literals brought to their kinds, which queue, history and
// pictures show. A worker reads it as it would read the client's, so that a list stays wrapped, and a number that JSON
// lacks (nan) stays what the client sent.
func encodeGraph(planned, sent *workflows.Graph) json.RawMessage {
	for i, node := range planned.Nodes() {
		for _, input := range sent.Nodes()[i].Inputs {
			now, _ := node.Inputs.Get(input.Key)
			if now != input.Value && (now.Kind() == workflows.KindList || now.IsNull()) {
				node.Inputs.Set(input.Key, input.Value)
			}
		}
	}
	var out bytes.Buffer
	if err := json.Compact(&out, workflows.Encode(planned)); err != nil {
		return nil // a graph encodes to valid JSON
	}
	return out.Bytes()
}

// shownGraph is a queued graph as clients see it: wrapped lists are unwrapped, as ComfyUI does in checking.
func shownGraph(graph json.RawMessage) json.RawMessage {
	if !bytes.Contains(graph, []byte(`"__value__"`)) {
		return graph
	}
	g, err := workflows.Parse(graph)
	if err != nil {
		return graph
	}
	for _, node := range g.Nodes() {
		for i, input := range node.Inputs {
			node.Inputs[i].Value, _ = input.Value.Unwrap()
		}
	}
	var out bytes.Buffer
	if err := json.Compact(&out, workflows.Encode(g)); err != nil {
		return graph
	}
	return out.Bytes()
}
