package nodes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// Dirs are the folders in which nodes find and leave pictures.
type Dirs struct {
	Input, Output, Temp string
	Keep                *Keep // nil: what is saved stays where it is
}

// Keep has copies made of saved pictures and latents, for who cannot read this process's folders.
type Keep struct {
	// Folder is where files are saved below Output and Temp. No other process saves there, so that names do not meet.
	Folder string
	// File is called for each file when it is complete: kind is "output" or "temp", name its path below that folder, with slashes.
	// The node fails when it does.
	File func(ctx context.Context, kind, name string) error
}

// folder is where files are saved below Output and Temp; "": there itself.
func (k *Keep) folder() string {
	if k == nil {
		return ""
	}
	return k.Folder
}

// file has a copy made.
func (k *Keep) file(ctx context.Context, saved SavedImage) error {
	if k == nil {
		return nil
	}
	if err := k.File(ctx, saved.Type, path.Join(filepath.ToSlash(saved.Subfolder), saved.Filename)); err != nil {
		return fmt.Errorf("keep %s: %w", saved.Filename, err)
	}
	return nil
}

// The choices of nodes that read picture files.
type (
	inputPicture  string // a file of the input folder; any other may be named too
	outputPicture string // "name [output]", a file of the output folder
	maskChannel   string
)

// fileKinds are the choice inputs of addImageFiles.
func fileKinds(d Dirs) []engine.Kind {
	return []engine.Kind{
		engine.Combo[inputPicture](func() []string { return picturesIn(d.Input) }),
		engine.Combo[outputPicture](engine.Choices()),
		engine.Combo[maskChannel](engine.Choices("alpha", "red", "green", "blue")),
	}
}

// addImageFiles declares the nodes that read and write picture files.
func addImageFiles(c *engine.Catalog, d Dirs) {
	engine.Add(c, "LoadImage", "image", loadImage{}, d.loadImage).
		Title("Load Image").Doc("Reads a picture from the input folder, and its transparency as a mask.").
		Fingerprint(func(in loadImage) (string, error) { return d.fingerprint(in.Image) }).
		Validate(func(in loadImage, _ map[string]string) error { return d.checkPicture(in.Image) }, "image")
	engine.Add(c, "LoadImageMask", "mask", loadImageMask{}, d.loadImageMask).
		Title("Load Image (as Mask)").Doc("Reads one channel of a picture as a mask.").
		Fingerprint(func(in loadImageMask) (string, error) { return d.fingerprint(in.Image) }).
		Validate(func(in loadImageMask, _ map[string]string) error { return d.checkPicture(in.Image) }, "image")
	output := engine.Add(c, "LoadImageOutput", "image", loadOutput{}, d.loadOutput).Experimental().
		Title("Load Image (from Outputs)").Doc("Reads a picture that was saved before.").
		Fingerprint(func(in loadOutput) (string, error) { return d.fingerprint(inputPicture(in.Image)) }).
		Validate(func(in loadOutput, _ map[string]string) error { return d.checkPicture(inputPicture(in.Image)) }, "image")
	listedByPage(&output.Type().Inputs[0])
	engine.Add(c, "SaveImageWebsocket", "api/image", sendImage{}, send).Output().Volatile().
		Module("custom_nodes.websocket_image_save").Doc("Sends pictures to the client over its socket, as PNG, and keeps none.")
	s := &saver{dirs: d}
	engine.Add(c, "SaveImage", "image", saveImage{Prefix: "ComfyUI"}, s.save).Output().
		Title("Save Image").Doc("Writes pictures into the output folder, as PNG files that hold the workflow.")
	engine.Add(c, "PreviewImage", "image", previewImage{}, s.preview).Output().
		Title("Preview Image").Doc("Shows pictures; they are written into the temporary folder.")
	engine.Add(c, "MaskPreview", "mask", maskPreview{}, s.previewMask).Output().Module("comfy_extras.nodes_mask").
		Doc("Shows a mask as a gray picture.")
}

type loadImage struct {
	Image inputPicture `in:"image" ui:"image_upload"`
}

// imageAndMask is a picture with the mask that belongs to it.
type imageAndMask struct {
	Image diffusion.Image `out:"IMAGE"`
	Mask  diffusion.Mask  `out:"MASK"`
}

