package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine/queue"
)

const (
	// maxWait is how long one request waits at most; a client that wants more asks again.
	maxWait = 10 * time.Minute
	// pictureWait is how long a request waits that says nothing but that it wants a picture.
	pictureWait = time.Minute
)

// waiting is how a client wants to be told of a prompt's end.
type waiting struct {
	For     time.Duration // 0: not at all
	Picture string        // the picture type that it wants instead of JSON: "image/png", "image/*"; "": JSON
	Cancel  bool          // end the prompt when the client goes away
}

// readWaiting reads wait, cancel_on_disconnect and the header Accept.
func readWaiting(r *http.Request) (waiting, error) {
	query := r.URL.Query()
	w := waiting{Picture: wantedPicture(r.Header.Get("Accept"))}
	if text := query.Get("wait"); text != "" {
		d, err := parseWait(text)
		if err != nil {
			return w, err
		}
		w.For = min(d, maxWait)
	} else if w.Picture != "" {
		w.For = pictureWait
	}
	switch text := query.Get("cancel_on_disconnect"); text {
	case "", "false", "0":
	case "true", "1":
		w.Cancel = true
	default:
		return w, fmt.Errorf("cancel_on_disconnect is true or false, not %q", text)
	}
	return w, nil
}

// parseWait reads a duration such as 60s or 2m, or a number of seconds.
func parseWait(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if seconds, failed := strconv.ParseFloat(text, 64); failed == nil && seconds >= 0 && seconds <= 1e9 {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("wait is a duration such as 60s or 2m, or a number of seconds, not %q", text)
	}
	return d, nil
}

// wantedPicture is the first picture type of an Accept header that does not take JSON as well: a browser's own header,
// which lists pictures among everything else, asks for none.
func wantedPicture(accept string) string {
	picture := ""
	for part := range strings.SplitSeq(accept, ",") {
		kind, _, _ := strings.Cut(part, ";")
		switch kind = strings.ToLower(strings.TrimSpace(kind)); {
		case kind == "application/json", kind == "text/html":
			return ""
		case strings.HasPrefix(kind, "image/") && picture == "":
			picture = kind
		}
	}
	return picture
}

// answerPrompt tells a client of a prompt: at once where it stands when it does not wait, else as soon as it has ended or
// the time is over.
func (s *Server) answerPrompt(c *gin.Context, id string, w waiting) {
	entry, ended, err := s.await(c.Request.Context(), id, w)
	switch {
	case err != nil && c.Request.Context().Err() != nil:
		c.Abort() // nobody listens
	case errors.Is(err, queue.ErrUnknown):
		s.deny(c, http.StatusNotFound, "prompt_not_found", "there is no prompt of this id, or not any more")
	case err != nil:
		s.answerTrouble(c, err)
	case ended:
		s.answerEnded(c, entry, w)
	default:
		s.answerStanding(c, id, w)
	}
}

// await returns a prompt's entry when it has ended within the time.
func (s *Server) await(ctx context.Context, id string, w waiting) (queue.Entry, bool, error) {
	if w.For == 0 {
		return s.Queue.Entry(ctx, id)
	}
	limited, stop := context.WithTimeout(ctx, w.For)
	defer stop()
	entry, err := s.Queue.Wait(limited, id)
	switch {
	case err == nil:
		return entry, true, nil
	case ctx.Err() != nil:
		if w.Cancel {
			s.cancelLeft(ctx, id)
		}
		return queue.Entry{}, false, ctx.Err()
	case limited.Err() != nil:
		return queue.Entry{}, false, nil
	}
	return queue.Entry{}, false, err
}

// cancelLeft ends a prompt whose client has gone.
func (s *Server) cancelLeft(ctx context.Context, id string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	if _, err := s.Queue.Cancel(ctx, id); err != nil {
		s.Log.Warn("prompt of a client that is gone cannot be cancelled", "prompt_id", id, "err", err)
	}
}

// answerStanding answers 202 for a prompt that has not ended, with the address to ask at.
func (s *Server) answerStanding(c *gin.Context, id string, w waiting) {
	info, err := s.Queue.Find(c.Request.Context(), id)
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	if info.State == queue.Unknown {
		s.deny(c, http.StatusNotFound, "prompt_not_found", "there is no prompt of this id, or not any more")
		return
	}
	if info.State.Finished() { // just now
		if e, ok, err := s.Queue.Entry(c.Request.Context(), id); err == nil && ok {
			s.answerEnded(c, e, w)
			return
		}
	}
	c.Header("Location", promptURL(id))
	c.Header("Retry-After", "1")
	s.answerJSON(c, http.StatusAccepted, s.standing(info))
}

// promptURL is where a prompt can be asked for.
func promptURL(id string) string { return "/prompt/" + url.PathEscape(id) }

// endStatus maps how a prompt ended to the status of its answer.
func endStatus(state queue.State) int {
	switch state {
	case queue.Done:
		return http.StatusOK
	case queue.Cancelled:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

// answerEnded answers with the result, or with the picture itself.
func (s *Server) answerEnded(c *gin.Context, e queue.Entry, w waiting) {
	r := s.ended(c.Request.Context(), e)
	c.Header("Content-Location", promptURL(e.ID))
	c.Header("X-Comfyrun-Prompt-Id", headerText(e.ID))
	if r.Seed != nil {
		c.Header("X-Comfyrun-Seed", string(r.Seed))
	}
	if w.Picture == "" || e.State != queue.Done {
		s.answerJSON(c, endStatus(e.State), r)
		return
	}
	for _, o := range r.Outputs {
		if o.fits(w.Picture) && s.answerPicture(c, o) {
			return
		}
	}
	s.answerJSON(c, http.StatusNotAcceptable, r)
}

// fits reports whether an output is a picture of a wanted type.
func (o *resultOutput) fits(wanted string) bool {
	return o.SHA256 != "" && (o.ContentType == wanted || wanted == "image/*" && strings.HasPrefix(o.ContentType, "image/"))
}

// answerPicture sends an output itself; false: its file has gone in the meantime.
func (s *Server) answerPicture(c *gin.Context, o resultOutput) bool {
	ref := reference{o.Filename, o.Subfolder, o.Type}
	file, info, err := s.openReference(c.Request.Context(), ref)
	if err != nil {
		return false
	}
	defer file.Close()
	c.Header("X-Comfyrun-Node", headerText(o.Node))
	c.Header("X-Comfyrun-Sha256", o.SHA256)
	c.Header("Link", "<"+o.ContentURL+`>; rel="canonical"`)
	s.sendFresh(c, file, info, cmp.Or(o.ContentType, octetStream))
	return true
}

// sendFresh sends a whole file as the answer to this request alone.
func (s *Server) sendFresh(c *gin.Context, file *os.File, info fs.FileInfo, kind string) {
	c.Header("Content-Type", kind)
	c.Header("Content-Length", strconv.FormatInt(info.Size(), 10))
	c.Header("Cache-Control", "no-store")
	c.Status(http.StatusOK)
	io.Copy(c.Writer, file) // a client that is gone needs no rest
	c.Abort()
}

// headerText is a text for a header: ids are the client's and may hold anything.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
}

// promptByID answers GET /prompt/ID, which waits like the posting of a prompt does.
func (s *Server) promptByID(c *gin.Context) {
	w, err := readWaiting(c.Request)
	if err != nil {
		s.deny(c, http.StatusBadRequest, "invalid_query", err.Error())
		return
	}
	s.answerPrompt(c, c.Param("id"), w)
}
