package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

// fetchReporter tells people how downloads go: with a bar for each file and one for all on a terminal, with lines anywhere
// else. lines, if there is one, gets each event of a file as an object.
type fetchReporter struct {
	w      io.Writer
	screen *mpb.Progress
	lines  func(fetchLine)

	mu    sync.Mutex
	files map[string]*fetchProgress
	total *mpb.Bar
}

// fetchProgress is how far one file is.
type fetchProgress struct {
	bar      *mpb.Bar
	started  time.Time
	there    int64 // at the start
	done     int64
	reported time.Time
}

// fetchLine is an event of a download as JSON.
type fetchLine struct {
	Event string `json:"event"` // "fetch"
	Model string `json:"model"`
	State string `json:"state"` // start, progress, wait, retry, done
	Bytes int64  `json:"bytes"`
	Total int64  `json:"total"`
	Text  string `json:"text,omitempty"`
}

// newFetchReporter makes a reporter of so many bytes to come.
func newFetchReporter(w io.Writer, bytes int64, lines func(fetchLine)) *fetchReporter {
	r := &fetchReporter{w: w, lines: lines, files: map[string]*fetchProgress{}}
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) && bytes > 0 {
		r.screen = mpb.New(mpb.WithOutput(w), mpb.WithWidth(28))
		r.total = r.bar("all", bytes, 1000)
	}
	return r
}

func (r *fetchReporter) bar(name string, bytes int64, priority int) *mpb.Bar {
	return r.screen.AddBar(bytes, mpb.BarPriority(priority), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.CountersKiloByte("% .1f / % .1f", decor.WCSyncSpace),
			decor.AverageSpeed(decor.SizeB1000(0), "% .1f", decor.WCSyncSpace), decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace)))
}

// event takes one event; several may come at one time.
func (r *fetchReporter) event(e fetch.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.files[e.Entry.Name]
	if p == nil {
		p = &fetchProgress{started: time.Now()}
		r.files[e.Entry.Name] = p
	}
	switch e.Kind {
	case fetch.EventStart:
		r.start(p, e)
	case fetch.EventBytes:
		r.advance(p, e, e.Bytes)
	case fetch.EventLost:
		r.advance(p, e, -e.Bytes)
		r.say(p, e, "retry", e.Text)
	case fetch.EventRetry:
		r.say(p, e, "retry", e.Text)
	case fetch.EventWait:
		r.say(p, e, "wait", e.Text)
	case fetch.EventDone:
		r.done(p, e)
	}
}

func (r *fetchReporter) start(p *fetchProgress, e fetch.Event) {
	p.started, p.there, p.done = time.Now(), e.Bytes, e.Bytes
	if r.screen != nil {
		p.bar = r.bar(e.Entry.Name, e.Entry.Size, 0)
		p.bar.SetCurrent(e.Bytes)
	}
	text := ""
	if e.Bytes > 0 {
		text = fmt.Sprintf("goes on after %s of %s", sizeText(e.Bytes), sizeText(e.Entry.Size))
	}
	r.say(p, e, "start", text)
}

// progressPause is how long lines of progress are apart.
const progressPause = time.Second

func (r *fetchReporter) advance(p *fetchProgress, e fetch.Event, n int64) {
	p.done += n
	if p.bar != nil {
		p.bar.SetCurrent(p.done)
		r.total.IncrInt64(n)
	}
	if time.Since(p.reported) >= progressPause {
		p.reported = time.Now()
		r.json(p, e, "progress", "")
	}
}

func (r *fetchReporter) done(p *fetchProgress, e fetch.Event) {
	if p.bar != nil {
		p.bar.SetCurrent(e.Entry.Size)
		p.bar.Abort(true)
	}
	text := ""
	if came := p.done - p.there; came > 0 {
		took := time.Since(p.started).Seconds()
		text = fmt.Sprintf("fetched %s in %.1f s, %s/s", sizeText(came), took, sizeText(int64(float64(came)/max(took, 0.001))))
		if came < e.Entry.Size {
			text += fmt.Sprintf("; %s were there", sizeText(e.Entry.Size-came))
		}
	}
	p.done = e.Entry.Size
	r.say(p, e, "done", text)
}

// say tells people a text about a file, if there is one, and programs in any case.
func (r *fetchReporter) say(p *fetchProgress, e fetch.Event, state, text string) {
	r.json(p, e, state, text)
	if text == "" {
		return
	}
	w := r.w
	if r.screen != nil {
		w = r.screen
	}
	fmt.Fprintf(w, "%s: %s\n", e.Entry.Name, text)
}

func (r *fetchReporter) json(p *fetchProgress, e fetch.Event, state, text string) {
	if r.lines != nil {
		r.lines(fetchLine{"fetch", e.Entry.Name, state, p.done, e.Entry.Size, text})
	}
}

// end takes the bars away.
func (r *fetchReporter) end() {
	if r.screen == nil {
		return
	}
	for _, p := range r.files {
		if p.bar != nil {
			p.bar.Abort(true)
		}
	}
	r.total.Abort(true)
	r.screen.Wait()
}

// printLine writes an object as one line.
func printLine(w io.Writer, v any) {
	if text, err := encodeLine(v); err == nil {
		_, _ = w.Write(text) // a reader that went away stops nothing
	}
}
