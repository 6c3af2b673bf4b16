package ort

import (
	"fmt"
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

// arenas names the arenas of a session's working memory, as the run option
// memory.enable_memory_arena_shrinkage wants them. WebGPU has none of its own.
func (d Device) arenas() string {
	if d.Provider == "cuda" {
		return "cpu:0;gpu:" + strconv.Itoa(d.Index)
	}
	return "cpu:0"
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
		"prefer_nhwc":            "1",
		"use_tf32":               "0",
	}
}

// unusable says that a device cannot be used, and why.
type unusable struct{ message string }

func (e unusable) Error() string { return e.message }
