package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/workflows"
)

// Inputs fetches pictures that prompts name by URL. A nil Inputs refuses every URL.
type Inputs struct {
	Allow     *Allow
	Dir       string            // the input folder
	MaxBytes  int64             // of a file; 0: 32 MiB
	MaxPixels int               // width times height; 0: 32 Mi
	MaxURLs   int               // of one prompt; 0: 16
	Timeout   time.Duration     // of one picture; 0: 30 s
	Outcome   func(word string) // told "fetched", "cached" or "refused"; may be nil

	once  sync.Once
	slots chan struct{} // a place for each picture that is being fetched: they lie in memory
}

// atOnce is how many pictures are fetched at a time, for all prompts together.
const atOnce = 2

// enter waits for a place and returns what gives it back.
func (in *Inputs) enter(ctx context.Context) (leave func(), err error) {
	in.once.Do(func() { in.slots = make(chan struct{}, atOnce) })
	select {
	case in.slots <- struct{}{}:
		return func() { <-in.slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("fetch picture: %w", context.Cause(ctx))
	}
}

// folder is where fetched pictures lie in the input folder.
const folder = "remote"

// Replace fetches what the picture loaders of a graph name by URL, and puts the names of the files in its place: the digest of
// the content, so that the same picture is the same prompt. It says whether the graph changed; the error is an *engine.InvalidError that names the nodes.
func (in *Inputs) Replace(ctx context.Context, g *workflows.Graph) (changed bool, err error) {
	var errs []*engine.NodeError
	names := map[string]string{}
	for _, n := range g.Nodes() {
		raw, ok := pictureURL(n)
		if !ok {
			continue
		}
		name, err := in.replacement(ctx, raw, names)
		if err != nil {
			in.tell("refused")
			errs = append(errs, &engine.NodeError{Node: n.ID, Class: n.Class, Input: "image", Kind: engine.CustomFailed, Err: err, Details: "image - " + err.Error()})
			continue
		}
		n.Inputs.Set("image", workflows.StringValue(name))
	}
	if len(errs) > 0 {
		return false, &engine.InvalidError{Kind: engine.OutputsFailed, Errors: errs}
	}
	return len(names) > 0, nil
}

// replacement fetches a URL that occurs in several nodes a single time.
func (in *Inputs) replacement(ctx context.Context, raw string, names map[string]string) (string, error) {
	if name, ok := names[raw]; ok {
		return name, nil
	}
	if in == nil || in.Allow == nil {
		return "", fmt.Errorf("picture by URL: %w; this server fetches none (--input-urls PATTERN)", ErrNotAllowed)
	}
	if most := orInt(in.MaxURLs, 16); len(names) >= most {
		return "", fmt.Errorf("more than %d pictures by URL in one prompt", most)
	}
	name, err := in.Fetch(ctx, raw)
	if err == nil {
		names[raw] = name
	}
	return name, err
}

// pictureURL is the URL that a node names its picture by.
func pictureURL(n *workflows.Node) (string, bool) {
	if n.Class != "LoadImage" && n.Class != "LoadImageMask" {
		return "", false
	}
	v, _ := n.Inputs.Get("image")
	s, ok := v.Str()
	lower := strings.ToLower(s)
	return s, ok && (strings.HasPrefix(lower, "https://") || strings.HasPrefix(lower, "http://"))
}

// Fetch fetches one picture and returns its name in the input folder.
func (in *Inputs) Fetch(ctx context.Context, raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", errors.New("fetch picture: not a URL")
	}
	if err := in.Allow.Check(u); err != nil {
		return "", fmt.Errorf("fetch picture: %w", err)
	}
	leave, err := in.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	data, err := in.get(ctx, u)
	if err != nil {
		return "", fmt.Errorf("fetch picture: %w", err)
	}
	most := orInt(in.MaxPixels, 32<<20)
	if _, err := imagefile.Decode(data, most); err != nil {
		return "", fmt.Errorf("fetch picture from %s (at most %d pixels): %w", u.Host, most, err)
	}
	return in.keep(data)
}

func (in *Inputs) get(ctx context.Context, u *url.URL) ([]byte, error) {
	timeout := in.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	client := in.Allow.Client(timeout)
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "image/*")
	r.Header.Set("User-Agent", "comfyrun")
	answer, err := client.Do(r)
	if err != nil {
		return nil, withoutQuery(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", u.Host, answer.Status)
	}
	most := in.MaxBytes
	if most == 0 {
		most = 32 << 20
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	switch {
	case err != nil:
		return nil, withoutQuery(err)
	case int64(len(data)) > most:
		return nil, fmt.Errorf("the file of %s has more than %d bytes", u.Host, most)
	}
	return data, nil
}

// withoutQuery takes the URL out of an error: its query may be a signature.
func withoutQuery(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		if u, parseErr := url.Parse(at.URL); parseErr == nil {
			return fmt.Errorf("%s %s://%s: %w", strings.ToLower(at.Op), u.Scheme, u.Host, at.Err)
		}
		return at.Err
	}
	return err
}

// keep writes a file under the digest of its content, unless it is there.
func (in *Inputs) keep(data []byte) (string, error) {
	sum := sha256.Sum256(data)
	name := folder + "/" + hex.EncodeToString(sum[:]) + extension(data)
	at := filepath.Join(in.Dir, filepath.FromSlash(name))
	if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && info.Size() == int64(len(data)) {
		in.tell("cached")
		return name, nil
	}
	if err := writeFile(at, data); err != nil {
		return "", fmt.Errorf("keep picture: %w", err)
	}
	in.tell("fetched")
	return name, nil
}

// extension is what pages and people tell the kind of file by.
func extension(data []byte) string {
	switch http.DetectContentType(data) {
	case "image/png":
		return ".png"
	case "image/jpeg":
		return ".jpg"
	case "image/webp":
		return ".webp"
	case "image/gif":
		return ".gif"
	case "image/bmp":
		return ".bmp"
	}
	return ".tiff"
}

func (in *Inputs) tell(word string) {
	if in != nil && in.Outcome != nil {
		in.Outcome(word)
	}
}

// writeFile writes a whole file or none.
func writeFile(at string, data []byte) (err error) {
	dir := filepath.Dir(at)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), at)
}

func orInt(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
