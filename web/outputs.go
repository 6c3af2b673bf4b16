package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"regexp"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// outputIndex knows files of results by the digest of their content. It is a memory, not a record: what it does not know
// it finds again in the history. The zero value is empty.
type outputIndex struct {
	searching sync.Mutex // held while the history is searched
	mu        sync.Mutex
	files     map[reference]storedOutput
	digests   map[string]reference
	seen      map[string]time.Time // prompts of the history that are indexed, with when they ended
}

// storedOutput is a file as it was when its digest was computed.
type storedOutput struct {
	digest   string
	size     int64
	modified time.Time
}

// maxIndexed is the number of files beyond which the index begins anew.
const maxIndexed = 100_000

// identify returns the digest of a file, which is computed when the file is new or has changed.
func (x *outputIndex) identify(s *Server, ref reference) (storedOutput, error) {
	file, info, err := s.openStored(ref)
	if err != nil {
		return storedOutput{}, err
	}
	defer file.Close()
	x.mu.Lock()
	known, ok := x.files[ref]
	x.mu.Unlock()
	if ok && known.size == info.Size() && known.modified.Equal(info.ModTime()) {
		return known, nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return storedOutput{}, fmt.Errorf("read output %s: %w", ref.Filename, err)
	}
	now := storedOutput{hex.EncodeToString(hash.Sum(nil)), info.Size(), info.ModTime()}
	x.add(ref, now)
	return now, nil
}

func (x *outputIndex) add(ref reference, stored storedOutput) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.files == nil || len(x.files) >= maxIndexed {
		x.files, x.digests, x.seen = map[reference]storedOutput{}, map[string]reference{}, map[string]time.Time{}
	}
	x.files[ref], x.digests[stored.digest] = stored, ref
}

// find returns the file of a digest: one that is known and has not changed, else one of the history's.
func (x *outputIndex) find(ctx context.Context, s *Server, digest string) (reference, bool) {
	if ref, ok := x.known(s, digest); ok {
		return ref, true
	}
	x.searching.Lock()
	defer x.searching.Unlock()
	if err := x.search(ctx, s); err != nil {
		s.Log.Warn("history cannot be searched for outputs", "err", err)
	}
	return x.known(s, digest)
}

func (x *outputIndex) known(s *Server, digest string) (reference, bool) {
	x.mu.Lock()
	ref, ok := x.digests[digest]
	x.mu.Unlock()
	if !ok {
		return reference{}, false
	}
	now, err := x.identify(s, ref)
	return ref, err == nil && now.digest == digest
}

// search indexes the outputs of all prompts of the history that have not been looked at.
func (x *outputIndex) search(ctx context.Context, s *Server) error {
	const page = 200
	for offset := 0; ; offset += page {
		size := page
		entries, err := s.Queue.History(ctx, queue.Page{MaxItems: &size, Offset: &offset})
		if err != nil {
			return err
		}
		for _, e := range entries {
			var stored storedResult
			if !x.isNew(e) || json.Unmarshal(e.Result, &stored) != nil {
				continue
			}
			stored.each(func(_, _ string, item json.RawMessage) {
				var ref reference
				if json.Unmarshal(item, &ref) == nil && ref.Filename != "" {
					x.identify(s, ref) // what is gone cannot be asked for
				}
			})
		}
		if len(entries) < page {
			return nil
		}
	}
}

// isNew takes note of a prompt and reports whether it had not been looked at.
func (x *outputIndex) isNew(e queue.Entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.seen == nil || len(x.seen) >= maxIndexed {
		x.seen = map[string]time.Time{}
	}
	if ended, ok := x.seen[e.ID]; ok && ended.Equal(e.Finished) {
		return false
	}
	x.seen[e.ID] = e.Finished
	return true
}

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// outputByDigest answers GET /outputs/sha256/HEX with a file of that content, which may be kept for ever: by the client
// alone, since not everybody may be allowed to see it.
func (s *Server) outputByDigest(c *gin.Context) {
	digest := c.Param("digest")
	if !digestForm.MatchString(digest) {
		s.deny(c, http.StatusBadRequest, "invalid_digest", "a digest is 64 lower-case hexadecimal digits")
		return
	}
	ref, ok := s.outputs.find(c.Request.Context(), s, digest)
	if !ok {
		s.deny(c, http.StatusNotFound, "output_not_found", "no output of this content is in the history, or its file is gone")
		return
	}
	file, info, err := s.openReference(c.Request.Context(), ref)
	if err != nil {
		s.deny(c, http.StatusNotFound, "output_not_found", "the file is gone")
		return
	}
	defer file.Close()
	s.sendOutput(c, file, info, output{ref: ref, digest: digest})
}

// output is a file of a result that is about to be sent.
type output struct {
	ref    reference
	digest string
}

// sendOutput sends a file under its digest.
func (s *Server) sendOutput(c *gin.Context, file *os.File, info fs.FileInfo, o output) {
	kind := harmless(contentType(o.ref.Filename))
	c.Header("Content-Disposition", fmt.Sprintf("inline; filename=%q", path.Base(o.ref.Filename)))
	c.Header("Cache-Control", "private, max-age=31536000, immutable")
	c.Header("Content-Type", kind)
	c.Header("ETag", `"`+o.digest+`"`)
	if scripted(kind) {
		c.Header("Content-Security-Policy", "sandbox; default-src 'none'")
	}
	http.ServeContent(c.Writer, c.Request, "", info.ModTime(), file)
	c.Abort()
}

// deny answers with an error in the form that POST /prompt has for it.
func (s *Server) deny(c *gin.Context, status int, kind, message string) {
	s.refuse(c, refused(kind, message, "").with(status, 0))
}
