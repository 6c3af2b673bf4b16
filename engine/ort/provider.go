package ort

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	ortgo "github.com/yalue/onnxruntime_go"
)

// cpu says whether the device is the CPU.
func (d Device) cpu() bool { return d.Provider == "" || d.Provider == "cpu" }

// word is what ONNX Runtime calls the device's provider.
func (d Device) word() string {
	switch d.Provider {
	case "cuda":
		return "CUDA"
	case "webgpu":
		return "WebGpu"
	}
	return "CPU"
}

// turn returns what a new session shares with those that it must take turns
// with on the device, or nil.
func (e *Env) turn(d Device) chan struct{} {
	switch d.Provider {
	case "cuda":
		return make(chan struct{}, 1)
	case "webgpu":
		return e.webgpu
	}
	return nil
}

// enter waits for the session's turn on its device; the result ends it.
func (s *Session) enter() (leave func()) {
	if s.turn == nil {
		return func() {}
	}
	s.turn <- struct{}{}
	return func() { <-s.turn }
}

// append makes the session use the device. Nodes that its provider lacks run on
// the CPU.
func (e *Env) append(so *ortgo.SessionOptions, d Device) error {
	switch d.Provider {
	case "webgpu":
		return e.appendWebGPU(so)
	case "cuda":
		return e.appendCUDA(so, d.Index)
	}
	return unusable{fmt.Sprintf("device %q is not known; known are cpu, cuda and webgpu", d.Provider)}
}

func (e *Env) appendWebGPU(so *ortgo.SessionOptions) error {
	if !slices.Contains(e.providers, Device{Provider: "webgpu"}.word()) {
		return unusable{e.library + " was built without the WebGPU provider; the build of npm has it (comfyrun runtime install)"}
	}
	return so.AppendExecutionProvider("WebGPU", nil)
}

func (e *Env) appendCUDA(so *ortgo.SessionOptions, index int) error {
	if !slices.Contains(e.providers, Device{Provider: "cuda"}.word()) {
		return unusable{e.library + " was built without the CUDA provider; install it with: comfyrun runtime install --provider cuda"}
	}
	if err := preload(filepath.Dir(e.library)); err != nil {
		return unusable{err.Error()}
	}
	o, err := ortgo.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer o.Destroy()
	if err := o.Update(cudaOptions(index)); err != nil {
		return err
	}
	return so.AppendExecutionProviderCUDA(o)
}

// cudaOptions are the options of the CUDA provider.
func cudaOptions(index int) map[string]string {
	return map[string]string{
		"device_id": strconv.Itoa(index),
		// Doubling regions would reserve up to twice the memory that is needed.
		"arena_extend_strategy": "kSameAsRequested",
		// Trying every algorithm would take seconds for each new size of picture.
		"cudnn_conv_algo_search": "HEURISTIC",
		// Convolutions on tensor cores; there, fp32 is rounded to the digits of fp16
		// when it is multiplied, as PyTorch does too.
		"prefer_nhwc": "1",
		"use_tf32":    "1",
	}
}

// unusable says that a device cannot be used, and why.
type unusable struct{ message string }

func (e unusable) Error() string { return e.message }
