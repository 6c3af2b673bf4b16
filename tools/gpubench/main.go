// Gpubench measures how fast Stable Diffusion runs on a GPU, and PyTorch beside
// it in the same run, on synthetic checkpoints of the real sizes:
//
//	gpubench --device cuda --library lib/cuda --dir DIR sd15:512:20:1 sdxl:1024:30:4
//
// A case is MODEL:SIZE:STEPS:BATCH. For each, comfyrun and PyTorch take turns.
// The results are printed as a table and kept, one JSON object a line, in
// DIR/results.jsonl. PyTorch is left out, and that is said, where python3 has
// none.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// bench is what the command line asks for.
type bench struct {
	device, precision string
	library           string
	dir               string
	python            string
	rounds            int
	cases             []benchCase
}

// benchCase is a picture to draw.
type benchCase struct {
	model              string // "sd15" or "sdxl"
	size, steps, batch int
}

func (c benchCase) String() string {
	return fmt.Sprintf("%s:%d:%d:%d", c.model, c.size, c.steps, c.batch)
}

// defaults are the cases that docs/benchmarks.md lists.
var defaults = []string{
	"sd15:512:20:1", "sd15:512:50:1", "sd15:512:20:4", "sd15:512:50:4", "sdxl:1024:30:1", "sdxl:1024:30:4",
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b, err := parse(os.Args[1:])
	if err == nil {
		err = b.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpubench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*bench, error) {
	b := &bench{}
	flags := flag.NewFlagSet("gpubench", flag.ExitOnError)
	flags.StringVar(&b.device, "device", "cuda", "where comfyrun computes: cuda, cuda:N, webgpu or cpu")
	flags.StringVar(&b.precision, "precision", "", "fp16 or fp32 (default what suits the device)")
	flags.StringVar(&b.library, "library", "lib/cuda", "ONNX Runtime library, file or folder")
	flags.StringVar(&b.dir, "dir", "dist/gpu-bench", "folder of checkpoints and results; 9 GB")
	flags.StringVar(&b.python, "python", "python3", "Python with PyTorch; \"\" leaves PyTorch out")
	flags.IntVar(&b.rounds, "rounds", 5, "how often each case is measured")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	given := flags.Args()
	if len(given) == 0 {
		given = defaults
	}
	for _, text := range given {
		c, err := parseCase(text)
		if err != nil {
			return nil, err
		}
		b.cases = append(b.cases, c)
	}
	return b, nil
}

func parseCase(text string) (benchCase, error) {
	fields := strings.Split(text, ":")
	c := benchCase{model: fields[0]}
	ok := len(fields) == 4 && (c.model == "sd15" || c.model == "sdxl")
	for i, n := range []*int{&c.size, &c.steps, &c.batch} {
		if ok {
			var err error
			*n, err = strconv.Atoi(fields[i+1])
			ok = err == nil && *n > 0
		}
	}
	if !ok || c.size%64 != 0 {
		return c, fmt.Errorf("case %q: want MODEL:SIZE:STEPS:BATCH, MODEL sd15 or sdxl, SIZE a multiple of 64", text)
	}
	return c, nil
}

// run measures every case and reports.
func (b *bench) run(ctx context.Context) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	torch := b.torch(ctx)
	fmt.Fprintln(os.Stderr, "PyTorch:", torch)
	var all []result
	for _, c := range b.cases {
		path, err := checkpoint(b.dir, c.model)
		if err != nil {
			return err
		}
		own, err := b.measure(ctx, path, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
		all = append(all, own)
		if torch.usable {
			other, err := torch.measure(ctx, path, c)
			if err != nil {
				return fmt.Errorf("%s in PyTorch: %w", c, err)
			}
			all = append(all, other)
		}
		if err := writeLines(filepath.Join(b.dir, "results.jsonl"), all); err != nil {
			return err
		}
	}
	return table(os.Stdout, all)
}

// checkpoint makes a model's synthetic checkpoint unless it is there.
func checkpoint(dir, model string) (string, error) {
	if model == "sd15" {
		return weightstest.WriteFile(dir, "sd15-full-fp16")
	}
	path := filepath.Join(dir, "sdxl-full-fp16.safetensors")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	shapes, err := weightstest.RealXL()
	if err != nil {
		return "", err
	}
	if err := weightstest.WriteRandom(path+".part", shapes, tensor.F16); err != nil {
		return "", err
	}
	return path, os.Rename(path+".part", path)
}

// writeLines replaces a file by one line of JSON for each result.
func writeLines(path string, all []result) error {
	var text strings.Builder
	for _, r := range all {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		text.Write(append(line, '\n'))
	}
	if err := os.WriteFile(path+".part", []byte(text.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}
