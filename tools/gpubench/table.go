package main

import (
	"fmt"
	"io"
)

// table prints results for docs/benchmarks.md: each case of comfyrun's with
// PyTorch's below it and the ratio of their sampling times.
func table(w io.Writer, all []result) error {
	if _, err := fmt.Fprint(w, "| model | size | steps | batch | engine | load s | first picture s | sampling s (best) | steps/s | decoding s | memory GB | speed (comfyrun 1) |\n",
		"|---|---|---|---|---|---|---|---|---|---|---|---|\n"); err != nil {
		return err
	}
	var own result
	for _, r := range all {
		speed := "1"
		if r.Engine == "comfyrun" {
			own = r
		} else {
			speed = fmt.Sprintf("%.2f", own.Sample/r.Sample)
		}
		_, err := fmt.Fprintf(w, "| %s | %d | %d | %d | %s, %s | %.2f | %.2f | %.3f (%.3f) | %.1f | %.3f | %.1f | %s |\n",
			r.Model, r.Size, r.Steps, r.Batch, r.Engine, r.Device, r.Load, r.First, r.Sample, r.Best,
			float64(r.Steps)/r.Sample, r.Decode, float64(r.Peak)/1e9, speed)
		if err != nil {
			return err
		}
	}
	return nil
}
