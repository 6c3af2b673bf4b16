package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/workflows"
)

// receipt says what a run that went well was made of and what it gave: enough to repeat it, and to find the first node that differs.
type receipt struct {
	// Receipt is the version of this form.
	Receipt int    `json:"receipt"`
	Name    string `json:"name"`
	// Digest is that of the workflow's canonical form.
	Digest   string          `json:"digest"`
	Workflow json.RawMessage `json:"workflow"`
	// Seeds are the literal seeds by NODE.INPUT.
	Seeds  map[string]workflows.Value `json:"seeds"`
	Models []receiptFile              `json:"models"`
	// Inputs are the pictures that the workflow loads.
	Inputs  []receiptFile `json:"inputs"`
	Engine  receiptEngine `json:"engine"`
	Nodes   []receiptNode `json:"nodes"`
	Outputs outputFiles   `json:"outputs"`
	Started time.Time     `json:"started"`
	Seconds float64       `json:"seconds"`
}

// receiptHead is the part of a receipt that stands in the text of each picture.
type receiptHead struct {
	Receipt int           `json:"receipt"`
	Digest  string        `json:"digest"`
	Models  []receiptFile `json:"models"`
	Engine  receiptEngine `json:"engine"`
}

// receiptFile is a file that a run read.
type receiptFile struct {
	Folder string `json:"folder,omitempty"`
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// receiptEngine is what ran the workflow.
type receiptEngine struct {
	Comfyrun    string `json:"comfyrun"`
	ONNXRuntime string `json:"onnxruntime,omitempty"`
	// Device is "cpu", "cuda:0" or "webgpu"; Provider is that of ONNX Runtime, Hardware the device's own name for itself.
	Device   string `json:"device"`
	Provider string `json:"provider,omitempty"`
	Hardware string `json:"hardware,omitempty"`
	// Precision is that of the networks, VAEPrecision that of VAEs.
	Precision    string `json:"precision,omitempty"`
	VAEPrecision string `json:"vae_precision,omitempty"`
	Threads      int    `json:"threads,omitempty"`
	// CPU is the processor's own name for itself; pictures do not carry it.
	CPU string `json:"cpu,omitempty"`
}

// receiptNode is how one node fared. Digests and Sketches are parallel to its outputs; of an output that has none they
// are empty. Sketches (see tensor.Sketch) tell roughly how far apart outputs of different digests are.
type receiptNode struct {
	Node     string   `json:"node"`
	Class    string   `json:"class"`
	Cached   bool     `json:"cached,omitempty"`
	Digests  []string `json:"digests"`
	Sketches []string `json:"sketches,omitempty"`
	// Steps are those of a sampler, see receiptStep.
	Steps   []receiptStep `json:"steps,omitempty"`
	Seconds float64       `json:"seconds"`
}

// receiptForm is the version of the form that this program writes.
const receiptForm = 1

// newReceipt fills in what the workflow says.
func newReceipt(j *job, g *workflows.Graph) *receipt {
	r := &receipt{
		Receipt: receiptForm, Name: j.source.name, Digest: workflows.Digest(g), Workflow: workflows.Encode(g),
		Seeds: map[string]workflows.Value{}, Nodes: []receiptNode{}, Models: []receiptFile{}, Inputs: []receiptFile{},
	}
	for _, n := range g.Nodes() {
		for _, m := range n.Inputs {
			if isSeed(m) {
				r.Seeds[n.ID+"."+m.Key] = m.Value
			}
		}
	}
	return r
}

// fileUse is a literal that names a file.
type fileUse struct {
	node, class, input string
	folder, name       string
}

// modelInputs gives the model folder of each input that names a file in one.
var modelInputs = map[string]string{
	"ckpt_name": "checkpoints", "vae_name": "vae", "clip_name": "text_encoders", "clip_name1": "text_encoders",
	"clip_name2": "text_encoders", "clip_name3": "text_encoders", "lora_name": "loras", "unet_name": "diffusion_models",
	"control_net_name": "controlnet", "style_model_name": "style_models", "gligen_name": "gligen",
}

// modelUses lists the model files that a workflow names, in the order of its nodes.
func modelUses(g *workflows.Graph) []fileUse {
	var uses []fileUse
	for _, n := range g.Nodes() {
		for _, m := range n.Inputs {
			folder, ok := modelInputs[m.Key]
			name, isString := m.Value.Str()
			if ok && isString {
				uses = append(uses, fileUse{n.ID, n.Class, m.Key, folder, name})
			}
		}
	}
	return uses
}

// readModels takes down the models that the workflow names and their digests. A name that is no file of its folder,
// such as the built-in choices of VAELoader, is left out: a run that needed it has failed.
func (r *receipt) readModels(ctx context.Context, s *session, g *workflows.Graph) error {
	seen := map[string]bool{}
	for _, use := range modelUses(g) {
		path, err := s.folders.Path(use.folder, use.name)
		if errors.Is(err, models.ErrMissing) || seen[use.folder+"/"+use.name] {
			continue
		}
		if err != nil {
			return err
		}
		sum, err := s.modelSum(ctx, path)
		if err != nil {
			return err
		}
		seen[use.folder+"/"+use.name] = true
		r.Models = append(r.Models, receiptFile{Folder: use.folder, Name: use.name, SHA256: sum})
	}
	return nil
}

// readInputs takes down the pictures that the workflow loads from the input folder.
func (r *receipt) readInputs(g *workflows.Graph, dirs nodes.Dirs) error {
	for _, n := range g.Nodes() {
		value, _ := n.Inputs.Get("image")
		name, ok := value.Str()
		if !ok || !filepath.IsLocal(filepath.FromSlash(name)) {
			continue
		}
		sum, err := fileSum(filepath.Join(dirs.Input, filepath.FromSlash(name)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		r.Inputs = append(r.Inputs, receiptFile{Name: name, SHA256: sum})
	}
	return nil
}

// write puts the receipt beside the first file of the run, under its name, or under the workflow's when there is none,
// and returns its path.
func (r *receipt) write(j *job, dirs nodes.Dirs, outputs outputFiles) (string, error) {
	name := filepath.Join(dirs.Output, j.fileName())
	if paths := outputs.paths("output"); len(paths) > 0 {
		name = paths[0][:len(paths[0])-len(filepath.Ext(paths[0]))]
	}
	path := name + ".receipt.json"
	var err error
	if r.Outputs, err = outputs.only("output", filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("write receipt: %w", err)
	}
	text, err := encodeLine(r)
	if err != nil {
		return "", fmt.Errorf("write receipt: %w", err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return "", fmt.Errorf("write receipt: %w", err)
	}
	if err := writeFile(path, indented.Bytes()); err != nil {
		return "", fmt.Errorf("write receipt: %w", err)
	}
	return path, nil
}

// writeFile replaces a file in one step: whoever reads it sees the old content or the new one.
func writeFile(path string, data []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}()
	if _, err = file.Write(data); err != nil {
		return err
	}
	if err = file.Chmod(0o644); err != nil {
		return err
	}
	if err = file.Sync(); err != nil {
		return err
	}
	if err = file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
