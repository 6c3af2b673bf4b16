package nodes

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// webpMethod is how much time goes into making a file small.
type webpMethod string

// animationKinds are the choice inputs of addAnimations.
func animationKinds() []engine.Kind {
	return []engine.Kind{engine.Combo[webpMethod](engine.Choices("default", "fastest", "slowest"))}
}

// addAnimations declares the nodes that write pictures as an animation.
func addAnimations(c *engine.Catalog, d Dirs) {
	const category = "image/animation"
	s := &saver{dirs: d}
	engine.Add(c, "SaveAnimatedPNG", category, saveAPNG{Prefix: "ComfyUI", Rate: 6, Level: 4}, s.saveAPNG).Output().
		Module(imagesModule).Doc("Writes a batch of pictures as an animated PNG into the output folder.")
	engine.Add(c, "SaveAnimatedWEBP", category, saveWebP{Prefix: "ComfyUI", Rate: 6, Lossless: true, Quality: 80}, s.saveWebP).Output().
		Module(imagesModule).Doc("Writes a batch of pictures as an animated WebP into the output folder, always without loss.")
}

type saveAPNG struct {
	Images diffusion.Image `in:"images"`
	Prefix string          `in:"filename_prefix"`
	Rate   float64         `in:"fps" range:"0.01,1000,0.01"`
	Level  int             `in:"compress_level" range:"0,9"`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

func (s *saver) saveAPNG(ctx context.Context, in saveAPNG) (engine.UI, error) {
	a, err := animation(in.Images, in.Rate)
	if err != nil {
		return nil, err
	}
	if a.Text, err = metadata(in.Prompt, in.Extra); err != nil {
		return nil, err
	}
	write := func(w io.Writer) error { return a.WriteAPNG(w, in.Level) }
	saved, err := s.animation(ctx, animationFile{in.Images, in.Prefix, "%s_%05d_.png", write})
	return engine.UI{"images": []any{saved}, "animated": []any{true}}, err
}

// saveWebP ignores Lossless, Quality and Method: what it writes is without
// loss and so at least as good as asked for.
type saveWebP struct {
	Images   diffusion.Image `in:"images"`
	Prefix   string          `in:"filename_prefix"`
	Rate     float64         `in:"fps" range:"0.01,1000,0.01"`
	Lossless bool            `in:"lossless"`
	Quality  int             `in:"quality" range:"0,100"`
	Method   webpMethod      `in:"method"`
	Prompt   engine.Prompt
	Extra    engine.ExtraPNGInfo
}

func (s *saver) saveWebP(ctx context.Context, in saveWebP) (engine.UI, error) {
	a, err := animation(in.Images, in.Rate)
	if err != nil {
		return nil, err
	}
	if a.Text, err = metadata(in.Prompt, in.Extra); err != nil {
		return nil, err
	}
	saved, err := s.animation(ctx, animationFile{in.Images, in.Prefix, "%s_%05d_.webp", a.WriteWebP})
	return engine.UI{"images": []any{saved}, "animated": []any{len(a.Frames) != 1}}, err
}

// animation cuts a batch to 8 bits. The time of a frame is whole milliseconds.
func animation(im diffusion.Image, rate float64) (imagefile.Animation, error) {
	a := imagefile.Animation{Delay: int(1000 / rate)}
	for i := range im.Shape[0] {
		p, err := imagefile.FromTensor(im.Tensor, i)
		if err != nil {
			return a, fmt.Errorf("save animation: %w", err)
		}
		a.Frames = append(a.Frames, p)
	}
	return a, nil
}

// animationFile is what to write, and where.
type animationFile struct {
	images         diffusion.Image
	prefix, format string // format makes the name of prefix and number
	write          func(io.Writer) error
}

// animation writes one numbered file into the output folder.
func (s *saver) animation(ctx context.Context, a animationFile) (SavedImage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	job := saveJob{dir: s.dirs.Output, prefix: a.prefix, below: s.dirs.Keep.folder()}
	target, err := job.target(a.images.Shape[2], a.images.Shape[1], time.Now())
	if err != nil {
		return SavedImage{}, err
	}
	name, err := target.number(a.format, 0, a.write)
	if err != nil {
		return SavedImage{}, fmt.Errorf("save animation: %w", err)
	}
	saved := SavedImage{Filename: name, Subfolder: target.subfolder, Type: "output"}
	return saved, s.dirs.Keep.file(ctx, saved)
}