func (d Dirs) loadImage(_ context.Context, in loadImage) (imageAndMask, error) {
	frames, err := d.decode(in.Image)
	if err != nil {
		return imageAndMask{}, err
	}
	img, mask, err := imagefile.Images(frames)
	if err != nil {
		return imageAndMask{}, fmt.Errorf("load image %s: %w", in.Image, err)
	}
	return imageAndMask{diffusion.Image{Tensor: img}, diffusion.Mask{Tensor: mask}}, nil
}

type loadOutput struct {
	Image outputPicture `in:"image" ui:"image_upload,image_folder=output"`
}

func (d Dirs) loadOutput(ctx context.Context, in loadOutput) (imageAndMask, error) {
	return d.loadImage(ctx, loadImage{Image: inputPicture(in.Image)})
}

// listedByPage has the editor ask for the list of choices itself.
func listedByPage(in *engine.Input) {
	in.Choices = nil
	in.Options = append(in.Options, engine.Member{Key: "remote", Value: engine.Members{
		{Key: "route", Value: "/internal/files/output"},
		{Key: "refresh_button", Value: true},
		{Key: "control_after_refresh", Value: "first"},
	}})
}

type loadImageMask struct {
	Image   inputPicture `in:"image" ui:"image_upload"`
	Channel maskChannel  `in:"channel"`
}

func (d Dirs) loadImageMask(_ context.Context, in loadImageMask) (diffusion.Mask, error) {
	frames, err := d.decode(in.Image)
	if err != nil {
		return diffusion.Mask{}, err
	}
	mask, err := imagefile.Mask(frames[0], string(in.Channel))
	return diffusion.Mask{Tensor: mask}, err
}

func (d Dirs) decode(name inputPicture) ([]imagefile.Picture, error) {
	path, err := d.find(string(name))
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	frames, err := imagefile.Decode(data, 0)
	if err != nil {
		return nil, fmt.Errorf("load image %s: %w", name, err)
	}
	return frames, nil
}

var errOutside = errors.New("lies outside of its folder")

// find turns a name, possibly followed by [input], [output] or [temp], into a
// path. As in ComfyUI the character before the bracket goes too. A name that
// leaves its folder is refused, which ComfyUI does elsewhere but not here.
func (d Dirs) find(name string) (string, error) {
	dir := d.Input
	for word, folder := range map[string]string{"[input]": d.Input, "[output]": d.Output, "[temp]": d.Temp} {
		if rest, ok := strings.CutSuffix(name, word); ok {
			name, dir = rest[:max(len(rest)-1, 0)], folder
			break
		}
	}
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("find picture %q: %w", name, errOutside)
	}
	return filepath.Join(dir, name), nil
}

// checkPicture is the check that replaces the list of choices: any file that
// exists will do. An empty name stands for an input that is linked.
func (d Dirs) checkPicture(name inputPicture) error {
	if name == "" {
		return nil
	}
	path, err := d.find(string(name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return invalidPicture(name)
	}
	return nil
}

// invalidPicture says what ComfyUI's API says, capital letter included.
type invalidPicture string

func (e invalidPicture) Error() string { return "Invalid image file: " + string(e) }

// fingerprint is the SHA-256 of the file.
func (d Dirs) fingerprint(name inputPicture) (string, error) {
	path, err := d.find(string(name))
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("hash picture: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hash picture: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// pictureEndings are the endings of files that count as pictures; LoadImage
// lists them even where no decoder reads the kind.
var pictureEndings = []string{
	".avif", ".bmp", ".gif", ".heic", ".heif", ".ico", ".ief", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
	".ppm", ".ras", ".rgb", ".svg", ".tif", ".tiff", ".webp", ".xbm", ".xpm", ".xwd",
}

// picturesIn lists the picture files of a folder, sorted; a folder that cannot
// be read is empty.
func picturesIn(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if !slices.Contains(pictureEndings, strings.ToLower(filepath.Ext(e.Name()))) {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.Mode().IsRegular() {
			out = append(out, e.Name())
		}
	}
	return out
}

// maskPicture shows a mask as three equal channels.
func maskPicture(m *tensor.Tensor) *tensor.Tensor {
	h, w := m.Dim(-2), m.Dim(-1)
	out := tensor.New(len(m.Data)/max(h*w, 1), h, w, 3)
	for i, v := range m.Data {
		out.Data[3*i], out.Data[3*i+1], out.Data[3*i+2] = v, v, v
	}
	return out
}
