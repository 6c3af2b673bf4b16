package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/ort"
)

// TestChosen has what is told of the device that auto chose.
func TestChosen(t *testing.T) {
	none := ort.Rejection{Device: ort.Device{Provider: "cuda"}, Reason: "no NVIDIA driver"}
	for want, place := range map[string]diffusion.Place{
		"device: cpu; not cuda:0: no NVIDIA driver; not webgpu: no Vulkan": {
			Rejected: []ort.Rejection{none, {Device: ort.Device{Provider: "webgpu"}, Reason: "no Vulkan"}},
		},
		"device: cuda:1, NVIDIA H200, in fp16 with VAEs in fp32": {
			Device: ort.Device{Provider: "cuda", Index: 1}, Capabilities: ort.Capabilities{Name: "NVIDIA H200"}, Precision: "fp16", VAEPrecision: "fp32",
		},
		"device: webgpu, in fp32 with VAEs in fp32; not cuda:0: no NVIDIA driver": {
			Device: ort.Device{Provider: "webgpu"}, Precision: "fp32", VAEPrecision: "fp32", Rejected: []ort.Rejection{none},
		},
	} {
		if got := chosen(&place); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
}

// TestReplaysWhereTheRunWas checks that a replay takes device and precision from
// the receipt, but for what the command line says.
func TestReplaysWhereTheRunWas(t *testing.T) {
	was := receiptEngine{Device: "cuda:1", Precision: "fp16", VAEPrecision: "fp32", Threads: 3}
	type result struct {
		Device, Precision, VAE string
		Threads                int
	}
	for _, test := range []struct {
		engine receiptEngine
		given  []string
		want   result
	}{
		{was, nil, result{"cuda:1", "fp16", "fp32", 3}},
		{was, []string{"device"}, result{"given", "given", "given", 3}},
		{was, []string{"precision", "threads"}, result{"cuda:1", "given", "fp32", 8}},
		{was, []string{"vae-precision"}, result{"cuda:1", "fp16", "given", 3}},
		{receiptEngine{Device: "cpu"}, nil, result{"cpu", "given", "given", 0}},
		{receiptEngine{}, nil, result{"given", "given", "given", 0}},
	} {
		f := replayFlags{given: func(flag string) bool { return slices.Contains(test.given, flag) }}
		f.device, f.compute.precision, f.compute.vaePrecision, f.threads = "given", "given", "given", 8
		f.likeBefore(test.engine)
		got := result{f.device, f.compute.precision, f.compute.vaePrecision, f.threads}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%+v, given %q: -want +got:\n%s", test.engine, test.given, diff)
		}
	}
}

// TestPlaceOfReceipts notes a device with what it computed in, and nothing where
// none was found.
func TestPlaceOfReceipts(t *testing.T) {
	e := receiptEngine{Device: "auto"}
	e.setPlace(nil, errors.New("no device"))
	if e.Device != "auto" {
		t.Errorf("noted %+v", e)
	}
	e.setPlace(&diffusion.Place{
		Device: ort.Device{Provider: "cuda"}, Capabilities: ort.Capabilities{Name: "NVIDIA H200"}, Precision: "fp16", VAEPrecision: "fp32",
	}, nil)
	want := receiptEngine{Device: "cuda:0", Provider: "cuda", Hardware: "NVIDIA H200", Precision: "fp16", VAEPrecision: "fp32"}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestDeviceExit has a device that cannot be used count as wrong usage.
func TestDeviceExit(t *testing.T) {
	err := fmt.Errorf("load: %w", &ort.Error{Op: "use device cuda:0", Code: ort.CodeDevice, Message: "no driver"})
	if !isDevice(err) || isDevice(&ort.Error{Code: ort.CodeRun}) || isDevice(nil) {
		t.Error("devices are not told from other errors")
	}
}
