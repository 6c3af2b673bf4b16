package nodes

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// latentFile is a .latent file of the input folder.
type latentFile string

// A .latent file is a .safetensors file with these tensors. The second one is
// empty and says that the first is unscaled; files of an early ComfyUI lack it
// and hold latents times 0.18215, the scale of Stable Diffusion 1.
const (
	latentTensor  = "latent_tensor"
	latentVersion = "latent_format_version_0"
	oldScale      = 0.18215
	latentEnding  = ".latent"
)

// latentFileKinds are the choice inputs of addLatentFiles.
func latentFileKinds(d Dirs) []engine.Kind {
	return []engine.Kind{engine.Combo[latentFile](func() []string { return latentsIn(d.Input) })}
}

// addLatentFiles declares the nodes that write and read latents.
func addLatentFiles(c *engine.Catalog, d Dirs) {
	s := &saver{dirs: d}
	engine.Add(c, "SaveLatent", "_for_testing", saveLatent{Prefix: "latents/ComfyUI"}, s.saveLatent).Output().
		Doc("Writes a latent into the output folder.")
	engine.Add(c, "LoadLatent", "_for_testing", loadLatent{}, d.loadLatent).
		Doc("Reads a latent from the input folder.").
		Fingerprint(func(in loadLatent) (string, error) { return d.fingerprint(inputPicture(in.Latent)) }).
		Validate(func(in loadLatent, _ map[string]string) error { return d.checkLatent(in.Latent) }, "latent")
}

// latentsIn lists the latent files of a folder, sorted.
func latentsIn(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), latentEnding) {
			out = append(out, e.Name())
		}
	}
	return out
}

type loadLatent struct {
	Latent latentFile `in:"latent"`
}

func (d Dirs) loadLatent(_ context.Context, in loadLatent) (diffusion.Latent, error) {
	path, err := d.find(string(in.Latent))
	if err != nil {
		return diffusion.Latent{}, err
	}
	f, err := weights.Open(path)
	if err != nil {
		return diffusion.Latent{}, fmt.Errorf("load latent %s: %w", in.Latent, err)
	}
	t, err := f.Read(latentTensor)
	if err != nil {
		return diffusion.Latent{}, fmt.Errorf("load latent %s: %w", in.Latent, err)
	}
	if _, ok := f.Tensor(latentVersion); !ok {
		for i := range t.Data {
			t.Data[i] *= float32(1 / oldScale)
		}
	}
	return diffusion.Latent{Samples: t}, nil
}

// checkLatent accepts any file that exists.
func (d Dirs) checkLatent(name latentFile) error {
	if err := d.checkPicture(inputPicture(name)); err != nil {
		return invalidLatent(name)
	}
	return nil
}

// invalidLatent says what ComfyUI's API says, capital letter included.
type invalidLatent string

func (e invalidLatent) Error() string { return "Invalid latent file: " + string(e) }

type saveLatent struct {
	Samples diffusion.Latent `in:"samples"`
	Prefix  string           `in:"filename_prefix"`
	Prompt  engine.Prompt
	Extra   engine.ExtraPNGInfo
}

func (s *saver) saveLatent(ctx context.Context, in saveLatent) (engine.UI, error) {
	text, err := metadata(in.Prompt, in.Extra)
	if err != nil {
		return nil, err
	}
	data, err := encodeLatent(in.Samples.Samples, text)
	if err != nil {
		return nil, fmt.Errorf("save latent: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	target, err := saveJob{dir: s.dirs.Output, prefix: in.Prefix, below: s.dirs.Keep.folder()}.target(0, 0, time.Now())
	if err != nil {
		return nil, err
	}
	name, err := target.number("%s_%05d_"+latentEnding, 0, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("save latent: %w", err)
	}
	saved := SavedImage{Filename: name, Subfolder: target.subfolder, Type: "output"}
	return engine.UI{"latents": []any{saved}}, s.dirs.Keep.file(ctx, saved)
}

// encodeLatent is the content of a .latent file with texts beside the tensor.
func encodeLatent(t *tensor.Tensor, text []imagefile.Text) ([]byte, error) {
	size := len(t.Data) * 4
	entry := func(shape []int, from, to int) engine.Members {
		return engine.Members{{Key: "dtype", Value: "F32"}, {Key: "shape", Value: shape}, {Key: "data_offsets", Value: []int{from, to}}}
	}
	var header engine.Members
	if len(text) > 0 {
		var notes engine.Members
		for _, x := range text {
			notes = append(notes, engine.Member{Key: x.Key, Value: x.Value})
		}
		header = append(header, engine.Member{Key: "__metadata__", Value: notes})
	}
	header = append(header, engine.Member{Key: latentVersion, Value: entry([]int{0}, 0, 0)},
		engine.Member{Key: latentTensor, Value: entry(slices.Clone(t.Shape), 0, size)})
	raw, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("encode latent: %w", err)
	}
	for len(raw)%8 != 0 {
		raw = append(raw, ' ')
	}
	out := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(raw)+size), uint64(len(raw)))
	out = append(out, raw...)
	for _, v := range t.Data {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out, nil
}
