package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/workflows"
)

// checkWorkflow notes how the workflow that runs differs from the one that ran, and a receipt that was edited.
func (p *replayer) checkWorkflow(before *workflows.Graph) {
	changes := graphChanges(before, p.graph)
	p.result.Causes = append(p.result.Causes, changes...)
	noted := p.old.receipt
	if p.old.alone != "" || noted.Digest == "" || workflows.Digest(before) == noted.Digest {
		return
	}
	seeds := newReceipt(&job{source: &source{graph: before}}, before).Seeds
	for _, n := range before.Nodes() {
		for _, m := range n.Inputs {
			target := n.ID + "." + m.Key
			if was, ok := noted.Seeds[target]; ok && !sameValue(was, seeds[target]) {
				p.cause("the receipt's workflow was edited: node %s, %s: %s, but the run had %s", nodeName(n), m.Key, m.Value.Raw(), was.Raw())
				return
			}
		}
	}
	p.cause("the receipt's workflow was edited: its digest is not the one that the receipt notes")
}

func (p *replayer) cause(format string, args ...any) {
	p.result.Causes = append(p.result.Causes, fmt.Sprintf(format, args...))
}

// graphChanges lists what differs between two workflows, by the ids of their nodes.
func graphChanges(before, after *workflows.Graph) []string {
	var out []string
	for _, n := range before.Nodes() {
		other := after.Node(n.ID)
		switch {
		case other == nil:
			out = append(out, fmt.Sprintf("node %s is gone", nodeName(n)))
		case other.Class != n.Class:
			out = append(out, fmt.Sprintf("node %s has become %s", nodeName(n), other.Class))
		default:
			out = append(out, inputChanges(n, other)...)
		}
	}
	for _, n := range after.Nodes() {
		if before.Node(n.ID) == nil {
			out = append(out, fmt.Sprintf("node %s is new", nodeName(n)))
		}
	}
	return out
}

func inputChanges(before, after *workflows.Node) []string {
	var out []string
	for _, m := range before.Inputs {
		if now, ok := after.Inputs.Get(m.Key); !ok {
			out = append(out, fmt.Sprintf("node %s, %s: %s → nothing", nodeName(after), m.Key, shortValue(m.Value)))
		} else if !sameValue(m.Value, now) {
			out = append(out, fmt.Sprintf("node %s, %s: %s → %s", nodeName(after), m.Key, shortValue(m.Value), shortValue(now)))
		}
	}
	for _, m := range after.Inputs {
		if _, ok := before.Inputs.Get(m.Key); !ok {
			out = append(out, fmt.Sprintf("node %s, %s: nothing → %s", nodeName(after), m.Key, shortValue(m.Value)))
		}
	}
	return out
}

// sameValue compares what values mean: 5 and 5.0 are the same.
func sameValue(a, b workflows.Value) bool {
	if a.Kind() != workflows.KindNumber || b.Kind() != workflows.KindNumber {
		x, errX := a.MarshalJSON()
		y, errY := b.MarshalJSON()
		return errX == nil && errY == nil && string(x) == string(y)
	}
	x, okX := a.Uint64()
	y, okY := b.Uint64()
	if okX && okY {
		return x == y
	}
	f, _ := a.Float64()
	g, _ := b.Float64()
	return f == g
}

// shortValue is a value as JSON, cut where it is long.
func shortValue(v workflows.Value) string {
	const most = 60
	if text := []rune(v.Raw()); len(text) > most {
		return string(text[:most]) + "…"
	}
	return v.Raw()
}

// nodeName names a node as 3 "KSampler"; a title of its own stands before the class.
func nodeName(n *workflows.Node) string {
	if n.Title == "" || n.Title == n.Class {
		return fmt.Sprintf("%s %q", n.ID, n.Class)
	}
	return fmt.Sprintf("%s %q (%s)", n.ID, n.Title, n.Class)
}

// checkModels compares the model files with those of the receipt. All that are missing or wrong are told at once.
func (p *replayer) checkModels(ctx context.Context) error {
	var wrong []error
	for _, m := range p.old.receipt.Models {
		path, err := p.session.folders.Path(m.Folder, m.Name)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		sum, err := p.session.modelSum(ctx, path)
		if err != nil {
			return err
		}
		if sum == m.SHA256 {
			continue
		}
		p.cause("model %s/%s has sha256 %.12s…, the receipt's had %.12s…", m.Folder, m.Name, sum, m.SHA256)
		if !p.flags.anyway {
			wrong = append(wrong, fmt.Errorf("%w: %s has sha256 %s, the receipt's %s/%s had %s; --anyway runs with it", models.ErrDigest, path, sum, m.Folder, m.Name, m.SHA256))
		}
	}
	return errors.Join(wrong...)
}

// checkInputs compares the pictures that the workflow loads with those of the receipt.
func (p *replayer) checkInputs() error {
	for _, in := range p.old.receipt.Inputs {
		name := filepath.FromSlash(in.Name)
		if !filepath.IsLocal(name) {
			return fmt.Errorf("the receipt names the picture %q, outside of the input folder", in.Name)
		}
		sum, err := fileSum(filepath.Join(p.session.dirs.Input, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the plan tells, if a node reads it
		}
		if err != nil {
			return err
		}
		if sum != in.SHA256 {
			p.cause("the picture %s that is loaded is another one", in.Name)
		}
	}
	return nil
}

// checkEngine notes what else was not as it was. Receipts do not always tell everything.
func (p *replayer) checkEngine(now receiptEngine) {
	was := p.old.receipt.Engine
	for _, c := range []struct{ what, was, now string }{
		{"comfyrun", was.Comfyrun, now.Comfyrun},
		{"ONNX Runtime", was.ONNXRuntime, now.ONNXRuntime},
		{"device", was.Device, now.Device},
		{"hardware", was.Hardware, now.Hardware},
		{"precision", was.Precision, now.Precision},
		{"precision of VAEs", was.VAEPrecision, now.VAEPrecision},
		{"threads", threadsText(was), threadsText(now)},
		{"processor", was.CPU, now.CPU},
	} {
		if c.was != "" && c.now != "" && c.was != c.now {
			p.cause("%s: %s → %s", c.what, c.was, c.now)
		}
	}
}

// threadsText is empty where a receipt says nothing about its engine.
func threadsText(e receiptEngine) string {
	switch {
	case e.Device == "":
		return ""
	case e.Threads == 0:
		return "one per core"
	}
	return strconv.Itoa(e.Threads)
}
