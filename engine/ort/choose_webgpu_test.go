//go:build webgpu

package ort_test

import (
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// SwiftShader is taken when it is asked for, and not by auto.
func TestWebGPUChoice(t *testing.T) {
	library := orttest.Library(t)
	find := func(string) (string, error) { return library, nil }
	choice, err := ort.Choose(t.Context(), "webgpu", find)
	if err != nil {
		t.Fatal(err)
	}
	c := choice.Capabilities
	if !c.Software || !strings.Contains(c.Name, "SwiftShader") || c.Total == 0 || choice.Device.Provider != "webgpu" {
		t.Errorf("chose %+v with %+v", choice, c)
	}
	choice, err = ort.Choose(t.Context(), ort.Auto, find)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(choice.Rejected); n == 0 || !strings.Contains(choice.Rejected[n-1].Reason, "SwiftShader") && choice.Device.Provider != "cuda" {
		t.Errorf("auto chose %s, rejected %v", choice.Device, choice.Rejected)
	}
}
