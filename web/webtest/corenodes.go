package webtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

type (
	inputPicture string
	checkpoint   string
	samplerName  string
	scheduler    string
	padColour    string
	resizing     string

	model        struct{}
	clip         struct{}
	vae          struct{}
	latent       struct{}
	conditioning struct{}
)

const samplers = `euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral lms dpm_fast
dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2m_sde
dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis
res_multistep res_multistep_cfg_pp res_multistep_ancestral res_multistep_ancestral_cfg_pp gradient_estimation
gradient_estimation_cfg_pp er_sde seeds_2 seeds_3 sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2`

const schedulers = "simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal"

func kinds(base string) []engine.Kind {
	input, checkpoints := filepath.Join(base, "input"), filepath.Join(base, "models", "checkpoints")
	return append(fixtureKinds(),
		engine.Socket[Image]("IMAGE"), engine.Socket[Mask]("MASK"), engine.Socket[model]("MODEL"), engine.Socket[clip]("CLIP"),
		engine.Socket[vae]("VAE"), engine.Socket[latent]("LATENT"), engine.Socket[conditioning]("CONDITIONING"),
		engine.Combo[inputPicture](func() []string {
			return list(input, false, ".gif", ".jpeg", ".jpg", ".png", ".svg", ".webp")
		}),
		engine.Combo[checkpoint](func() []string {
			return list(checkpoints, true, ".bin", ".ckpt", ".pkl", ".pt", ".pt2", ".pth", ".safetensors", ".sft")
		}),
		engine.Combo[samplerName](engine.Choices(strings.Fields(samplers)...)),
		engine.Combo[scheduler](engine.Choices(strings.Fields(schedulers)...)),
		engine.Combo[padColour](engine.Choices("white", "black")),
		engine.Combo[resizing](engine.Choices("area", "bicubic", "nearest-exact", "bilinear", "lanczos")),
	)
}

// list is the files of a folder with one of the endings, sorted.
func list(dir string, deep bool, endings ...string) []string {
	var out []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // what cannot be read is not listed
		case d.IsDir() && path != dir && !deep:
			return fs.SkipDir
		case !d.IsDir() && slices.Contains(endings, strings.ToLower(filepath.Ext(path))):
			rel, _ := filepath.Rel(dir, path)
			out = append(out, filepath.ToSlash(rel))
		}
		return nil
	})
	slices.Sort(out)
	return out
}

// addCore declares doubles of core nodes.
func addCore(c *engine.Catalog, base string) {
	d := &disk{base: base, letters: map[string]string{}}
	engine.Add(c, "EmptyImage", "image", emptyImage{Width: 512, Height: 512, Batch: 1}, newImage)
	engine.Add(c, "ImageInvert", "image", invertImage{}, invert).Title("Invert Image")
	engine.Add(c, "SaveImage", "image", saveImage{Prefix: "ComfyUI"}, d.save).Output().Title("Save Image")
	engine.Add(c, "PreviewImage", "image", previewImage{}, d.preview).Output().Title("Preview Image")
	engine.Add(c, "SaveImageWebsocket", "api/image", sendImage{}, send).Output().Volatile().
		Module("custom_nodes.websocket_image_save")
	engine.Add(c, "LoadImage", "image", loadImage{}, d.load).Title("Load Image").
		Fingerprint(func(in loadImage) (string, error) { return d.fingerprint(in.Image) }).
		Validate(func(in loadImage, _ map[string]string) error { return d.check(in.Image) }, "image")
	engine.Add(c, "PrimitiveInt", "utils/primitive", primitiveInt{}, func(_ context.Context, in primitiveInt) (int64, error) {
		return in.Value, nil
	}).V3().Module("comfy_extras.nodes_primitive").Title("Int")
	addShown(c)
}

type primitiveInt struct {
	Value int64 `in:"value" range:"-9223372036854775807,9223372036854775807" ui:"nodefault,control_after_generate"`
}

