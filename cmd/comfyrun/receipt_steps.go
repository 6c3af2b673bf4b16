package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/nodes"
)

// receiptStep is one step of a sampler. In a receipt it is one text of four words: the noise level, the digest of the
// state at that level, the digest of what the network made of it, and the sketch of the latter.
type receiptStep struct {
	Sigma             float32
	State, Prediction string
	Sketch            tensor.Sketch
}

// MarshalText writes the four words.
func (s receiptStep) MarshalText() ([]byte, error) {
	return []byte(strings.Join([]string{strconv.FormatFloat(float64(s.Sigma), 'g', -1, 32), s.State, s.Prediction, s.Sketch.String()}, " ")), nil
}

// UnmarshalText reads them.
func (s *receiptStep) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	if len(words) != 4 {
		return fmt.Errorf("read step %q: %d words, want 4", text, len(words))
	}
	sigma, err := strconv.ParseFloat(words[0], 32)
	if err != nil {
		return fmt.Errorf("read step %q: %w", text, err)
	}
	s.Sigma, s.State, s.Prediction = float32(sigma), words[1], words[2]
	s.Sketch, err = tensor.ParseSketch(words[3])
	return err
}

// runLog keeps what receipts say of nodes from run to run: a later run does not execute a node again whose result is
// there, nor those behind it.
type runLog struct {
	running map[string][]receiptStep // by node
	known   map[engine.Key]receiptNode
}

// maxKnown bounds the nodes that are kept: the results of more are unlikely to be in memory still.
const maxKnown = 1 << 14

// note takes down an event. Events of a run come one at a time.
func (l *runLog) note(e engine.Event) {
	switch e.Kind {
	case engine.EventStart:
		l.running = map[string][]receiptStep{}
	case engine.EventExecuting:
		delete(l.running, e.Node)
	case engine.EventProgress:
		if p, ok := e.Preview.(interface{ Trace() nodes.StepTrace }); ok {
			l.running[e.Node] = append(l.running[e.Node], stepOf(p.Trace()))
		}
	}
}

// nodes lists the nodes of a run that went well: first those of its plan that an earlier run did, then its own in the
// order in which they finished. No node stands before one that it reads.
func (l *runLog) nodes(plan *engine.Plan, result *engine.Result) []receiptNode {
	own := []receiptNode{}
	there := map[string]bool{}
	for _, n := range result.Nodes {
		node := receiptNode{
			Node: n.Node, Class: n.Class, Cached: n.Cached, Digests: n.Digests, Sketches: someOf(n.Sketches),
			Steps: l.running[n.Node], Seconds: seconds(n.Duration),
		}
		if n.Cached {
			node.Steps = l.known[n.Key].Steps
		}
		l.keep(n.Key, node)
		own, there[n.Node] = append(own, node), true
	}
	before := []receiptNode{}
	for _, s := range plan.Steps {
		if node, ok := l.known[s.Key]; ok && !there[s.ID] {
			node.Node, node.Cached, node.Seconds = s.ID, true, 0
			before = append(before, node)
		}
	}
	return append(before, own...)
}

func (l *runLog) keep(key engine.Key, node receiptNode) {
	if l.known == nil || len(l.known) >= maxKnown {
		l.known = map[engine.Key]receiptNode{}
	}
	l.known[key] = node
}

func stepOf(t nodes.StepTrace) receiptStep {
	sketch, _ := tensor.ParseSketch(t.Sketch) // as it was just written
	return receiptStep{Sigma: t.Sigma, State: t.State, Prediction: t.Prediction, Sketch: sketch}
}

// someOf is the list, or nil where all of it is empty.
func someOf(list []string) []string {
	if slices.ContainsFunc(list, func(s string) bool { return s != "" }) {
		return list
	}
	return nil
}

// processor is the name that the processor has for itself, or "".
func processor() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
