package nodes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// SavedImage is one entry of "images" in what an output node shows: where a
// picture was written. Type is the word for the folder: output or temp.
type SavedImage struct {
	Filename  string `json:"filename"`
	Subfolder string `json:"subfolder"`
	Type      string `json:"type"`
}

// saver writes pictures. The lock keeps two nodes that save at the same time
// from choosing the same number.
type saver struct {
	dirs   Dirs
	mu     sync.Mutex
	counts counts
}

type saveImage struct {
	Images diffusion.Image `in:"images" doc:"The pictures to write."`
	Prefix string          `in:"filename_prefix" doc:"How file names begin; may name a folder and hold %width%, %height%, %year%, %month%, %day%, %hour%, %minute%, %second% and %batch_num%."`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

func (s *saver) save(ctx context.Context, in saveImage) (engine.UI, error) {
	text, err := metadata(in.Prompt, in.Extra)
	if err != nil {
		return nil, err
	}
	return s.write(ctx, in.Images, saveJob{dir: s.dirs.Output, kind: "output", below: s.dirs.Keep.folder(), prefix: in.Prefix, png: imagefile.PNGOptions{Text: text}})
}

type previewImage struct {
	Images diffusion.Image `in:"images"`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

func (s *saver) preview(ctx context.Context, in previewImage) (engine.UI, error) {
	text, err := metadata(in.Prompt, in.Extra)
	if err != nil {
		return nil, err
	}
	const letters = 5
	name := []byte("ComfyUI_temp_")
	for range letters {
		name = append(name, byte('a'+rand.IntN(26)))
	}
	job := saveJob{dir: s.dirs.Temp, kind: "temp", below: s.dirs.Keep.folder(), prefix: string(name), png: imagefile.PNGOptions{Text: text, Fast: true}}
	return s.write(ctx, in.Images, job)
}

type maskPreview struct {
	Mask   diffusion.Mask `in:"mask"`
	Prompt engine.Prompt
	Extra  engine.ExtraPNGInfo
}

func (s *saver) previewMask(ctx context.Context, in maskPreview) (engine.UI, error) {
	img := diffusion.Image{Tensor: maskPicture(in.Mask.Tensor)}
	return s.preview(ctx, previewImage{Images: img, Prompt: in.Prompt, Extra: in.Extra})
}

// metadata is what goes into the text chunks: the prompt, then the extra
// members by name, each as Python writes JSON.
func metadata(prompt engine.Prompt, extra engine.ExtraPNGInfo) ([]imagefile.Text, error) {
	var out []imagefile.Text
	add := func(key string, raw []byte) error {
		value, err := pythonJSON(raw)
		if err != nil {
			return fmt.Errorf("write %s into picture: %w", key, err)
		}
		out = append(out, imagefile.Text{Key: key, Value: value})
		return nil
	}
	if prompt != nil {
		if err := add("prompt", prompt); err != nil {
			return nil, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		if err := add(key, extra[key]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// saveJob says where and how a batch is written.
type saveJob struct {
	dir, kind, prefix string
	below             string // folder below dir in which the prefix begins
	png               imagefile.PNGOptions
}

// write saves every picture of a batch and lists the files.
func (s *saver) write(ctx context.Context, img diffusion.Image, job saveJob) (engine.UI, error) {
	pictures := make([]imagefile.Picture, img.Shape[0])
	for i := range pictures {
		var err error
		if pictures[i], err = imagefile.FromTensor(img.Tensor, i); err != nil {
			return nil, fmt.Errorf("save image: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	target, err := job.target(img.Shape[2], img.Shape[1], time.Now())
	if err != nil {
		return nil, err
	}
	target.counts, target.passing = &s.counts, job.kind == "temp"
	list := []any{}
	for i, p := range pictures {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name, err := target.write(i, p, job.png)
		if err != nil {
			return nil, fmt.Errorf("save image: %w", err)
		}
		saved := SavedImage{Filename: name, Subfolder: target.subfolder, Type: job.kind}
		if err := s.dirs.Keep.file(ctx, saved); err != nil {
			return nil, err
		}
		list = append(list, saved)
	}
	return engine.UI{"images": list}, nil
}

// savePath is where the pictures of a prefix go.
type savePath struct {
	folder, subfolder, base string

	counts  *counts // what is known of the folders' files; nil: nothing
	passing bool    // the file need not outlive the machine, and base is a name that nobody else has
}

// counts remembers the next number of a prefix, so that a folder of many pictures is not read for each further one. It holds for as
// long as the folder has not changed since; its keys are folder and prefix.
type counts map[[2]string]counted

type counted struct {
	next    int
	changed time.Time // of the folder
}

// maxCounts bounds the prefixes that are remembered.
const maxCounts = 1000

// find returns the next number of a prefix, if it is still right.
func (c *counts) find(p savePath) (next int, ok bool) {
	if c == nil {
		return 0, false
	}
	known, ok := (*c)[[2]string{p.folder, p.base}]
	info, err := os.Stat(p.folder)
	return known.next, ok && err == nil && info.ModTime().Equal(known.changed)
}

// note remembers that a number has been given.
func (c *counts) note(p savePath, given int) {
	info, err := os.Stat(p.folder)
	if c == nil || err != nil {
		return
	}
	if *c == nil || len(*c) >= maxCounts {
		*c = counts{}
	}
	(*c)[[2]string{p.folder, p.base}] = counted{given + 1, info.ModTime()}
}

// target resolves a prefix for a picture size: placeholders, then the part
// before the last slash as a folder below dir.
func (j saveJob) target(width, height int, now time.Time) (savePath, error) {
	two := func(n int) string { return fmt.Sprintf("%02d", n) }
	prefix := strings.NewReplacer(
		"%width%", strconv.Itoa(width), "%height%", strconv.Itoa(height), "%year%", strconv.Itoa(now.Year()),
		"%month%", two(int(now.Month())), "%day%", two(now.Day()), "%hour%", two(now.Hour()),
		"%minute%", two(now.Minute()), "%second%", two(now.Second()),
	).Replace(j.prefix)
	prefix = filepath.Clean(prefix)
	subfolder, base := filepath.Split(prefix)
	subfolder = strings.TrimSuffix(subfolder, string(filepath.Separator))
	dir, err := filepath.Abs(filepath.Join(j.dir, j.below))
	if err != nil {
		return savePath{}, fmt.Errorf("save image: %w", err)
	}
	folder := filepath.Join(dir, subfolder)
	if filepath.IsAbs(prefix) {
		folder = filepath.Dir(prefix)
	}
	if rel, err := filepath.Rel(dir, folder); err != nil || !filepath.IsLocal(rel) {
		return savePath{}, fmt.Errorf("save image: filename_prefix %q leads to %s, outside of the folder %s", j.prefix, folder, dir)
	}
	return savePath{folder: folder, subfolder: filepath.Join(j.below, subfolder), base: base}, nil
}

// counter is one more than the largest number among the files base_N_…, with
// any ending.
func (p savePath) counter() (int, error) {
	if next, ok := p.counts.find(p); ok {
		return next, nil
	}
	if p.passing {
		return 1, nil
	}
	entries, err := os.ReadDir(p.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	highest := 0
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), p.base+"_")
		if !ok {
			continue
		}
		digits, _, _ := strings.Cut(rest, "_")
		if n, err := strconv.Atoi(digits); err == nil {
			highest = max(highest, n)
		}
	}
	return highest + 1, nil
}

const batchNumber = "%batch_num%"

// write saves picture i of a batch under the next free number.
func (p savePath) write(i int, pic imagefile.Picture, o imagefile.PNGOptions) (string, error) {
	return p.number("%s_%05d_.png", i, func(w io.Writer) error { return imagefile.WritePNG(w, pic, o) })
}

// number writes a file under the next free number; format makes its name of
// prefix and number. A prefix with %batch_num%, which stands for i, does not
// find its own files, so it overwrites them, as in ComfyUI; any other name is
// never overwritten.
func (p savePath) number(format string, i int, write func(io.Writer) error) (string, error) {
	if err := os.MkdirAll(p.folder, 0o777); err != nil {
		return "", err
	}
	n, err := p.counter()
	if err != nil {
		return "", err
	}
	temp, err := p.writeTemp(write)
	if err != nil {
		return "", err
	}
	defer os.Remove(temp)
	overwrite := strings.Contains(p.base, batchNumber)
	if overwrite {
		n += i
	}
	base := strings.ReplaceAll(p.base, batchNumber, strconv.Itoa(i))
	for ; ; n++ {
		name := fmt.Sprintf(format, base, n)
		err := place(temp, filepath.Join(p.folder, name), overwrite)
		if err == nil && !overwrite {
			os.Remove(temp)
			p.counts.note(p, n)
		}
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
	}
}

// place gives a finished file its name. A hard link fails when the name is
// taken, by another process for example; folders without hard links get a
// rename.
func place(temp, path string, overwrite bool) error {
	if !overwrite {
		err := os.Link(temp, path)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		if _, err := os.Lstat(path); err == nil {
			return fs.ErrExist
		}
	}
	return os.Rename(temp, path)
}

// writeTemp writes a file under a passing name in its folder, through to the
// disk unless it is passing itself. Nothing stays when that fails.
func (p savePath) writeTemp(write func(io.Writer) error) (path string, err error) {
	path = filepath.Join(p.folder, fmt.Sprintf(".saving-%016x.tmp", rand.Uint64()))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return "", err
	}
	buffered := bufio.NewWriterSize(f, 1<<16)
	if err = write(buffered); err == nil {
		err = buffered.Flush()
	}
	if err == nil && !p.passing {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return path, nil
}