type emptyImage struct {
	Width  int `in:"width" range:"1,16384,1"`
	Height int `in:"height" range:"1,16384,1"`
	Batch  int `in:"batch_size" range:"1,4096"`
	Colour int `in:"color" range:"0,0xffffff,1" ui:"display=color"`
}

func newImage(_ context.Context, in emptyImage) (Image, error) {
	out := tensor.New(in.Batch, in.Height, in.Width, 3)
	for i := range out.Data {
		out.Data[i] = float32(in.Colour>>(16-8*(i%3))&0xff) / 255
	}
	return Image{out}, nil
}

type invertImage struct {
	Image Image `in:"image"`
}

func invert(_ context.Context, in invertImage) (Image, error) {
	out := in.Image.Clone()
	for i, v := range out.Data {
		out.Data[i] = 1 - v
	}
	return Image{out}, nil
}

// addShown declares node types that are looked at but never run.
func addShown(c *engine.Catalog) {
	const doc = "Is not run here."
	loader := engine.Add(c, "CheckpointLoaderSimple", "loaders", checkpointLoader{}, idle[checkpointLoader, loaded])
	loader.Title("Load Checkpoint").OutputDocs(doc, doc, doc)
	engine.Add(c, "KSampler", "sampling", kSampler{Steps: 20, CFG: 8, Denoise: 1}, idle[kSampler, latent]).OutputDocs(doc)
	engine.Add(c, "ResizeAndPadImage", "image/transform", resizeAndPad{Width: 512, Height: 512}, idle[resizeAndPad, Image]).
		Module("comfy_extras.nodes_images")
}

func idle[I, O any](context.Context, I) (out O, err error) {
	return out, errors.New("this node is only listed")
}

type checkpointLoader struct {
	Name checkpoint `in:"ckpt_name" doc:"The file."`
}

type loaded struct {
	Model model `out:"MODEL"`
	CLIP  clip  `out:"CLIP"`
	VAE   vae   `out:"VAE"`
}

type kSampler struct {
	Model     model        `in:"model" doc:"The model."`
	Seed      uint64       `in:"seed" range:"0,0xffffffffffffffff" ui:"control_after_generate" doc:"Of the noise."`
	Steps     int          `in:"steps" range:"1,10000" doc:"How many."`
	CFG       float64      `in:"cfg" range:"0,100,0.1,0.01" doc:"Guidance."`
	Sampler   samplerName  `in:"sampler_name" doc:"The sampler."`
	Scheduler scheduler    `in:"scheduler" doc:"The schedule."`
	Positive  conditioning `in:"positive" doc:"Wanted."`
	Negative  conditioning `in:"negative" doc:"Unwanted."`
	Latent    latent       `in:"latent_image" doc:"The start."`
	Denoise   float64      `in:"denoise" range:"0,1,0.01" doc:"How much is new."`
}

type resizeAndPad struct {
	Image  Image     `in:"image"`
	Width  int       `in:"target_width" range:"1,16384,1"`
	Height int       `in:"target_height" range:"1,16384,1"`
	Colour padColour `in:"padding_color"`
	How    resizing  `in:"interpolation"`
}

// disk reads and writes pictures below the base folder.
type disk struct {
	base    string
	mu      sync.Mutex
	letters map[string]string // of PreviewImage, by node: the recorded server keeps them while a node stays
}

type saved struct {
	Filename  string `json:"filename"`
	Subfolder string `json:"subfolder"`
	Type      string `json:"type"`
}

