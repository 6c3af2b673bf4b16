// Package worker executes the prompts of a queue: it takes one, plans it, runs
// it, tells what happens on the way in ComfyUI's words, and records what came
// of it.
package worker

import (
	"log/slog"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
)

// Worker takes prompts from Queue and runs them, one at a time.
type Worker struct {
	Queue   *queue.Queue
	Catalog func() *engine.Catalog // of this moment; asked for at each prompt
	Runner  *engine.Runner

	Log       *slog.Logger  // nil: nothing is logged
	TimeLimit time.Duration // of one prompt; 0: none
	Previews  PreviewOptions
}

// PreviewOptions say which pictures of unfinished samplings are sent.
type PreviewOptions struct {
	Method string // "none", "auto", "latent2rgb" or "taesd"; "": none. A prompt's extra_data.preview_method wins.
	Size   int    // side of the square that a preview fits; 0: 512
}

// Preview is what a node may give engine.Preview: a picture that is made only
// when somebody wants to see it.
type Preview interface {
	// Encode makes the picture by a method of PreviewOptions, scaled to fit a
	// square of the given side. No data: the method makes none.
	Encode(method string, fit int) (mime string, data []byte, err error)
}
