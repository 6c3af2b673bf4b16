package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/gpu"
)

// computeFlags say how to compute on the device.
type computeFlags struct {
	precision, vaePrecision string
	memory                  sizeFlag
}

func (f *computeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.precision, "precision", diffusion.AutoPrecision, "numbers that networks compute with: auto, fp32, or fp16 on a GPU")
	flags.StringVar(&f.vaePrecision, "vae-precision", diffusion.AutoPrecision, "the same for VAEs; auto is fp32, since some overflow in fp16")
	flags.Var(&f.memory, "device-memory", "memory of each GPU that models may take, such as 8GiB (default what is free)")
}

// apply puts the flags into the options of a runtime.
func (f *computeFlags) apply(o *diffusion.Options) (err error) {
	if o.Precision, err = diffusion.ParsePrecision(f.precision); err != nil {
		return usagef("read --precision: %w", err)
	}
	if o.VAEPrecision, err = diffusion.ParsePrecision(f.vaePrecision); err != nil {
		return usagef("read --vae-precision: %w", err)
	}
	o.DeviceMemory = int64(f.memory)
	return nil
}

// check finds values that are never right.
func (f *computeFlags) check() error { return f.apply(&diffusion.Options{}) }

// checkDevice finds out, before anything is read, that a GPU is named which is not there: the drivers are asked, no library
// is loaded.
func (f *machineFlags) checkDevice() error {
	if f.device == ort.Auto {
		return nil
	}
	d, err := ort.ParseDevice(f.device)
	if err != nil {
		return usagef("read --device: %w, and %s", err, ort.Auto)
	}
	if d.Provider != "cuda" {
		return nil
	}
	usable, rejected, err := ort.CUDADevices()
	if there := len(usable) + len(rejected); err == nil && d.Index >= there {
		err = &ort.Error{Op: "use device " + d.String(), Code: ort.CodeDevice, Message: fmt.Sprintf("no such GPU; there are %d", there)}
	}
	return err
}

// chooser returns what chooses the device of a runtime.
func chooser(cmd *cobra.Command) func(context.Context, string) (*ort.Choice, error) {
	return func(ctx context.Context, device string) (*ort.Choice, error) {
		find, err := librariesOf(cmd)
		if err != nil {
			return nil, err
		}
		return ort.Choose(ctx, device, find)
	}
}

// freeMemory asks the driver how much of a device's memory is free; 0 where it does not tell.
func freeMemory(d ort.Device) int64 {
	if d.Provider != "cuda" {
		return 0
	}
	n, err := gpu.System{}.Nvidia()
	if err != nil {
		return 0
	}
	for _, g := range n.GPUs {
		if g.Index == d.Index {
			return g.Free
		}
	}
	return 0
}

// settle looks for the devices, so that one that does not work is known before anything runs, and says what was chosen where
// that was left open.
func (m *machine) settle(ctx context.Context) error {
	told := map[string]bool{}
	for _, s := range m.seats {
		place, err := s.diffusion.Place(ctx)
		if err != nil {
			return err
		}
		if text := chosen(place); s.device == ort.Auto && !told[text] {
			m.notice(text)
			told[text] = true
		}
		s.device = place.Device.String()
	}
	return nil
}

// setPlace notes where networks run, once that is known.
func (e *receiptEngine) setPlace(p *diffusion.Place, err error) {
	if err != nil {
		return // no network ran
	}
	e.Device, e.Provider, e.Hardware = p.Device.String(), p.Device.Provider, p.Capabilities.Name
	e.Precision, e.VAEPrecision = string(p.Precision), string(p.VAEPrecision)
}

// chosen says which device was chosen, and why not those that would have come before it.
func chosen(p *diffusion.Place) string {
	text := "device: " + p.Device.String()
	if p.Capabilities.Name != "" {
		text += ", " + p.Capabilities.Name
	}
	if p.Device.String() != "cpu" {
		text += fmt.Sprintf(", in %s with VAEs in %s", p.Precision, p.VAEPrecision)
	}
	return text + p.Instead()
}