type saveImage struct {
	Images Image  `in:"images" doc:"The pictures to write."`
	Prefix string `in:"filename_prefix" doc:"How file names begin."`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

func (d *disk) save(_ context.Context, in saveImage) (engine.UI, error) {
	return d.write(in.Images, "output", in.Prefix, texts(in.Prompt, in.Extra))
}

type previewImage struct {
	Images Image `in:"images"`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

func (d *disk) preview(ctx context.Context, in previewImage) (engine.UI, error) {
	id := engine.NodeID(ctx)
	d.mu.Lock()
	if d.letters[id] == "" {
		for range 5 {
			d.letters[id] += string(rune('a' + rand.IntN(26)))
		}
	}
	prefix := "ComfyUI_temp_" + d.letters[id]
	d.mu.Unlock()
	return d.write(in.Images, "temp", prefix, texts(in.Prompt, in.Extra))
}

// texts are the prompt, then the extra members by name, as a PNG holds them.
func texts(prompt engine.Prompt, extra engine.ExtraPNGInfo) []imagefile.Text {
	out := []imagefile.Text{{Key: "prompt", Value: string(prompt)}}
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		out = append(out, imagefile.Text{Key: key, Value: string(extra[key])})
	}
	return out
}

func (d *disk) write(img Image, kind, prefix string, text []imagefile.Text) (engine.UI, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	prefix = strings.NewReplacer("%width%", strconv.Itoa(img.Shape[2]), "%height%", strconv.Itoa(img.Shape[1])).Replace(prefix)
	if !filepath.IsLocal(prefix) {
		return nil, &Exception{"Exception", fmt.Sprintf("prefix %q leads out of the folder %s", prefix, kind)}
	}
	subfolder, name := filepath.Split(filepath.Clean(prefix))
	subfolder = strings.TrimSuffix(subfolder, "/")
	folder := filepath.Join(d.base, kind, subfolder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	images, n := []any{}, counter(folder, name)
	for i := range img.Shape[0] {
		file := fmt.Sprintf("%s_%05d_.png", name, n+i)
		if err := writePNG(filepath.Join(folder, file), img, i, text); err != nil {
			return nil, err
		}
		images = append(images, saved{file, subfolder, kind})
	}
	return engine.UI{"images": images}, nil
}

// counter is the next free number of files name_N_….
func counter(folder, name string) int {
	entries, _ := os.ReadDir(folder)
	highest := 0
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), name+"_"); ok {
			digits, _, _ := strings.Cut(rest, "_")
			n, _ := strconv.Atoi(digits)
			highest = max(highest, n)
		}
	}
	return highest + 1
}

func writePNG(path string, img Image, i int, text []imagefile.Text) error {
	p, err := imagefile.FromTensor(img.Tensor, i)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(imagefile.WritePNG(f, p, imagefile.PNGOptions{Text: text}), f.Close())
}

type sendImage struct {
	Images Image `in:"images"`
}

// send hands its pictures to the client as previews.
func send(ctx context.Context, in sendImage) (engine.UI, error) {
	for i := range in.Images.Shape[0] {
		p, err := imagefile.FromTensor(in.Images.Tensor, i)
		if err != nil {
			return nil, err
		}
		engine.Preview(ctx, i, in.Images.Shape[0], lasting{picturePreview(p)})
	}
	return engine.UI{}, nil
}

type loadImage struct {
	Image inputPicture `in:"image" ui:"image_upload"`
}

type imageAndMask struct {
	Image Image `out:"IMAGE"`
	Mask  Mask  `out:"MASK"`
}

func (d *disk) load(_ context.Context, in loadImage) (imageAndMask, error) {
	data, err := os.ReadFile(d.path(in.Image))
	if err != nil {
		return imageAndMask{}, err
	}
	frames, err := imagefile.Decode(data, 0)
	if err != nil {
		return imageAndMask{}, err
	}
	img, mask, err := imagefile.Images(frames)
	return imageAndMask{Image{img}, Mask{mask}}, err
}

func (d *disk) path(name inputPicture) string { return filepath.Join(d.base, "input", string(name)) }

func (d *disk) fingerprint(name inputPicture) (string, error) {
	data, err := os.ReadFile(d.path(name))
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}

func (d *disk) check(name inputPicture) error {
	if _, err := os.Stat(d.path(name)); err != nil || !filepath.IsLocal(string(name)) {
		return invalidPicture(name)
	}
	return nil
}

// invalidPicture says what ComfyUI's API says, capital letter included.
type invalidPicture string

func (e invalidPicture) Error() string { return "Invalid image file: " + string(e) }
