package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/models/demo"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/workflows"
)

// comfyrun runs a command with the library of this checkout and a home of its own.
func comfyrun(t *testing.T, home string, args ...string) (stdout string, code int) {
	t.Helper()
	var out, problem bytes.Buffer
	args = append(args, "--home", home, "--library", "../../lib")
	code = Run(t.Context(), args, Stdio{In: &bytes.Buffer{}, Out: &out, Err: &problem})
	t.Logf("%s: %d\n%s%s", strings.Join(args, " "), code, out.String(), problem.String())
	return out.String(), code
}

// spoiled writes a copy of the demo checkpoint in which the first number of one tensor is 1, and returns the models folder
// that it is in.
func spoiled(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../engine/models/demo", demo.Name))
	if err != nil {
		t.Fatal(err)
	}
	size := binary.LittleEndian.Uint64(data)
	var header map[string]struct {
		DType   string `json:"dtype"`
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(data[8:8+size], &header); err != nil {
		t.Fatal(err)
	}
	if header[name].DType != "F16" {
		t.Fatalf("%s is %q, want F16", name, header[name].DType)
	}
	binary.LittleEndian.PutUint16(data[8+int(size)+header[name].Offsets[0]:], 0x3c00)
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "checkpoints"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "checkpoints", demo.Name), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

// replayed is the JSON that replay prints.
func replayed(t *testing.T, home string, args ...string) replayResult {
	t.Helper()
	out, code := comfyrun(t, home, append([]string{"replay", "--json"}, args...)...)
	var r replayResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.First == nil || code != exitFailed {
		t.Fatalf("exit code %d, %v", code, err)
	}
	return r
}

// One weight that is another shows where it is first used: in the text encoder, the network or the autoencoder.
func TestReplayNamesWeight(t *testing.T) {
	home, out := t.TempDir(), t.TempDir()
	if _, code := comfyrun(t, home, "exec", "../../workflows/default.json", "--set", "KSampler.steps=4", "--out", out); code != exitDone {
		t.Fatal("exec failed")
	}
	receipt := filepath.Join(out, "ComfyUI_00001_.receipt.json")
	for name, want := range map[string]nodeDifference{
		"cond_stage_model.transformer.text_model.final_layer_norm.bias": {Node: "7", Class: "CLIPTextEncode", Output: "CONDITIONING"},
		"model.diffusion_model.out.2.bias":                              {Node: "3", Class: "KSampler", Output: "LATENT", Step: 1, Steps: 4, What: otherPrediction},
		"first_stage_model.decoder.conv_out.bias":                       {Node: "8", Class: "VAEDecode", Output: "IMAGE"},
	} {
		models := spoiled(t, name)
		if _, code := comfyrun(t, home, "replay", receipt, "--models", models); code != exitModel {
			t.Errorf("%s: exit code %d, want %d", name, code, exitModel)
		}
		r := replayed(t, home, receipt, "--models", models, "--anyway", "--exact")
		first := *r.First
		if first.Off <= 0 || first.Size <= 0 {
			t.Errorf("%s: off by %g of %g", name, first.Off, first.Size)
		}
		first.Title, first.Off, first.Size, first.StepOff, first.StepSize = "", 0, 0, 0, 0
		if diff := cmp.Diff(want, first, cmp.AllowUnexported(nodeDifference{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if len(r.Causes) != 1 || !strings.HasPrefix(r.Causes[0], "model checkpoints/comfyrun-demo.safetensors has sha256") {
			t.Errorf("%s: causes %q", name, r.Causes)
		}
	}
}

const levelsWorkflow = `{
	"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "comfyrun-demo.safetensors"}},
	"2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a boat", "clip": ["1", 1]}},
	"3": {"class_type": "KarrasScheduler", "inputs": {"steps": 8, "sigma_max": 14.6, "sigma_min": 0.03, "rho": 7.0}},
	"4": {"class_type": "ExtendIntermediateSigmas", "inputs": {"sigmas": ["3", 0], "steps": 1, "start_at_sigma": 1.2, "end_at_sigma": 0.3, "spacing": "linear"}},
	"5": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
	"6": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
	"7": {"class_type": "SamplerCustom", "inputs": {"model": ["1", 0], "add_noise": true, "noise_seed": 3, "cfg": 4.0, "positive": ["2", 0],
		"negative": ["2", 0], "sampler": ["5", 0], "sigmas": ["4", 0], "latent_image": ["6", 0]}},
	"8": {"class_type": "VAEDecode", "inputs": {"samples": ["7", 1], "vae": ["1", 2]}},
	"9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "levels"}}
}`

// A sampler that does one of its steps otherwise is told by that step: another noise level in the middle of the run, and
// another method, whose first step is the same.
func TestReplayNamesStep(t *testing.T) {
	home, out := t.TempDir(), t.TempDir()
	file := filepath.Join(t.TempDir(), "levels.json")
	if err := os.WriteFile(file, []byte(levelsWorkflow), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, code := comfyrun(t, home, "exec", file, "--out", out); code != exitDone {
		t.Fatal("exec failed")
	}
	receipt := filepath.Join(out, "levels_00001_.receipt.json")
	again := t.TempDir()
	r := replayed(t, home, receipt, "--set", "4.steps=2", "--out", again)
	was, is := sigmasOf(t, receipt, "7"), sigmasOf(t, filepath.Join(again, "levels_00001_.receipt.json"), "7")
	step := 0
	for step < len(was) && was[step] == is[step] {
		step++
	}
	if step < 2 || r.First.Node != "7" || r.First.Step != step+1 || r.First.Steps != 8 || !strings.HasPrefix(r.First.What, "the noise level is ") {
		t.Errorf("first difference %+v, want node 7, step %d of 8; levels were %v, now %v", *r.First, step+1, was, is)
	}
	if want := `node 4 "ExtendIntermediateSigmas", steps: 1 → 2`; len(r.Causes) != 1 || r.Causes[0] != want {
		t.Errorf("causes %q, want %s", r.Causes, want)
	}
	r = replayed(t, home, receipt, "--set", "5.sampler_name=lms")
	if r.First.Node != "7" || r.First.Step < 2 || r.First.What != "the sampler made another state of the same prediction" {
		t.Errorf("first difference %+v", *r.First)
	}
	if r = replayed(t, home, receipt, "--set", "7.noise_seed=4"); r.First.Node != "7" || r.First.Step != 1 || !strings.HasPrefix(r.First.What, "it starts from other noise") {
		t.Errorf("first difference %+v", *r.First)
	}
}

func sigmasOf(t *testing.T, file, node string) []float32 {
	t.Helper()
	r, err := readRecorded(file)
	if err != nil {
		t.Fatal(err)
	}
	var sigmas []float32
	for _, n := range r.receipt.Nodes {
		for _, s := range n.Steps {
			if n.Node == node {
				sigmas = append(sigmas, s.Sigma)
			}
		}
	}
	return sigmas
}

// Whichever step is the first to differ is named, and in what; those after it differ in any case.
func TestFindStep(t *testing.T) {
	const steps = 6
	var was []receiptStep
	for i := range steps {
		was = append(was, receiptStep{Sigma: float32(steps - i), State: "s", Prediction: "p", Sketch: tensor.Sketch{3, 4}})
	}
	for i := range steps {
		for what, change := range map[string]func(s *receiptStep){
			"the noise level is 99": func(s *receiptStep) { s.Sigma = 99 },
			map[bool]string{true: "it starts from other noise", false: "the sampler made another state"}[i == 0]: func(s *receiptStep) { s.State = "S" },
			otherPrediction: func(s *receiptStep) { s.Prediction, s.Sketch = "P", tensor.Sketch{3, 5} },
		} {
			is := append([]receiptStep{}, was...)
			change(&is[i])
			for k := i + 1; k < steps; k++ {
				is[k].State, is[k].Prediction = "other", "other"
			}
			var d nodeDifference
			if !d.findStep(was, is) || d.Step != i+1 || d.Steps != steps || !strings.HasPrefix(d.What, what) || d.StepSize != 5 {
				t.Errorf("step %d, %s: %+v", i+1, what, d)
			}
		}
	}
	var d nodeDifference
	if d.findStep(was, was) || d.findStep(nil, was) || d.findStep(was, nil) {
		t.Errorf("same steps, or none: %+v", d)
	}
	if !d.findStep(was, was[:4]) || d.Step != 5 || d.What != "there were 6 steps, now 4" {
		t.Errorf("fewer steps: %+v", d)
	}
}

func TestReceiptStepText(t *testing.T) {
	s := receiptStep{Sigma: 14.614643, State: "0123456789abcdef", Prediction: "fedcba9876543210", Sketch: tensor.Sketch{1, -2.5}}
	text, err := s.MarshalText()
	var got receiptStep
	if err == nil {
		err = got.UnmarshalText(text)
	}
	if err != nil || got != s {
		t.Errorf("%s became %+v, %v", text, got, err)
	}
	for _, wrong := range []string{"", "1 a b", "x a b " + s.Sketch.String(), "1 a b c"} {
		if got.UnmarshalText([]byte(wrong)) == nil {
			t.Errorf("%q was read", wrong)
		}
	}
}

func TestGraphChanges(t *testing.T) {
	parse := func(text string) *workflows.Graph {
		g, err := workflows.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	before := parse(`{"1": {"class_type": "A", "inputs": {"seed": 18446744073709551614, "cfg": 5.0, "old": 1, "m": ["2", 0]}},
		"2": {"class_type": "B", "inputs": {}}, "3": {"class_type": "C", "inputs": {}}}`)
	after := parse(`{"1": {"class_type": "A", "inputs": {"seed": 18446744073709551615, "cfg": 5, "new": "x", "m": ["2", 1]}, "_meta": {"title": "First"}},
		"2": {"class_type": "D", "inputs": {}}, "4": {"class_type": "C", "inputs": {}}}`)
	want := []string{
		`node 1 "First" (A), seed: 18446744073709551614 → 18446744073709551615`,
		`node 1 "First" (A), old: 1 → nothing`,
		`node 1 "First" (A), m: ["2",0] → ["2",1]`,
		`node 1 "First" (A), new: nothing → "x"`,
		`node 2 "B" has become D`,
		`node 3 "C" is gone`,
		`node 4 "C" is new`,
	}
	if diff := cmp.Diff(want, graphChanges(before, after)); diff != "" {
		t.Error(diff)
	}
	if same := graphChanges(before, before); len(same) != 0 {
		t.Errorf("a workflow differs from itself: %q", same)
	}
}
