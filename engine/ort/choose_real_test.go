package ort_test

import (
	"errors"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
)

// Whatever the machine has: the CPU works, and auto finds something that does.
func TestChooseOnThisMachine(t *testing.T) {
	library := orttest.Library(t)
	find := func(provider string) (string, error) {
		if provider == "cuda" {
			return "", errors.New("not installed")
		}
		return library, nil
	}
	choice, err := ort.Choose(t.Context(), "cpu", find)
	if err != nil || choice.Device.String() != "cpu" || choice.Library != library || !choice.Capabilities.Attention {
		t.Errorf("cpu: %+v, %v", choice, err)
	}
	choice, err = ort.Choose(t.Context(), ort.Auto, find)
	if err != nil || choice.Device.Provider == "cuda" || len(choice.Rejected) == 0 || choice.Capabilities.Software {
		t.Errorf("auto: %+v, %v", choice, err)
	}
	if _, err := ort.Choose(t.Context(), "cuda", find); err == nil {
		t.Error("cuda: no error, and no library")
	}
}
